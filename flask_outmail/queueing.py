"""What goes into the database without anybody waiting for it: queued and held messages, and the delivery log.

All of it happens on a connection of our own and after the fact. Where SQLite's one write lock is taken (often by the
very request that sends), a message goes into the spool folder and a line of the log waits in memory; both follow as
soon as that transaction is over.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .database import Database
from .errors import ConfigurationError, OutmailError, TransportUnavailable
from .models import utc_now
from .outbox import finishing, store
from .outbox.spool import Entry, Spool
from .outbox.store import Draft, Queued
from .outbox.verdicts import Verdict
from .settings import Settings
from .vault import Vault

logger = logging.getLogger(__name__)

#: How long to wait for SQLite's lock when it is not the caller's own transaction that may hold it, in seconds.
PATIENCE_S = 0.2
#: Lines of the log that wait in memory; the oldest give way.
LINES_KEPT = 1000
#: How long nothing is logged after the tables were found missing, in seconds.
SILENCE_S = 60.0
_HOOKED = "outmail_moves_spool"
_QUEUED = "outmail_queued"


class Queueing:
    """Puts things into the outbox of one application. Safe to use from several threads."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        database: Database,
        vault: Callable[[], Vault],
        wake: Callable[[], None],
    ) -> None:
        folder = settings.spool_dir or Path(app.instance_path) / "outmail-spool"
        self.spool = Spool(Path(folder), vault)
        self._database = database
        self._wake = wake
        self._lines: deque[tuple[Draft, Verdict | None]] = deque(maxlen=LINES_KEPT)
        #: Messages for a database in memory, while the application is in the middle of its one transaction.
        self._held_back: deque[Draft] = deque()
        #: What is to be done after the transaction that the application is in.
        self._works: deque[Callable[[], None]] = deque()
        self._start_afresh()
        #: How often an entry of the spool could not be moved.
        self._failures: dict[str, int] = {}
        self._silent_until = float("-inf")
        _queueings.add(self)

    def _start_afresh(self) -> None:
        """What a thread of the parent held at the moment of a fork is never given back in the child."""
        self._moving = threading.Lock()

    def queue(self, draft: Draft) -> Queued:
        """Adds a delivery that is there whatever becomes of the caller's transaction. Waits for nobody.

        Raises:
            ConfigurationError: there is no database, or it lacks our tables.
            TransportUnavailable: neither the database nor the spool folder takes it; nothing is queued.
        """
        own = self._database.application_session()
        if own is not None and self._database.is_in_memory:
            # Written now it would go with the application's rollback; on the disk it would outlive its database.
            self._held_back.append(draft)
            self._follow(own)
            return Queued(draft.uid, draft.state)
        try:
            with self._database.session(wait_s=PATIENCE_S if own is None else 0.0) as session:
                queued = self._add(session, draft)
                session.commit()
        except TransportUnavailable:
            self.spool.put(Entry(draft.uid, "delivery", draft.to_dict(), draft.sealed))
            logger.info("a message waits in the spool for the database")
            self._follow(own)
            return Queued(draft.uid, draft.state)
        self._move_if_any()
        return queued

    def log(self, lines: list[tuple[Draft, Verdict | None]]) -> None:
        """Keeps lines of messages that were handed over at once. Never fails: what happened to them has happened."""
        if time.monotonic() < self._silent_until:
            return
        self._lines.extend(lines)
        own = self._database.application_session()
        if own is not None and self._database.is_in_memory:
            self._follow(own)
            return
        if not self._write_lines(0.0 if own is not None else PATIENCE_S):
            self._follow(own)

    def join(self, draft: Draft, session: Any = None) -> Queued:
        """Adds a delivery in the application's own transaction (`db.session`, or the one given).

        Raises:
            ConfigurationError: the tables are missing.
            ValueError: its key ends with a blank.
            TransportUnavailable: the database did not take it; the caller's transaction has failed with it.
        """
        if draft.key is not None and draft.key.endswith(" "):
            # MariaDB compares without them: the message would be taken for one that is queued already, and be lost.
            raise ValueError("a key has no blank at its end")
        own: Session = session if session is not None else self._database.db.session()
        with self._database.faults():
            queued = store.add(own, draft)
        own.info[_QUEUED] = True
        self._follow(own)
        return queued

    def soon(self, work: Callable[[], None], *, afterwards: bool = False) -> None:
        """Does `work`, which writes, now; or after the application's transaction, when SQLite would make it wait.

        `afterwards`: after the transaction on every database, for what may meet the locks of rows. Never fails: the
        message that gave rise to it has left.
        """
        own = self._database.application_session()
        if own is None or not (afterwards or self._database.is_sqlite):
            _quietly(work)
            return
        self._works.append(work)
        self._follow(own)

    def move(self) -> int:
        """Moves what waits into the database, each exactly once; returns how many. Logs what cannot be moved."""
        if not self._moving.acquire(blocking=False):
            return 0  # another thread is at it
        try:
            return self._move()
        finally:
            self._moving.release()

    def _move(self) -> int:
        moved = 0
        while self._held_back:
            with self._database.session() as session:
                self._add(session, self._held_back[0])
                session.commit()
            self._held_back.popleft()
            moved += 1
        self._write_lines(PATIENCE_S)
        while self._works:
            _quietly(self._works.popleft())
        return moved + self._move_spool()

    def _move_spool(self) -> int:
        moved = failed = 0
        # What failed before comes last: the database may refuse that one for ever, and takes the others.
        for entry in self.spool.entries(failures=self._failures):
            try:
                with self._database.session(wait_s=PATIENCE_S) as session:
                    self._move_one(session, entry, utc_now())
                    session.commit()
            except Exception as exc:  # from a later version even the facts may be of another kind
                self._failures[entry.name] = self._failures.get(entry.name, 0) + 1
                code = getattr(exc, "code", "") or type(exc).__name__
                logger.warning("the spool cannot be moved yet", extra={"code": code})
                failed += 1
                if failed == 2:
                    break  # it is rather the database than the entry
                continue
            self.spool.done(entry.name)
            self._failures.pop(entry.name, None)
            moved += 1
        return moved

    def _move_if_any(self) -> None:
        if self._lines or self._held_back or self._works or self.spool.names():
            self.move()

    @staticmethod
    def _move_one(session: Session, entry: Entry, now: datetime) -> None:
        if entry.kind == "verdict":
            finishing.finish(session, [Verdict.from_dict(entry.facts)], now=now)
        else:
            store.add_once(session, Draft.from_dict(entry.facts, entry.sealed))

    @staticmethod
    def _add(session: Session, draft: Draft) -> Queued:
        return store.hold(session, draft) if draft.state == store.HELD else store.add(session, draft)

    def _write_lines(self, wait_s: float) -> bool:
        # Taken out, so that no other thread writes them as well, or takes away what it has not written.
        lines: list[tuple[Draft, Verdict | None]] = []
        with suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        if not lines:
            return True
        try:
            with self._database.session(wait_s=wait_s) as session:
                store.add_done(session, lines, now=utc_now())
                session.commit()
        except (OutmailError, SQLAlchemyError) as exc:
            if isinstance(exc, ConfigurationError):
                # Without tables there is no log, and looking for them at each message would cost too much.
                self._silent_until = time.monotonic() + SILENCE_S
            else:
                # Before those that came meanwhile; of too many the oldest give way.
                room = LINES_KEPT - len(self._lines)
                self._lines.extendleft(reversed(lines[-room:] if room > 0 else []))
            logger.info("the delivery log waits for the database", extra={"error": type(exc).__name__})
            return False
        return True

    def _follow(self, own: Session | None) -> None:
        """Moves what waits as soon as the application's transaction is over, however it ends."""
        if own is None or own.info.get(_HOOKED):
            return
        own.info[_HOOKED] = True

        def over(session: Session, transaction: Any) -> None:
            if transaction.parent is None and session.info.get(_HOOKED):
                try:
                    self.move()
                except OutmailError as exc:
                    logger.warning("the spool cannot be moved yet", extra={"code": exc.code})
                if session.info.pop(_QUEUED, False):
                    self._wake()

        # Not after_commit: this one comes after a rollback and after `close` too, when the lock is given back.
        event.listen(own, "after_transaction_end", over)


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except (OutmailError, SQLAlchemyError) as exc:
        logger.warning("what follows a message could not be done", extra={"error": type(exc).__name__})


_queueings: weakref.WeakSet[Queueing] = weakref.WeakSet()


def _after_fork() -> None:
    for queueing in list(_queueings):
        queueing._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
