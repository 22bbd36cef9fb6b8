"""Telling the failure-alert address, once for each cause, over a connection that works."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from . import setups
from .current import Current
from .database import Database
from .envelope import Envelope
from .errors import DeliveryError, OutmailError
from .outbox import alerts

logger = logging.getLogger(__name__)


class Alerting:
    """The alerts of one application. `look_up` gives the setup in force of a connection, by its name."""

    def __init__(
        self, application: str, database: Database, pause_s: float, look_up: Callable[[str], Current | None]
    ) -> None:
        self._application = application
        self._database = database
        self._pause_s = pause_s
        self._look_up = look_up
        self._told_at: dict[tuple[str, str], float] = {}

    def tell(self, error: OutmailError, failed: Current) -> None:
        """Counts a failure and, when its cause is new or has lasted, sends one alert.

        With a database the incident is kept there, and shown on the pages when no mail could carry it. Without one
        the log is all there is.

        Raises:
            OutmailError: the incident could not be recorded.
        """
        to = failed.values.failure_alerts_to
        if not self._database or (failed.source != "database" and self._database.tables_missing()):
            if to and self._is_first(failed.connection, error.code):
                self._send(to, error, failed, 1)
            return
        with self._database.session() as session:
            incident, is_due = alerts.note(session, failed.connection, error, pause_s=self._pause_s)
            session.commit()
            if is_due and to and self._send(to, error, failed, incident.count):
                incident.alert = alerts.MAILED
                session.commit()

    def _is_first(self, connection: str, code: str) -> bool:
        """Whether this process has not told this cause within the pause; remembers it as told."""
        now = time.monotonic()
        if now - self._told_at.get((connection, code), float("-inf")) < self._pause_s:
            return False
        self._told_at[connection, code] = now
        return True

    def _send(self, to: str, error: OutmailError, failed: Current, count: int) -> bool:
        message = alerts.alert_message(
            to=to, application=self._application, connection=failed.connection, error=error, count=count
        )
        for way in self._working_ways(error, failed):
            message.sent_by(way.sender)
            try:
                # Straight to the transport: a failure here must not become an incident of its own.
                way.transport.deliver(Envelope.for_message(message, mailbox=way.mailbox))
            except OutmailError as exc:
                logger.warning("alert not accepted", extra={"connection": way.connection, "code": exc.code})
            else:
                logger.info("alert accepted", extra={"connection": way.connection})
                return True
        logger.error("no connection could carry the failure alert", extra={"code": error.code})
        return False

    def _working_ways(self, error: OutmailError, failed: Current) -> Iterator[Current]:
        # Only a fault of the message leaves the connection it failed on trustworthy.
        if isinstance(error, DeliveryError) and error.fault == "message":
            yield failed
        if not self._database:
            return
        try:
            with self._database.session() as session:
                names = setups.connections(session)
            for name in names:
                other = self._look_up(name) if name != failed.connection else None
                if other is not None and other.verified:
                    yield other
        except OutmailError as exc:
            logger.warning("other connections cannot be looked up", extra={"code": exc.code})
