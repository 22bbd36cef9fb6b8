"""What was delivered, and the few things a mail system does to a message's bytes on the way."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from functools import cached_property

_FIELD = re.compile(rb"([^\x00-\x20:\x7f]+)[ \t]*:")
_ADDRESS = re.compile(r'(?:"[^"]+"|[^\s@"<>,;:()]+)@(?:\[[^\s\]]+\]|[^\s@.,<>;:()]+(?:\.[^\s@.,<>;:()]+)*)')
_registry = HeaderRegistry()


@dataclass(frozen=True)
class Attachment:
    """One attached or inline file of a delivered mail."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)
    content_id: str = ""
    inline: bool = False


@dataclass(frozen=True)
class DeliveredMail:
    """One copy in one recipient's mailbox. A message to three people is three of these.

    `mail_from`: the mailbox it was sent from (Graph: of the URL; SMTP: that signed in).
    `envelope_from`: the address of SMTP's MAIL FROM; for Graph the same as `mail_from`.
    `raw`: the bytes as the recipient sees them, without Bcc. `had_bcc_header`: the client left one in.
    `client`: who sent it: an application's client id, or "password".
    """

    id: int
    recipient: str
    mail_from: str
    envelope_from: str
    raw: bytes = field(repr=False)
    via: str
    received_at: datetime
    message_id: str
    client: str = ""
    had_bcc_header: bool = False

    @cached_property
    def parsed(self) -> EmailMessage:
        """The message as Python's own `email` package reads it, which is not how it was written."""
        return parse(self.raw)

    @property
    def subject(self) -> str:
        return readable(self.parsed["subject"])

    @property
    def text(self) -> str:
        """The text part, decoded; empty when there is none."""
        return self._body("plain")

    @property
    def html(self) -> str:
        """The HTML part, decoded; empty when there is none."""
        return self._body("html")

    @property
    def attachments(self) -> list[Attachment]:
        """Attached files and inline images, in the order of the message."""
        bodies = [part for part in (self._part("plain"), self._part("html")) if part is not None]
        return [
            _attachment(part, number)
            for number, part in enumerate(_leaves(self.parsed), 1)
            if not any(part is body for body in bodies)
        ]

    def _part(self, kind: str) -> EmailMessage | None:
        part = self.parsed.get_body((kind,))
        return part if isinstance(part, EmailMessage) else None

    def _body(self, kind: str) -> str:
        part = self._part(kind)
        if part is None:
            return ""
        content = part.get_payload(decode=True)
        charset = part.get_content_charset("utf-8")
        data = content if isinstance(content, bytes) else b""
        try:
            return data.decode(charset, "replace")
        except LookupError:
            return data.decode("latin-1")


def _leaves(message: EmailMessage) -> list[EmailMessage]:
    """The parts that hold content; a message attached to the message counts as one."""
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        return [message]
    return [leaf for part in message.iter_parts() if isinstance(part, EmailMessage) for leaf in _leaves(part)]


def _attachment(part: EmailMessage, number: int) -> Attachment:
    if part.get_content_type() == "message/rfc822":
        inner = next(part.iter_parts(), None)
        content = inner.as_bytes() if inner is not None else b""
        name = part.get_filename() or f"message-{number}.eml"
    else:
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        name = part.get_filename() or f"part-{number}"
    return Attachment(
        filename=str(name),
        content_type=part.get_content_type(),
        content=content,
        content_id=str(part.get("content-id", "")).strip().strip("<>"),
        inline=part.get_content_disposition() == "inline",
    )


def parse(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101 - what policy.default promises
    return message


def readable(value: object) -> str:
    """A header value as text; raw UTF-8 in it (RFC 6532) is decoded, other raw bytes become replacement signs."""
    if value is None:
        return ""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def split(raw: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """Header fields as (lower-case name, all their bytes), and everything behind them. Joined, it is `raw` again."""
    fields: list[tuple[str, bytes]] = []
    position = 0
    while position < len(raw):
        end = raw.find(b"\n", position) + 1 or len(raw)
        line = raw[position:end]
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] = (fields[-1][0], fields[-1][1] + line)
        elif match := _FIELD.match(line):
            fields.append((match[1].decode("latin-1").lower(), line))
        else:
            break
        position = end
    return fields, raw[position:]


def without(raw: bytes, name: str) -> tuple[bytes, bool]:
    """The message without a header, every other byte as it was; and whether the header was there."""
    fields, rest = split(raw)
    kept = [line for field_name, line in fields if field_name != name]
    return b"".join(kept) + rest, len(kept) < len(fields)


def with_header(raw: bytes, name: str, value: str) -> bytes:
    """The message with a header on top, as transport agents add theirs."""
    ending = b"\r\n" if b"\r\n" in raw or b"\n" not in raw else b"\n"
    separator = b"" if split(raw)[0] else ending
    return f"{name}: {value}".encode() + ending + separator + raw


def values(raw: bytes, name: str) -> list[str]:
    """Every value of a header, unfolded."""
    found: list[str] = []
    for field_name, line in split(raw)[0]:
        if field_name == name:
            unfolded = re.sub(rb"\r?\n(?=[ \t])", b"", line.partition(b":")[2])
            found.append(unfolded.strip().decode("utf-8", "replace"))
    return found


def addresses(raw: bytes, name: str) -> list[tuple[str, str]]:
    """(display name, address) of everyone in a header; what cannot be understood stands as it is."""
    found: list[tuple[str, str]] = []
    for value in values(raw, name):
        header = _registry(name, value)
        found += [(item.display_name, item.addr_spec) for item in getattr(header, "addresses", ())]
    return found


def is_address(text: str) -> bool:
    return _ADDRESS.fullmatch(text) is not None
