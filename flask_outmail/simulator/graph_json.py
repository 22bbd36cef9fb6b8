"""Messages between Graph's JSON and MIME.

Pages: "user-sendmail", "resources/message". JSON has one body, its headers must begin with x-, and its names are
taken in any case.
"""

from __future__ import annotations

import base64
import binascii
import email.policy
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from flask_outmail.simulator import mail
from flask_outmail.simulator.graph_errors import GraphRefused
from flask_outmail.simulator.state import StoredAttachment, new_id
from flask_outmail.simulator.world import Mailbox

MAX_HEADERS = 5
# Seven-bit, because the simulator is not told what the recipients' servers can take.
_ASCII = email.policy.SMTP.clone(cte_type="7bit")
_UTF8 = email.policy.SMTPUTF8.clone(cte_type="7bit")


class Fields:
    """A JSON object whose names are compared without case, and whose values are checked as they are read."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise unreadable(f"{what} should be an object.")
        self.what = what
        self._values = {str(name).lower(): item for name, item in value.items()}

    def __contains__(self, name: str) -> bool:
        return self._values.get(name.lower()) is not None

    def all(self) -> dict[str, Any]:
        """Everything, with lower-case names."""
        return dict(self._values)

    def get(self, name: str) -> Any:
        return self._values.get(name.lower())

    def text(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise unreadable(f"'{name}' should be a string.")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """The documentation's own example sends the string "false"."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise unreadable(f"'{name}' should be a Boolean.")
        return value

    def items(self, name: str) -> list[Any]:
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise unreadable(f"'{name}' should be an array.")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name) or default
        for word in allowed:
            if value.lower() == word.lower():
                return word
        raise unreadable(f"Requested value '{value[:80]}' was not found.")


@dataclass
class JsonMessage:
    """A message as read from JSON; nothing about rights or recipients has been judged yet."""

    fields: Fields
    people: dict[str, list[tuple[str, str]]]
    content: str
    content_type: str
    headers: list[tuple[str, str]]
    attachments: list[StoredAttachment] = field(default_factory=list)

    @property
    def senders(self) -> list[str]:
        return [address for name in ("from", "sender") for _, address in self.people[name]]

    @property
    def recipients(self) -> list[str]:
        return [address for name in ("to", "cc", "bcc") for _, address in self.people[name]]

    def to_mime(self, mailbox: Mailbox) -> bytes:
        """Exactly one body part; attachments are not in it."""
        people = self.people if self.people["from"] else {**self.people, "from": [("", mailbox.address)]}
        written = [address for group in people.values() for _, address in group]
        message = EmailMessage(policy=_ASCII if all(map(str.isascii, written)) else _UTF8)
        for name in ("from", "sender", "reply-to", "to", "cc", "bcc"):
            if people[name] and not (name == "sender" and people["sender"] == people["from"]):
                message[name.title()] = [_address(*person) for person in people[name]]
        message["Subject"] = " ".join(self.fields.text("subject").split("\r\n")).replace("\n", " ").replace("\r", " ")
        if "internetMessageId" in self.fields:
            message["Message-ID"] = self.fields.text("internetMessageId")
        importance = self.fields.choice("importance", ("low", "normal", "high"), "normal")
        if importance != "normal":
            message["Importance"] = importance
        if self.fields.flag("isReadReceiptRequested"):
            message["Disposition-Notification-To"] = mailbox.address
        if self.fields.flag("isDeliveryReceiptRequested"):
            message["Return-Receipt-To"] = mailbox.address
        for name, value in self.headers:
            message[name] = value.replace("\r", " ").replace("\n", " ")
        message.set_content(self.content, subtype="html" if self.content_type == "html" else "plain")
        return message.as_bytes()


def unreadable(message: str) -> GraphRefused:
    return GraphRefused(400, "RequestBodyRead", message)


