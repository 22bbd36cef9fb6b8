"""Message → the bytes that are handed over. Knows MIME: how parts are encoded, and how they stand inside each other.

    multipart/mixed             only with files
    ├── multipart/alternative   only with another form of the text
    │   ├── text/plain
    │   ├── multipart/related   only with images that the HTML shows
    │   │   ├── text/html
    │   │   └── image/png …
    │   └── text/calendar …
    └── application/pdf …

The bytes are the same on every build of the same message (a retry, a signature and a log all refer to them). What
comes out is read back by the standard parser in the tests.

Rules cited: RFC 2045 and 2046 (MIME), 2231 (parameters), 2387 (multipart/related), 8551 (S/MIME).
"""

from __future__ import annotations

import re
import unicodedata
from binascii import b2a_qp
from collections.abc import Iterable, Sequence
from dataclasses import replace
from email.charset import Charset
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote
from zlib import crc32

from .address import Address, one_line
from .content import Content, FilePart, Piece, base64_lines, file_state, read_file
from .errors import InvalidMessage
from .headers import (
    MAX_LINE_BYTES,
    WRAP_CHARS,
    encoded_words,
    from_lines,
    header_lines,
    plain_line,
    quoted,
    text_value,
    usable_charset,
    wire_address,
)
from .message import Attachment, Message

CRLF = b"\r\n"

# As text: compiled when a message first needs them, patterns do not slow the import.
_NEWLINE = r"\r\n|\r|\n"
_NEWLINE_BYTES = rb"\r\n|\r|\n"
#: The longest file name that file systems know.
_MAX_QUOTED_CHARS = 255
_ATTRIBUTE_CHARS = "!#$&+-.^_`{|}~"  # RFC 2231 attribute-char, beyond letters and digits
# RFC 2045 2.7 forbids only NUL; other control characters do not survive every server either.
_PRINTABLE = bytes([9, 10, 13, *range(32, 127)])
# The header fields that describe a body (RFC 2045 3), alone at the head of a finished entity.
_FIELD_BODY = rb":[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*"
_ENTITY_HEAD = rb"(?:(?:Content-[A-Za-z-]+|MIME-Version)" + _FIELD_BODY + rb")+"
_MIME_VERSION = rb"^MIME-Version" + _FIELD_BODY


#: A MIME entity: its headers, an empty line and its body, already transfer-encoded. A `FilePart` is one by itself.
Entity = Sequence[Piece]


def build(message: Message, *, mailbox: str = "", ascii_attachments: bool = False) -> Content:
    """The whole message: CRLF line ends, no Bcc header, the same bytes on every call once `date` is set.

    A message without a sender has no From header yet; `with_from` adds it.

    Line breaks in addresses are dropped rather than refused: printing must not fail. `Message.check` refuses them
    before anything is sent. `ascii_attachments` turns file names into plain ASCII. Files to attach are looked at,
    not read.

    Raises:
        InvalidMessage: text that cannot be encoded, a domain that is none, a date that is none, an `entity` that is
            no MIME entity, or a file to attach that cannot be read.
    """
    charset = message.charset or "utf-8"
    body = _body(message, charset, ascii_attachments) if message.entity is None else _entity(message)
    headers = "\r\n".join(header_lines(message, charset, mailbox))
    pieces = [f"{headers}\r\nMIME-Version: 1.0\r\n".encode(), *body]
    return Content(_joined(pieces) if message.attachments else (b"".join(pieces),))  # type: ignore[arg-type]


def with_bcc(content: Content, addresses: Sequence[str]) -> Content:
    """`content` with a Bcc header before it, for services that read recipients from the headers alone."""
    return content.after(plain_line("Bcc", addresses).encode() + CRLF) if addresses else content


def with_from(content: Content, sender: Address, mailbox: str) -> Content:
    """`content` with From (and Sender, where the mailbox is another) before it."""
    return content.after(b"".join(line.encode() + CRLF for line in from_lines(sender, "utf-8", mailbox)))


def with_sender(content: Content, from_address: str, mailbox: str) -> Content:
    """`content` with the header Sender before it, where the mailbox is another than From and none stands there yet."""
    head = content.pieces[0]
    headers = head.partition(CRLF * 2)[0] if isinstance(head, bytes) else b""
    is_own = not mailbox or mailbox.strip().lower() == from_address.lower()
    if is_own or b"\r\nsender:" in (CRLF + headers).lower():
        return content
    return content.after(b"Sender: %b\r\n" % wire_address(Address.parse(mailbox), "username").encode())


# -- how entities stand inside each other ----------------------------------------------------------------------------


