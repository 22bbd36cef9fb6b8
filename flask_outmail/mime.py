"""Message → RFC 5322 bytes. The only file that knows MIME.

The bytes are assembled here rather than by the standard library's generator, because they must be the same on every
build of the same message (a retry, a signature and a log all refer to them) and because folding there is lossy for
some headers. What comes out is read back by the standard parser in the tests.

Rules cited: RFC 5322 (message), 2045-2047 (MIME, encoded words), 2231 (parameters), 2387 (multipart/related),
6532 (UTF-8 headers, only for addresses that cannot be written otherwise).
"""

from __future__ import annotations

import binascii
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from email.charset import Charset
from email.errors import CharsetError
from email.header import Header
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import NamedTuple
from urllib.parse import quote

from .content import Content, FilePart, Piece, base64_lines, file_state
from .errors import InvalidMessage
from .message import Address, Attachment, Message

CRLF = b"\r\n"
#: RFC 5322 2.1.1: a line must not exceed 998 octets, and should not exceed 78.
MAX_LINE_BYTES = 998
WRAP_CHARS = 78

_ATOMS = re.compile(r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+$")
_FOLD = re.compile(r"\r\n(?=[ \t])")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_OTHER_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ATTRIBUTE_CHARS = "!#$&+-.^_`{|}~"  # RFC 2231 attribute-char, beyond letters and digits


class Part(NamedTuple):
    """One MIME part: its header lines (without line ends) and its body, already transfer-encoded."""

    headers: list[str]
    body: tuple[Piece, ...]

    @property
    def head(self) -> bytes:
        return "\r\n".join(self.headers).encode() + CRLF + CRLF


def build(message: Message, *, mailbox: str = "", ascii_attachments: bool = False) -> Content:
    """The whole message: CRLF line ends, no Bcc header, the same bytes on every call once `date` is set.

    A message without a sender has no From header yet; `with_from` adds it.

    Line breaks in addresses are dropped rather than refused: printing must not fail. `Message.check` refuses them
    before anything is sent. `ascii_attachments` turns file names into plain ASCII. Files to attach are looked at,
    not read.

    Raises:
        InvalidMessage: text that cannot be encoded, an unknown charset, a domain that is none, or a file to attach
            that cannot be read.
    """
    charset = message.charset or "utf-8"
    part = _body(message, charset, ascii_attachments)
    headers = [*_headers(message, charset, mailbox), "MIME-Version: 1.0", *part.headers]
    return Content(_joined([Part(headers, ()).head, *part.body]))


def with_bcc(content: Content, addresses: Sequence[str]) -> Content:
    """`content` with a Bcc header before it, for services that read recipients from the headers alone."""
    return content.after(f"Bcc: {_fold_list('Bcc', addresses)}".encode() + CRLF) if addresses else content


def with_from(content: Content, sender: Address, mailbox: str) -> Content:
    """`content` with From (and Sender, where the mailbox is another) before it."""
    lines = _from_headers(sender, "utf-8", mailbox)
    return content.after(b"".join(line.encode() + CRLF for line in lines))


def wire_address(address: Address, field: str) -> str:
    """The address as servers want it: the domain in ASCII (IDNA 2008), the local part untouched.

    Raises:
        InvalidMessage: the domain cannot be one; `field` is named.
    """
    local, at, domain = address.address.rpartition("@")
    if not domain.isascii():
        import idna  # loaded only for the rare domain that needs it

        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as exc:
            raise InvalidMessage(f"{field}: {domain!r} is not a domain name", code="address_invalid") from exc
    return f"{local}{at}{domain}"


def mailbox_text(address: Address, charset: str, field: str) -> str:
    """`Ann <ann@example.com>` as it stands in a header, on one line."""
    addr_spec = wire_address(address, field)
    if not address.name:
        return addr_spec
    return f"{_phrase(address.name, charset)} <{addr_spec}>"


# -- headers ---------------------------------------------------------------------------------------------------------


def _headers(message: Message, charset: str, mailbox: str) -> Iterable[str]:
    extra = {name: str(value) for name, value in (message.extra_headers or {}).items()}
    given = {name.lower() for name in extra}
    subject = str(message.subject or "")
    sender = Address.parse(message.sender or "")
    if subject:
        yield f"Subject: {text_value('Subject', subject, charset)}"
    if sender.address:
        yield from _from_headers(sender, charset, mailbox if "sender" not in given else "")
    if message.recipients:
        yield _address_header("To", message.recipients, charset)
    if "date" not in given:
        yield f"Date: {formatdate(time() if message.date is None else message.date, localtime=True)}"
    if "message-id" not in given:
        yield f"Message-ID: {message.msgId}"
    if message.cc:
        yield _address_header("Cc", message.cc, charset)
    if message.reply_to and "reply-to" not in given:
        many = message.reply_to if isinstance(message.reply_to, list) else [message.reply_to]
        yield _address_header("Reply-To", many, charset)
    for name, value in extra.items():
        yield f"{name}: {text_value(name, value, charset)}"


def _from_headers(sender: Address, charset: str, mailbox: str) -> Iterable[str]:
    yield f"From: {_fold_between_words(mailbox_text(sender, charset, 'sender'))}"
    if mailbox and not _same_mailbox(mailbox, sender.address):
        yield f"Sender: {wire_address(Address.parse(mailbox), 'username')}"


def _same_mailbox(one: str, other: str) -> bool:
    return one.strip().lower() == other.strip().lower()


def _address_header(name: str, addresses: Iterable[object], charset: str) -> str:
    # dict.fromkeys: each address once, in the order given.
    texts = dict.fromkeys(mailbox_text(Address.parse(one), charset, name) for one in addresses)  # type: ignore[arg-type]
    return f"{name}: {_fold_list(name, [_fold_between_words(text) for text in texts])}"


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


def text_value(name: str, value: str, charset: str) -> str:
    """An unstructured header value: ASCII as it is (folded where long), anything else as RFC 2047 encoded words."""
    if value.isascii():
        if "\r\n" in value or len(name) + 2 + len(value) <= WRAP_CHARS:
            return value
        if max(len(word) for word in value.split(" ")) < MAX_LINE_BYTES - WRAP_CHARS:
            return _fold_words(value, first=len(name) + 2)
    return _encoded_words(_FOLD.sub("", value), charset, name)


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


def _phrase(name: str, charset: str) -> str:
    """A display name: bare atoms, a quoted string, or encoded words, on one line."""
    if not name.isascii():
        return _encoded_words(name, charset).replace("\r\n ", " ")
    if _ATOMS.match(name) and "=?" not in name and "  " not in name:
        return name
    return _quoted(name)


def _encoded_words(value: str, charset: str, header_name: str | None = None) -> str:
    # Header splits lines at more characters than CR and LF, and would drop these.
    value = _OTHER_BREAKS.sub(" ", value)
    charset = _usable_charset(charset, value)
    try:
        # 75 octets is the longest an encoded word may be (RFC 2047 2); Header cuts at characters, never inside one.
        header = Header(value, Charset(charset), maxlinelen=76, header_name=header_name)
        return header.encode(linesep="\r\n", splitchars="")
    except UnicodeEncodeError as exc:
        raise InvalidMessage("a header holds half a character (a lone surrogate)", code="text_invalid") from exc


def _usable_charset(charset: str, text: str) -> str:
    """`charset`, if it can say `text` and leaves ASCII as it is (UTF-16 does not); otherwise utf-8.

    Better the right letters in another charset than the wanted charset with question marks.
    """
    try:
        codec = Charset(charset).output_codec or "us-ascii"
        text.encode(codec)
        return charset if "a\n".encode(codec) == b"a\n" else "utf-8"
    except (ValueError, LookupError, CharsetError):
        return "utf-8"


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


# -- bodies ----------------------------------------------------------------------------------------------------------


def _body(message: Message, charset: str, ascii_attachments: bool) -> Part:
    boundaries = _boundaries(message.msgId)
    attachments = list(message.attachments)
    part = _text(message.body or "", "plain", charset)
    if message.alts:
        inline = [one for one in attachments if one.disposition == "inline" and one.content_id and message.html]
        attachments = [one for one in attachments if one not in inline]
        forms = [part]
        for subtype, text in message.alts.items():
            form = _text(str(text), subtype, charset)
            if subtype == "html" and inline:
                images = [_attachment(one, ascii_attachments) for one in inline]
                form = _multipart("related", [form, *images], next(boundaries), 'type="text/html"')
            forms.append(form)
        part = _multipart("alternative", forms, next(boundaries))
    if attachments:
        files = [_attachment(one, ascii_attachments) for one in attachments]
        part = _multipart("mixed", [part, *files], next(boundaries))
    return part


def _boundaries(message_id: str) -> Iterator[str]:
    # "=_" can occur in neither base64 nor quoted-printable (RFC 2045 6.7), and nobody who writes a text knows the
    # hash of a Message-ID made after it, so no part can hold its own boundary.
    number = 0
    while True:
        yield "=_" + hashlib.sha256(f"{number} {message_id}".encode()).hexdigest()[:32]
        number += 1


def _multipart(subtype: str, parts: Sequence[Part | FilePart], boundary: str, *parameters: str) -> Part:
    line = b"--" + boundary.encode()
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, FilePart):
            # A file carries its own delimiter, so that it can be left out whole.
            pieces.append(replace(part, head=line + CRLF + part.head))
        else:
            pieces += (line + CRLF + part.head, *part.body, CRLF)
    pieces.append(line + b"--" + CRLF)
    header = "; ".join([f"Content-Type: multipart/{subtype}", *parameters])
    return Part([f'{header};\r\n boundary="{boundary}"'], tuple(pieces))