def read_message(value: object) -> JsonMessage:
    """
    Raises:
        GraphRefused: it cannot be read as a message.
    """
    fields = Fields(value, "message")
    people = {
        "from": _people([fields.get("from")] if "from" in fields else []),
        "sender": _people([fields.get("sender")] if "sender" in fields else []),
        "to": _people(fields.items("toRecipients")),
        "cc": _people(fields.items("ccRecipients")),
        "bcc": _people(fields.items("bccRecipients")),
        "reply-to": _people(fields.items("replyTo")),
    }
    body = Fields(fields.get("body") or {}, "body")
    return JsonMessage(
        fields=fields,
        people=people,
        content=body.text("content"),
        content_type=body.choice("contentType", ("text", "html"), "text"),
        headers=_headers(fields.items("internetMessageHeaders")),
        attachments=[read_attachment(item) for item in fields.items("attachments")],
    )


def read_attachment(value: object) -> StoredAttachment:
    """
    Raises:
        GraphRefused: it is no file attachment, or its content is not base64.
    """
    fields = Fields(value, "attachment")
    kind = fields.text("@odata.type").lstrip("#").lower()
    if kind != "microsoft.graph.fileattachment":
        raise unreadable(
            f"'@odata.type' should be #microsoft.graph.fileAttachment; the simulator has no '{kind[:80]}'."
        )
    if not fields.text("name"):
        raise GraphRefused(400, "ErrorInvalidRequest", "An attachment needs a name.")
    try:
        content = base64.b64decode(fields.text("contentBytes"), validate=True)
    except (binascii.Error, ValueError):
        raise unreadable("Cannot convert the literal of 'contentBytes' to the expected type 'Edm.Binary'.") from None
    return StoredAttachment(
        id=new_id(),
        name=fields.text("name"),
        content_type=fields.text("contentType") or "application/octet-stream",
        content=content,
        inline=fields.flag("isInline"),
        content_id=fields.text("contentId"),
    )


def with_attachments(raw: bytes, attachments: list[StoredAttachment]) -> bytes:
    """The finished message. Without attachments it is `raw`, byte for byte; with them Exchange writes it anew."""
    if not attachments:
        return raw
    message = mail.parse(raw)
    if "content-type" not in message:
        # Python's library loses a body that has no Content-Type when it makes room for an attachment.
        message["Content-Type"] = "text/plain"
    if "mime-version" not in message:
        message["MIME-Version"] = "1.0"
    for item in attachments:
        main, _, sub = item.content_type.partition(";")[0].strip().partition("/")
        if main in ("text", "message", "multipart") or not sub:
            main, sub = ("application", "octet-stream") if main != "text" or not sub else (main, sub)
        arguments: dict[str, Any] = {"maintype": main, "subtype": sub, "filename": item.name, "cte": "base64"}
        html = message.get_body(("related", "html"))
        if item.inline and isinstance(html, EmailMessage):
            html.add_related(item.content, cid=f"<{item.content_id}>", disposition="inline", **arguments)
        else:
            message.add_attachment(item.content, **arguments)
    return message.as_bytes(policy=_ASCII)


def _people(items: list[Any]) -> list[tuple[str, str]]:
    people: list[tuple[str, str]] = []
    for item in items:
        inner = Fields(Fields(item, "recipient").get("emailAddress") or {}, "emailAddress")
        people.append((inner.text("name"), inner.text("address").strip()))
    return people


def _headers(items: list[Any]) -> list[tuple[str, str]]:
    if len(items) > MAX_HEADERS:
        raise GraphRefused(
            400,
            "InvalidInternetMessageHeaderCollection",
            f"Maximum number of headers in one message should be less than or equal to {MAX_HEADERS}.",
        )
    headers: list[tuple[str, str]] = []
    for item in items:
        fields = Fields(item, "internetMessageHeader")
        name = fields.text("name")
        if not name.lower().startswith("x-") or not name.isascii() or not name.replace("-", "a").isalnum():
            raise GraphRefused(
                400,
                "InvalidInternetMessageHeader",
                f"The internet message header name '{name[:80]}' should start with 'x-' or 'X-'.",
            )
        headers.append((name, fields.text("value")))
    return headers


def _address(name: str, address: str) -> Address:
    try:
        local, _, domain = address.rpartition("@")
        clean = " ".join(name.split())
        return Address(clean, local, domain) if clean != address else Address("", local, domain)
    except (ValueError, IndexError):
        raise GraphRefused(400, "ErrorInvalidRecipients", "At least one recipient is not valid.") from None
