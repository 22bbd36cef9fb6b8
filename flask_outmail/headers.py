"""The fields of a message → header lines. Knows RFC 5322 (fields, folding) and RFC 2047 (encoded words).

Lines are written here rather than by the standard library, because folding there is lossy for some headers and takes
most of the time that a message needs. Charsets other than UTF-8 are left to it.

Also cited: RFC 2369 and 8058 (unsubscribing), 3834 (automatic mail), 6532 (UTF-8 headers, only for addresses that
cannot be written otherwise), 8098 (read receipts), 2156 (importance).
"""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Collection, Iterable, Iterator, Sequence
from email.charset import Charset
from email.errors import CharsetError
from email.header import Header
from email.utils import formatdate
from functools import lru_cache
from math import floor
from time import time

from .address import MAX_NAME_CHARS, Address, AddressLike, one_line
from .errors import InvalidMessage
from .message import Message

#: RFC 5322 2.1.1: a line must not exceed 998 octets, and should not exceed 78.
MAX_LINE_BYTES = 998
WRAP_CHARS = 78
#: RFC 2047 2: the longest encoded word, and what of it holds text.
WORD_CHARS = 75
_WORD_TEXT_CHARS = WORD_CHARS - len("=?utf-8?b??=")

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
# As text: compiled when a message first needs them, patterns do not slow the import.
_FOLD = r"\r\n(?=[ \t])"
_OTHER_BREAKS = "[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"

# RFC 2047 4.2 and 5 (3): what stands for itself in a Q word wherever the word stands.
_Q_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_Q = ["_" if byte == 32 else chr(byte) if byte in _Q_PLAIN else f"={byte:02X}" for byte in range(256)]
_Q_ONE_CHAR = _Q_PLAIN + b" "
# What the library's encoder escapes in a header; it leaves the punctuation that a display name must not hold.
_QP_ESCAPES = b"=_" + bytes(range(128, 256))
_Q_CONTINUES = ("=8", "=9", "=A", "=B")

# Outlook and Exchange read Importance, older programs X-Priority, some gateways Priority (RFC 2156 5.3.6).
_IMPORTANCE = {"high": ("1", "high", "urgent"), "normal": ("3", "normal", "normal"), "low": ("5", "low", "non-urgent")}


def header_lines(message: Message, charset: str, mailbox: str) -> list[str]:
    """Every header but those that describe the body, without line ends (a folded line holds its own)."""
    extra = message.extra_headers
    given: Collection[str] = {name.lower() for name in extra} if extra else ()
    lines = []
    if message.subject:
        lines.append(f"Subject: {subject_value(str(message.subject), charset)}")
    if message.sender:
        lines += from_lines(Address.parse(message.sender), charset, mailbox if "sender" not in given else "")
    if message.recipients:
        lines.append(_address_line("To", message.recipients, charset))
    if "date" not in given:
        lines.append(_date_line(time() if message.date is None else message.date))
    if "message-id" not in given:
        lines.append(f"Message-ID: {text_value('Message-ID', str(message.msgId), charset)}")
    if message.cc:
        lines.append(_address_line("Cc", message.cc, charset))
    if message.reply_to and "reply-to" not in given:
        many = message.reply_to if isinstance(message.reply_to, list) else [message.reply_to]
        lines.append(_address_line("Reply-To", many, charset))
    if message.has_more_headers:
        lines += [f"{name}: {value}" for name, value in _more(message, charset) if name.lower() not in given]
    if extra:
        lines += [f"{one_line(name)}: {text_value(name, str(value), charset)}" for name, value in extra.items()]
    return lines


def _more(message: Message, charset: str) -> Iterator[tuple[str, str]]:
    """The headers that most messages lack."""
    if message.in_reply_to:
        yield "In-Reply-To", message_id(message.in_reply_to)
    if thread := message.thread:
        yield "References", text_value("References", " ".join(map(message_id, thread)), charset)
    if message.importance:
        yield from zip(("X-Priority", "Importance", "Priority"), _IMPORTANCE[message.importance], strict=True)
    if message.read_receipt_to:
        reader = mailbox_text(Address.parse(message.read_receipt_to), charset, "read_receipt_to")
        yield "Disposition-Notification-To", _fold_between_words(reader)
    if links := message.unsubscribe_links:
        yield "List-Unsubscribe", _fold_list("List-Unsubscribe", [f"<{link}>" for link in links])
        if message.unsubscribe_post:
            yield "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"
    if message.auto_submitted:
        yield "Auto-Submitted", message.auto_submitted


def message_id(text: str) -> str:
    """A Message-ID in its angle brackets, whether it was given with or without them."""
    return f"<{text.strip().strip('<>')}>"


