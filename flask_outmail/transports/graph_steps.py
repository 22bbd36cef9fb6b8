"""The harmless steps of a large message: each may be repeated, and all of them together only so often."""

from __future__ import annotations

from dataclasses import dataclass
from time import sleep
from typing import NoReturn

from ..envelope import Envelope
from ..errors import DeliveryError, MessageRejected
from .graph_calls import Answer, GraphCalls
from .graph_errors import error_for, is_fault

#: Steps that may fail in one delivery; and how long a pause between two of them may be.
MAX_FAILURES = 8
STEP_PATIENCE_S = 60.0
_LONGEST_WAIT_S = 8.0


@dataclass
class Steps:
    """Asks Graph, and keeps count of what failed. Belongs to one delivery and one thread."""

    calls: GraphCalls
    envelope: Envelope
    failures: int = 0

    def ask(self, method: str, path: str, body: bytes, content_type: str = "") -> Answer:
        """`path` is below the mailbox. Raises as `GraphCalls.ask`."""
        return self.calls.ask(method, self.calls.url(path), body, content_type, patience_s=STEP_PATIENCE_S)

    def failed(self, error: DeliveryError) -> None:
        """Counts one failure and waits, so that the step can be repeated; raises `error` when it was one too many."""
        self.failures += 1
        if self.failures > MAX_FAILURES:
            raise error
        # A hint of the server's is kept in the lane, by everybody.
        sleep(min(self.calls.settings.retry_wait_s * 2 ** (self.failures - 1), _LONGEST_WAIT_S))

    def failed_or_refused(self, answer: Answer) -> None:
        """As `failed` for an answer that may be another one next time; raises what a refusal means.

        404 is a draft that is not yet to be seen where the request went; that is over in seconds.
        """
        if answer.status == 404:
            self.failed(self.error(faulty(answer)))
        elif is_fault(answer) or answer.status in (429, 509):
            self.failed(self.error(answer))
        else:
            self.refuse(answer)

    def refuse(self, answer: Answer) -> NoReturn:
        """Raises what an answer means that will be the same next time."""
        if answer.status == 403 and answer.code.lower() in ("erroraccessdenied", "authorization_requestdenied", ""):
            raise MessageRejected(
                "Graph does not let this application make drafts in the mailbox",
                code="large_messages_permission",
                detail=answer.text,
                request_id=answer.request_id,
                transport=self.calls.transport,
            )
        raise self.error(answer)

    def error(self, answer: Answer, *, harmless: bool = True) -> DeliveryError:
        return error_for(answer, self.envelope, transport=self.calls.transport, harmless=harmless)


def faulty(answer: Answer) -> Answer:
    """An answer that makes no sense where it came, as a fault of the server."""
    return Answer(500, answer.code, answer.text, answer.request_id)
