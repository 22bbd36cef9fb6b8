"""Mail over Microsoft Graph: one MIME `sendMail` for each message, or a draft where that is too small.

Rules cited: Graph user-sendmail (only 202 is success, the MIME form is base64 sent as text/plain), outlook-things-to-
know-about-send-mail (what 202 means).
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from time import monotonic

from .. import mime
from ..content import Content
from ..envelope import Envelope, Receipt
from ..errors import DeliveryUnknown, MessageRejected, OutmailError, UnsupportedFeature
from .graph_attach import MAX_REQUEST_BYTES, request_bytes
from .graph_calls import Answer, GraphCalls, GraphSettings, Lost
from .graph_check import check
from .graph_errors import error_for
from .graph_lane import MAX_CONCURRENT_REQUESTS
from .graph_large import answer_lost, deliver_large, judge, settled

#: How far `deliver_many` pulls ahead: enough that a slow message does not leave the other three places empty.
WINDOW = 4 * MAX_CONCURRENT_REQUESTS


class GraphTransport:
    """Delivers over Microsoft Graph. Keeps its connections; safe to use from several threads, and after a fork.

    All transports of this process that use the same mailbox with the same application share its limits. `check` is
    there only when the settings allow to look into the mailbox.
    """

    concurrency = MAX_CONCURRENT_REQUESTS

    def __init__(self, settings: GraphSettings, *, name: str = "microsoft365_graph") -> None:
        self.name = name
        self.settings = settings
        self._calls = GraphCalls(settings, transport=name)
        if settings.check:
            self.check = self._check

    def deliver(self, envelope: Envelope) -> Receipt:
        started = monotonic()
        answer = self._deliver(envelope)
        # A Retry-After may stand beside a 202. The message is accepted all the same; obeying it would send it twice.
        return Receipt(
            accepted=True,
            transport=self.name,
            message_id=envelope.message_id,
            request_id=answer.request_id,
            accepted_at=datetime.now(timezone.utc),
            elapsed_s=monotonic() - started,
        )

    def deliver_many(self, envelopes: Iterable[Envelope]) -> Iterator[Receipt | OutmailError]:
        """As `BulkTransport`: four at a time, pulling at most `WINDOW` envelopes ahead.

        An iterable that raises is heard once the outcomes of what it gave before have been handed out.
        """
        source = iter(envelopes)
        under_way: deque[Future[Receipt | OutmailError]] = deque()
        broken: BaseException | None = None
        pool = ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS, thread_name_prefix="outmail-graph")
        try:
            while broken is None:
                try:
                    under_way.append(pool.submit(self._outcome, next(source)))
                except StopIteration:
                    break
                except Exception as exc:
                    # The caller's own iterator failed: told to the caller, once what is under way has its outcome.
                    broken = exc
                if len(under_way) >= WINDOW:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            # Reached early when nobody wants to hear more: what has not begun must not be sent behind their back.
            pool.shutdown(wait=True, cancel_futures=True)
        if broken is not None:
            raise broken

    def _check(self, message_id: str) -> bool | None:
        """What became of a message that was `unknown`: True, accepted; False, certainly not; None, cannot tell.

        Looks into the mailbox. Before False, an unsent draft is deleted, so that the message can never leave by
        itself. Touches the network, never raises.
        """
        return check(self._calls, message_id, self.settings.settle_s) if message_id else None

    def content(self, envelope: Envelope) -> Content:
        """The message as Graph has to see it.

        Graph has no envelope: it reads who receives from the headers To, Cc and Bcc. Recipients that no header shows
        are therefore written as Bcc, which Exchange takes out again on delivery.

        Raises:
            UnsupportedFeature: a header names somebody who is not to receive it, an address outside ASCII, or a
                bounce address that is not the sender's.
        """
        strangers = [address for address in envelope.visible if address not in envelope.recipients]
        if strangers:
            raise UnsupportedFeature(
                "Graph would send to everybody in To and Cc, and some of them are not recipients of this message",
                feature="an envelope without the visible recipients",
                transport=self.name,
            )
        if envelope.smtputf8:
            raise UnsupportedFeature(
                "Graph is not known to take addresses outside ASCII before the @",
                feature="SMTPUTF8",
                transport=self.name,
            )
        if envelope.sender != envelope.from_address:
            raise UnsupportedFeature(
                "Exchange sends bounces to the mailbox that sent, and to no other address",
                feature="a bounce address (envelope_from)",
                transport=self.name,
            )
        hidden = [address for address in envelope.recipients if address not in envelope.visible]
        return mime.with_bcc(envelope.content, hidden)

    def post(self, body: bytes) -> Answer:
        """Posts one `sendMail` body and returns the answer, whatever its status.

        Raises:
            Throttled: Graph has asked for a pause, or too many requests are under way.
            TransportUnavailable: nothing of the body left.
            DeliveryUnknown: some of it did, and no answer came.
        """
        try:
            return self._calls.ask("POST", self._calls.url("sendMail"), body, "text/plain")
        except Lost as lost:
            if lost.left:
                # From None: the request in the cause carries the token.
                raise answer_lost(lost, self.name) from None
            raise lost.unavailable from None

    def close(self) -> None:
        self._calls.close()

    def _deliver(self, envelope: Envelope) -> Answer:
        """The answer that accepted the message."""
        content = self.content(envelope)
        if request_bytes(content.size_bytes) > MAX_REQUEST_BYTES:
            return self._deliver_large(envelope, content)
        try:
            answer = self.post(base64.b64encode(bytes(content)))
            if answer.status == 202:
                return answer
            raise error_for(answer, envelope, transport=self.name)
        except DeliveryUnknown as unknown:
            return self._looked_up(envelope, unknown)

    def _deliver_large(self, envelope: Envelope, content: Content) -> Answer:
        settings = self.settings
        try:
            leaving = judge(content, allowed=settings.large_messages, uploads=settings.cloud.uploads)
        except MessageRejected as exc:
            exc.transport = self.name
            raise
        return deliver_large(self._calls, envelope, content, leaving)

    def _looked_up(self, envelope: Envelope, unknown: DeliveryUnknown) -> Answer:
        if not self.settings.check:
            raise unknown
        return settled(self._calls, envelope.message_id, unknown)

    def _outcome(self, envelope: Envelope) -> Receipt | OutmailError:
        try:
            return self.deliver(envelope)
        except OutmailError as exc:
            return exc
        except Exception as exc:
            # A mistake of ours, before or after the message left; those beside it must not be lost for it.
            fault = DeliveryUnknown(
                f"the transport failed in a way of its own ({type(exc).__name__})",
                code="transport_fault",
                transport=self.name,
            )
            fault.__cause__ = exc
            return fault
