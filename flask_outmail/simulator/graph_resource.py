"""A stored message as Graph shows it (page "resources/message")."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from flask_outmail.simulator import mail
from flask_outmail.simulator.state import DRAFTS, StoredAttachment, StoredMessage

# Shown only when asked for by $select.
_ON_REQUEST = ("internetMessageHeaders", "singleValueExtendedProperties", "uniqueBody")
PREVIEW_LETTERS = 255


def message_json(message: StoredMessage, *, immutable: bool, select: str = "") -> dict[str, Any]:
    """`immutable`: the id that survives moves is shown. `select`: the value of $select, empty for everything usual."""
    parsed = mail.parse(message.raw)
    html, plain = parsed.get_body(("html",)), parsed.get_body(("plain",))
    content_type, content = ("html", _content(html)) if html is not None else ("text", _content(plain))
    from_people = _people(message.raw, "from")
    sender = _people(message.raw, "sender") or from_people
    moment = timestamp(message.created_at)
    attached = any(not item.inline for item in message.attachments) or any(
        part.get_content_disposition() == "attachment" for part in parsed.walk()
    )
    everything: dict[str, Any] = {
        "@odata.etag": f'W/"{message.change_key}"',
        "id": message.immutable_id if immutable else message.id,
        "createdDateTime": moment,
        "lastModifiedDateTime": moment,
        "changeKey": message.change_key,
        "categories": message.properties.get("categories", []),
        "receivedDateTime": moment,
        "sentDateTime": moment,
        "hasAttachments": attached,
        "internetMessageId": message.internet_message_id,
        "subject": mail.readable(parsed["subject"]),
        "bodyPreview": " ".join(_content(plain).split())[:PREVIEW_LETTERS],
        "importance": str(parsed.get("importance", "normal")).lower(),
        "parentFolderId": message.folder,
        "conversationId": message.conversation_id,
        "isDeliveryReceiptRequested": "return-receipt-to" in parsed,
        "isReadReceiptRequested": "disposition-notification-to" in parsed,
        "isRead": message.properties.get("isread", message.folder != "inbox"),
        "isDraft": message.folder == DRAFTS,
        "webLink": f"https://outlook.simulator.example/mail/{message.id}",
        "inferenceClassification": message.properties.get("inferenceclassification", "focused"),
        "body": {"contentType": content_type, "content": content},
        "sender": sender[0] if sender else None,
        "from": from_people[0] if from_people else None,
        "toRecipients": _people(message.raw, "to"),
        "ccRecipients": _people(message.raw, "cc"),
        "bccRecipients": _people(message.raw, "bcc"),
        "replyTo": _people(message.raw, "reply-to"),
        "flag": message.properties.get("flag", {"flagStatus": "notFlagged"}),
        "internetMessageHeaders": [
            {"name": name, "value": value}
            for name in dict.fromkeys(name for name, _ in mail.split(message.raw)[0])
            for value in mail.values(message.raw, name)
        ],
        "singleValueExtendedProperties": message.properties.get("singlevalueextendedproperties", []),
        "uniqueBody": {"contentType": content_type, "content": content},
    }
    wanted = {name.strip().lower() for name in select.split(",") if name.strip()}
    if wanted:
        always = {"id", "@odata.etag"}
        return {name: value for name, value in everything.items() if name.lower() in wanted | always}
    return {name: value for name, value in everything.items() if name not in _ON_REQUEST}


def attachment_json(item: StoredAttachment, moment: datetime) -> dict[str, Any]:
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "@odata.mediaContentType": item.content_type,
        "id": item.id,
        "lastModifiedDateTime": timestamp(moment),
        "name": item.name,
        "contentType": item.content_type,
        "size": len(item.content),
        "isInline": item.inline,
        "contentId": item.content_id or None,
        "contentLocation": None,
        "contentBytes": base64.b64encode(item.content).decode(),
    }


def timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _people(raw: bytes, name: str) -> list[dict[str, Any]]:
    return [
        {"emailAddress": {"name": display or address, "address": address}}
        for display, address in mail.addresses(raw, name)
    ]


def _content(part: Any) -> str:
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except (LookupError, KeyError):
        return ""
