"""Mail over SMTP: any server with a password (or none), and Microsoft 365 with a token.

How a message becomes a few writes is told in `smtp_pipeline`, what the replies mean in `smtp_judge`.
"""

from __future__ import annotations

import copy
import logging
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic

from ..content import Content
from ..envelope import Envelope, Receipt
from ..errors import DeliveryUnknown, OutmailError, TransportUnavailable
from .dkim import DkimSigner
from .smtp_jobs import Job, Lost, Take
from .smtp_parallel import spread
from .smtp_pipeline import Pipeline
from .smtp_pool import SmtpPool
from .smtp_session import EXCHANGE_CONNECTIONS, EXCHANGE_IDLE_S, SmtpSession, SmtpSettings

__all__ = ["EXCHANGE_CONNECTIONS", "EXCHANGE_IDLE_S", "SmtpSession", "SmtpSettings", "SmtpTransport"]

#: How long a server that cannot take several commands at once gets them one by one.
_PLAIN_S = 3600.0
#: Two groups of commands lost within this time are no chance.
_SUSPICION_S = 600.0
#: So many messages on a connection show that it is not the pipelining that ended it.
_PROOF = 3
#: Connections that one message may be tried on, as long as it is certain that nothing of it was accepted.
_TRIES = 3
#: When so many messages of a bulk in a row met no server, or lost their answer, the rest is not tried.
_FAILURES = 2
#: From this wait for a message on, several connections are faster than one; on a fast line they only get in each
#: other's way.
_SLOW_S = 0.002
_SAMPLE = 4

logger = logging.getLogger(__name__)


class SmtpTransport:
    """Hands messages over, on connections that are kept between them. Safe with threads and after `fork`."""

    def __init__(self, settings: SmtpSettings, *, name: str = "smtp") -> None:
        self.name = name
        self.concurrency = settings.connections
        self._settings = settings
        self._signer: DkimSigner | None = None
        # When servers stop being taken for one that cannot pipeline; and whether it has shown that it can.
        self._plain_until = 0.0
        self._suspicions: list[float] = []
        self._trusted = False
        self._pool = SmtpPool(_opener(settings, name), settings, name=name)
        # Also when nobody calls `close`, and at the end of the process.
        self._finalizer = weakref.finalize(self, self._pool.close)

    def deliver(self, envelope: Envelope) -> Receipt:
        jobs = [Job(envelope)]
        # To its end, although there is one outcome: left in the middle, it would give up the connection.
        [(job, _)] = self._outcomes(lambda wait: jobs.pop() if jobs else None, window=1)
        outcome = _final(job)
        if isinstance(outcome, OutmailError):
            raise outcome
        return outcome

    def deliver_many(self, envelopes: Iterable[Envelope]) -> Iterator[Receipt | OutmailError]:
        """As `BulkTransport` says: on one connection, and on several where waiting costs more than working.

        Envelopes are taken in the caller's own thread. The next one is asked for before the content of the one before
        has left, so an iterable that is slow to give holds that one back. One that gives quickly is asked for one more
        while an answer is on its way.
        """
        source = _Source(envelopes)
        meter = _Meter()
        window = self._settings.window

        def take(wait: bool) -> Job | None:
            return None if meter.is_slow and self.concurrency > 1 else source.next()

        for job, _ in self._outcomes(take, window=window, meter=meter):
            yield _final(job)
        if not source.ended:
            yield from spread(
                source.next,
                lambda take, wait: self._outcomes(take, window=window, wait=wait),
                workers=self.concurrency,
            )
        if source.error is not None:
            raise source.error

    def close(self) -> None:
        """Gives back connections. May be called twice; a later `deliver` opens new ones."""
        self._pool.close()

    # -- one connection after the other ------------------------------------------------------------------------------

    def _outcomes(
        self, take: Take, *, window: int, wait: bool = True, meter: _Meter | None = None
    ) -> Iterator[tuple[Job, Receipt | OutmailError | Lost]]:
        """Yields every job taken with its outcome, in the order taken, over as many connections as it needs.

        Without `wait`, what has no connection is given back as `Lost`, and that is the end.
        """
        again: deque[Job] = deque()
        order: deque[Job] = deque()
        failures = 0
        doom: OutmailError | None = None

        def next_job(may_wait: bool) -> Job | None:
            if again:
                return again.popleft()
            job = take(may_wait)
            if job is not None:
                order.append(job)
            return job

        while (job := next_job(True)) is not None:
            session = None
            if doom is not None:
                job.outcome = copy.copy(doom)
            else:
                try:
                    sign = self._signature()
                    session = self._pool.take(fresh=job.tries > 0, wait=wait)
                    if session is None:
                        yield from _given_back([job, *again], TransportUnavailable("no connection is free"))
                        return
                except OutmailError as exc:
                    if not wait:
                        yield from _given_back([job, *again], exc)
                        return
                    job.outcome = exc
                    failures += 1
                    doom = exc if failures >= _FAILURES else None
            if session is not None:
                again.appendleft(job)
                plain = job.plain or self._is_plain
                pipeline = Pipeline(session, plain=plain, trusted=self._trusted, window=window, sign=sign)
                waited_s = session.client.waited_s
                try:
                    for job, outcome in pipeline.run(next_job):
                        if isinstance(outcome, Lost):
                            if outcome.is_untouched or self._try_again(job, outcome, session, plain):
                                again.append(job)
                                continue
                            outcome = outcome.error
                            failures += 1
                        elif isinstance(outcome, DeliveryUnknown):
                            failures += 1
                        else:
                            failures = 0
                        if isinstance(outcome, Receipt) and session.pipelining and not plain:
                            self._trusted = True
                        job.outcome = outcome
                        if meter is not None:
                            meter.add(session.client.waited_s - waited_s)
                            waited_s = session.client.waited_s
                        while order and order[0].outcome is not None:
                            done = order.popleft()
                            yield done, _final(done)
                finally:
                    self._pool.give(session)
                if failures >= _FAILURES:
                    doom = self._given_up()
            while order and order[0].outcome is not None:
                done = order.popleft()
                yield done, _final(done)

    def _given_up(self) -> TransportUnavailable:
        settings = self._settings
        return TransportUnavailable(
            f"{settings.host}:{settings.port}: the connection was lost again and again; the rest was not tried",
            code="connection_lost",
            transport=self.name,
        )

    def _signature(self) -> Callable[[Content], Content] | None:
        if self._settings.dkim is None:
            return None
        if self._signer is None:
            self._signer = DkimSigner(self._settings.dkim)
        return self._signer.signed

    # -- what is remembered of the server ----------------------------------------------------------------------------

    @property
    def _is_plain(self) -> bool:
        return monotonic() < self._plain_until

    def _try_again(self, job: Job, lost: Lost, session: SmtpSession, plain: bool) -> bool:
        """Whether a message of which nothing was accepted goes over another connection."""
        job.tries += 1
        kept = session.count > 0
        grouped = session.pipelining and not plain and lost.in_group
        if grouped and session.count < _PROOF:
            # Once may be chance. A server that cannot do it would cost a connection, and a wait, again and again.
            now = monotonic()
            self._suspicions = [at for at in self._suspicions if now - at < _SUSPICION_S] + [now]
            if len(self._suspicions) >= 2:
                self._make_plain()
        job.plain = job.plain or (grouped and not kept)
        return job.tries < _TRIES and (kept or grouped)

    def _make_plain(self) -> None:
        self._plain_until = monotonic() + _PLAIN_S
        self._suspicions = []
        self._trusted = False
        logger.warning("the mail server offers PIPELINING and fails at it", extra={"host": self._settings.host})


