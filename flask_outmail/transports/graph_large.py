"""A message above what one request may hold: a draft, its attachments one by one, and then its sending.

Nothing is sent before the very last request, so every step before it may be repeated, and the draft is deleted when
one fails for good. Rules cited: Graph user-post-messages, outlook-large-attachments, message-send.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote

from ..content import Content, FilePart
from ..envelope import Envelope
from ..errors import DeliveryUnknown, MessageRejected, OutmailError, TransportUnavailable
from .graph_attach import (
    MAX_REQUEST_BYTES,
    MOST_REQUEST_BYTES,
    StartOver,
    attach,
    request_bytes,
    request_bytes_of,
)
from .graph_calls import Answer, GraphCalls, Lost
from .graph_check import Deleted, delete, look, settle
from .graph_errors import is_fault
from .graph_steps import Steps, faulty

logger = logging.getLogger(__name__)

#: Exchange Online sends nothing larger, whatever a mailbox's own limit is (Exchange Online limits).
MAX_MESSAGE_BYTES = 150 * 1024 * 1024


def judge(content: Content, *, allowed: bool, uploads: bool) -> tuple[FilePart, ...]:
    """The attachments that have to travel by themselves. Reads no file, touches no network.

    Raises:
        MessageRejected: the message cannot go this way; the code says why.
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
    if not uploads and request_bytes_of(largest) > MOST_REQUEST_BYTES:
        raise MessageRejected(
            f"the attachment {largest.name!r} has {largest.size_bytes} bytes, and this cloud takes attachments only"
            " in one request each",
            code="large_messages_cloud",
        )
    return leaving


