"""One application's mail: what happens to each message.

`Mail` (in `extension`) is what applications hold; there is one `Engine` for each application behind it. Which setup is
in force is the story of `connections`, what goes into the database that of `queueing`.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any, NoReturn
from uuid import uuid4

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .access import Access
from .alert_channels import OnAlert
from .alerting import Alerting
from .connections import Connections
from .current import Current
from .database import Database
from .envelope import Envelope, Receipt, failed_receipt
from .errors import (
    ConfigurationError,
    DeliveryError,
    DeliveryUnknown,
    MissingSender,
    OutmailError,
    RecipientsRefused,
    SenderRefused,
    SetupNotVerified,
)
from .keeping import Keeping
from .message import Message
from .models import utc_now
from .outbox import claims, hands, store, verdicts
from .outbox.claims import Begun
from .outbox.hands import Job
from .outbox.states import ACCEPTED, HELD, QUEUED, SUPPRESSED, WAITING
from .outbox.store import Draft, Queued
from .outbox.verdicts import Verdict
from .previews import Previews
from .queueing import Queueing
from .routing import Chooser, Routing
from .services import Environment
from .settings import PRIMARY, Settings
from .signals import email_dispatched, message_accepted, message_failed, message_held, message_queued, notify
from .token_store import StoredTokens
from .transports.base import deliver_many
from .transports.memory import MemoryTransport
from .vault import Vault, derived_key

logger = logging.getLogger(__name__)

#: How much of a caller's time may go into releasing messages that were held.
RELEASE_SLICE_S = 1.0
#: How many messages of a bulk share one transaction of the delivery log.
LINES_TOGETHER = 100


class Engine:
    """Everything behind `Mail` for one application. Safe to use from several threads, and after `fork`."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        mail_state: Any,
        db: Any,
        access: Access,
        on_alert: Sequence[OnAlert] = (),
        choosers: Sequence[Chooser] = (),
    ) -> None:
        self.app = app
        self.settings = settings
        self.mail_state = mail_state
        self._configured_default = mail_state.default_sender
        self.access = access
        self.suppressed = MemoryTransport()
        self.previews = Previews()
        self.routing = Routing(choosers, settings.routes)
        self.database = Database(app, db)
        self.environment = replace(
            Environment.of(settings), token_store=StoredTokens(self.database, lambda: self.vault)
        )
        self._vault: Vault | None = None
        self.connections = Connections(app, settings, self.database, self.environment, lambda: self.vault)
        self.queueing = Queueing(app, settings, self.database, lambda: self.vault, lambda: self.wake())
        self.keeping = Keeping(settings, self.database, self.queueing)
        self.alerting = Alerting(
            app.name, self.database, settings, self.current, on_alert, lambda: bool(mail_state.suppress)
        )
        #: The tests of the last minute: when, on the monotonic clock, and whose.
        self.test_runs: list[tuple[float, str]] = []
        #: Called when something was queued, where a worker runs in this process.
        self.wake: Callable[[], None] = lambda: None
        #: Whether something other than `flask outmail worker` takes what is queued, so that no such worker is missed.
        self.is_carried = False

    @property
    def needs_worker(self) -> bool:
        """Whether what is sent is queued, and only `flask outmail worker` hands it over."""
        return self.settings.delivery == "outbox" and bool(self.database) and not self.is_carried

    @property
    def vault(self) -> Vault:
        """Encrypts and decrypts stored secrets."""
        if self._vault is None:
            keys = self.settings.encryption_keys
            if not keys and self.app.secret_key:
                if not (self.app.debug or self.app.testing):
                    logger.warning(
                        "OUTMAIL_ENCRYPTION_KEYS is not set: stored secrets are encrypted with a key made from"
                        " SECRET_KEY, and cannot be read once that changes"
                    )
                keys = (derived_key(self.app.secret_key),)
            self._vault = Vault(keys)
        return self._vault

    def current(self, connection: str = PRIMARY, *, fresh: bool = False) -> Current | None:
        """`Connections.current`."""
        return self.connections.current(connection, fresh=fresh)

    def look_again(self) -> None:
        """`Connections.look_again`."""
        self.connections.look_again()

    def look_soon(self) -> None:
        """`Connections.look_soon`."""
        self.connections.look_soon()

    # -- sending -----------------------------------------------------------------------------------------------------

    def deliver(self, message: Message, *, via: str = "", envelope_from: str = "") -> Receipt:
        """Hands one message over, queues it (as OUTMAIL_DELIVERY says), or holds it.

        Raises:
            InvalidMessage, UnsupportedFeature, DeliveryError, ConfigurationError: as documented there.
            SetupNotVerified: it was not handed over; `held` tells whether it was kept.
        """
        if message.date is None:
            message.date = time.time()
        if self.mail_state.suppress:
            return self._suppress(message, envelope_from)
        via = via or self.routing.of(message)
        if self.settings.delivery == "outbox":
            return self._queue(message, via, envelope_from)
        current = self._verified(message, via, envelope_from)
        # What is wrong with the message is the caller's mistake and told to the caller; nobody else can mend it.
        envelope = self._envelope(message, current, envelope_from)
        started = time.perf_counter()
        try:
            receipt = hands.deliver(current.transport, envelope)
        except OutmailError as exc:
            self._failed(message, exc, current)
            if self._logs:
                self.queueing.log([self._line(message, envelope, exc, via, time.perf_counter() - started)])
            raise
        except BaseException:
            # Somebody ends the program, or this thread of it, and the message may have left.
            if self._logs:
                self.queueing.log([self._line(message, envelope, _unheard(), via, time.perf_counter() - started)])
            raise
        receipt = self._with_connection(receipt, via)
        if self._logs:
            self.queueing.log([self._line(message, envelope, receipt, via)])
        self._handed_over(message, receipt, current)
        return receipt

    def deliver_many(self, messages: Iterable[Message], *, via: str = "") -> Iterator[Receipt]:
        """Hands messages over; yields one receipt for each, in order. One that fails does not stop the rest.

        A receipt that is false carries `error`.
        """
        for name, group in groupby(messages, key=lambda message: via or self.routing.of(message)):
            yield from self._deliver_group(group, name)

    def _deliver_group(self, rest: Iterator[Message], via: str) -> Iterator[Receipt]:
        for first in rest:
            now = None if self.mail_state.suppress or self.settings.delivery == "outbox" else self.current(via)
            if now is None or not now.verified:
                # Queued, held or suppressed: each by itself.
                yield self._one_of_many(first, via)
                continue
            yield from self._bulk(first, rest, now, via)

    def _one_of_many(self, message: Message, via: str) -> Receipt:
        try:
            return self.deliver(message, via=via)
        except OutmailError as exc:
            return failed_receipt(message, exc, via)

    def _bulk(self, first: Message, rest: Iterator[Message], current: Current, via: str) -> Iterator[Receipt]:
        # What was pulled from `rest` and has no outcome yet: with its envelope, or with what is wrong with it.
        pulled: deque[tuple[Message, Envelope | OutmailError]] = deque()

        def envelopes() -> Iterator[Envelope]:
            message: Message | None = first
            while message is not None:
                try:
                    envelope = self._envelope(message, current, "")
                except OutmailError as exc:
                    pulled.append((message, exc))
                else:
                    pulled.append((message, envelope))
                    yield envelope
                try:
                    message = next(rest, None)
                except Exception as exc:
                    # The caller's own trouble: told to the caller, once what was pulled before has its outcome.
                    broken.append(exc)
                    return

        broken: list[Exception] = []
        lines: list[tuple[Draft, Verdict | None]] = []
        outcomes = deliver_many(current.transport, envelopes())
        try:
            while True:
                outcome, is_last = self._next_outcome(outcomes, current)
                while pulled and isinstance(pulled[0][1], OutmailError):
                    message, problem = pulled.popleft()
                    assert isinstance(problem, OutmailError)  # noqa: S101 -- looked at in the line above
                    yield failed_receipt(message, problem, via)
                if outcome is None:
                    break
                # After a fault of the transport's own, all that was under way is unknown.
                for message, envelope in [pulled.popleft() for _ in range(len(pulled) if is_last else 1)]:
                    if isinstance(envelope, OutmailError):
                        yield failed_receipt(message, envelope, via)
                        continue
                    if self._logs:
                        lines.append(self._line(message, envelope, outcome, via))
                    yield self._outcome_of_many(message, outcome, current, via)
                if len(lines) >= LINES_TOGETHER:
                    self.queueing.log(lines)
                    lines = []
                if is_last:
                    break
        finally:
            # What was handed over by now stays so; the transport gives back what it has opened.
            getattr(outcomes, "close", lambda: None)()
            # Stopped in the middle: of what was pulled, nobody heard whether it left.
            left = [(message, envelope) for message, envelope in pulled if isinstance(envelope, Envelope)]
            if self._logs:
                lines += [self._line(message, envelope, _unheard(), via) for message, envelope in left]
            if lines:
                self.queueing.log(lines)
        if broken:
            raise broken[0]

    @staticmethod
    def _next_outcome(outcomes: Iterator[Receipt | OutmailError], current: Current) -> tuple[Any, bool]:
        try:
            return next(outcomes, None), False
        except OutmailError as exc:
            return exc, True
        except Exception as exc:  # a third party's transport may raise anything, before or after a message left
            return hands.transport_fault(exc, current.transport), True

    def _outcome_of_many(self, message: Message, outcome: Receipt | OutmailError, now: Current, via: str) -> Receipt:
        if isinstance(outcome, OutmailError):
            self._failed(message, outcome, now)
            return failed_receipt(message, outcome, via)
        receipt = self._with_connection(outcome, via)
        self._handed_over(message, receipt, now)
        return receipt

    def _verified(self, message: Message, via: str, envelope_from: str) -> Current:
        """The setup in force; without a verified one the message is held, which raises."""
        current = self.current(via)
        if current is None or not current.verified:
            # What is known may be a second old; a message must not be held because of that.
            current = self.current(via, fresh=True)
        if current is None or not current.verified:
            self._hold(message, via, current, envelope_from)
        return current

    def _envelope(self, message: Message, current: Current, envelope_from: str) -> Envelope:
        if message.date is None:
            message.date = time.time()
        fills_sender = getattr(current.transport, "fills_sender", False)
        if current.sender and (not message.sender or self._is_old_default(message)):
            # A sender that came from MAIL_DEFAULT_SENDER gives way to that of the setup in force: the keys of
            # Flask-Mail often stay in the configuration after the administrator has moved on, and Exchange would
            # refuse them. Where several connections may carry it, each puts in its own.
            message.sender = None
            if not fills_sender:
                message.sent_by(current.sender)
        return Envelope.for_message(
            message,
            sender=envelope_from,
            mailbox="" if fills_sender else current.mailbox,
            ascii_attachments=self.mail_state.ascii_attachments,
            sender_later=fills_sender and bool(current.sender),
        )

    @staticmethod
    def _with_connection(receipt: Receipt, via: str) -> Receipt:
        return receipt if receipt.connection else replace(receipt, connection=via)

    def _is_old_default(self, message: Message) -> bool:
        """Whether the sender is what the configuration put in, and nobody chose it since."""
        default_used = getattr(message, "default_sender_used", None)
        untouched = default_used is not None and message.sender == default_used
        return untouched and self.mail_state.default_sender == self._configured_default

    def _suppress(self, message: Message, envelope_from: str) -> Receipt:
        if not message.sender and PRIMARY in self.settings.configured:
            configured = self.connections.current()
            message.sent_by(configured.sender if configured is not None else "")
        envelope = Envelope.for_message(
            message, sender=envelope_from, ascii_attachments=self.mail_state.ascii_attachments
        )
        receipt = replace(self.suppressed.deliver(envelope), connection="suppressed")
        notify(email_dispatched, self.app, message=message)
        return receipt

    def _handed_over(self, message: Message, receipt: Receipt, current: Current) -> None:
        if receipt.is_suppressed:
            notify(email_dispatched, self.app, message=message)  # as Flask-Mail does for what it suppresses
        else:
            self._accepted(message, receipt, current)

    def _accepted(self, message: Message, receipt: Receipt, current: Current) -> None:
        logger.info(
            "message accepted",
            extra={
                "message_id": receipt.message_id,
                "transport": receipt.transport,
                "connection": receipt.connection,
                "refused_count": len(receipt.refused),
                "elapsed_s": round(receipt.elapsed_s, 3),
            },
        )
        is_failing = current.has_incident or self.alerting.remembers(current.connection)
        if is_failing or receipt.tried:
            self.queueing.soon(lambda: self.told_by(receipt, current))
        self.alerting.look_now_and_then()
        self.keeping.now_and_then()
        notify(email_dispatched, self.app, message=message)
        notify(message_accepted, self.app, message=message, receipt=receipt)
        if current.has_held:
            # This connection has just shown that it works: what waited for that goes too, a little at a time.
            self.queueing.soon(lambda: self._release_a_little(current.connection))

    # -- queueing ----------------------------------------------------------------------------------------------------

    def _queue(self, message: Message, via: str, envelope_from: str) -> Receipt:
        draft = self._draft(message, via, envelope_from, state=QUEUED, origin="send")
        queued = self.queueing.queue(draft)
        self.keeping.now_and_then()
        receipt = self._queued_receipt(draft, queued, via)
        notify(message_queued, self.app, message=message, receipt=receipt)
        self.wake()
        return receipt

    def enqueue(
        self,
        message: Message,
        *,
        at: datetime | None,
        key: str | None,
        not_after: datetime | None,
        priority: int,
        via: str,
        session: Any,
    ) -> Queued:
        """Adds a message to the outbox in the caller's own transaction: see `Sending.enqueue`."""
        if not self.database:
            raise ConfigurationError(
                "the outbox needs a database: give Mail the application's Flask-SQLAlchemy object",
                code="database_missing",
            )
        for name, moment in (("at", at), ("not_after", not_after)):
            if moment is not None and moment.utcoffset() is None:
                raise ValueError(f"{name} has no time zone, so nobody knows which moment is meant")
        if key is not None and not 0 < len(key) <= 200:
            raise ValueError("a key has 1 to 200 characters")
        if not -1_000_000 <= priority <= 1_000_000:
            raise ValueError("a priority is a number from -1000000 to 1000000")
        if message.date is None:
            message.date = time.time()
        via = via or self.routing.of(message)
        facts: dict[str, Any] = {"origin": "enqueue", "key": key, "turn": -priority, "not_after_at": not_after}
        now = utc_now()
        if self.mail_state.suppress:
            self._suppress(message, "")
            draft = self._draft(message, via, "", state=SUPPRESSED, **facts)
        elif at is not None and at > now:
            draft = self._draft(message, via, "", state=WAITING, due_at=at, queued_at=at, **facts)
        else:
            draft = self._draft(message, via, "", state=QUEUED, **facts)
        queued = self.queueing.join(draft, session)
        notify(message_queued, self.app, message=message, receipt=self._queued_receipt(draft, queued, via))
        return queued

    def _draft(self, message: Message, via: str, envelope_from: str, *, state: str, **facts: Any) -> Draft:
        """A row for the message. From stays out when nobody chose it: it is that of the setup on the day it leaves.

        Raises:
            InvalidMessage: no transport could send it, or it is too large to be stored.
            ConfigurationError: the connection is unknown.
        """
        if self._is_old_default(message):
            # The setup at hand may be what must be mended.
            message.sender = None
        try:
            current = self.current(via)
        except OutmailError as exc:
            if exc.code in ("connection_unknown", "tables_missing", "database_missing"):
                raise
            current = None  # a setup that cannot be read today does not keep a message from being stored
        if current is not None and not message.sender and not current.sender:
            raise MissingSender("neither the message nor the setup says who it is from", code="sender_missing")
        envelope = Envelope.for_message(
            message,
            sender=envelope_from,
            ascii_attachments=self.mail_state.ascii_attachments,
            sender_later=True,
        )
        facts.setdefault("queued_at", utc_now())
        return Draft.of(
            envelope,
            None if state == SUPPRESSED else self.vault,
            subject=str(message.subject or ""),
            connection=via,
            max_bytes=self.settings.stored_message_max_bytes,
            state=state,
            keeps_content=self.keeping.keeps_bodies or None,
            **facts,
        )

    @staticmethod
    def _queued_receipt(draft: Draft, queued: Queued, via: str) -> Receipt:
        name = queued.delivery_id
        return Receipt(accepted=False, queued=True, connection=via, message_id=draft.message_id, delivery_id=name)

    def _hold(self, message: Message, via: str, current: Current | None, envelope_from: str) -> NoReturn:
        """Keeps the message and raises `SetupNotVerified`."""
        reason = "no mail service is set up yet" if current is None else "the active setup has not passed a test"
        draft = self._draft(message, via, envelope_from, state=HELD, origin="held")
        self.queueing.queue(draft)
        logger.warning("message held", extra={"message_id": draft.message_id, "connection": via})
        notify(message_held, self.app, message=message, connection=via)
        raise SetupNotVerified(f"the message is held: {reason}", held=True)

    # -- the delivery log --------------------------------------------------------------------------------------------

    def _line(
        self, message: Message, envelope: Envelope, outcome: Receipt | OutmailError, via: str, elapsed_s: float = 0.0
    ) -> tuple[Draft, Verdict | None]:
        verdict = verdicts.settled(outcome, connection=via, elapsed_s=elapsed_s)
        subject = str(message.subject or "")
        facts: dict[str, Any] = {"subject": subject, "connection": via, "state": verdict.state, "origin": "direct"}
        if self.keeping.keeps_bodies and envelope.content.size_bytes <= self.settings.stored_message_max_bytes:
            try:
                return Draft.of(envelope, self.vault, keeps_content=True, **facts), verdict
            except OutmailError as exc:
                # An attached file is gone by now, or there is no key: the line is kept all the same.
                logger.warning("a message cannot be kept in the log", extra={"code": exc.code})
        return Draft.of(envelope, None, **facts), verdict

    @property
    def _logs(self) -> bool:
        """Whether what is handed over directly stands in the log; a line costs too much to be made for nothing."""
        return self.settings.log_direct and bool(self.database)

    # -- held messages -----------------------------------------------------------------------------------------------

    def release(self, connection: str = PRIMARY, *, budget_s: float = 10.0) -> tuple[int, int]:
        """Hands over held messages, oldest first, for at most `budget_s` seconds; returns (accepted, not accepted).

        Stops early when the connection itself fails; what is certain not to have left is held again.
        """
        accepted = refused = 0
        deadline = time.monotonic() + budget_s
        current = self.current(connection, fresh=True)
        if current is None or not current.verified or (current.source != "database" and self.database.tables_missing()):
            return 0, 0
        by = f"release-{os.getpid()}-{uuid4().hex[:12]}"
        with self.database.session() as session:
            claims.bury_expired(session, now=utc_now())
            session.commit()
            last_id = 0
            while time.monotonic() < deadline:
                begun = self._begin_held(session, by, current, connection, last_id)
                if begun is None:
                    break
                last_id = begun.id
                if not begun.sealed:
                    continue
                outcome = hands.perform(Job(connection, begun, current), self.vault)
                result, now = outcome.result, utc_now()
                if self._stays_held(result):
                    assert isinstance(result, OutmailError)  # noqa: S101 -- what was accepted does not stay
                    store.hold_again(session, begun.id, begun.number, code=result.code, reason=str(result))
                    session.commit()
                    if isinstance(result, RecipientsRefused) or result.code == "secret_unreadable":
                        continue  # the trouble is this message's own; the others need not wait for it
                    break
                verdict = verdicts.settled(result, connection=connection, elapsed_s=outcome.elapsed_s)
                claims.finish(session, [replace(verdict, delivery_id=begun.id, number=begun.number)], now=now)
                session.commit()
                if verdict.state == ACCEPTED:
                    accepted += 1
                else:
                    refused += 1
                    if isinstance(result, OutmailError):
                        self.tell(result, current)
        if accepted or refused:
            logger.info("held messages released", extra={"accepted_count": accepted, "not_accepted_count": refused})
            self.look_soon()
        return accepted, refused

    @staticmethod
    def _begin_held(session: Session, by: str, current: Current, connection: str, after_id: int) -> Begun | None:
        while True:
            now = utc_now()
            claimed = store.claim_held(session, by, connection=connection, after_id=after_id, now=now)
            if claimed is None:
                session.commit()
                return None
            name, setup_id = current.transport.name, current.setup_id
            begun = claims.begin(session, by, [claimed], now=now, transport=name, setup_id=setup_id)
            session.commit()
            if begun:
                return begun[0]
            after_id = claimed  # it may not leave any more, or has no content

    @staticmethod
    def _stays_held(outcome: Receipt | OutmailError) -> bool:
        """Whether nothing left for sure, and the trouble is not this message's own."""
        if isinstance(outcome, (Receipt, DeliveryUnknown)):
            return False
        if isinstance(outcome, (ConfigurationError, SenderRefused)):
            # A From that the setup gives is refused for all. Repeated denials get a mailbox blocked by Exchange.
            return True
        return isinstance(outcome, DeliveryError) and (outcome.fault == "connection" or outcome.retryable)

    def _release_a_little(self, connection: str) -> None:
        try:
            self.release(connection, budget_s=RELEASE_SLICE_S)
        except (OutmailError, SQLAlchemyError) as exc:
            logger.warning("held messages were not released", extra={"error": type(exc).__name__})

    # -- failures ----------------------------------------------------------------------------------------------------

    def _failed(self, message: Message, error: OutmailError, current: Current) -> None:
        logger.error(
            "message not accepted",
            extra={
                "message_id": message.msgId,
                "connection": current.connection,
                "error": type(error).__name__,
                "code": error.code,
                "request_id": getattr(error, "request_id", ""),
            },
        )
        self.queueing.soon(lambda: self.tell(error, current))
        notify(message_failed, self.app, message=message, error=error, connection=current.connection)

    def tell(
        self, error: OutmailError, current: Current, *, will_retry: bool = False, now: datetime | None = None
    ) -> None:
        """Counts a failure, and alerts when that is due. Never raises."""
        self.alerting.tell(error, current, will_retry=will_retry, now=now)
        if not current.has_incident:
            self.look_soon()

    def told_by(self, receipt: Receipt, current: Current, *, now: datetime | None = None) -> None:
        """What an accepted message says of its connection: that it works, or that another had to help. Never raises."""
        for name, error in receipt.tried:
            # It went by another way; that the first one fails is news all the same.
            failing = self.current(name)
            if failing is not None:
                self.tell(error, failing, now=now)
        # A first way that pauses after its faults is not even tried: the backup's success says nothing of it.
        way = receipt.connection or current.connection
        used = current if way == current.connection else self.current(way)
        if used is not None and (used.has_incident or self.alerting.remembers(way)):
            self.alerting.recovered(way, now=now)
            self.look_soon()


def _unheard() -> DeliveryUnknown:
    return DeliveryUnknown(claims.DIED, code=claims.PROCESS_DIED)
