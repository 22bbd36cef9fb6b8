"""One application's mail: which setup is in force, its transport, and what happens to each message.

`Mail` (in `extension`) is what applications hold; there is one `Engine` for each application behind it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from . import services, setups
from .access import Access
from .alert_channels import OnAlert
from .alerting import Alerting
from .current import Current
from .database import Database
from .envelope import Envelope, Receipt
from .errors import (
    ConfigurationError,
    DeliveryError,
    DeliveryUnknown,
    OutmailError,
    RecipientsRefused,
    SenderRefused,
    SetupNotVerified,
    TransportUnavailable,
)
from .message import Address, Message
from .models import PRIMARY, Setup
from .outbox import alerts, store
from .previews import Previews
from .settings import Settings, SetupValues, flask_mail_values
from .signals import email_dispatched, message_accepted, message_failed, message_held, notify
from .token_store import StoredTokens
from .transports.base import Transport
from .transports.memory import MemoryTransport
from .vault import Vault, derived_key

logger = logging.getLogger(__name__)

#: How long one look at the database counts. Other processes notice a saved change within this time.
LOOK_S = 1.0
#: How much of a caller's time may go into releasing messages that were held.
RELEASE_SLICE_S = 1.0


@dataclass(frozen=True)
class _Found:
    """A stamp that changes whenever the setup in force does, and how to make the `Current` it stands for."""

    stamp: Any
    make: Callable[[], Current | None]
    has_incident: bool = False
    has_held: bool = False


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
    ) -> None:
        self.app = app
        self.settings = settings
        self.mail_state = mail_state
        self._configured_default = mail_state.default_sender
        self.access = access
        self.suppressed = MemoryTransport()
        self.previews = Previews()
        self.database = Database(app, db)
        shared = StoredTokens(self.database, lambda: self.vault)
        self.environment = replace(services.Environment.of(settings), token_store=shared)
        self._vault: Vault | None = None
        self.alerting = Alerting(
            app.name, self.database, settings, self.current, on_alert, lambda: bool(mail_state.suppress)
        )
        self._forget()
        if settings.setup is not None:
            self._check_configured(settings.setup, settings.setup_key)

    def _forget(self) -> None:
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Any, float, Current | None]] = {}
        self.test_times: list[float] = []
        self._warned_tables = False

    def _check_configured(self, values: SetupValues, key: str) -> None:
        service = services.service(values.service)
        found = service.problems(service.complete(values, self.environment), self.environment)
        if found:
            told = "; ".join(f"{field}: {sentence}" for field, sentence in found.items())
            raise ConfigurationError(f"{key}: {told}", code="config_invalid")

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

    # -- which setup is in force -------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Forgets what is known of the setups, so that the next message sees what was just saved."""
        with self._lock:
            known, self._known = self._known, {}
        for _, _, current in known.values():
            if current is not None:
                current.transport.close()

    def look_soon(self) -> None:
        """Makes the next message look at the database again, with the transports kept."""
        with self._lock:
            self._known = {name: (stamp, float("-inf"), current) for name, (stamp, _, current) in self._known.items()}

    def current(self, connection: str = PRIMARY, *, fresh: bool = False) -> Current | None:
        """The setup in force, or None when there is none yet.

        `OUTMAIL_SETUP` wins over a saved setup, and that over Flask-Mail's `MAIL_…` keys. May read the database.

        Raises:
            ConfigurationError: the connection is unknown, or the tables are missing and nothing else is configured.
        """
        if os.getpid() != self._process_id:
            # After a fork both processes would speak over the same sockets. Not closed here: they are the parent's.
            self._forget()
        now = time.monotonic()
        with self._lock:
            _, looked_at, known = self._known.get(connection, (None, 0.0, None))
        if known is not None and not fresh and now - looked_at < LOOK_S:
            return known
        try:
            found = self._look(connection)
        except TransportUnavailable as exc:
            if known is not None and known.verified:
                # What was verified a moment ago carries mail on while the database does not answer.
                logger.warning("the database did not answer; the setup last seen is used", extra={"code": exc.code})
                return known
            raise
        with self._lock:
            # Looked up again: of several threads that saw the same change, one makes the transport and all use it.
            stamp, _, known = self._known.get(connection, (None, 0.0, None))
            if known is None or stamp != found.stamp:
                known = found.make()
            flags = (found.has_incident, found.has_held)
            if known is not None and (known.has_incident, known.has_held) != flags:
                known = replace(known, has_incident=found.has_incident, has_held=found.has_held)
            self._known[connection] = (found.stamp, now, known)
        return known

    def _look(self, connection: str) -> _Found:
        settings = self.settings
        if connection == PRIMARY and settings.setup is not None:
            setup, key = settings.setup, settings.setup_key
            return _Found(key, lambda: self._configured(setup, key))
        if self.database:
            try:
                with self.database.session() as session:
                    row = setups.active(session, connection)
                    if row is not None:
                        version = row.auth_object.version if row.auth_object else 0
                        stamp = (row.id, row.activated_at, row.verified_fingerprint, version)
                        has_incident = alerts.has_open(session, connection)
                        has_held = store.has_held(session, connection)
                        session.expunge_all()
                        return _Found(stamp, lambda: self._saved(row, connection), has_incident, has_held)
            except ConfigurationError as exc:
                if exc.code != "tables_missing" or settings.fallback is None or connection != PRIMARY:
                    raise
                self._warn_tables()
        if connection != PRIMARY:
            raise ConfigurationError(f"there is no connection named {connection!r}", code="connection_unknown")
        if settings.fallback is not None:
            fallback = settings.fallback
            return _Found("MAIL_SERVER", lambda: self._configured(fallback, "MAIL_SERVER"))
        if not self.database:
            # Exactly what Flask-Mail does with an empty configuration: a mail server on this machine.
            return _Found("MAIL_SERVER", lambda: self._configured(flask_mail_values(self.app.config), "MAIL_SERVER"))
        return _Found(None, lambda: None)

    def _warn_tables(self) -> None:
        if not self._warned_tables:
            self._warned_tables = True
            logger.warning("the tables are missing (run `flask outmail init-db`); MAIL_… configuration is used")

    def _configured(self, values: SetupValues, key: str) -> Current:
        """A setup from configuration counts as verified: whoever can write the configuration has decided."""
        service = services.service(values.service)
        values = service.complete(values, self.environment)
        return Current(PRIMARY, values, service.transport(values, self.environment), True, key)

    def _saved(self, row: Setup, connection: str) -> Current:
        values = setups.values_of(row, self.vault)
        service = services.service(values.service)
        return Current(
            connection=connection,
            values=values,
            transport=service.transport(values, self.environment),
            verified=setups.is_verified(row, values, self.vault),
            source="database",
            setup_id=row.id,
        )

    # -- sending -----------------------------------------------------------------------------------------------------

    def deliver(self, message: Message, *, via: str = PRIMARY, envelope_from: str = "") -> Receipt:
        """Hands one message over, or holds it. A receipt from here is always an accepted one.

        Raises:
            InvalidMessage, UnsupportedFeature, DeliveryError, ConfigurationError: as documented there.
            SetupNotVerified: it was not handed over; `held` tells whether it was kept.
        """
        if message.date is None:
            message.date = time.time()
        if self.mail_state.suppress:
            return self._suppress(message, envelope_from)
        current = self.current(via)
        if current is None or not current.verified:
            # What is known may be a second old; a message must not be held because of that.
            current = self.current(via, fresh=True)
        if current is None or not current.verified:
            return self._hold(message, via, current, envelope_from)
        self._fill_sender(message, current)
        # What is wrong with the message is the caller's mistake and told to the caller; nobody else can mend it.
        envelope = Envelope.for_message(
            message,
            sender=envelope_from,
            mailbox=current.mailbox,
            ascii_attachments=self.mail_state.ascii_attachments,
        )
        try:
            receipt = _deliver(current.transport, envelope)
        except OutmailError as exc:
            self._failed(message, exc, current)
            raise
        receipt = replace(receipt, connection=via)
        self._accepted(message, receipt, current)
        return receipt

    def _fill_sender(self, message: Message, current: Current) -> None:
        # A sender that came from MAIL_DEFAULT_SENDER gives way to that of the setup in force: the keys of Flask-Mail
        # often stay in the configuration after the administrator has moved on, and Exchange would refuse them.
        if current.sender and (not message.sender or self._is_old_default(message)):
            message.sent_by(current.sender)

    def _is_old_default(self, message: Message) -> bool:
        """Whether the sender is what the configuration put in, and nobody chose it since."""
        default_used = getattr(message, "default_sender_used", None)
        untouched = default_used is not None and message.sender == default_used
        return untouched and self.mail_state.default_sender == self._configured_default

    def _suppress(self, message: Message, envelope_from: str) -> Receipt:
        if not message.sender and self.settings.setup is not None:
            message.sent_by(self._configured(self.settings.setup, self.settings.setup_key).sender)
        envelope = Envelope.for_message(
            message, sender=envelope_from, ascii_attachments=self.mail_state.ascii_attachments
        )
        receipt = replace(self.suppressed.deliver(envelope), connection="suppressed")
        notify(email_dispatched, self.app, message=message)
        return receipt

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
        if current.has_incident or self.alerting.remembers(current.connection):
            self.alerting.recovered(current.connection)
            self.look_soon()
        notify(email_dispatched, self.app, message=message)
        notify(message_accepted, self.app, message=message, receipt=receipt)
        if current.has_held:
            # This connection has just shown that it works: what waited for that goes too, a little at a time.
            try:
                self.release(current.connection, budget_s=RELEASE_SLICE_S)
            except (OutmailError, SQLAlchemyError) as exc:
                logger.warning("held messages were not released", extra={"error": type(exc).__name__})

    def _hold(self, message: Message, via: str, current: Current | None, envelope_from: str) -> NoReturn:
        """Keeps the message and raises `SetupNotVerified`."""
        reason = "no mail service is set up yet" if current is None else "the active setup has not passed a test"
        if self._is_old_default(message):
            # Its From is whatever the setup says on the day it leaves: the one at hand may be what must be mended.
            message.sender = None
        envelope = Envelope.for_message(
            message,
            sender=envelope_from,
            ascii_attachments=self.mail_state.ascii_attachments,
            sender_later=True,
        )
        with self.database.session() as session:
            store.hold(session, envelope, self.vault, subject=str(message.subject or ""), connection=via)
            session.commit()
        logger.warning("message held", extra={"message_id": envelope.message_id, "connection": via})
        notify(message_held, self.app, message=message, connection=via)
        raise SetupNotVerified(f"the message is held: {reason}", held=True)

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
        with self.database.session() as session:
            store.bury_the_dead(session)
            last_id = 0
            while time.monotonic() < deadline:
                claimed = store.claim_held(session, self.vault, connection=connection, after_id=last_id)
                if claimed is None:
                    break
                last_id = claimed.id
                outcome = self._hand_over(claimed, current)
                if self._stays_held(outcome):
                    store.hold_again(session, claimed)
                    if isinstance(outcome, RecipientsRefused):
                        continue  # one recipient's server is busy; the others need not wait for it
                    break
                if store.finish(session, claimed, outcome) == store.ACCEPTED:
                    accepted += 1
                else:
                    refused += 1
                    self._tell_quietly(outcome, current)
        if accepted or refused:
            logger.info("held messages released", extra={"accepted_count": accepted, "not_accepted_count": refused})
            self.look_soon()
        return accepted, refused

    def _hand_over(self, claimed: store.Claimed, current: Current) -> Receipt | OutmailError:
        try:
            envelope = claimed.envelope.sent_from(Address.parse(current.sender), current.mailbox)
            return _deliver(current.transport, envelope)
        except OutmailError as exc:
            return exc

    @staticmethod
    def _stays_held(outcome: Receipt | OutmailError) -> bool:
        """Whether nothing left for sure, and the trouble is not this message's own."""
        if isinstance(outcome, (Receipt, DeliveryUnknown)):
            return False
        if isinstance(outcome, (ConfigurationError, SenderRefused)):
            # A From that the setup gives is refused for all. Repeated denials get a mailbox blocked by Exchange.
            return True
        return isinstance(outcome, DeliveryError) and (outcome.fault == "connection" or outcome.retryable)

    def _tell_quietly(self, outcome: Receipt | OutmailError, current: Current) -> None:
        if isinstance(outcome, OutmailError):
            self.alerting.tell(outcome, current)

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
        self.alerting.tell(error, current)
        self.look_soon()
        notify(message_failed, self.app, message=message, error=error, connection=current.connection)


def _deliver(transport: Transport, envelope: Envelope) -> Receipt:
    """`transport.deliver`, whose own mistakes become an error of ours.

    Any exception may come from a third party's transport, before or after the message left: so it is unknown.
    """
    try:
        return transport.deliver(envelope)
    except OutmailError:
        raise
    except Exception as exc:
        raise DeliveryUnknown(
            f"the transport failed in a way of its own ({type(exc).__name__})",
            code="transport_fault",
            transport=transport.name,
        ) from exc
