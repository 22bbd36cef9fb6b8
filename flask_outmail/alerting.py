"""Telling the failure-alert address, once for each cause, over a connection that works."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import setups
from .envelope import Envelope
from .errors import DeliveryError, OutmailError
from .outbox import alerts

if TYPE_CHECKING:
    from .engine import Current, Engine

logger = logging.getLogger(__name__)


def tell(engine: Engine, error: OutmailError, failed: Current) -> None:
    """Counts a failure and, when its cause is new or has lasted, sends one alert.

    With a database the incident is kept there, and shown on the pages when no mail could carry it. Without one the
    log is all there is.
    """
    to = failed.values.failure_alerts_to
    if not engine.database or (failed.source != "database" and engine.database.tables_missing()):
        if to and engine.first_time(failed.connection, error.code):
            _send(engine, to, error, failed, 1)
        return
    with engine.database.session() as session:
        incident, is_due = alerts.note(session, failed.connection, error, pause_s=engine.settings.alert_pause_s)
        session.commit()
        if is_due and to and _send(engine, to, error, failed, incident.count):
            incident.alert = alerts.MAILED
            session.commit()
    engine.look_soon()


def _send(engine: Engine, to: str, error: OutmailError, failed: Current, count: int) -> bool:
    started = time.monotonic()
    message = alerts.alert_message(
        to=to, application=engine.app.name, connection=failed.connection, error=error, count=count
    )
    for way in _working_ways(engine, error, failed):
        message.sent_by(way.sender)
        try:
            # Straight to the transport: a failure here must not become an incident of its own.
            way.transport.deliver(Envelope.for_message(message, mailbox=way.mailbox))
        except OutmailError as exc:
            logger.warning("alert not accepted", extra={"connection": way.connection, "code": exc.code})
        else:
            logger.info("alert accepted", extra={"elapsed_s": round(time.monotonic() - started, 3)})
            return True
    logger.error("no connection could carry the failure alert", extra={"code": error.code})
    return False


def _working_ways(engine: Engine, error: OutmailError, failed: Current) -> Iterator[Current]:
    # Only a fault of the message leaves the connection it failed on trustworthy.
    if isinstance(error, DeliveryError) and error.fault == "message":
        yield failed
    if not engine.database:
        return
    try:
        with engine.database.session() as session:
            names = setups.connections(session)
        for name in names:
            other = engine.current(name) if name != failed.connection else None
            if other is not None and other.verified:
                yield other
    except OutmailError as exc:
        logger.warning("other connections cannot be looked up", extra={"code": exc.code})
