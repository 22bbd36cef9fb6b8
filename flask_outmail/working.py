"""What a worker is given by the application: its database, its connections, and somebody to tell what happened."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .checking import check_due
from .current import Current
from .envelope import Receipt
from .errors import OutmailError
from .models import utc_now
from .outbox.claims import Begun
from .outbox.retry import Policy
from .outbox.roster import Watch
from .outbox.states import ACCEPTED, FINAL
from .outbox.surroundings import WorkerSettings
from .outbox.worker import Worker
from .settings import Settings
from .signals import delivery_settled, notify
from .transports.failover import Board
from .vault import Vault

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

#: How long a stopping worker waits for alerts that are being sent, in seconds.
TELL_WITHIN_S = 5.0
#: How long a development server that ends waits for its worker, in seconds.
END_WITHIN_S = 5.0


def policy_of(settings: Settings) -> Policy:
    return Policy(
        first_s=settings.retry_first_s,
        cap_s=settings.retry_cap_s,
        max_age_s=settings.retry_max_age_s,
        max_attempts=settings.retry_max_attempts,
        breaker_faults=settings.breaker_faults,
        at_least_once=settings.at_least_once,
    )


class ApplicationSide:
    """The worker's `Surroundings`. Telling people happens in a thread of its own, so that no heart misses a beat.

    The same thread watches for what goes wrong without a message failing, every `OUTMAIL_WATCH_SECONDS`, and tries
    the connections that nobody has tried for long (`OUTMAIL_CHECK_SECONDS`).
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Not at once: a worker that has just come has not been seen yet, and would be missed.
        self._watch_at = time.monotonic() + engine.settings.watch_s
        self._told: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._teller = threading.Thread(target=self._tell, name="outmail-tell", daemon=True)
        self._teller.start()

    def session(self) -> AbstractContextManager[Session]:
        return self._engine.database.session()

    def connections(self) -> list[str]:
        return self._engine.connections.names()

    def in_force(self, connection: str) -> Current | None:
        return self._engine.current(connection)

    def vault(self) -> Vault:
        return self._engine.vault

    def board(self) -> Board:
        return self._engine.connections.board

    def move_spool(self) -> int:
        return self._engine.queueing.move()

    def settled(self, connection: str, begun: Begun, outcome: Receipt | OutmailError, state: str) -> None:
        """After the commit: alerts, recovery, signals, the log."""
        receipt, error = (outcome, None) if isinstance(outcome, Receipt) else (None, outcome)
        if state == ACCEPTED or error is None:
            logger.info("delivery accepted", extra={"delivery": begun.id, "connection": connection})
        else:
            facts = {"delivery": begun.id, "connection": connection, "state": state, "code": error.code}
            logger.warning("delivery not accepted", extra=facts)

        at = utc_now()  # it may be told a while later

        def tell() -> None:
            engine = self._engine
            current = engine.current(connection)
            if current is not None and error is not None:
                engine.tell(error, current, will_retry=state not in FINAL, now=at)
            elif current is not None and receipt is not None:
                engine.told_by(receipt, current, now=at)
            if state in FINAL:
                facts = {"connection": connection, "state": state, "receipt": receipt, "error": error}
                notify(delivery_settled, engine.app, delivery_id=begun.uid or str(begun.id), **facts)

        self._told.put(tell)

    def close(self) -> None:
        """Waits for what is still to be told, but not for ever."""
        self._told.put(None)
        self._teller.join(TELL_WITHIN_S)

    def _tell(self) -> None:
        while True:
            left_s = self._watch_at - time.monotonic()
            if left_s <= 0:
                self._watch_at = time.monotonic() + self._engine.settings.watch_s
                self._quietly(lambda: check_due(self._engine))
                self._quietly(self._engine.alerting.watch)
                self._quietly(self._engine.keeping.tidy)
                continue
            try:
                tell = self._told.get(timeout=left_s)
            except queue.Empty:
                continue
            if tell is None:
                return
            self._quietly(tell)

    def _quietly(self, work: Callable[[], object]) -> None:
        try:
            with self._engine.app.app_context():
                work()
        except (OutmailError, SQLAlchemyError) as exc:
            logger.error("what happened could not be told", extra={"error": type(exc).__name__})


def make_worker(
    engine: Engine, *, concurrency: int = 0, watch: Watch | None = None, now: Callable[[], datetime] = utc_now
) -> tuple[Worker, ApplicationSide]:
    """A worker for an application; `concurrency` limits it further than its connections do. `now` is its clock.

    `watch` is what earlier workers of this process have seen of the others, for those that live shortly.
    """
    settings = engine.settings
    side = ApplicationSide(engine)
    try:
        ours = version("flask-outmail")
    except PackageNotFoundError:
        ours = ""
    worker_settings = WorkerSettings(
        policy=policy_of(settings),
        poll_s=settings.worker_poll_s,
        lease_s=settings.worker_lease_s,
        rate_per_minute=dict(settings.rate_per_minute),
        release_per_minute=settings.release_per_minute,
        concurrency=concurrency,
        version=ours,
    )
    return Worker(side, worker_settings, engine.queueing.spool, watch=watch, now=now), side


class DevelopmentWorker:
    """A worker in a thread of the development server, so that nobody needs a second terminal.

    `start` may be called any number of times. It ends with the process, after what is under way.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    def start(self) -> None:
        with self._lock:
            if self._worker is not None:
                return
            self._worker, side = make_worker(self._engine)
        worker = self._worker
        self._engine.wake = worker.wake

        def run() -> None:
            try:
                worker.run()
            finally:
                side.close()

        thread = threading.Thread(target=run, name="outmail-worker", daemon=True)
        thread.start()

        def end() -> None:
            worker.stop()
            thread.join(END_WITHIN_S)

        atexit.register(end)


def run_worker(engine: Engine, *, once: bool = False, drain: bool = False, concurrency: int = 0) -> int:
    """Works until a signal comes, or until there is nothing to do; returns how many messages were accepted."""
    try:
        engine.database.use_wal()
    except OutmailError as exc:
        # Somebody is using the file at this moment: slower, and right all the same.
        logger.info("the database stays without write-ahead log", extra={"code": exc.code})
    worker, side = make_worker(engine, concurrency=concurrency)
    worker.stop_on_signals()
    try:
        return worker.run(once=once, drain=drain)
    finally:
        side.close()