def _joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same with neighbouring bytes made one."""
    out: list[Piece] = []
    for piece in pieces:
        if out and isinstance(piece, bytes) and isinstance(out[-1], bytes):
            out[-1] += piece
        else:
            out.append(piece)
    return tuple(out)


def _text(text: str, subtype: str, charset: str) -> Part:
    declared = Charset(_usable_charset(charset, text))
    try:
        name, data = declared.get_output_charset() or charset, text.encode(declared.output_codec or "utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidMessage("the text holds half a character (a lone surrogate)", code="text_invalid") from exc
    data = _NEWLINE.sub("\n", data.decode("latin-1")).encode("latin-1")
    encoding, body = _encode_text(data)
    return Part([f'Content-Type: text/{subtype}; charset="{name}"', f"Content-Transfer-Encoding: {encoding}"], (body,))


def _encode_text(data: bytes) -> tuple[str, bytes]:
    """The shortest of 7bit, quoted-printable and base64 that every server can carry. `data` has LF line ends."""
    if data.isascii() and b"\0" not in data and all(len(line) <= MAX_LINE_BYTES for line in data.split(b"\n")):
        return "7bit", data.replace(b"\n", CRLF)
    printable = binascii.b2a_qp(data, istext=True).replace(b"\n", CRLF)
    # CRLF is the canonical line end of text (RFC 2046 4.1.1); it must be in place before base64 hides it.
    coded = base64_lines(data.replace(b"\n", CRLF))
    return ("quoted-printable", printable) if len(printable) <= len(coded) else ("base64", coded)


def _attachment(attachment: Attachment, ascii_only: bool) -> FilePart:
    filename = _ascii_filename(attachment.filename) if ascii_only else attachment.filename
    content_type = attachment.content_type
    data, changed_ns, is_base64 = attachment.data, 0, True
    if isinstance(data, str):
        data = data.encode()
        if "charset" not in content_type and content_type.startswith("text/"):
            content_type += '; charset="utf-8"'
    if content_type.lower().startswith("message/"):
        data = data.read_bytes() if isinstance(data, Path) else bytes(data)
        if _is_seven_bit(data):
            # RFC 2046 5.2.1 allows no base64 for a message inside a message.
            data, is_base64 = _NEWLINE.sub("\r\n", data.decode("ascii")).encode(), False
    if isinstance(data, Path):
        size_bytes, changed_ns = file_state(data)
    else:
        data = bytes(data)
        size_bytes = len(data)
    if filename and not filename.isascii():
        # For readers that do not know RFC 2231, and there are some. The standard form is in Content-Disposition.
        content_type += f';\r\n name="{_encoded_words(filename, "utf-8", "name")}"'
    headers = [f"Content-Type: {content_type}", f"Content-Transfer-Encoding: {'base64' if is_base64 else '7bit'}"]
    if filename:
        headers.append(f"Content-Disposition: {attachment.disposition};{_filename(filename)}")
    else:
        headers.append(f"Content-Disposition: {attachment.disposition}")
    headers += (f"{name}: {text_value(name, str(value), 'utf-8')}" for name, value in attachment.headers.items())
    return FilePart(
        name=filename or "",
        content_type=attachment.content_type,
        content_id=attachment.content_id,
        is_inline=attachment.disposition == "inline",
        size_bytes=size_bytes,
        head=Part(headers, ()).head,
        data=data,
        is_base64=is_base64,
        changed_ns=changed_ns,
    )


def _is_seven_bit(data: bytes) -> bool:
    lines = re.split(rb"\r\n|\r|\n", data)
    return data.isascii() and b"\0" not in data and all(len(line) <= MAX_LINE_BYTES for line in lines)


def _ascii_filename(filename: str | None) -> str | None:
    if filename is None:
        return None
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"\s+", " ", plain).strip()


def _filename(filename: str) -> str:
    """The parameter that names the file: a quoted string, or RFC 2231, in pieces when one line cannot hold it."""
    if filename.isascii():
        quoted = _quoted(filename)
        if len(quoted) <= MAX_LINE_BYTES - WRAP_CHARS:
            return f" filename={quoted}"
    coded = quote(filename, safe=_ATTRIBUTE_CHARS)
    if len(coded) <= 200:
        return f"\r\n filename*=UTF8''{coded}"
    # RFC 2231 3: numbered pieces; a piece must not cut a %XX in two.
    pieces = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,60}", coded)
    pieces[0] = f"utf-8''{pieces[0]}"
    return ";".join(f"\r\n filename*{number}*={piece}" for number, piece in enumerate(pieces))
