"""Keeps the log of one application tidy: by itself, a little at a time, and as a whole when it is asked to."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from . import audit
from .address import check_addresses
from .database import Database
from .errors import OutmailError
from .headers import wire
from .models import utc_now
from .outbox import housekeeping
from .outbox.housekeeping import Erased, Pruned, Rules
from .queueing import Queueing
from .settings import Settings

logger = logging.getLogger(__name__)

#: How often a process that sends looks whether something is over its time, in seconds; sooner while there is more.
EVERY_S = 600.0
AGAIN_S = 1.0
#: What a request or a sending process does at most at a time.
SMALL = 100
#: Batches that a worker does at a time: it must go on watching.
BATCHES = 20


class Keeping:
    """Housekeeping for one application. Safe to use from several threads."""

    def __init__(self, settings: Settings, database: Database, queueing: Queueing) -> None:
        self.rules = Rules(
            accepted_days=settings.keep_accepted_days,
            failed_days=settings.keep_failed_days,
            unknown_days=settings.keep_unknown_days,
            cancelled_days=settings.keep_cancelled_days,
            audit_days=settings.keep_audit_days,
            bodies_days=settings.keep_bodies_days,
            failed_bodies_days=settings.keep_failed_bodies_days,
            max_rows=settings.log_max_rows,
            max_bytes=settings.log_max_bytes,
        )
        self._database = database
        self._queueing = queueing
        self._lock = threading.Lock()
        # Not all processes of an application at once, and none with its first message.
        self._due_at = time.monotonic() + EVERY_S * (0.5 + random.random() / 2)  # noqa: S311 -- no secret

    @property
    def keeps_bodies(self) -> bool:
        """Whether messages stay readable after they were accepted."""
        return self.rules.bodies_days > 0

    def prune(self) -> Iterator[Pruned]:
        """Forgets everything that is over its time or above a cap, a short transaction at a time; yields each.

        Raises:
            ConfigurationError, TransportUnavailable: as `Database.session`.
        """
        while True:
            with self._database.session() as session:
                done = housekeeping.prune(session, self.rules, now=utc_now())
                session.commit()
            if not done:
                return
            yield done

    def would_prune(self) -> Pruned:
        """What `prune` would forget. Changes nothing."""
        with self._database.session() as session:
            return housekeeping.would_prune(session, self.rules, now=utc_now())

    def tidy(self) -> None:
        """Some batches, when it is time: for a worker. Never raises for the database."""
        if self._is_time():
            for number, done in enumerate(self._quietly(self.prune()), 1):
                logger.info("the log was tidied", extra={"row_count": done.rows, "body_count": done.bodies})
                if number == BATCHES:
                    self._due_at = time.monotonic() + AGAIN_S
                    break

    def now_and_then(self) -> None:
        """A small batch, when it is time: for a process that sends, so that the log has an end without any worker."""
        if self._is_time():
            self._queueing.soon(self._a_little, afterwards=True)

    def erase(self, address: str, *, by: str) -> Erased:
        """Takes an address out of the log, with what may name the person; see `housekeeping.erase`.

        Raises:
            InvalidMessage: it is no address.
            ConfigurationError, TransportUnavailable: as `Database.session`.
        """
        check_addresses([("address", address)])
        address = wire(address, "address")  # as it stands in the log: domains in their ASCII form
        self._queueing.move()
        waiting = housekeeping.erase_spool(self._queueing.spool, address)
        total = Erased(0, waiting)
        while True:
            with self._database.session() as session:
                done = housekeeping.erase(session, address, after_id=total.last_id)
                if done is None:
                    housekeeping.erase_elsewhere(session, address)
                    # Not whom: the line would keep what was to be forgotten.
                    told = f"{total.rows} anonymised, {total.waiting} still to leave"
                    audit.record(session, who=by, action="erase", object="an address", detail=told)
                session.commit()
            if done is None:
                return total
            total += done

    def _is_time(self) -> bool:
        if time.monotonic() < self._due_at or not self._database or not self._lock.acquire(blocking=False):
            return False
        self._due_at = time.monotonic() + EVERY_S
        self._lock.release()
        return True

    def _a_little(self) -> None:
        try:
            with self._database.session(wait_s=0.0) as session:
                done = housekeeping.prune(session, self.rules, now=utc_now(), limit=SMALL)
                session.commit()
        except (OutmailError, SQLAlchemyError) as exc:
            logger.info("the log was not tidied", extra={"error": type(exc).__name__})
            return
        if done:
            self._due_at = time.monotonic() + AGAIN_S

    @staticmethod
    def _quietly(batches: Iterator[Pruned]) -> Iterator[Pruned]:
        try:
            yield from batches
        except (OutmailError, SQLAlchemyError) as exc:
            logger.info("the log was not tidied", extra={"error": type(exc).__name__})
