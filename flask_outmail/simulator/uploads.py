"""Upload sessions for large attachments: their own URLs, with the right to use them inside the URL.

Pages: "outlook-large-attachments", "attachment-createuploadsession".
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request

from flask_outmail.simulator.graph_errors import GraphRefused, error_response, scripted
from flask_outmail.simulator.graph_json import Fields
from flask_outmail.simulator.graph_resource import timestamp
from flask_outmail.simulator.http_faults import apply_fault
from flask_outmail.simulator.state import State, StoredAttachment, StoredMessage, new_id, now
from flask_outmail.simulator.world import Mailbox

PREFIX = "/upload/AttachmentSessions"
MIB = 1024 * 1024
# The page says 3 MB to 150 MB and leaves open which megabyte; widespread clients draw the line at 3 MiB.
SMALLEST_BYTES, LARGEST_BYTES = 3 * MIB, 150 * MIB
FRAGMENT_LIMIT_BYTES = 4 * MIB
_RANGE = re.compile(r"bytes (\d{1,12})-(\d{1,12})/(\d{1,12})")


@dataclass
class Session:
    id: str
    secret: str = field(repr=False)
    mailbox: Mailbox
    message: StoredMessage
    name: str
    content_type: str
    inline: bool
    content_id: str
    size: int
    expires_at: datetime
    received: bytearray = field(default_factory=bytearray, repr=False)


class Sessions:
    """The open upload sessions; safe to use from several threads."""

    def __init__(self, state: State, base_url: str) -> None:
        self.state = state
        self._base_url = base_url
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    def open(self, mailbox: Mailbox, message: StoredMessage, item: Fields) -> dict[str, Any]:
        """What the client is told about a new session.

        Raises:
            GraphRefused: the file is too small or too large, or the request says too little.
        """
        item.choice("attachmentType", ("file",), "")
        size = item.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not item.text("name"):
            raise GraphRefused(400, "ErrorInvalidRequest", "attachmentType, name and size are required.")
        if size < SMALLEST_BYTES:
            raise GraphRefused(
                400,
                "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
                "The attachment is too small for an upload session; add it with a single POST.",
            )
        if size > LARGEST_BYTES:
            raise GraphRefused(413, "ErrorAttachmentSizeLimitExceeded", "The attachment is larger than 150 MB.")
        session = Session(
            id=secrets.token_urlsafe(12),
            secret=secrets.token_urlsafe(32),
            mailbox=mailbox,
            message=message,
            name=item.text("name"),
            content_type=item.text("contentType") or "application/octet-stream",
            inline=item.flag("isInline"),
            content_id=item.text("contentId"),
            size=size,
            expires_at=now() + timedelta(seconds=self.state.behaviour.upload_expiry_s),
        )
        with self._lock:
            self._open[session.id] = session
        return {
            "uploadUrl": f"{self._base_url}{PREFIX}/{session.id}?authtoken={session.secret}",
            "expirationDateTime": timestamp(session.expires_at),
            "nextExpectedRanges": ["0-"],
        }

    def find(self, session_id: str) -> Session:
        """
        Raises:
            GraphRefused: no such session, its URL was changed, or it has expired.
        """
        with self._lock:
            session = self._open.get(session_id)
        if session is None:
            raise GraphRefused(404, "uploadSessionNotFound", "The upload session was not found.")
        if not hmac.compare_digest(request.args.get("authtoken", "").encode(), session.secret.encode()):
            raise GraphRefused(401, "InvalidAuthenticationToken", "The upload URL is not the one that was given out.")
        if session.expires_at <= now():
            self.forget(session)
            status = self.state.behaviour.expired_upload_status
            raise GraphRefused(status, "uploadSessionNotFound", "The upload session has expired.")
        return session

    def forget(self, session: Session) -> None:
        with self._lock:
            self._open.pop(session.id, None)

    def put(self, session: Session) -> Response:
        """200 and what is expected next, or 201 and where the attachment is."""
        data = request.get_data()
        with self._lock:
            _check_fragment(session, data)
            session.received += data
            position = len(session.received)
        if position < session.size:
            return jsonify(
                {
                    "@odata.context": f"{self._base_url}/v1.0/$metadata#microsoft.graph.uploadSession",
                    "ExpirationDateTime": timestamp(session.expires_at),
                    # The page's example has no hyphen here, and has one at the start.
                    "nextExpectedRanges": [str(position)],
                }
            )
        return self._finish(session)

    def _finish(self, session: Session) -> Response:
        attachment = StoredAttachment(
            id=new_id(),
            name=session.name,
            content_type=session.content_type,
            content=bytes(session.received),
            inline=session.inline,
            content_id=session.content_id,
        )
        session.message.attachments.append(attachment)
        self.forget(session)
        response = Response(status=201)
        del response.headers["Content-Type"]
        response.headers["Location"] = (
            f"{self._base_url}/v1.0/Users('{quote(session.mailbox.id)}')/Messages('{quote(session.message.id)}')"
            f"/Attachments('{quote(attachment.id)}')"
        )
        return response


def blueprint(sessions: Sessions) -> Blueprint:
    routes = Blueprint("uploads", __name__)
    state = sessions.state

    @routes.put(f"{PREFIX}/<session_id>")
    def put(session_id: str) -> Response:
        fault = state.faults.take("upload", method="PUT")
        if fault is not None:
            return apply_fault(state, fault, scripted, lambda: _answer(session_id, "PUT"))
        return _answer(session_id, "PUT")

    @routes.delete(f"{PREFIX}/<session_id>")
    def delete(session_id: str) -> Response:
        return _answer(session_id, "DELETE")

    def _answer(session_id: str, method: str) -> Response:
        try:
            if state.behaviour.strict_uploads and "Authorization" in request.headers:
                raise GraphRefused(401, "Unauthorized", "An upload URL takes no Authorization header.")
            session = sessions.find(session_id)
            if method == "DELETE":
                sessions.forget(session)
                return Response(status=204)
            return sessions.put(session)
        except GraphRefused as refused:
            return error_response(refused.status, refused.code, refused.message)

    return routes


def _check_fragment(session: Session, data: bytes) -> None:
    match = _RANGE.fullmatch(request.headers.get("Content-Range", ""))
    if match is None:
        raise GraphRefused(400, "invalidRange", "Content-Range should be: bytes first-last/total.")
    first, last, total = (int(number) for number in match.groups())
    if len(data) >= FRAGMENT_LIMIT_BYTES:
        raise GraphRefused(413, "maxFragmentLengthExceeded", "A range has to stay below 4 MB.")
    if total != session.size:
        raise GraphRefused(400, "invalidRange", "The total is not the size that the session was opened with.")
    if last - first + 1 != len(data) or last >= total:
        raise GraphRefused(400, "fragmentLengthMismatch", "Content-Range and Content-Length do not agree.")
    if first != len(session.received):
        raise GraphRefused(416, "invalidRange", f"The next range has to start at {len(session.received)}.")
