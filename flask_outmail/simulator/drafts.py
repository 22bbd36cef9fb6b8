"""Drafts: create, change, attach, send, look up, delete.

Pages: "user-post-messages", "message-send", "message-update", "outlook-immutable-id",
"attachment-createuploadsession".
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from flask import Response, jsonify, request

from flask_outmail.simulator.graph import (
    NEEDS_READ,
    NEEDS_READ_WRITE,
    SEND_MAIL,
    Call,
    Operation,
    accepted,
    check_message_size,
    check_recipients,
    check_sender,
    check_size,
    from_mime,
    json_body,
    mime_body,
    unsupported_media_type,
)
from flask_outmail.simulator.graph_errors import GraphRefused
from flask_outmail.simulator.graph_json import Fields, read_attachment, read_message, with_attachments
from flask_outmail.simulator.graph_resource import attachment_json, message_json
from flask_outmail.simulator.state import DRAFTS, FOLDERS, StoredMessage, Submission, complete
from flask_outmail.simulator.uploads import Sessions
from flask_outmail.simulator.world import MAIL_SEND

# Properties that are Outlook's, not the message's; they may be changed on a draft of either form.
_PROPERTIES = ("categories", "flag", "isread", "inferenceclassification", "singlevalueextendedproperties")
_COMPARISON = re.compile(
    r"(internetMessageId|conversationId|isDraft)\s+eq\s+(?:'((?:[^']|'')*)'|(true|false))", re.IGNORECASE
)
_EXTENDED = re.compile(
    r"singleValueExtendedProperties/any\(\s*(\w+)\s*:\s*\1/id\s+eq\s+'((?:[^']|'')*)'\s+and\s+"
    r"\1/value\s+eq\s+'((?:[^']|'')*)'\s*\)",
    re.IGNORECASE,
)
_ID = r"messages/(?P<message>[^/]+)"


def operations(sessions: Sessions) -> list[Operation]:
    """Every operation below /users/{mailbox}/ that the simulator knows."""

    def create_session(call: Call) -> Response:
        return _create_upload_session(call, sessions)

    read_only, read_write = NEEDS_READ, NEEDS_READ_WRITE
    return [
        SEND_MAIL,
        Operation("POST", r"(?:mailFolders/drafts/)?messages", "messages", read_write, create),
        Operation("GET", "messages", "messages", read_only, search),
        Operation("GET", r"mailFolders/(?P<folder>[^/]+)/messages", "messages", read_only, search),
        Operation("GET", rf"{_ID}/\$value", "messages", read_only, read_mime),
        Operation("GET", _ID, "messages", read_only, read),
        Operation("PATCH", _ID, "messages", read_write, change),
        Operation("DELETE", _ID, "messages", read_write, delete),
        Operation("POST", rf"{_ID}/(?:microsoft\.graph\.)?send", "send", MAIL_SEND, send),
        Operation(
            "POST",
            rf"{_ID}/attachments/(?:microsoft\.graph\.)?createUploadSession",
            "uploadSession",
            read_write,
            create_session,
        ),
        Operation("POST", rf"{_ID}/attachments", "attachments", read_write, attach),
        Operation("GET", rf"{_ID}/attachments", "attachments", read_only, list_attachments),
        Operation("GET", rf"{_ID}/attachments/(?P<attachment>[^/]+)", "attachments", read_only, read_attached),
        Operation("DELETE", rf"{_ID}/attachments/(?P<attachment>[^/]+)", "attachments", read_write, detach),
    ]


def create(call: Call) -> Response:
    """201 with the draft; nothing is sent, so nobody has to be allowed in From yet."""
    if request.mimetype == "text/plain":
        raw = mime_body()
        if oversized := check_size(call.state, mime=True):
            return oversized
        message = _store_draft(call, raw)
    elif request.mimetype == "application/json":
        fields = json_body()
        if oversized := check_size(call.state):
            return oversized
        values = fields.all()
        parsed = read_message(values)
        message = _store_draft(call, parsed.to_mime(call.mailbox))
        message.json = values
        message.attachments = parsed.attachments
        message.properties = {name: values[name] for name in _PROPERTIES if values.get(name) is not None}
    else:
        raise unsupported_media_type()
    return _shown(call, message, status=201)


def _store_draft(call: Call, raw: bytes) -> StoredMessage:
    # Completed now, because the draft's internetMessageId is promised to be that of the sent message.
    raw = complete(raw, call.mailbox, call.state.behaviour, rewrite_alias=False)
    return call.state.store(call.mailbox, DRAFTS, raw)


def read(call: Call) -> Response:
    return _shown(call, _message(call))


def read_mime(call: Call) -> Response:
    message = _message(call)
    return Response(with_attachments(message.raw, message.attachments), mimetype="text/plain")


def search(call: Call) -> Response:
    """Newest first; $filter by internetMessageId, conversationId, isDraft or an extended property, joined by
    "and".
    """
    folder = call.match.groupdict().get("folder")
    if folder is not None and folder.lower() not in FOLDERS:
        raise GraphRefused(404, "ErrorItemNotFound", "The specified object was not found in the store.")
    found = call.state.messages(call.mailbox, folder.lower() if folder else None)
    wanted = _wanted(request.args.get("$filter", ""))
    matching = [message for message in found if all(_equals(message, *item) for item in wanted)]
    top = request.args.get("$top", "10")
    limit = int(top) if top.isdecimal() and 1 <= int(top) <= 1000 else 10
    select = request.args.get("$select", "")
    response = jsonify(
        {
            "@odata.context": f"{call.base_url}/v1.0/$metadata#users('{quote(call.mailbox.id)}')/messages",
            "value": [
                message_json(item, immutable=call.wants_immutable_ids, select=select) for item in matching[:limit]
            ],
        }
    )
    return _with_preference(call, response)


def change(call: Call) -> Response:
    message = _draft(call)
    values = json_body().all()
    message.properties.update({name: values[name] for name in _PROPERTIES if name in values})
    content = {name: value for name, value in values.items() if name not in _PROPERTIES}
    if content:
        # outlook-send-mime-message: the parts of a MIME draft cannot be edited one by one.
        if message.json is None:
            raise GraphRefused(400, "ErrorInvalidRequest", "A draft made from MIME cannot be changed by property.")
        merged = {**message.json, "internetmessageid": message.internet_message_id, **content}
        raw = read_message(merged).to_mime(call.mailbox)
        message.raw = complete(raw, call.mailbox, call.state.behaviour, rewrite_alias=False)
        message.json = merged
    return _shown(call, message)


def delete(call: Call) -> Response:
    call.state.remove(_message(call))
    return Response(status=204)


def send(call: Call) -> Response:
    """202; the item leaves Drafts when it is delivered, which may be later than this answer."""
    message = _draft(call)
    outgoing = from_mime(message.raw)
    check_sender(call, outgoing.senders)
    check_recipients(call, outgoing.recipients)
    behaviour = call.state.behaviour
    finished = with_attachments(message.raw, message.attachments)
    raw = complete(finished, call.mailbox, behaviour, rewrite_alias=True)
    check_message_size(call, raw)
    call.state.submit(Submission(call.mailbox, raw, outgoing.recipients, "graph", call.app.client_id, draft=message))
    return accepted()


def attach(call: Call) -> Response:
    message = _draft(call)
    fields = json_body()
    if oversized := check_size(call.state):
        return oversized
    item = read_attachment(fields.all())
    message.attachments.append(item)
    response = jsonify(
        {
            "@odata.context": _context(call, message, "attachments"),
            **attachment_json(item, message.created_at),
        }
    )
    response.status_code = 201
    return response


def list_attachments(call: Call) -> Response:
    message = _message(call)
    return jsonify(
        {
            "@odata.context": _context(call, message, "attachments"),
            "value": [attachment_json(item, message.created_at) for item in message.attachments],
        }
    )


def read_attached(call: Call) -> Response:
    message = _message(call)
    for item in message.attachments:
        if item.id == call.match["attachment"]:
            return jsonify(
                {
                    "@odata.context": _context(call, message, "attachments"),
                    **attachment_json(item, message.created_at),
                }
            )
    raise _not_found()


def detach(call: Call) -> Response:
    message = _draft(call)
    kept = [item for item in message.attachments if item.id != call.match["attachment"]]
    if len(kept) == len(message.attachments):
        raise _not_found()
    message.attachments = kept
    return Response(status=204)


def _create_upload_session(call: Call, sessions: Sessions) -> Response:
    if call.state.behaviour.gov:
        # attachment-createuploadsession: not available in US Government L4 and L5.
        raise GraphRefused(400, "BadRequest", "Resource not found for the segment 'createUploadSession'.")
    message = _draft(call)
    item = Fields(json_body().get("AttachmentItem"), "AttachmentItem")
    response = jsonify(
        {
            "@odata.context": f"{call.base_url}/v1.0/$metadata#microsoft.graph.uploadSession",
            **sessions.open(call.mailbox, message, item),
        }
    )
    response.status_code = 201
    return response


# Helpers


def _message(call: Call) -> StoredMessage:
    message = call.state.find_message(call.mailbox, call.match["message"])
    if message is None:
        raise _not_found()
    return message


def _draft(call: Call) -> StoredMessage:
    message = _message(call)
    if message.folder != DRAFTS:
        raise GraphRefused(400, "ErrorInvalidRequest", "The message is not a draft any more.")
    return message


def _not_found() -> GraphRefused:
    return GraphRefused(404, "ErrorItemNotFound", "The specified object was not found in the store.")


def _shown(call: Call, message: StoredMessage, status: int = 200) -> Response:
    body: dict[str, Any] = {"@odata.context": _context(call, message)}
    body.update(message_json(message, immutable=call.wants_immutable_ids, select=request.args.get("$select", "")))
    response = jsonify(body)
    response.status_code = status
    return _with_preference(call, response)


def _with_preference(call: Call, response: Response) -> Response:
    if call.wants_immutable_ids:
        response.headers["Preference-Applied"] = 'IdType="ImmutableId"'
    return response


def _context(call: Call, message: StoredMessage, below: str = "") -> str:
    root = f"{call.base_url}/v1.0/$metadata#users('{quote(call.mailbox.id)}')/messages"
    return f"{root}('{quote(message.id)}')/{below}/$entity" if below else f"{root}/$entity"


def _wanted(text: str) -> list[tuple[str, str]]:
    """The comparisons of a $filter, all of which must hold.

    Raises:
        GraphRefused: it holds anything else.
    """
    wanted: list[tuple[str, str]] = []
    rest = text.strip()
    while rest:
        if match := _EXTENDED.match(rest):
            wanted.append((f"property {_unquoted(match[2])}", _unquoted(match[3])))
        elif match := _COMPARISON.match(rest):
            wanted.append((match[1].lower(), _unquoted(match[2]) if match[2] is not None else match[3].lower()))
        else:
            raise GraphRefused(400, "BadRequest", "Invalid filter clause, or one that the simulator does not know.")
        rest = rest[match.end() :].strip()
        if rest:
            joined = re.match(r"and\s+", rest, re.IGNORECASE)
            if joined is None:
                raise GraphRefused(400, "BadRequest", "Invalid filter clause, or one that the simulator does not know.")
            rest = rest[joined.end() :]
    return wanted


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def _equals(message: StoredMessage, name: str, value: str) -> bool:
    if name == "internetmessageid":
        return message.internet_message_id == value
    if name == "conversationid":
        return message.conversation_id == value
    if name == "isdraft":
        return (message.folder == DRAFTS) == (value == "true")
    properties = message.properties.get("singlevalueextendedproperties", [])
    return any(
        str(item.get("id", "")).lower() == name.removeprefix("property ").lower() and item.get("value") == value
        for item in properties
        if isinstance(item, dict)
    )
