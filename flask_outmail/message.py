"""What is written: `Message`, `Attachment`, and addresses, with the checks that keep one header from becoming two.

A message says what people see. Who really receives it, and the bytes, are made from it elsewhere (`envelope`, `mime`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import make_msgid
from pathlib import Path
from typing import Any

from .errors import BadHeaderError, InvalidMessage, MissingRecipients, MissingSender

#: Stands in a Message-ID until the sender, and so its domain, is known (RFC 2606: nobody can own it).
UNKNOWN_DOMAIN = "outmail.invalid"

AddressLike = str | tuple[str | None, str]

_LINE_BREAKS = re.compile(r"[\r\n]+")
# RFC 5322 2.2: a field name is printable ASCII without the colon.
_FIELD_NAME = re.compile(r"[!-9;-~]+")
# RFC 2045 5.1: what a type and a subtype may be made of; parameters may follow a whole type.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_CONTENT_TYPE = re.compile(rf"{_TOKEN.pattern}/{_TOKEN.pattern}(\s*;[\x20-\x7e\t]*)?")
# RFC 5321 4.1.2: a quoted local part, and a domain of labels (letters outside ASCII become labels later) or a literal.
_QUOTED_LOCAL = re.compile(r'"(?:[^"\\\r\n]|\\[^\r\n])*"')
_DOMAIN = re.compile(
    r"(?:[^\s\x00-\x2c\x2f\x3a-\x40\x5b-\x60\x7b-\x7f.]+\.)*[^\s\x00-\x2c\x2f\x3a-\x40\x5b-\x60\x7b-\x7f.]+"
)
_LITERAL = re.compile(r"\[[A-Za-z0-9:.]+\]")
#: Longer than any real one; folding and parsing must not be fed without end (RFC 5321 4.5.3.1 allows 64 and 255).
MAX_ADDRESS_CHARS = 320
MAX_NAME_CHARS = 500
# RFC 5322 3.2.1: control characters have no place in a header value (tab is white space).
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD = re.compile(r"\r\n(?=[ \t]+[^ \t\r\n])")

#: Headers that are computed from the message's own fields, so a second copy would contradict the first.
COMPUTED_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "subject", "mime-version", "content-type", "content-transfer-encoding"}
)


#: What an attachment's own fields say already.
_PART_HEADERS = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "mime-version"})


@dataclass(frozen=True, slots=True)
class Address:
    """A display name (may be empty) and an address as typed: `Address("Ann", "ann@example.com")`."""

    name: str
    address: str

    @classmethod
    def parse(cls, value: AddressLike) -> Address:
        """Reads `"Ann <ann@example.com>"`, `"ann@example.com"` or `("Ann", "ann@example.com")`.

        Line breaks are dropped here, so that printing a message never makes a second header of them; `check`
        refuses them before anything is sent.
        """
        if isinstance(value, (tuple, list)):
            name, address = value
            return cls(_one_line(str(name or "")).strip(), _one_line(str(address)).strip().strip("<>").strip())
        text = _one_line(str(value)).strip()
        if text.endswith(">") and "<" in text:
            # The last <...> is the address; whatever stands before it is the display name. Reading from the right
            # keeps names with an unquoted comma whole. A doubled ">" is a common typing slip.
            name, _, address = text.rstrip("> ").rpartition("<")
            return cls(_unquote(name), address.strip())
        return cls("", text)

    @property
    def local_part(self) -> str:
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def check(self, field: str) -> None:
        """Raises `InvalidMessage` naming `field` unless this can be one mailbox (RFC 5321 4.1.2, loosely)."""
        if len(self.address) > MAX_ADDRESS_CHARS or len(self.name) > MAX_NAME_CHARS:
            raise InvalidMessage(f"{field}: this is too long for an address", code="address_invalid")
        local, at, domain = self.address.rpartition("@")
        if not (at and local and (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain))):
            raise InvalidMessage(f"{field}: {self.address!r} is not an address", code="address_invalid")
        if not _QUOTED_LOCAL.fullmatch(local) and re.search(r'[\s<>()\[\]\\,;:@"\x00-\x1f\x7f]', local):
            raise InvalidMessage(f"{field}: {self.address!r} is not one address", code="address_invalid")
        if _CONTROL.search(self.name):
            raise BadHeaderError(f"{field} holds a control character", code="header_control")


def _one_line(text: str) -> str:
    return _LINE_BREAKS.sub("", text)


def _unquote(name: str) -> str:
    name = name.strip()
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


class Attachment:
    """A file that travels with a message.

    `data` is bytes, text that is sent as UTF-8, or a `pathlib.Path`: that file is read while the message is sent, so
    that its size costs no memory, and must not change until then. Without `filename` a path gives its own name;
    without `content_type` the type is guessed from the name. An inline image has `disposition="inline"` and
    `headers={"Content-ID": "<logo>"}`, and is shown by `<img src="cid:logo">`.

    Raises:
        ValueError: `data` is None.
    """

    def __init__(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: str | bytes | Path | None = None,
        disposition: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if data is None:
            raise ValueError("an attachment needs data")
        if filename is None and isinstance(data, Path):
            filename = data.name
        if content_type is None:
            content_type = _guess_type(filename, data)
        self.filename = filename
        self.content_type = content_type
        self.data = data
        self.disposition = disposition or "attachment"
        self.headers: Mapping[str, str] = headers or {}

    @property
    def content_id(self) -> str:
        """The value of Content-ID with its angle brackets, or an empty string."""
        return next((value for name, value in self.headers.items() if name.lower() == "content-id"), "")

    def __repr__(self) -> str:
        size = "file" if isinstance(self.data, Path) else len(self.data)
        return f"<Attachment {self.filename!r} {self.content_type} {size}>"


def _guess_type(filename: str | None, data: str | bytes | Path) -> str:
    import mimetypes  # reads the system's tables on first use: only pay for it when a type must be guessed

    guessed = mimetypes.guess_type(filename)[0] if filename else None
    return guessed or ("text/plain" if isinstance(data, str) else "application/octet-stream")


class Message:
    """One mail as its author writes it. The argument order is that of Flask-Mail and will not change.

    `recipients`, `cc`, `bcc` hold `"ann@example.com"`, `"Ann <ann@example.com>"` or `("Ann", "ann@example.com")`;
    lists handed in are kept, not copied. `alts` maps a MIME subtype to another form of the text (`{"html": …}`).
    `date` is seconds since the epoch. `mail_options` and `rcpt_options` are ESMTP parameters for SMTP servers.
    Nothing is checked here; `check` is called before anything is sent.
    """

    def __init__(
        self,
        subject: str = "",
        recipients: Sequence[AddressLike] | None = None,
        body: str | None = None,
        html: str | None = None,
        alts: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        sender: AddressLike | None = None,
        cc: Sequence[AddressLike] | None = None,
        bcc: Sequence[AddressLike] | None = None,
        attachments: Sequence[Attachment] | None = None,
        reply_to: AddressLike | None = None,
        date: float | None = None,
        charset: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        mail_options: Sequence[str] | None = None,
        rcpt_options: Sequence[str] | None = None,
    ) -> None:
        if isinstance(sender, tuple):
            name, address = sender
            sender = f"{name} <{address}>" if name else address
        self.recipients = _address_list(recipients)
        self.subject = subject
        self.sender: AddressLike | None = sender
        self.reply_to = reply_to
        self.cc = _address_list(cc)
        self.bcc = _address_list(bcc)
        self.body = body
        self.alts: dict[str, str] = dict(alts or {})
        if html is not None:
            self.alts["html"] = html
        self.date = date
        self.msgId = make_msgid(domain=_message_id_domain(sender))
        self.charset = charset
        self.extra_headers = extra_headers
        self.mail_options: Any = mail_options or []
        self.rcpt_options: Any = rcpt_options or []
        self.attachments: Any = attachments or []

    @property
    def html(self) -> str | None:
        return self.alts.get("html")

    @html.setter
    def html(self, value: str | None) -> None:
        if value is None:
            self.alts.pop("html", None)
        else:
            self.alts["html"] = value

    @property
    def send_to(self) -> set[AddressLike]:
        """Everybody who receives it, as given: recipients, cc and bcc together."""
        return {*self.recipients, *self.bcc, *self.cc}

    def sent_by(self, sender: str) -> None:
        """Fills in the sender, and its domain where the Message-ID waits for one."""
        self.sender = sender
        self.msgId = self.msgId.replace(f"@{UNKNOWN_DOMAIN}>", f"@{_message_id_domain(sender)}>")

    def add_recipient(self, recipient: AddressLike) -> None:
        self.recipients.append(recipient)

    def attach(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: str | bytes | Path | None = None,
        disposition: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Adds an `Attachment`; see there."""
        self.attachments.append(Attachment(filename, content_type, data, disposition, headers))

    def check(self, *, sender_later: bool = False) -> None:
        """Refuses what no transport may send. `sender_later` lets a missing sender pass.

        Raises:
            MissingRecipients, MissingSender: nobody to send to, or nobody to send from.
            BadHeaderError: a line break or control character in any header, address or file name.
            InvalidMessage: an address that is none, or a header that contradicts the message's own fields.
        """
        if not self.send_to:
            raise MissingRecipients("the message has no recipients", code="recipients_missing")
        if not (self.sender or sender_later):
            raise MissingSender("the message has no sender, and no default is set", code="sender_missing")
        self._check_line_breaks()
        for field, address in self._addresses():
            Address.parse(address).check(field)
        self._check_extra_headers()
        check_header_text("msgId", str(self.msgId))
        for subtype in self.alts:
            if not _TOKEN.fullmatch(str(subtype)):
                raise BadHeaderError(f"alts: {subtype!r} is not a MIME subtype", code="header_name")
        for option in (*self.mail_options, *self.rcpt_options):
            if not str(option).isascii() or not str(option).isprintable():
                raise BadHeaderError("an ESMTP option holds a line break or control character", code="header_control")
        for attachment in self.attachments:
            _check_attachment(attachment)

    def has_bad_headers(self) -> bool:
        """Whether `check` would refuse a line break in sender, recipients, reply-to or subject."""
        try:
            self._check_line_breaks()
        except BadHeaderError:
            return True
        return False

    def _addresses(self) -> Iterable[tuple[str, AddressLike]]:
        if self.sender:
            yield "sender", self.sender
        for field in ("recipients", "cc", "bcc"):
            for address in getattr(self, field):
                yield field, address
        if self.reply_to:
            # Several reply-to addresses may be given as a list; a tuple is one name and one address.
            many = self.reply_to if isinstance(self.reply_to, list) else [self.reply_to]
            for address in many:
                yield "reply_to", address

    def _check_line_breaks(self) -> None:
        for field, address in self._addresses():
            parts = address if isinstance(address, (tuple, list)) else (address,)
            if any(_LINE_BREAKS.search(str(part)) for part in parts if part):
                raise BadHeaderError(f"{field} holds a line break", code="header_line_break")
        check_header_text("subject", str(self.subject or ""))

    def _check_extra_headers(self) -> None:
        for name, value in (self.extra_headers or {}).items():
            if not _FIELD_NAME.fullmatch(name):
                raise BadHeaderError(f"extra_headers: {name!r} is not a header name", code="header_name")
            if name.lower() in COMPUTED_HEADERS:
                raise InvalidMessage(
                    f"extra_headers: {name} is made from the message itself; set the field instead",
                    code="header_computed",
                )
            check_header_text(f"extra_headers[{name!r}]", str(value))

    def __repr__(self) -> str:
        # No subject and no addresses: a repr ends up in logs and tracebacks.
        return f"<{type(self).__name__} {self.msgId}>"


