"""Which setup is in force for each connection of one application, with the transport made from it."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from . import services, setups
from .current import Current
from .database import Database
from .errors import ConfigurationError, OutmailError, TransportUnavailable
from .models import Setup
from .outbox import alerts, store
from .settings import PRIMARY, Settings, flask_mail_values
from .setup_values import SetupValues
from .transports.failover import Board, Failover, Way
from .vault import Vault

logger = logging.getLogger(__name__)

#: How long one look at the database counts. Other processes notice a saved change within this time.
LOOK_S = 1.0
#: How long a configured setup does without what the database knows, after that did not answer, in seconds.
BLIND_S = 60.0
#: The connection that is tried when the primary one fails, if somebody has saved it.
BACKUP = "backup"


@dataclass(frozen=True)
class _Found:
    """A stamp that changes whenever the setup in force does, and how to make the `Current` it stands for."""

    stamp: Any
    make: Callable[[], Current | None]
    has_incident: bool = False
    has_held: bool = False


class Connections:
    """The connections of one application. Safe to use from several threads, and after `fork`."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        database: Database,
        environment: services.Environment,
        vault: Callable[[], Vault],
    ) -> None:
        self.app = app
        self.settings = settings
        self.database = database
        self.environment = environment
        self._vault = vault
        self._forget()
        for values, key in settings.configured.values():
            self._check_configured(values, key)

    def _forget(self) -> None:
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Any, float, Current | None]] = {}
        self._warned_tables = False
        self._blind_until = float("-inf")
        self.board = Board(self.settings.breaker_faults)

    def _check_configured(self, values: SetupValues, key: str) -> None:
        service = services.service(values.service)
        found = service.problems(service.complete(values, self.environment), self.environment)
        if found:
            told = "; ".join(f"{field}: {sentence}" for field, sentence in found.items())
            raise ConfigurationError(f"{key}: {told}", code="config_invalid")

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
            backup = self._backup() if connection == PRIMARY else None
            if backup is not None:
                found = replace(found, stamp=(found.stamp, backup.stamp))
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
                if known is not None:
                    known = replace(known, stamp=hashlib.sha256(repr(found.stamp).encode()).hexdigest()[:32])
                    known = _with_backup(known, backup, self.board)
            flags = (found.has_incident, found.has_held)
            if known is not None and (known.has_incident, known.has_held) != flags:
                known = replace(known, has_incident=found.has_incident, has_held=found.has_held)
            self._known[connection] = (found.stamp, now, known)
        return known

    def _backup(self) -> Current | None:
        """The connection that is tried when the primary one fails; None when nobody has made one, or none that works.

        No trouble with it is the primary's trouble.
        """
        if not self.database and BACKUP not in self.settings.configured:
            return None
        try:
            backup = self.current(BACKUP)
        except (OutmailError, SQLAlchemyError):
            return None
        return backup if backup is not None and backup.verified else None

    def _look(self, connection: str) -> _Found:
        settings = self.settings
        if connection in settings.configured:
            setup, key = settings.configured[connection]
            return self._flagged(_Found(key, lambda: self._configured(setup, key, connection)), connection)
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
            return self._flagged(_Found("MAIL_SERVER", lambda: self._configured(fallback, "MAIL_SERVER")), connection)
        if not self.database:
            # Exactly what Flask-Mail does with an empty configuration: a mail server on this machine.
            return _Found("MAIL_SERVER", lambda: self._configured(flask_mail_values(self.app.config), "MAIL_SERVER"))
        return _Found(None, lambda: None)

    def _flagged(self, found: _Found, connection: str) -> _Found:
        """A setup from configuration, with what the database knows of its connection; it serves without that too."""
        if not self.database or time.monotonic() < self._blind_until:
            return found
        try:
            with self.database.session(wait_s=0.0) as session:
                has_held = store.has_held(session, connection)
                return replace(found, has_incident=alerts.has_open(session, connection), has_held=has_held)
        except (OutmailError, SQLAlchemyError):
            self._blind_until = time.monotonic() + BLIND_S
            return found

    def _warn_tables(self) -> None:
        if not self._warned_tables:
            self._warned_tables = True
            logger.warning("the tables are missing (run `flask outmail init-db`); MAIL_… configuration is used")

    def _configured(self, values: SetupValues, key: str, connection: str = PRIMARY) -> Current:
        """A setup from configuration counts as verified: whoever can write the configuration has decided."""
        service = services.service(values.service)
        values = service.complete(values, self.environment)
        return Current(connection, values, services.transport_of(values, self.environment), True, key)

    def _saved(self, row: Setup, connection: str) -> Current:
        values = setups.values_of(row, self._vault())
        return Current(
            connection=connection,
            values=values,
            transport=services.transport_of(values, self.environment),
            verified=setups.is_verified(row, values, self._vault()),
            source="database",
            setup_id=row.id,
        )

    def names(self) -> list[str]:
        """All connections there are, `primary` first. Reads the database."""
        configured = self.settings.configured
        if not self.database:
            return list(dict.fromkeys([PRIMARY, *configured]))
        with self.database.session() as session:
            return list(dict.fromkeys([PRIMARY, *configured, *setups.connections(session)]))


def _with_backup(current: Current, backup: Current | None, board: Board) -> Current:
    if backup is None:
        return current
    ways = [Way(one.connection, one.transport, one.sender, one.mailbox) for one in (current, backup)]
    return replace(current, transport=Failover(ways, board))
