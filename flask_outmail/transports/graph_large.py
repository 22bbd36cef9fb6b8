"""A message above what one request may hold: a draft, its attachments one by one, and then its sending.

Nothing is sent before the very last request, so every step before it may be repeated, and the draft is deleted when
one fails for good. Rules cited: Graph user-post-messages, outlook-large-attachments, attachment-createuploadsession,
message-send.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from time import sleep
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from ..content import Content, FilePart
from ..envelope import Envelope
from ..errors import DeliveryError, DeliveryUnknown, MessageRejected, OutmailError, TransportUnavailable
from .graph_calls import Answer, Connections, GraphCalls, Lost
from .graph_check import delete, look, settle
from .graph_errors import error_for, is_fault

logger = logging.getLogger(__name__)

#: Graph takes requests up to 4 MB (Graph: outlook-large-attachments). Whether that is 4,000,000 or 4,194,304 bytes is
#: not documented, and too large a MIME request has been seen to answer 200 and do nothing: so the smaller one.
MAX_REQUEST_BYTES = 4_000_000
#: For what can only be tried: attachments between 3,000,000 bytes and 3 MiB may be too small for an upload session.
MOST_REQUEST_BYTES = 4_194_304
#: Exchange Online sends nothing larger, whatever a mailbox's own limit is (Exchange Online limits).
MAX_MESSAGE_BYTES = 150 * 1024 * 1024
#: Below 4 MB, as Graph wants it, and a multiple of 320 KiB, as its other upload sessions want it.
RANGE_BYTES = 3_276_800
#: Harmless steps that may fail in one delivery; and how long a pause between two of them may be. In the middle of an
#: upload it may last as long as the window in which Graph counts uploaded bytes, five minutes: whoever gave up there
#: would have to upload everything again, into the same limit (Graph: throttling-limits, 150 MB in 5 minutes).
MAX_FAILURES = 8
STEP_PATIENCE_S = 60.0
UPLOAD_PATIENCE_S = 330.0
_LONGEST_WAIT_S = 8.0
#: What the answers to a repeated range are called, when the first one had arrived after all (Graph: errors).
_ALREADY_THERE = {"invalidrange", "fragmentoverlap", "fragmentoutoforder"}


def request_bytes(size_bytes: int) -> int:
    """How large the base64 of so many bytes is."""
    return (size_bytes + 2) // 3 * 4


def leave_out(content: Content) -> tuple[FilePart, ...]:
    """The attachments that have to travel by themselves so that the rest fits into one request: as few as possible.

    Raises:
        MessageRejected: `body_too_large`, the rest is too large even without any attachment.
    """
    leaving: list[FilePart] = []
    size_bytes = content.size_bytes
    for part in sorted(content.files, key=lambda one: one.wire_bytes, reverse=True):
        if request_bytes(size_bytes) <= MAX_REQUEST_BYTES:
            break
        leaving.append(part)
        size_bytes -= part.wire_bytes
    if request_bytes(size_bytes) > MAX_REQUEST_BYTES:
        raise MessageRejected(
            f"without its attachments the message still needs a request of {request_bytes(size_bytes)} bytes,"
            f" Graph takes {MAX_REQUEST_BYTES}",
            code="body_too_large",
        )
    wanted = {id(part) for part in leaving}
    return tuple(part for part in content.files if id(part) in wanted)


def judge(content: Content, *, allowed: bool, uploads: bool) -> tuple[FilePart, ...]:
    """`leave_out`, and whether this way is open at all. Reads no file, touches no network.

    Raises:
        MessageRejected: it is not; the code says why.
    """
    raw_bytes = content.size_bytes - sum(part.wire_bytes - part.size_bytes for part in content.files)
    if raw_bytes > MAX_MESSAGE_BYTES:
        # Counted without base64, which Exchange takes off: what is above this is certainly too large.
        raise MessageRejected(
            f"the message has {raw_bytes} bytes, Exchange Online sends at most {MAX_MESSAGE_BYTES}",
            code="message_too_large",
        )
    if not allowed:
        raise MessageRejected(
            f"the message needs a request of {request_bytes(content.size_bytes)} bytes, Graph takes"
            f" {MAX_REQUEST_BYTES}, and OUTMAIL_GRAPH_LARGE_MESSAGES is off",
            code="large_messages_off",
        )
    leaving = leave_out(content)
    largest = max(leaving, key=lambda one: one.size_bytes)
    if not uploads and len(attachment_json(largest, b"")) + request_bytes(largest.size_bytes) > MOST_REQUEST_BYTES:
        raise MessageRejected(
            f"the attachment {largest.name!r} has {largest.size_bytes} bytes, and this cloud takes attachments only"
            " in one request each",
            code="large_messages_cloud",
        )
    return leaving


class _StartOver(Exception):
    """It is not known what the draft holds, so only a new one can be trusted."""


@dataclass
class LargeDelivery:
    """The delivery of one message. `content` is all of it, with its Bcc; `leaving` are the attachments to add later."""

    calls: GraphCalls
    envelope: Envelope
    content: Content = field(repr=False)
    leaving: Collection[FilePart] = field(repr=False)
    _failures: int = 0

    def run(self) -> Answer:
        """Everything, up to an answer that accepts the message.

        Raises:
            TransportUnavailable, Throttled, AuthenticationFailed, RecipientsRefused, MessageRejected, InvalidMessage:
                nothing was accepted, and no draft is left as far as it could be deleted.
            DeliveryUnknown: the last request left, and nothing tells what became of it.
        """
        for try_again in (True, False):
            draft = self._create()
            try:
                for part in self.leaving:
                    self._attach(draft, part)
            except _StartOver:
                self._give_up(draft)
                if not try_again:
                    break
            except BaseException:
                # Whatever it was, a person who ended the program too: a draft with people's data must not stay.
                self._give_up(draft)
                raise
            else:
                return self._send(draft)
        raise TransportUnavailable(
            "the attachments could not be uploaded, twice", code="upload_failed", transport=self.calls.transport
        )

    # -- the draft ---------------------------------------------------------------------------------------------------

    def _create(self) -> _Draft:
        body = base64.b64encode(bytes(self.content.without(self.leaving)))
        unclear = False
        while True:
            try:
                answer = self._ask("POST", self.calls.url("messages"), body, "text/plain")
            except Lost as lost:
                unclear = unclear or lost.left
                self._failed(lost.unavailable, unclear)
                continue
            draft = _Draft.read(answer)
            if draft is not None:
                if unclear:
                    self._sweep(keep=draft)
                return draft
            if answer.status in (200, 201):
                answer = _faulty(answer)
            unclear = unclear or is_fault(answer)
            if is_fault(answer) or answer.status in (429, 509):
                self._failed(self._error(answer), unclear)
                continue
            if unclear:
                self._sweep()
            self._refuse(answer)

    def _sweep(self, keep: _Draft | None = None) -> None:
        """Deletes the drafts of requests whose answers were lost."""
        found = look(self.calls, keep.message_id if keep and keep.message_id else self.envelope.message_id)
        for draft_id, _ in found.drafts if found else ():
            if keep is None or draft_id != keep.id:
                delete(self.calls, draft_id)

    def _give_up(self, draft: _Draft) -> None:
        if not delete(self.calls, draft.id) and not delete(self.calls, draft.id):
            logger.warning("a draft could not be deleted", extra={"transport": self.calls.transport})

    # -- attachments -------------------------------------------------------------------------------------------------

    def _attach(self, draft: _Draft, part: FilePart) -> None:
        fixed_bytes = len(attachment_json(part, b""))
        if fixed_bytes + request_bytes(part.size_bytes) <= MAX_REQUEST_BYTES or not self.calls.settings.cloud.uploads:
            self._post(draft, part)
        else:
            self._upload(draft, part)

    def _post(self, draft: _Draft, part: FilePart) -> None:
        body = attachment_json(part, part.read(0, part.size_bytes))
        while True:
            try:
                answer = self._ask("POST", self.calls.url(f"{draft.path}/attachments"), body, "application/json")
            except Lost as lost:
                self._failed(lost.unavailable)
                if lost.left:
                    # It may be there, and must not be there twice.
                    raise _StartOver from None
                continue
            if answer.status in (200, 201):
                return
            self._failed_or_refused(answer)
            if is_fault(answer):
                raise _StartOver

    def _upload(self, draft: _Draft, part: FilePart) -> None:
        url, position = self._open_session(draft, part)
        if not url:
            self._post(draft, part)
            return
        # Of its own: the address is on another host, and its connection must not be kept for messages.
        connections = Connections(self.calls.settings.ca_file)
        try:
            self._send_ranges(connections, url, part, position)
        finally:
            connections.close()

    def _open_session(self, draft: _Draft, part: FilePart) -> tuple[str, int]:
        """(address, where to begin); no address when Graph finds the attachment too small for a session."""
        body = json.dumps({"AttachmentItem": attachment_item(part)}).encode()
        url = self.calls.url(f"{draft.path}/attachments/createUploadSession")
        while True:
            try:
                answer = self._ask("POST", url, body, "application/json")
            except Lost as lost:
                # A spare session is harmless: it ends by itself, and nothing of it shows in the draft.
                self._failed(lost.unavailable)
                continue
            if answer.status in (200, 201):
                address = str(_value(answer.body, "uploadUrl") or "")
                if urlsplit(address).scheme != "https":
                    raise TransportUnavailable(
                        "Graph gave no safe address to upload to",
                        code="upload_failed",
                        transport=self.calls.transport,
                        retryable=False,
                    )
                return address, next_position(answer.body) or 0
            if answer.code.lower() == "errorattachmentsizeshouldnotbelessthanminimumsize":
                return "", 0
            self._failed_or_refused(answer)

    def _send_ranges(self, connections: Connections, url: str, part: FilePart, position: int) -> None:
        total = part.size_bytes
        doubtful = False
        while True:
            data = part.read(position, RANGE_BYTES)
            if not data:
                # The server wants more than there is, or never said that it has everything.
                raise _StartOver
            behind = position + len(data)
            try:
                answer = self.calls.put(
                    connections, url, data, f"bytes {position}-{behind - 1}/{total}", patience_s=UPLOAD_PATIENCE_S
                )
            except Lost as lost:
                doubtful = doubtful or lost.left
                self._failed(lost.unavailable)
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
                    self._failed(self._error(_faulty(answer)))
                    position, doubtful = (position if following is None else following), True
            elif answer.status in (404, 410):
                # Ended, or complete without our having heard of it.
                self._failed(self._error(_faulty(answer)))
                raise _StartOver
            elif doubtful and (answer.status == 416 or answer.code.lower() in _ALREADY_THERE):
                if behind == total:
                    raise _StartOver
                position, doubtful = behind, False
            else:
                self._failed_or_refused(answer)
                doubtful = doubtful or is_fault(answer)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(self, draft: _Draft) -> Answer:
        try:
            return self._try_to_send(draft)
        except DeliveryUnknown as unknown:
            return self._settle(draft, unknown)
        except OutmailError:
            # Refused, or never asked. Anything else may have come while the request was under way: then it stays.
            self._give_up(draft)
            raise

    def _try_to_send(self, draft: _Draft) -> Answer:
        refused_for_now = False
        url = self.calls.url(f"{draft.path}/send")
        while True:
            try:
                answer = self._ask("POST", url, b"")
            except Lost as lost:
                if lost.left:
                    raise answer_lost(lost, self.calls.transport) from None
                self._failed(lost.unavailable)
                continue
            if answer.status == 202:
                return answer
            if is_fault(answer):
                raise self._error(answer, harmless=False)
            if answer.status == 404 and refused_for_now:
                # Users report mail that went out in spite of a 429; then the draft is gone.
                raise DeliveryUnknown(
                    "the draft is gone after Graph had asked to wait",
                    code="draft_gone",
                    transport=self.calls.transport,
                    request_id=answer.request_id,
                )
            refused_for_now = refused_for_now or answer.status == 429
            self._failed_or_refused(answer)

    def _settle(self, draft: _Draft, unknown: DeliveryUnknown) -> Answer:
        accepted = settle(self.calls, draft.message_id or self.envelope.message_id, self.calls.settings.settle_s)
        if accepted:
            return Answer(202, request_id=unknown.request_id)
        if accepted is None:
            raise unknown
        raise not_sent(self.calls.transport, unknown)

    # -- failing -----------------------------------------------------------------------------------------------------

    def _ask(self, method: str, url: str, body: bytes, content_type: str = "") -> Answer:
        return self.calls.ask(method, url, body, content_type, patience_s=STEP_PATIENCE_S)

    def _failed_or_refused(self, answer: Answer) -> None:
        """Waits before the step is repeated, or raises what a refusal means.

        404 is a draft that is not yet to be seen where the request went; that is over in seconds.
        """
        if is_fault(answer) or answer.status in (404, 429, 509):
            self._failed(self._error(_faulty(answer) if answer.status == 404 else answer))
        else:
            self._refuse(answer)

    def _failed(self, error: DeliveryError, unclear: bool = False) -> None:
        self._failures += 1
        if self._failures > MAX_FAILURES:
            if unclear:
                self._sweep()
            raise error
        # A hint of the server's is kept in the lane, by everybody.
        sleep(min(self.calls.settings.retry_wait_s * 2 ** (self._failures - 1), _LONGEST_WAIT_S))

    def _refuse(self, answer: Answer) -> NoReturn:
        if answer.status == 403 and answer.code.lower() in ("erroraccessdenied", "authorization_requestdenied", ""):
            raise MessageRejected(
                "Graph does not let this application make drafts in the mailbox",
                code="large_messages_permission",
                detail=answer.text,
                request_id=answer.request_id,
                transport=self.calls.transport,
            )
        raise self._error(answer)

    def _error(self, answer: Answer, *, harmless: bool = True) -> DeliveryError:
        return error_for(answer, self.envelope, transport=self.calls.transport, harmless=harmless)


@dataclass(frozen=True, slots=True)
class _Draft:
    """`message_id` is its Message-ID, which Exchange may have chosen."""

    id: str
    message_id: str

    @classmethod
    def read(cls, answer: Answer) -> _Draft | None:
        found = answer.body.get("id")
        if answer.status not in (200, 201) or not isinstance(found, str) or not found:
            return None
        return cls(found, str(answer.body.get("internetMessageId") or ""))

    @property
    def path(self) -> str:
        return f"messages/{quote(self.id, safe='')}"


def _faulty(answer: Answer) -> Answer:
    """An answer that makes no sense where it came, as a fault of the server."""
    return Answer(500, answer.code, answer.text, answer.request_id)


def not_sent(transport: str, unknown: DeliveryUnknown) -> TransportUnavailable:
    """The error for a lost answer when a look into the mailbox has shown that the message did not leave it."""
    return TransportUnavailable(
        "Graph gave no clear answer; the unsent draft was found and deleted, so the message was not sent",
        code="draft_unsent",
        detail=unknown.detail,
        transport=transport,
        request_id=unknown.request_id,
    )


def answer_lost(lost: Lost, transport: str) -> DeliveryUnknown:
    """The error for a message that left and was not answered."""
    return DeliveryUnknown(
        "Graph did not answer after the message was sent to it",
        code="answer_lost",
        transport=transport,
        request_id=lost.request_id,
    )


def attachment_item(part: FilePart) -> dict[str, Any]:
    """What an upload session is told of its attachment (Graph: attachmentItem)."""
    item: dict[str, Any] = {
        "attachmentType": "file",
        "name": _name(part),
        "size": part.size_bytes,
        "contentType": part.content_type,
        "isInline": part.is_inline,
    }
    if part.content_id:
        item["contentId"] = _content_id(part)
    return item


def attachment_json(part: FilePart, data: bytes) -> bytes:
    """An attachment as one request (Graph: fileAttachment)."""
    item: dict[str, Any] = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": _name(part),
        "contentType": part.content_type,
        "isInline": part.is_inline,
        "contentBytes": base64.b64encode(data).decode("ascii"),
    }
    if part.content_id:
        item["contentId"] = _content_id(part)
    return json.dumps(item).encode()


def _name(part: FilePart) -> str:
    # Graph wants a name; mail does not.
    return part.name or "attachment"


def _content_id(part: FilePart) -> str:
    # In JSON it stands without the brackets that it has in a header (Graph: attachment-createuploadsession).
    return part.content_id.strip().removeprefix("<").removesuffix(">")


def next_position(body: Any) -> int | None:
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


def _value(body: Any, name: str) -> Any:
    # The case of these names varies from example to example.
    return next((value for key, value in body.items() if str(key).lower() == name.lower()), None)