def from_lines(sender: Address, charset: str, mailbox: str) -> list[str]:
    """From, and Sender where the mailbox that sends is another (RFC 5322 3.6.2)."""
    if not sender.address:
        return []
    lines = [_from_line(sender, charset)]
    if mailbox and mailbox.strip().lower() != sender.address.strip().lower():
        lines.append(f"Sender: {wire_address(Address.parse(mailbox), 'username')}")
    return lines


@lru_cache(64)
def _from_line(sender: Address, charset: str) -> str:
    # An application has few senders.
    return f"From: {_fold_between_words(mailbox_text(sender, charset, 'sender'))}"


def plain_line(name: str, addresses: Sequence[str]) -> str:
    """A header of addresses without names, such as Bcc."""
    return f"{name}: {_fold_list(name, addresses)}"


# -- addresses -------------------------------------------------------------------------------------------------------


def wire_address(address: Address, field: str) -> str:
    """The address as servers want it: the domain in ASCII (IDNA 2008), the local part untouched.

    Raises:
        InvalidMessage: the domain cannot be one; `field` is named.
    """
    if address.address.isascii():
        return address.address
    local, at, domain = address.address.rpartition("@")
    if not domain.isascii():
        import idna  # loaded only for the rare domain that needs it

        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as exc:
            raise InvalidMessage(f"{field}: {domain!r} is not a domain name", code="address_invalid") from exc
    return f"{local}{at}{domain}"


def wire(value: AddressLike, field: str) -> str:
    """`wire_address` of an address as it was given."""
    address = Address.parse(value)
    return address.address if address.address.isascii() else wire_address(address, field)


def mailbox_text(address: Address, charset: str, field: str) -> str:
    """`Ann <ann@example.com>` as it stands in a header, on one line."""
    addr_spec = address.address if address.address.isascii() else wire_address(address, field)
    if not address.name:
        return addr_spec
    return f"{_phrase(address.name, charset)} <{addr_spec}>"


def _phrase(name: str, charset: str) -> str:
    """A display name: bare atoms, a quoted string, or encoded words, on one line."""
    if not name.isascii() or "=?" in name:
        return encoded_words(name, charset).replace("\r\n ", " ")
    if _ATOMS.fullmatch(name) and "  " not in name:
        return name
    text = quoted(name)
    # A quoted string stands on one line, which has an end; encoded words may be folded.
    return text if len(text) <= MAX_NAME_CHARS else encoded_words(name, charset).replace("\r\n ", " ")


def _address_line(name: str, addresses: Iterable[object], charset: str) -> str:
    # dict.fromkeys: each address once, in the order given.
    texts = [*dict.fromkeys([mailbox_text(Address.parse(one), charset, name) for one in addresses])]  # type: ignore[arg-type]
    if len(texts) == 1 and len(texts[0]) + len(name) + 2 <= WRAP_CHARS:
        return f"{name}: {texts[0]}"
    return f"{name}: {_fold_list(name, [_fold_between_words(text) for text in texts])}"


