"""The hands of a worker: threads that each give one message to a transport at a time. None speaks with the database."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ..envelope import Envelope, Receipt
from ..errors import DeliveryUnknown, InvalidMessage, OutmailError
from ..message import Address
from ..transports.base import Transport
from ..vault import Vault
from . import claims
from .claims import Begun
from .retry import Try

logger = logging.getLogger(__name__)


class InForce(Protocol):
    """What must be known of a connection's setup. `stamp` changes whenever the setup does."""

    @property
    def transport(self) -> Transport: ...
    @property
    def verified(self) -> bool: ...
    @property
    def sender(self) -> str: ...
    @property
    def mailbox(self) -> str: ...
    @property
    def setup_id(self) -> int | None: ...
    @property
    def stamp(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to make; with `ask` (a Message-ID) the server is only asked whether it has the message."""

    connection: str
    begun: Begun
    now: InForce
    ask: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. `answer` is what the server said when it was asked."""

    job: Job
    result: Receipt | OutmailError
    tried: Try
    elapsed_s: float = 0.0
    answer: bool | None = None


class Hands:
    """As many threads as there is work for at a time; each outcome is given to `report`."""

    def __init__(self, vault: Callable[[], Vault], report: Callable[[Outcome], None]) -> None:
        self._vault = vault
        self._report = report
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._count = 0

    def take(self, job: Job, *, under_way: int) -> None:
        """Starts a job; `under_way` is how many there are with it."""
        if self._count < under_way:
            # Daemons, so that a second signal ends the process although a server does not answer.
            threading.Thread(target=self._work, name=f"outmail-hand-{self._count}", daemon=True).start()
            self._count += 1
        self._jobs.put(job)

    def rest(self) -> None:
        """Ends the threads, each after the job it has."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                outcome = perform(job, self._vault())
            except BaseException as exc:
                # Whatever wants to end this thread: an attempt without an outcome would block its place for ever.
                fault = transport_fault(exc, job.now.transport)
                outcome = Outcome(job, fault, Try(job.begun.number, job.begun.queued_at, job.begun.not_after_at))
            self._report(outcome)


def perform(job: Job, vault: Vault) -> Outcome:
    """Does one job. Touches the network; never raises for what may happen to a message."""
    started = time.perf_counter()
    tried = Try(job.begun.number, job.begun.queued_at, job.begun.not_after_at)
    if job.ask:
        unknown = DeliveryUnknown(claims.DIED, code=claims.PROCESS_DIED)
        return Outcome(job, unknown, tried, answer=_ask(job.now.transport, job.ask))
    result: Receipt | OutmailError
    answer = None
    try:
        envelope = _opened(job.begun, vault)
        tried = replace(tried, sender_is_setups=not envelope.from_address)
        if not getattr(job.now.transport, "fills_sender", False):
            envelope = envelope.sent_from(Address.parse(job.now.sender), job.now.mailbox)
        result = deliver(job.now.transport, envelope)
    except OutmailError as exc:
        result = exc
        if isinstance(exc, DeliveryUnknown):
            answer = _ask(job.now.transport, envelope.message_id)
    return Outcome(job, result, tried, time.perf_counter() - started, answer)


def can_ask(transport: Transport) -> bool:
    """Whether this transport can tell whether its server has a message."""
    return callable(getattr(transport, "check", None))


def _ask(transport: Transport, message_id: str) -> bool | None:
    if not can_ask(transport):
        return None
    try:
        answer: bool | None = transport.check(message_id)  # type: ignore[attr-defined]
    except Exception as exc:  # it was only a question: any failure leaves the message as unknown as it was
        logger.warning("the server could not be asked", extra={"error": type(exc).__name__})
        return None
    return answer


def _opened(begun: Begun, vault: Vault) -> Envelope:
    """The envelope that was stored.

    Raises:
        SecretUnreadable: it was encrypted with a key that is missing.
        InvalidMessage: it was stored by a version that this one does not understand.
    """
    data = vault.open_bytes(begun.sealed)
    try:
        envelope = Envelope.from_bytes(data)
    except (TypeError, ValueError, LookupError, AttributeError):
        # From None: what could not be read is somebody's message.
        raise InvalidMessage("the stored message cannot be read by this version", code="content_unreadable") from None
    if begun.recipients and begun.recipients != envelope.recipients:
        # Only those who have not received it yet.
        envelope = replace(envelope, recipients=begun.recipients)
    return envelope


def deliver(transport: Transport, envelope: Envelope) -> Receipt:
    """`transport.deliver`, whose own mistakes become an error of ours.

    Any exception may come from a third party's transport, before or after the message left: so it is unknown.
    """
    try:
        return transport.deliver(envelope)
    except OutmailError:
        raise
    except Exception as exc:
        raise transport_fault(exc, transport) from exc


def transport_fault(exc: BaseException, transport: Transport) -> DeliveryUnknown:
    """What an exception that no transport should raise says about its message: nothing."""
    return DeliveryUnknown(
        f"the transport failed in a way of its own ({type(exc).__name__})",
        code="transport_fault",
        transport=transport.name,
    )
