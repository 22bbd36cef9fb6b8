"""Adding attachments to a draft: small ones in a request each, others range by range in an upload session.

Rules cited: Graph outlook-large-attachments, attachment-createuploadsession, message-post-attachments, errors.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..content import FilePart
from ..errors import TransportUnavailable
from .graph_calls import Answer, Connections, Lost
from .graph_errors import is_fault
from .graph_steps import Steps, faulty

#: Graph takes requests up to 4 MB (Graph: outlook-large-attachments). Whether that is 4,000,000 or 4,194,304 bytes is
#: not documented, and too large a MIME request has been seen to answer 200 and do nothing: so the smaller one.
MAX_REQUEST_BYTES = 4_000_000
#: For what can only be tried: attachments between 3,000,000 bytes and 3 MiB may be too small for an upload session.
MOST_REQUEST_BYTES = 4_194_304
#: Below 4 MB, as Graph wants it, and a multiple of 320 KiB, as its other upload sessions want it.
RANGE_BYTES = 3_276_800
#: In the middle of an upload a pause may last as long as the window in which Graph counts uploaded bytes: whoever gave
#: up there would have to upload everything again, into the same limit (Graph: throttling-limits, 150 MB in 5 minutes).
UPLOAD_PATIENCE_S = 330.0
#: What the answers to a range are called that is not the one expected.
_NOT_EXPECTED = {"invalidrange", "fragmentoverlap", "fragmentoutoforder"}


class StartOver(Exception):
    """It is not known what the draft holds, so only a new one can be trusted."""


def attach(steps: Steps, draft_path: str, part: FilePart) -> None:
    """Adds one attachment, whole. Touches the network, and the disk when it is a file.

    Raises:
        StartOver: it may be in the draft, or half of it.
        OutmailError: it is not, for good.
    """
    if request_bytes_of(part) <= MAX_REQUEST_BYTES or not steps.calls.settings.cloud.uploads:
        _post(steps, draft_path, part)
        return
    url, position = _open_session(steps, draft_path, part)
    if not url:
        _post(steps, draft_path, part)
        return
    # Of its own: the address is on another host, and its connection must not be kept for messages.
    connections = Connections(steps.calls.settings.ca_file)
    try:
        _send_ranges(steps, connections, url, part, position)
    finally:
        connections.close()


def request_bytes_of(part: FilePart) -> int:
    """How large the request is that adds this attachment alone."""
    return len(attachment_json(part, b"")) + request_bytes(part.size_bytes)


def request_bytes(size_bytes: int) -> int:
    """How large the base64 of so many bytes is."""
    return (size_bytes + 2) // 3 * 4


def _post(steps: Steps, draft_path: str, part: FilePart) -> None:
    body = attachment_json(part, part.read(0, part.size_bytes))
    while True:
        try:
            answer = steps.ask("POST", f"{draft_path}/attachments", body, "application/json")
        except Lost as lost:
            steps.failed(lost.unavailable)
            if lost.left:
                # It may be there, and must not be there twice.
                raise StartOver from None
            continue
        if answer.status in (200, 201):
            if isinstance(answer.body.get("id"), str):
                return
            answer = faulty(answer)
        steps.failed_or_refused(answer)
        if is_fault(answer):
            raise StartOver


def _open_session(steps: Steps, draft_path: str, part: FilePart) -> tuple[str, int]:
    """(address, where to begin); no address when Graph finds the attachment too small for a session."""
    body = json.dumps({"AttachmentItem": attachment_item(part)}).encode()
    while True:
        try:
            answer = steps.ask("POST", f"{draft_path}/attachments/createUploadSession", body, "application/json")
        except Lost as lost:
            # A spare session is harmless: it ends by itself, and nothing of it shows in the draft.
            steps.failed(lost.unavailable)
            continue
        if answer.status in (200, 201):
            return _address(steps, answer), next_position(answer.body) or 0
        if answer.code.lower() == "errorattachmentsizeshouldnotbelessthanminimumsize":
            return "", 0
        steps.failed_or_refused(answer)


def _address(steps: Steps, answer: Answer) -> str:
    address = str(_value(answer.body, "uploadUrl") or "")
    if urlsplit(address).scheme != "https":
        raise TransportUnavailable(
            "Graph gave no safe address to upload to",
            code="upload_failed",
            transport=steps.calls.transport,
            retryable=False,
        )
    return address


def _send_ranges(steps: Steps, connections: Connections, url: str, part: FilePart, position: int) -> None:
    total = part.size_bytes
    # Whether the range at `position` may have arrived without our having heard of it.
    doubtful = False
    while True:
        data = part.read(position, RANGE_BYTES)
        if not data:
            # The server wants more than there is, or never said that it has everything.
            raise StartOver
        behind = position + len(data)
        content_range = f"bytes {position}-{behind - 1}/{total}"
        try:
            answer = steps.calls.put(connections, url, data, content_range, patience_s=UPLOAD_PATIENCE_S)
        except Lost as lost:
            doubtful = doubtful or lost.left
            steps.failed(lost.unavailable)
            continue
        if answer.status == 201 and behind == total:
            return
        if answer.status in (200, 201, 202):
            following = next_position(answer.body)
            if following is not None and position < following <= behind:
                position, doubtful = following, False
            elif behind == total and _value(answer.body, "nextExpectedRanges") == []:
                return
            else:
                # Not the words of an upload session: no proof that anything was taken.
                steps.failed(steps.error(faulty(answer)))
                position, doubtful = (position if following is None else following), True
        elif answer.status == 416 or answer.code.lower() in _NOT_EXPECTED:
            if not doubtful or behind == total:
                steps.failed(steps.error(faulty(answer)))
                raise StartOver
            # It had arrived after all.
            position, doubtful = behind, False
        elif answer.status in (401, 403, 404, 410):
            # The session has ended, or it is complete.
            steps.failed(steps.error(faulty(answer)))
            raise StartOver
        else:
            steps.failed_or_refused(answer)
            doubtful = doubtful or is_fault(answer)


# -- what is said of an attachment -----------------------------------------------------------------------------------


def attachment_item(part: FilePart) -> dict[str, Any]:
    """What an upload session is told of its attachment (Graph: attachmentItem)."""
    return {"attachmentType": "file", "name": _name(part), "size": part.size_bytes, **_facts(part)}


def attachment_json(part: FilePart, data: bytes) -> bytes:
    """An attachment as one request (Graph: fileAttachment)."""
    kind = {"@odata.type": "#microsoft.graph.fileAttachment", "name": _name(part), **_facts(part)}
    return json.dumps({**kind, "contentBytes": base64.b64encode(data).decode("ascii")}).encode()


def _facts(part: FilePart) -> dict[str, Any]:
    facts: dict[str, Any] = {"contentType": part.content_type, "isInline": part.is_inline}
    if part.content_id:
        # In JSON it stands without the brackets that it has in a header (Graph: attachment-createuploadsession).
        facts["contentId"] = part.content_id.strip().removeprefix("<").removesuffix(">")
    return facts


def _name(part: FilePart) -> str:
    # Graph wants a name; mail does not.
    return part.name or "attachment"


def next_position(body: Mapping[str, Any]) -> int | None:
    """Where the server wants the next range to begin; None when it wants nothing more, or does not say.

    Documented both as "0-" and as "2097152" (Graph: outlook-large-attachments).
    """
    ranges = _value(body, "nextExpectedRanges")
    starts = [
        int(found[0])
        for one in (ranges if isinstance(ranges, Sequence) and not isinstance(ranges, str) else [ranges])
        if (found := re.match(r"\d{1,15}", str(one).strip()))
    ]
    return min(starts, default=None)


def _value(body: Mapping[str, Any], name: str) -> Any:
    # The case of these names varies from example to example.
    return next((value for key, value in body.items() if str(key).lower() == name.lower()), None)