def quoted(text: str) -> str:
    """A quoted string (RFC 5322 3.2.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- texts -----------------------------------------------------------------------------------------------------------


def subject_value(text: str, charset: str) -> str:
    """A text that people read, exactly: what a reader would change or decode is encoded."""
    if text.isascii() and "=?" not in text and text == text.strip(" \t"):
        return text_value("Subject", text, charset)
    return encoded_words(_unfolded(text), charset, taken=len("Subject: "))


def text_value(name: str, value: str, charset: str) -> str:
    """A header value: ASCII as it is (folded where long), anything else as RFC 2047 encoded words."""
    if not value.isprintable():
        # Only folds may stay; what is a line break elsewhere was refused before, or is printed unchecked.
        value = "\r\n".join([one_line(line) for line in re.split(_FOLD, value)])
    if value.isascii():
        if len(name) + 2 + len(value) <= WRAP_CHARS:
            return value
        if "\r\n" in value and max(map(len, value.split("\r\n"))) <= MAX_LINE_BYTES - WRAP_CHARS:
            return value
        value = _unfolded(value)
        if max(map(len, value.split(" "))) <= MAX_LINE_BYTES - WRAP_CHARS:
            return _fold_words(value, first=len(name) + 2)
    return encoded_words(_unfolded(value), charset, taken=len(name) + 2)


def _unfolded(value: str) -> str:
    return value if value.isprintable() else one_line(re.sub(_FOLD, "", value))


def _date_line(date: float) -> str:
    try:
        return _date_of(floor(date))
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidMessage("the date is none that a calendar has", code="message_invalid") from exc


@lru_cache(8)
def _date_of(second: int) -> str:
    # Messages of one burst share their second.
    return f"Date: {formatdate(second, localtime=True)}"


def encoded_words(text: str, charset: str, *, taken: int = 0) -> str:
    """RFC 2047 words of at most 75 characters, cut between characters, one a line; `taken` stands before the first."""
    if charset == "utf-8" and text.isprintable():
        return _utf8_words(text.encode(), taken)
    if not text.isprintable():
        # What is no line break in mail may be one to the program that reads it, this language's own included.
        text = re.sub(_OTHER_BREAKS, " ", text)
    try:
        usable = charset if charset == "utf-8" else usable_charset(charset, text)
        if usable == "utf-8":
            return _utf8_words(text.encode(), taken)
        header = Header(text, Charset(usable), maxlinelen=WORD_CHARS + 1, header_name="x" * (taken - 2) or None)
        return header.encode(linesep="\r\n", splitchars="")
    except UnicodeEncodeError as exc:
        raise InvalidMessage("a header holds half a character (a lone surrogate)", code="text_invalid") from exc


def _utf8_words(data: bytes, taken: int) -> str:
    # Of the first line some is taken: where most of it is, the word may still have 16 characters.
    room = _WORD_TEXT_CHARS if taken <= WRAP_CHARS - WORD_CHARS else max(_WORD_TEXT_CHARS + 3 - taken, 16)
    escaped = data.translate(None, _Q_ONE_CHAR)
    if len(data) + 2 * len(escaped) <= (len(data) + 2) // 3 * 4:
        if escaped.translate(None, _QP_ESCAPES):
            return _q_words("".join([_Q[byte] for byte in data]), room)
        return _q_words(b2a_qp(data, header=True, quotetabs=True).replace(b"=\n", b"").decode(), room)
    # Four characters for three bytes.
    size = room // 4 * 3
    if len(data) <= size:
        return f"=?utf-8?b?{b2a_base64(data, newline=False).decode()}?="
    start, words = 0, []
    while start < len(data):
        end = min(start + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b2a_base64(data[start:end], newline=False).decode()}?=")
        start, size = end, _WORD_TEXT_CHARS // 4 * 3
    return "\r\n ".join(words)


def _q_words(coded: str, room: int) -> str:
    if len(coded) <= room:
        return f"=?utf-8?q?{coded}?="
    start, words = 0, []
    while start < len(coded):
        end = min(start + room, len(coded))
        while end < len(coded) and ("=" in coded[end - 2 : end] or coded.startswith(_Q_CONTINUES, end)):
            end -= 1
        words.append(f"=?utf-8?q?{coded[start:end]}?=")
        start, room = end, _WORD_TEXT_CHARS
    return "\r\n ".join(words)


def usable_charset(charset: str, text: str) -> str:
    """`charset`, if it can say `text` and leaves ASCII as it is (UTF-16 does not); otherwise utf-8.

    Better the right letters in another charset than the wanted charset with question marks.
    """
    if charset.lower() in ("utf-8", "utf8"):
        return "utf-8"
    try:
        codec = Charset(charset).output_codec or "us-ascii"
        text.encode(codec)
        return charset if "a\n".encode(codec) == b"a\n" else "utf-8"
    except (ValueError, LookupError, CharsetError):
        return "utf-8"


# -- folding ---------------------------------------------------------------------------------------------------------


def _fold_words(value: str, *, first: int) -> str:
    # Folding only puts CRLF before a blank that is there already, so unfolding gives back the exact value. A line
    # of nothing but white space would be lost on the way (RFC 5322 4.2), hence the look at what follows the blank.
    out, length = [], first
    for number, word in enumerate(value.split(" ")):
        if number and word and length + 1 + len(word) > WRAP_CHARS and length > first - 1:
            out.append("\r\n " + word)
            length = 1 + len(word)
        else:
            out.append((" " if number else "") + word)
            length += len(word) + (1 if number else 0)
    return "".join(out)


def _fold_between_words(text: str) -> str:
    # Between two encoded words the blank belongs to nobody (RFC 2047 6.2), so a line may end there.
    return text.replace("?= =?", "?=\r\n =?") if len(text) > WRAP_CHARS else text


def _fold_list(name: str, items: Sequence[str]) -> str:
    lines: list[str] = []
    length = len(name) + 2
    for number, item in enumerate(items):
        text = item + ("," if number < len(items) - 1 else "")
        if lines and length + 1 + len(text) > WRAP_CHARS:
            lines.append("\r\n " + text)
            length = 1 + len(text)
        else:
            lines.append((" " if lines else "") + text)
            length += len(text) + 1
    return "".join(lines)