def leave_out(content: Content) -> tuple[FilePart, ...]:
    """As few attachments as possible, in their order, without which the rest fits into one request.

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


def deliver_large(calls: GraphCalls, envelope: Envelope, content: Content, leaving: Collection[FilePart]) -> Answer:
    """Delivers `content`, which is all of the message with its Bcc; `leaving` are the attachments to add one by one.

    Returns the answer that accepted it.

    Raises:
        TransportUnavailable, Throttled, AuthenticationFailed, RecipientsRefused, MessageRejected, InvalidMessage:
            nothing was accepted, and no draft is left as far as it could be deleted.
        DeliveryUnknown: the last request left, and nothing tells what became of it; or somebody else has the message.
    """
    delivery = _Delivery(Steps(calls, envelope), content, leaving)
    for _ in range(2):
        draft = delivery.create()
        try:
            for part in leaving:
                attach(delivery.steps, draft.path, part)
        except StartOver:
            if delivery.give_up(draft) is not Deleted.NOW:
                break
        except BaseException as exc:
            # Whatever it was, a person who ended the program too: a draft with people's data must not stay.
            delivery.give_up(draft, exc)
            raise
        else:
            return delivery.send(draft)
    raise TransportUnavailable("the attachments could not be uploaded", code="upload_failed", transport=calls.transport)


@dataclass(frozen=True, slots=True)
class _Draft:
    """`message_id` is its Message-ID, which Exchange may have chosen."""

    id: str
    message_id: str

    @classmethod
    def read(cls, answer: Answer, message_id: str) -> _Draft | None:
        found = answer.body.get("id")
        if answer.status not in (200, 201) or not isinstance(found, str) or not found:
            return None
        return cls(found, str(answer.body.get("internetMessageId") or message_id))

    @property
    def path(self) -> str:
        return f"messages/{quote(self.id, safe='')}"


@dataclass
class _Delivery:
    steps: Steps
    content: Content
    leaving: Collection[FilePart]

    def create(self) -> _Draft:
        steps, message_id = self.steps, self.steps.envelope.message_id
        body = base64.b64encode(bytes(self.content.without(self.leaving)))
        # Whether a draft may have been made without our having heard of it.
        unclear = False
        try:
            while True:
                try:
                    answer = steps.ask("POST", "messages", body, "text/plain")
                except Lost as lost:
                    if not lost.left:
                        # Nothing is begun, so there is nothing to finish: whoever called can wait better than this.
                        raise lost.unavailable from None
                    unclear = True
                    steps.failed(lost.unavailable)
                    continue
                draft = _Draft.read(answer, message_id)
                if draft is not None:
                    break
                unclear = unclear or is_fault(answer) or answer.status < 300
                self._not_created(answer)
        except OutmailError:
            if unclear:
                self._sweep(message_id)
            raise
        if unclear:
            self._sweep(draft.message_id, keep=draft)
        return draft

    def _not_created(self, answer: Answer) -> None:
        """Returns when the step may be repeated."""
        if answer.status in (200, 201):
            answer = faulty(answer)
        if answer.status == 404:
            # Unlike later, when a 404 can be a draft that is only not yet to be seen: here the mailbox is missing.
            self.steps.refuse(answer)
        self.steps.failed_or_refused(answer)

    def _sweep(self, message_id: str, keep: _Draft | None = None) -> None:
        """Deletes the drafts of requests whose answers were lost."""
        found = look(self.steps.calls, message_id)
        for draft_id, _ in found.drafts if found else ():
            if keep is None or draft_id != keep.id:
                delete(self.steps.calls, draft_id)

    def give_up(self, draft: _Draft, exc: BaseException | None = None) -> Deleted:
        """Deletes the draft, because of `exc`.

        Raises:
            DeliveryUnknown: somebody else had deleted it: whoever took this process for dead, and sends the message
                now. By another way it would be a second one. A person who ends the program (`exc`) goes first.
        """
        calls = self.steps.calls
        deleted = delete(calls, draft.id)
        if deleted is Deleted.NOT_KNOWN:
            deleted = Deleted.NOW if delete(calls, draft.id) is Deleted.NOW else Deleted.NOT_KNOWN
        if deleted is Deleted.NOT_KNOWN:
            logger.warning("a draft could not be deleted", extra={"transport": calls.transport})
        if deleted is Deleted.BEFORE and (exc is None or isinstance(exc, OutmailError)):
            raise DeliveryUnknown(
                "somebody else has deleted the draft, and may be sending the message",
                code="draft_gone",
                transport=calls.transport,
            ) from exc
        return deleted

    def send(self, draft: _Draft) -> Answer:
        try:
            return self._try_to_send(draft)
        except DeliveryUnknown as unknown:
            return settled(self.steps.calls, draft.message_id, unknown)
        except OutmailError as exc:
            # Refused, or never asked. Anything else may have come while the request was under way: then it stays.
            self.give_up(draft, exc)
            raise

    def _try_to_send(self, draft: _Draft) -> Answer:
        steps = self.steps
        refused_for_now = False
        while True:
            try:
                answer = steps.ask("POST", f"{draft.path}/send", b"")
            except Lost as lost:
                if lost.left:
                    raise answer_lost(lost, steps.calls.transport) from None
                steps.failed(lost.unavailable)
                continue
            if answer.status == 202:
                return answer
            if is_fault(answer):
                raise steps.error(answer, harmless=False)
            if answer.status == 404 and refused_for_now:
                # Users report mail that went out in spite of a 429; then the draft is gone.
                raise DeliveryUnknown(
                    "the draft is gone after Graph had asked to wait",
                    code="draft_gone",
                    transport=steps.calls.transport,
                    request_id=answer.request_id,
                )
            refused_for_now = refused_for_now or answer.status == 429
            steps.failed_or_refused(answer)


def answer_lost(lost: Lost, transport: str) -> DeliveryUnknown:
    """The error for a message that left and was not answered."""
    return DeliveryUnknown(
        "Graph did not answer after the message was sent to it",
        code="answer_lost",
        transport=transport,
        request_id=lost.request_id,
    )


def settled(calls: GraphCalls, message_id: str, unknown: DeliveryUnknown) -> Answer:
    """What a look into the mailbox makes of a lost answer: an acceptance, or an error.

    Raises:
        TransportUnavailable: it was not sent, and never will be.
        DeliveryUnknown: `unknown`, as before.
    """
    accepted = settle(calls, message_id, calls.settings.settle_s)
    if accepted is None:
        raise unknown
    if accepted:
        return Answer(202, request_id=unknown.request_id)
    raise TransportUnavailable(
        "Graph gave no clear answer; the unsent draft was found and deleted, so the message was not sent",
        code="draft_unsent",
        detail=unknown.detail,
        transport=calls.transport,
        request_id=unknown.request_id,
    )