def check_header_text(field: str, value: str) -> None:
    """Raises `BadHeaderError` unless `value` is one header value.

    Line breaks pass only as RFC 5322 folding: CRLF, then white space, then something to read on the line.
    """
    if _CONTROL.search(value):
        raise BadHeaderError(f"{field} holds a control character", code="header_control")
    if _LINE_BREAKS.search(_FOLD.sub("", value)):
        raise BadHeaderError(f"{field} holds a line break", code="header_line_break")


def _check_attachment(attachment: Attachment) -> None:
    named = {"filename": attachment.filename, "content_type": attachment.content_type}
    named |= {"disposition": attachment.disposition}
    for field, value in named.items():
        if value and (_LINE_BREAKS.search(str(value)) or _CONTROL.search(str(value))):
            raise BadHeaderError(f"attachment {field} holds a control character", code="header_line_break")
    if attachment.disposition not in ("attachment", "inline"):
        raise BadHeaderError("attachment disposition must be attachment or inline", code="header_name")
    if not _CONTENT_TYPE.fullmatch(str(attachment.content_type)):
        raise InvalidMessage(
            f"attachment content_type {attachment.content_type!r} is not of the form type/subtype",
            code="attachment_type",
        )
    for name, text in attachment.headers.items():
        if not _FIELD_NAME.fullmatch(name) or name.lower() in _PART_HEADERS:
            raise BadHeaderError(f"attachment header {name!r} is not a header name", code="header_name")
        check_header_text(f"attachment header {name}", str(text))


def _address_list(addresses: Sequence[AddressLike] | None) -> Any:
    # One address in place of a list is a slip that would otherwise become one recipient per letter.
    if isinstance(addresses, str):
        return [addresses]
    return addresses or []


def _message_id_domain(sender: AddressLike | None) -> str | None:
    """The sender's own domain, when it is plain ASCII: a Message-ID then neither names this machine nor asks DNS."""
    domain = Address.parse(sender).domain if sender else ""
    if domain.isascii() and re.fullmatch(r"[A-Za-z0-9.-]+", domain):
        return domain
    return UNKNOWN_DOMAIN