def _body(message: Message, charset: str, ascii_attachments: bool) -> Entity:
    alts = message.alts
    # The text part is always there, first, as in Flask-Mail: what reads mail as text finds it where it looks.
    texts = [_text(message.body or "", "plain", charset)]
    for subtype in alts:
        texts.append(_text(str(alts[subtype]), subtype, charset))
    files = [_attachment(one, ascii_attachments) for one in message.attachments] if message.attachments else []
    if not (alts or files):
        return texts
    plain = [file.data for file in files if isinstance(file.data, bytes) and not file.is_base64]
    boundary = _boundary(message.msgId, [*texts, *plain])
    # RFC 2045 6.4: what holds 8-bit data says so, on every level.
    encoding = b"" if all(map(bytes.isascii, plain)) else b"Content-Transfer-Encoding: 8bit\r\n"
    if not alts:
        return _multipart(b"mixed", [*texts, *files], boundary + b"m", encoding)

    forms: list[Piece | Entity] = [*texts]
    if files and message.html:
        images = [file for file in files if file.is_inline and file.content_id]
        if images:
            files = [file for file in files if not (file.is_inline and file.content_id)]
            html = len(texts) - len(alts) + list(alts).index("html")
            shown: list[Piece] = [texts[html], *images]
            forms[html] = _multipart(b'related; type="text/html"', shown, boundary + b"r", encoding)
    body = _multipart(b"alternative", forms, boundary + b"a", encoding)
    return _multipart(b"mixed", [body, *files], boundary + b"m", encoding) if files else body


def _multipart(kind: bytes, entities: Iterable[Piece | Entity], boundary: bytes, encoding: bytes) -> list[Piece]:
    delimiter = b"--%b\r\n" % boundary
    pieces: list[Piece] = [b'%bContent-Type: multipart/%b;\r\n boundary="%b"\r\n\r\n' % (encoding, kind, boundary)]
    for entity in entities:
        if isinstance(entity, bytes):
            pieces += (delimiter, entity, CRLF)
        elif isinstance(entity, FilePart):
            # A file carries its own delimiter, and the line end after it, so that it can be left out whole.
            pieces.append(replace(entity, head=delimiter + entity.head))
        else:
            pieces += (delimiter, *entity, CRLF)
    pieces.append(b"--%b--\r\n" % boundary)
    return pieces


def _boundary(message_id: str, texts: Iterable[bytes]) -> bytes:
    """A delimiter without its last letter, the same on every build, that stands in none of the texts."""
    # Base64 has no "_" at all, and looking for one letter is fast.
    plain = [text for text in texts if b"_" in text]
    made = message_id.encode("utf-8", "replace")
    while True:
        made = b"=_%08x" % crc32(made)
        if not plain or not any(made in text for text in plain):
            return made


