"""Who really receives a message, and what the server answered.

The headers of a message say what people see; the envelope says who gets it. Keeping the two apart is what makes Bcc,
bounce addresses and redirected mail plain instead of special (RFC 5321 2.3.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from . import mime
from .address import Address, AddressLike, check_addresses
from .content import Content
from .errors import InvalidMessage, MissingSender, OutmailError, Refusal
from .headers import wire, wire_address
from .message import UNKNOWN_DOMAIN, Message

#: The connection that is there always, and the one meant where none is named.
PRIMARY = "primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One message, ready to be handed over.

    `sender` is the return path (bounces go there). `recipients` are all who receive it, without repeats, in the
    order To, Cc, Bcc. `visible` are the addresses that the headers To and Cc show. `content` is the whole message
    with CRLF line ends and without a Bcc header. `smtputf8` says that an address has a local part outside
    ASCII, which a server must have agreed to (RFC 6531).
    """

    sender: str
    recipients: tuple[str, ...]
    visible: tuple[str, ...]
    from_address: str
    message_id: str
    content: Content = field(repr=False)
    smtputf8: bool = False
    mail_options: tuple[str, ...] = ()
    rcpt_options: tuple[str, ...] = ()

    @classmethod
    def for_message(
        cls,
        message: Message,
        *,
        sender: str = "",
        mailbox: str = "",
        ascii_attachments: bool = False,
        sender_later: bool = False,
    ) -> Envelope:
        """Checks the message and makes its envelope.

        The return path is `sender`, or else the message's `envelope_from`, or else its From address. `mailbox` is the
        mailbox that really sends: when From names another address, it is added as the header Sender (RFC 5322
        3.6.2). `sender_later` lets a message without a sender pass; `sent_from` completes it.

        Raises:
            InvalidMessage: and its kinds, for what no transport may send.
        """
        try:
            message.check(sender_later=sender_later)
            return cls._for_message(message, sender or message.envelope_from or "", mailbox, ascii_attachments)
        except (TypeError, ValueError, LookupError, AttributeError) as exc:
            if isinstance(exc, OutmailError):
                raise
            # A field of a kind that no message can have: bytes for a text, a date that is no number.
            raise InvalidMessage(f"the message cannot be built: {type(exc).__name__}", code="message_invalid") from exc

    @classmethod
    def _for_message(cls, message: Message, bounces_to: AddressLike, mailbox: str, ascii_attachments: bool) -> Envelope:
        from_ = return_path = wire(message.sender or "", "sender")
        if bounces_to:
            check_addresses([("envelope sender", bounces_to)])
            return_path = wire(bounces_to, "envelope sender")
        visible = [wire(one, "recipients") for one in message.recipients]
        if message.cc:
            visible += [wire(one, "cc") for one in message.cc]
        hidden = [wire(one, "bcc") for one in message.bcc]
        recipients = (*dict.fromkeys([*visible, *hidden]),)
        return cls(
            sender=return_path,
            recipients=recipients,
            visible=(*dict.fromkeys(visible),) if len(visible) > 1 or hidden else recipients,
            from_address=from_,
            message_id=message.msgId,
            content=mime.build(message, mailbox=mailbox, ascii_attachments=ascii_attachments),
            smtputf8=not "".join((return_path, from_, *recipients)).isascii(),
            mail_options=tuple(map(str, message.mail_options)),
            rcpt_options=tuple(map(str, message.rcpt_options)),
        )

    def sent_from(self, sender: Address, mailbox: str) -> Envelope:
        """This envelope with `sender` as From if it has none yet, and with the mailbox that sends as Sender.

        Raises:
            MissingSender: neither the message nor the connection says who it is from.
        """
        if self.from_address:
            return replace(self, content=mime.with_sender(self.content, self.from_address, mailbox))
        if not sender.address:
            raise MissingSender("neither the message nor the setup says who it is from", code="sender_missing")
        address = wire_address(sender, "sender")
        # The Message-ID waited for its domain as From did.
        unknown, domain = f"@{UNKNOWN_DOMAIN}>", address.rpartition("@")[2]
        message_id = self.message_id.replace(unknown, f"@{domain}>")
        head, *rest = self.content.pieces
        assert isinstance(head, bytes)  # noqa: S101 -- the headers are always the first piece
        content = Content((head.replace(self.message_id.encode(), message_id.encode(), 1), *rest))
        return replace(
            self,
            sender=self.sender or address,
            from_address=address,
            message_id=message_id,
            content=mime.with_from(content, sender, mailbox),
        )

    def to_bytes(self) -> bytes:
        """Everything, for storage, attachments unencoded; `from_bytes` reads it back. Reads files that are attached.

        Raises:
            InvalidMessage: `attachment_changed`, a file is gone or has changed since the message was built.
        """
        facts = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "content"}
        facts["pieces"], data = self.content.stored()
        return b"".join([json.dumps(facts).encode(), b"\n", *data])

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """What `to_bytes` gave, from this version or an older one. A file that was a path is its bytes now."""
        end = data.index(b"\n")
        facts: dict[str, Any] = json.loads(data[:end])
        # The first form had no table: the content stood there as one.
        table = facts.pop("pieces", [len(data) - end - 1])
        facts = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
        return cls(content=Content.from_stored(table, data, end + 1), **facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a server answered. Accepted means that it took the message over, not that it arrived.

    `transport` and `connection` name the way it went; `message_id` is our Message-ID, `request_id` the server's own
    name for the exchange; `refused` maps each refused recipient to (code, text). `accepted_at` is aware UTC, None
    when not accepted; `elapsed_s` is the time spent on the hand-over, in seconds. `error` is set on receipts that
    stand for a failure (from `send_many` and from templates). `tried` are connections that failed before one took
    the message. `suppressed` are recipients whom the rules outside production held back; a message without any other
    is not accepted, and no failure either. `queued` says that it was not handed over yet: it is in the outbox under
    the name `delivery_id`.

    A receipt is true when the message was accepted, queued or suppressed, and prints as nothing, so that a template
    may call `{{ mail.send(…) }}`.
    """

    accepted: bool
    transport: str = ""
    connection: str = ""
    message_id: str = ""
    request_id: str = ""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    accepted_at: datetime | None = None
    elapsed_s: float = 0.0
    error: OutmailError | None = None
    queued: bool = False
    delivery_id: str = ""
    tried: tuple[tuple[str, OutmailError], ...] = ()
    suppressed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.accepted or self.queued or self.is_suppressed

    @property
    def is_suppressed(self) -> bool:
        """Whether every recipient was held back, so that nothing left."""
        return bool(self.suppressed) and not self.accepted

    def __str__(self) -> str:
        return ""

    def __html__(self) -> str:
        return ""


def failed_receipt(message: Message, error: OutmailError, via: str) -> Receipt:
    """A receipt that stands for a failure."""
    return Receipt(
        accepted=False,
        transport=str(getattr(error, "transport", "")),
        connection=via,
        message_id=message.msgId,
        request_id=str(getattr(error, "request_id", "")),
        refused=getattr(error, "recipients", {}),
        error=error,
    )