class _Source:
    """The caller's envelopes, as jobs. What the iterable raises waits until the messages before it are through."""

    def __init__(self, envelopes: Iterable[Envelope]) -> None:
        self._envelopes = iter(envelopes)
        self.ended = False
        self.error: Exception | None = None

    def next(self) -> Job | None:
        if self.ended:
            return None
        try:
            return Job(next(self._envelopes))
        except StopIteration:
            self.ended = True
        except Exception as exc:
            # The caller's own iterator failed: told to the caller, once what was taken before has its outcome.
            self.ended = True
            self.error = exc
        return None


class _Meter:
    """Whether messages wait for the server more than they cost to send."""

    def __init__(self) -> None:
        self.is_slow = False
        self._waited_s = 0.0
        self._count = 0

    def add(self, waited_s: float) -> None:
        self._waited_s += waited_s
        self._count += 1
        if self._count == _SAMPLE:
            self.is_slow = self.is_slow or self._waited_s > _SLOW_S * _SAMPLE
            self._waited_s, self._count = 0.0, 0


def _final(job: Job) -> Receipt | OutmailError:
    assert job.outcome is not None  # noqa: S101 -- it was yielded
    return job.outcome


def _given_back(jobs: Iterable[Job], error: OutmailError) -> Iterator[tuple[Job, Lost]]:
    return ((job, Lost(error)) for job in jobs)


def _opener(settings: SmtpSettings, name: str) -> Callable[[ssl.SSLSession | None], SmtpSession]:
    # A function, not a method: the pool must not keep the transport alive.
    def open_session(tls_session: ssl.SSLSession | None) -> SmtpSession:
        session = SmtpSession(settings, name=name, tls_session=tls_session)
        try:
            session.open()
        except BaseException:
            session.client.quit(wait_s=0.0)
            raise
        return session

    return open_session
