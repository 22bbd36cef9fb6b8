"""What is written: `Message` and `Attachment`, with the checks that keep one header from becoming two.

A message says what people see. Who really receives it, and the bytes, are made from it elsewhere (`envelope`, `mime`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from os import urandom
from pathlib import Path
from time import time_ns
from typing import Any, Literal

from .address import CONTROL, LINE_BREAKS, Address, AddressLike, check_addresses, refuse_line_break
from .errors import BadHeaderError, InvalidMessage, MissingRecipients, MissingSender

__all__ = [
    "UNKNOWN_DOMAIN", "Address", "AddressLike", "Attachment", "Importance", "Message", "check_header_text",
    "complete_id",
]  # fmt: skip

#: Stands in a Message-ID until the sender, and so its domain, is known (RFC 2606: nobody can own it).
UNKNOWN_DOMAIN = "outmail.invalid"

Importance = Literal["high", "normal", "low"]

# Patterns stand as text here: compiled when a message first needs them, they do not slow the import.
# RFC 5322 2.2: a field name is printable ASCII without the colon; no real one is long.
_FIELD_NAME = r"[!-9;-~]{1,200}"
# RFC 2045 5.1: what a type and a subtype may be made of; parameters may follow.
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"  # noqa: S105 -- no secret
_CONTENT_TYPE = rf"{_TOKEN}/{_TOKEN}(\s*;[\x20-\x7e\t]*)?"
_PARAMETER = rf'; ?(?!charset)[A-Za-z-]+=(?:{_TOKEN}|"[\x20\x21\x23-\x5b\x5d-\x7e]*")'
_SUBTYPE = rf"{_TOKEN}(?:{_PARAMETER})*"
_MAX_TYPE_CHARS = 500
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+")
_FOLD = r"\r\n(?=[ \t]+[^ \t\r\n])"
_MESSAGE_ID = r"<?[!-;=?-~]{1,500}>?"
# RFC 2369 2: links in angle brackets.
_LINK = r"(?:https?|mailto):[!-;=?-~]{1,900}"
# RFC 3834 5: a keyword and parameters.
_AUTO_SUBMITTED = r"[A-Za-z-]+(?:;[\x20-\x7e]{0,200})?"
_METHOD = r"^METHOD:([A-Za-z-]+)\s*$"

#: Headers that are computed from the message's own fields, so a second copy would contradict the first.
COMPUTED_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "subject", "mime-version", "content-type", "content-transfer-encoding"}
)


#: What an attachment's own fields say already.
_PART_HEADERS = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "mime-version"})


class Attachment:
    """A file that travels with a message.

    `data` is bytes, text that is sent as UTF-8, or a `pathlib.Path`: that file is read while the message is sent, so
    that its size costs no memory, and must not change until then. Without `filename` a path gives its own name;
    without `content_type` the type is guessed from the name. `content_id="logo"` makes an inline image, which the HTML
    shows by `<img src="cid:logo">`.

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
        *,
        content_id: str = "",
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
        self.disposition = disposition or ("inline" if content_id else "attachment")
        self.headers: Mapping[str, str] = headers or {}
        if content_id:
            self.headers = {**self.headers, "Content-ID": f"<{content_id.strip('<>')}>"}

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
    """One mail as its author writes it. The order of the first fifteen arguments is Flask-Mail's and will not change.

    `recipients`, `cc`, `bcc` hold `"ann@example.com"`, `"Ann <ann@example.com>"` or `("Ann", "ann@example.com")`;
    lists handed in are kept, not copied. `alts` maps a MIME subtype, which may carry parameters, to another form of
    the text (`{"html": …}`); the last is the one to prefer. `date` is seconds since the epoch. `mail_options` and
    `rcpt_options` are ESMTP parameters for SMTP servers.

    By keyword alone:

    - `calendar`: an invitation (iCalendar text), which calendars offer to accept.
    - `envelope_from`: where bounces go, instead of to the sender.
    - `importance`: "high", "normal" or "low", as programs show it.
    - `read_receipt_to`: who is told when it is read, if the reader agrees.
    - `in_reply_to`, `references`: the Message-ID answered, and those of the thread before it, oldest first.
    - `unsubscribe`: link or links (https, mailto) to leave the list; `unsubscribe_post` says that a POST to the https
      link is enough (one click, RFC 8058).
    - `auto_submitted`: "auto-generated" or "auto-replied", so that no robot answers (RFC 3834).
    - `entity`: a finished MIME entity (bytes: Content- headers, empty line, body) in place of body, alternatives and
      attachments, such as one signed with S/MIME; it is not changed by one byte.
    - `tag`: a word of the application's own, for the rules that choose a connection. It does not leave.

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
        reply_to: AddressLike | list[AddressLike] | None = None,
        date: float | None = None,
        charset: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        mail_options: Sequence[str] | None = None,
        rcpt_options: Sequence[str] | None = None,
        *,
        calendar: str | None = None,
        envelope_from: AddressLike | None = None,
        importance: Importance | None = None,
        read_receipt_to: AddressLike | None = None,
        in_reply_to: str | None = None,
        references: str | Sequence[str] = (),
        unsubscribe: str | Sequence[str] = (),
        unsubscribe_post: bool = False,
        auto_submitted: str | None = None,
        entity: bytes | None = None,
        tag: str = "",
    ) -> None:
        default = None if sender else self._default_sender()
        sender = sender or default
        if isinstance(sender, (tuple, list)):
            name, address = sender
            sender = f"{name} <{address}>" if name else address
        #: What stood in for a sender that nobody gave, so that one assigned later can be told from it.
        self.default_sender_used: AddressLike | None = sender if default else None
        self.recipients = recipients if isinstance(recipients, list) else _listed(recipients)
        self.subject = subject
        self.sender: AddressLike | None = sender
        self.reply_to = reply_to
        self.cc = cc if isinstance(cc, list) else _listed(cc)
        self.bcc = bcc if isinstance(bcc, list) else _listed(bcc)
        self.body = body
        self.alts: dict[str, str] = {} if html is None else {"html": html}
        if alts:
            self.alts.update(alts)
            if html is not None:
                self.alts["html"] = html
        if calendar is not None:
            # RFC 6047 2.4: the part says the method that the text says.
            method = re.search(_METHOD, calendar, flags=re.IGNORECASE | re.MULTILINE)
            self.alts[f"calendar; method={method[1].upper()}" if method else "calendar"] = calendar
        self.date = date
        self.msgId = f"<{time_ns() // 1000}.{urandom(9).hex()}@{_message_id_domain(str(sender or ''))}>"
        self.charset = charset
        self.extra_headers = extra_headers
        self.mail_options: Any = mail_options or []
        self.rcpt_options: Any = rcpt_options or []
        self.attachments = attachments if isinstance(attachments, list) else _listed(attachments)
        self.envelope_from = envelope_from
        self.importance = importance
        self.read_receipt_to = read_receipt_to
        self.in_reply_to = in_reply_to
        self.references = references
        self.unsubscribe = unsubscribe
        self.unsubscribe_post = unsubscribe_post
        self.auto_submitted = auto_submitted
        self.entity = entity
        self.tag = tag

    def _default_sender(self) -> AddressLike | None:
        """Who it is from when nobody says."""
        return None

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
    def has_more_headers(self) -> bool:
        """Whether a field is set that most messages lack."""
        return bool(
            self.in_reply_to
            or self.references
            or self.unsubscribe
            or self.unsubscribe_post
            or self.importance
            or self.auto_submitted
            or self.read_receipt_to
        )

    @property
    def thread(self) -> list[str]:
        """The Message-IDs that this one answers, oldest first; they stand in References."""
        given = self.references.split() if isinstance(self.references, str) else list(self.references)
        # Of a parent that names no ancestors itself, the parent is the whole thread (RFC 5322 3.6.4).
        return given or ([self.in_reply_to] if self.in_reply_to else [])

    @property
    def unsubscribe_links(self) -> Sequence[str]:
        return [self.unsubscribe] if isinstance(self.unsubscribe, str) and self.unsubscribe else self.unsubscribe

    @property
    def send_to(self) -> set[AddressLike]:
        """Everybody who receives it, as given: recipients, cc and bcc together."""
        return {*self.recipients, *self.bcc, *self.cc}

    def sent_by(self, sender: str) -> None:
        """Fills in the sender, and its domain where the Message-ID waits for one."""
        self.sender = sender
        complete_id(self, sender)

    def add_recipient(self, recipient: AddressLike) -> None:
        self.recipients.append(recipient)

    def attach(
        self,
        filename: str | None = None,
        content_type: str | None = None,
        data: str | bytes | Path | None = None,
        disposition: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        content_id: str = "",
    ) -> None:
        """Adds an `Attachment`; see there."""
        self.attachments.append(Attachment(filename, content_type, data, disposition, headers, content_id=content_id))

    def check(self, *, sender_later: bool = False) -> None:
        """Refuses what no transport may send. `sender_later` lets a missing sender pass.

        Raises:
            MissingRecipients, MissingSender: nobody to send to, or nobody to send from.
            BadHeaderError: a line break or control character in any header, address or file name.
            InvalidMessage: an address that is none, or a header that contradicts the message's own fields.
        """
        if not (self.recipients or self.cc or self.bcc):
            raise MissingRecipients("the message has no recipients", code="recipients_missing")
        if not (self.sender or sender_later):
            raise MissingSender("the message has no sender, and no default is set", code="sender_missing")
        check_addresses(self._addresses())
        for name, text in (("subject", str(self.subject or "")), ("msgId", str(self.msgId))):
            if not text.isprintable():
                check_header_text(name, text)
        if self.extra_headers:
            self._check_extra_headers(self.extra_headers)
        for subtype in self.alts:
            if subtype != "html" and not re.fullmatch(_SUBTYPE, str(subtype), flags=re.IGNORECASE):
                raise BadHeaderError(f"alts: {subtype!r} is not a MIME subtype", code="header_name")
        for option in (*self.mail_options, *self.rcpt_options):
            if not str(option).isascii() or not str(option).isprintable():
                raise BadHeaderError("an ESMTP option holds a line break or control character", code="header_control")
        for attachment in self.attachments:
            _check_attachment(attachment)
        if self.has_more_headers:
            self._check_more_headers()

    def has_bad_headers(self) -> bool:
        """Whether `check` would refuse a line break in sender, recipients, reply-to or subject."""
        try:
            for field, address in self._addresses():
                refuse_line_break(field, address)
            check_header_text("subject", str(self.subject or ""))
        except BadHeaderError:
            return True
        return False

    def _addresses(self) -> Iterator[tuple[str, AddressLike]]:
        if self.sender:
            yield "sender", self.sender
        for address in self.recipients:
            yield "recipients", address
        for address in self.cc:
            yield "cc", address
        for address in self.bcc:
            yield "bcc", address
        if self.reply_to:
            # Several reply-to addresses may be given as a list; a tuple is one name and one address.
            many = self.reply_to if isinstance(self.reply_to, list) else [self.reply_to]
            for address in many:
                yield "reply_to", address
        if self.envelope_from:
            yield "envelope_from", self.envelope_from
        if self.read_receipt_to:
            yield "read_receipt_to", self.read_receipt_to

    def _check_extra_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            if not re.fullmatch(_FIELD_NAME, name):
                raise BadHeaderError(f"extra_headers: {name!r} is not a header name", code="header_name")
            if name.lower() in COMPUTED_HEADERS:
                raise InvalidMessage(
                    f"extra_headers: {name} is made from the message itself; set the field instead",
                    code="header_computed",
                )
            check_header_text(f"extra_headers[{name!r}]", str(value))

    def _check_more_headers(self) -> None:
        if self.importance not in (None, "high", "normal", "low"):
            raise InvalidMessage("importance is high, normal or low", code="field_invalid")
        for one in (self.in_reply_to, *self.thread):
            if one and not re.fullmatch(_MESSAGE_ID, one):
                raise InvalidMessage(f"in_reply_to, references: {one!r} is not a Message-ID", code="field_invalid")
        if self.auto_submitted and not re.fullmatch(_AUTO_SUBMITTED, self.auto_submitted):
            raise InvalidMessage("auto_submitted is a keyword such as auto-generated", code="field_invalid")
        for link in self.unsubscribe_links:
            if not re.fullmatch(_LINK, link):
                raise InvalidMessage(f"unsubscribe: {link!r} is not an https or mailto link", code="field_invalid")
        if self.unsubscribe_post and not any(link.startswith("https:") for link in self.unsubscribe_links):
            raise InvalidMessage("unsubscribe_post needs an https link in unsubscribe", code="field_invalid")

    def __repr__(self) -> str:
        # No subject and no addresses: a repr ends up in logs and tracebacks.
        return f"<{type(self).__name__} {self.msgId}>"


def check_header_text(field: str, value: str) -> None:
    """Raises `BadHeaderError` unless `value` is one header value.

    Line breaks pass only as RFC 5322 folding: CRLF, then white space, then something to read on the line.
    """
    if value.isprintable():
        return
    if CONTROL.search(value):
        raise BadHeaderError(f"{field} holds a control character", code="header_control")
    if LINE_BREAKS.search(re.sub(_FOLD, "", value)):
        raise BadHeaderError(f"{field} holds a line break", code="header_line_break")


def _check_attachment(attachment: Attachment) -> None:
    named = {"filename": attachment.filename, "content_type": attachment.content_type}
    named |= {"disposition": attachment.disposition}
    for field, value in named.items():
        if value and (LINE_BREAKS.search(str(value)) or CONTROL.search(str(value))):
            raise BadHeaderError(f"attachment {field} holds a control character", code="header_line_break")
    if attachment.disposition not in ("attachment", "inline"):
        raise BadHeaderError("attachment disposition must be attachment or inline", code="header_name")
    content_type = str(attachment.content_type)
    if len(content_type) > _MAX_TYPE_CHARS or not re.fullmatch(_CONTENT_TYPE, content_type):
        raise InvalidMessage(
            f"attachment content_type {attachment.content_type!r} is not of the form type/subtype",
            code="attachment_type",
        )
    for name, text in attachment.headers.items():
        if not re.fullmatch(_FIELD_NAME, name) or name.lower() in _PART_HEADERS:
            raise BadHeaderError(f"attachment header {name!r} is not a header name", code="header_name")
        check_header_text(f"attachment header {name}", str(text))


def _listed(given: Any) -> list[Any]:
    """What was given, as a list that may be read twice and added to."""
    # One address in place of a list is a slip that would otherwise become one recipient per letter.
    return [given] if isinstance(given, str) else list(given or ())


@lru_cache(64)
def complete_id(message: Message, sender: str) -> None:
    """Gives a Message-ID that waits for a domain the one of `sender`, also where From itself is filled in later."""
    message.msgId = message.msgId.replace(f"@{UNKNOWN_DOMAIN}>", f"@{_message_id_domain(sender)}>")


def _message_id_domain(sender: str) -> str:
    """The sender's own domain, when it is plain ASCII: a Message-ID then neither names this machine nor asks DNS."""
    domain = Address.parse(sender).domain
    return domain if _DOMAIN.fullmatch(domain) else UNKNOWN_DOMAIN