def _joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same with neighbouring bytes made one."""
    out: list[Piece] = []
    neighbours: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            neighbours.append(piece)
        else:
            if neighbours:
                out.append(b"".join(neighbours))
                neighbours.clear()
            out.append(piece)
    return (*out, b"".join(neighbours))


# -- texts -----------------------------------------------------------------------------------------------------------


def _text(text: str, subtype: str, charset: str) -> bytes:
    if "\r" in text:
        text = re.sub(_NEWLINE, "\n", text)
    usable = charset if charset == "utf-8" else usable_charset(charset, text)
    if usable == "utf-8":
        data = _utf8(text)
    else:
        declared = Charset(usable)
        usable, data = declared.get_output_charset() or usable, text.encode(declared.output_codec or "utf-8")
    # How many bytes need escaping: at most two for each one by which UTF-8 is longer than the text.
    escaped = 2 * (len(data) - len(text)) if usable == "utf-8" else len(data.translate(None, _PRINTABLE))
    encoding, body = _encode_text(data, escaped)
    return _text_head(subtype, usable, encoding) + body


@lru_cache(64)
def _text_head(subtype: str, charset: str, encoding: str) -> bytes:
    head = f'Content-Type: text/{subtype}; charset="{charset}"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode()


def _encode_text(data: bytes, escaped: int) -> tuple[str, bytes]:
    """The lightest of 7bit, quoted-printable and base64 that every server can carry. `data` has LF line ends."""
    # CRLF is the canonical line end of text (RFC 2046 4.1.1).
    if data.isascii() and not data.translate(None, _PRINTABLE):
        lines = data.replace(b"\n", CRLF)
        if _has_short_lines(lines):
            return "7bit", lines
    # Quoted-printable is for people who look at the source of a mail. Where more than one byte in ten is escaped
    # nobody can read it, nor is it much shorter than base64, which takes a fifth of the time.
    if 10 * escaped > len(data):
        return "base64", base64_lines(data.replace(b"\n", CRLF))
    return "quoted-printable", b2a_qp(data, istext=True).replace(b"\n", CRLF)


def _has_short_lines(data: bytes) -> bool:
    return len(data) <= MAX_LINE_BYTES or max(map(len, data.split(CRLF))) <= MAX_LINE_BYTES


# -- files -----------------------------------------------------------------------------------------------------------


def _attachment(attachment: Attachment, ascii_only: bool) -> FilePart:
    filename = _ascii_filename(attachment.filename) if ascii_only else attachment.filename
    content_type, encoding = one_line(str(attachment.content_type)), "base64"
    data, changed_ns = attachment.data, 0
    if isinstance(data, str):
        data = _utf8(data)
        if content_type.startswith("text/") and "charset" not in content_type:
            content_type += '; charset="utf-8"'
    if content_type.lower().startswith("message/"):
        # RFC 2046 5.2.1 allows no base64 for a message inside a message. One that cannot go as it is keeps it.
        data = read_file(data) if isinstance(data, Path) else bytes(memoryview(data))
        lines = re.sub(_NEWLINE_BYTES, CRLF, data)
        if b"\0" not in lines and _has_short_lines(lines):
            data, encoding = lines, "7bit" if lines.isascii() else "8bit"
    if isinstance(data, Path):
        size_bytes, changed_ns = file_state(data)
    else:
        # Through a view, because a number would become as many zeros.
        data = data if isinstance(data, bytes) else bytes(memoryview(data))
        size_bytes = len(data)
    return FilePart(
        name=one_line(filename or ""),
        content_type=attachment.content_type,
        content_id=attachment.content_id,
        is_inline=attachment.disposition == "inline",
        size_bytes=size_bytes,
        head="\r\n".join([*_file_headers(attachment, filename, content_type, encoding), "", ""]).encode(),
        data=data,
        is_base64=encoding == "base64",
        changed_ns=changed_ns,
    )


def _file_headers(attachment: Attachment, filename: str | None, content_type: str, encoding: str) -> Iterable[str]:
    if len(content_type) > WRAP_CHARS - len("Content-Type: "):
        content_type = content_type.replace("; ", ";\r\n ")
    filename = one_line(filename or "")
    if not filename.isascii() and "name=" not in content_type.lower():
        # For readers that do not know RFC 2231, and there are some. The standard form is in Content-Disposition.
        content_type += f';\r\n name="{encoded_words(filename, "utf-8", taken=len(" name="))}"'
    yield f"Content-Type: {content_type}"
    yield f"Content-Transfer-Encoding: {encoding}"
    yield f"Content-Disposition: {one_line(attachment.disposition)}" + (f";{_filename(filename)}" if filename else "")
    for name, value in attachment.headers.items():
        yield f"{name}: {text_value(name, str(value), 'utf-8')}"


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidMessage("the text holds half a character (a lone surrogate)", code="text_invalid") from exc


def _ascii_filename(filename: str | None) -> str | None:
    if filename is None:
        return None
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"\s+", " ", plain).strip()


def _filename(filename: str) -> str:
    """The parameter that names the file: a quoted string, or RFC 2231, in pieces when one line cannot hold it."""
    if filename.isascii() and "=?" not in filename and len(filename) <= _MAX_QUOTED_CHARS:
        # On one line even where it is long: more programs read that than RFC 2231 in pieces.
        text = quoted(filename)
        return f"\r\n filename={text}" if len(text) > 36 else f" filename={text}"
    coded = quote(filename, safe=_ATTRIBUTE_CHARS)
    if len(coded) <= WRAP_CHARS - len(" filename*=UTF8''"):
        # Flask-Mail's spelling of the charset, for applications that compare; every program takes both.
        return f"\r\n filename*=UTF8''{coded}"
    # RFC 2231 3: numbered pieces; a piece must not cut a %XX in two.
    pieces = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,18}", coded)
    pieces[0] = f"utf-8''{pieces[0]}"
    return ";".join(f"\r\n filename*{number}*={piece}" for number, piece in enumerate(pieces))


# -- a finished entity -----------------------------------------------------------------------------------------------


def _entity(message: Message) -> Entity:
    """A body made elsewhere, with its own headers: what an S/MIME signature covers must not change by one byte."""
    data = message.entity
    if message.body or message.alts or message.attachments:
        raise InvalidMessage("beside an entity no text and no attachment can stand", code="entity_invalid")
    if not isinstance(data, bytes):
        raise InvalidMessage("an entity is bytes: headers, an empty line, and a body", code="entity_invalid")
    # Mail knows only CRLF (RFC 5322 2.3), and signatures are made over that form (RFC 8551 3.1.1).
    data = re.sub(_NEWLINE_BYTES, CRLF, data)
    head = re.match(_ENTITY_HEAD, data, flags=re.IGNORECASE)
    if not (head and head[0].isascii() and data.startswith(CRLF, head.end()) and b"\0" not in data):
        raise InvalidMessage("an entity begins with its Content- headers and an empty line", code="entity_invalid")
    if not _has_short_lines(data):
        raise InvalidMessage(f"an entity has no line above {MAX_LINE_BYTES} bytes", code="entity_invalid")
    # The message says MIME-Version itself.
    return (re.sub(_MIME_VERSION, b"", head[0], flags=re.IGNORECASE | re.MULTILINE) + data[head.end() :],)
