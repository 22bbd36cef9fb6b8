"""One application's mail: what happens to each message.

`Mail` (in `extension`) is what applications hold; there is one `Engine` for each application behind it. Which setup is
in force is the story of `connections`, what goes into the database that of `queueing`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import chain, groupby
from typing import Any, NoReturn

from flask import Flask, current_app

from .access import Access
from .alert_channels import OnAlert
from .alerting import Alerting
from .bulk import Bulk
from .connections import Connections
from .current import Current
from .database import Database
from .envelope import Receipt, failed_receipt
from .errors import ConfigurationError, DeliveryUnknown, OutmailError, SetupNotVerified
from .keeping import Keeping
from .message import Message
from .models import utc_now
from .outbox import claims, hands
from .outbox.states import HELD, QUEUED, SUPPRESSED, WAITING
from .outbox.store import Draft, Queued
from .outbox.verdicts import Verdict
from .preparing import Preparing
from .previews import Previews
from .queueing import Queueing
from .releasing import Releasing
from .routing import Chooser, Routing
from .services import Environment
from .settings import PRIMARY, Settings
from .signals import (
    delivery_settled,
    email_dispatched,
    message_accepted,
    message_failed,
    message_held,
    message_queued,
    notify,
)
from .token_store import StoredTokens
from .transports.memory import MemoryTransport
from .vault import Vault, derived_key
from .words import Words, known_language

logger = logging.getLogger(__name__)

#: How many messages of a bulk share one transaction of the delivery log.
LINES_TOGETHER = 100


@dataclass
class BegunTest:
    """A test of a setup: when it began, on the monotonic clock, and whose it is."""

    at: float
    person: str
    is_running: bool = False


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
        self.preparing = Preparing(settings, mail_state, self.connections, self.keeping, lambda: self.vault)
        settled = partial(notify, delivery_settled, app)
        self.releasing = Releasing(
            self.database, self.connections, lambda: self.vault, self.queueing.spool, self.tell, settled
        )
        self.alerting = Alerting(
            app.name,
            self.database,
            settings,
            self.current,
            on_alert,
            lambda: bool(mail_state.suppress),
            lambda: self.vault,
            self.alert_words,
        )
        #: The tests of the last minute, and those that are still running.
        self.test_runs: list[BegunTest] = []
        self.test_lock = threading.Lock()
        #: Called when something was queued, where a worker runs in this process.
        self.wake: Callable[[], None] = lambda: None
        #: Whether something other than `flask outmail worker` takes what is queued, so that no such worker is missed.
        self.is_carried = False

    def alert_words(self) -> Words:
        """Language and zone of alerts: the same whichever request or process tells of them."""
        default = getattr(self.app.extensions.get("babel"), "default_locale", "")
        wanted = self.settings.alert_locale or self.settings.locale or (default if isinstance(default, str) else "")
        return Words(known_language(wanted), self.settings.timezone)

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
        envelope = self.preparing.envelope(message, current, envelope_from)
        started = time.perf_counter()
        try:
            receipt = hands.deliver(current.transport, envelope)
        except OutmailError as exc:
            self._failed(message, exc, current)
            if self._logs:
                self.queueing.log([self.preparing.line(message, envelope, exc, via, time.perf_counter() - started)])
            raise
        except BaseException:
            # Somebody ends the program, or this thread of it, and the message may have left.
            if self._logs:
                self.queueing.log(
                    [self.preparing.line(message, envelope, _unheard(), via, time.perf_counter() - started)]
                )
            raise
        receipt = self._with_connection(receipt, via)
        if self._logs:
            self.queueing.log([self.preparing.line(message, envelope, receipt, via)])
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
            yield from self._bulk(chain([first], rest), now, via)

    def _one_of_many(self, message: Message, via: str) -> Receipt:
        try:
            return self.deliver(message, via=via)
        except OutmailError as exc:
            return failed_receipt(message, exc, via)

    def _bulk(self, messages: Iterator[Message], current: Current, via: str) -> Iterator[Receipt]:
        bulk = Bulk(current.transport, messages, lambda message: self.preparing.envelope(message, current, ""))
        lines: list[tuple[Draft, Verdict | None]] = []
        outcomes = bulk.outcomes()
        try:
            for message, envelope, outcome in outcomes:
                if envelope is None:
                    assert isinstance(outcome, OutmailError)  # noqa: S101 -- without an envelope nothing was sent
                    yield failed_receipt(message, outcome, via)
                    continue
                if self._logs:
                    lines.append(self.preparing.line(message, envelope, outcome, via))
                    if len(lines) >= LINES_TOGETHER:
                        self.queueing.log(lines)
                        lines = []
                yield self._outcome_of_many(message, outcome, current, via)
        finally:
            outcomes.close()
            if self._logs:
                lines += [self.preparing.line(*one, _unheard(), via) for one in bulk.left()]
            if lines:
                self.queueing.log(lines)

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

    @staticmethod
    def _with_connection(receipt: Receipt, via: str) -> Receipt:
        return receipt if receipt.connection else replace(receipt, connection=via)

    def _suppress(self, message: Message, envelope_from: str) -> Receipt:
        envelope = self.preparing.suppressed(message, envelope_from)
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
            self.queueing.soon(lambda: self.releasing.release_a_little(current.connection))

    # -- queueing ----------------------------------------------------------------------------------------------------

    def _queue(self, message: Message, via: str, envelope_from: str) -> Receipt:
        draft = self.preparing.draft(message, via, envelope_from, state=QUEUED, origin="send")
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
            draft = self.preparing.draft(message, via, "", state=SUPPRESSED, **facts)
        elif at is not None and at > now:
            draft = self.preparing.draft(message, via, "", state=WAITING, due_at=at, queued_at=at, **facts)
        else:
            draft = self.preparing.draft(message, via, "", state=QUEUED, **facts)
        queued = self.queueing.join(draft, session)
        notify(message_queued, self.app, message=message, receipt=self._queued_receipt(draft, queued, via))
        return queued

    @staticmethod
    def _queued_receipt(draft: Draft, queued: Queued, via: str) -> Receipt:
        name = queued.delivery_id
        return Receipt(accepted=False, queued=True, connection=via, message_id=draft.message_id, delivery_id=name)

    def _hold(self, message: Message, via: str, current: Current | None, envelope_from: str) -> NoReturn:
        """Keeps the message and raises `SetupNotVerified`."""
        reason = "no mail service is set up yet" if current is None else "the active setup has not passed a test"
        draft = self.preparing.draft(message, via, envelope_from, state=HELD, origin="held")
        self.queueing.queue(draft)
        logger.warning("message held", extra={"message_id": draft.message_id, "connection": via})
        notify(message_held, self.app, message=message, connection=via)
        raise SetupNotVerified(f"the message is held: {reason}", held=True)

    @property
    def _logs(self) -> bool:
        """Whether what is handed over directly stands in the log; a line costs too much to be made for nothing."""
        return self.settings.log_direct and bool(self.database)

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
            self.connections.look_soon()

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
            self.connections.look_soon()


def engine_of_current_app() -> Engine:
    """The current application's engine.

    Raises:
        RuntimeError: there is no current application, or `init_app` was not called for it.
    """
    engine = current_app.extensions.get("outmail")
    if not isinstance(engine, Engine):
        raise RuntimeError("the current application was not set up for mail: call mail.init_app(app)")
    return engine


def _unheard() -> DeliveryUnknown:
    return DeliveryUnknown(claims.DIED, code=claims.PROCESS_DIED)
