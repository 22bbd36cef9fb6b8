"""The outbox on the application's own Celery: any number of machines, and no `flask outmail worker`.

`register(celery_app, app)` adds two tasks. `flask_outmail.deliver` is sent after each commit that queued something,
`flask_outmail.sweep` by Celery beat at regular times. Both hand over whatever is due: neither carries a message, or
the name of one, because the outbox is the truth. So a task that the broker lost, brings late or brings twice loses
and doubles nothing; the next sweep finds what a lost one should have found.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from .checking import check_due
from .engine import Engine
from .errors import ConfigurationError
from .outbox.roster import Watch
from .working import make_worker

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

DELIVER, SWEEP = "flask_outmail.deliver", "flask_outmail.sweep"
#: How long one task goes on while there is more to do, in seconds. Then it sends another, so that Celery's own limits,
#: its other tasks and a stop get their turn.
BUDGET_S = 20.0
#: How long no task is sent after the broker refused one, in seconds: a request must not wait for it each time.
BROKER_PAUSE_S = 10.0


def register(celery_app: Any, app: Flask, *, queue: str | None = None) -> None:
    """Makes Celery carry the deliveries of an application. Touches neither broker nor database.

    `celery_app` is the application's `celery.Celery`; call this where both are made, so that workers, beat and the
    web processes all do. `OUTMAIL_CELERY_SWEEP_SECONDS` is how often beat has the outbox looked through, and so how
    late a retry, a message with `at`, or one whose task was lost may be. `queue` names the Celery queue of both tasks.

    Raises:
        ConfigurationError: `mail.init_app(app, db)` was not called before, or without a database.
    """
    engine = app.extensions.get("outmail")
    if not isinstance(engine, Engine) or not engine.database:
        raise ConfigurationError("call mail.init_app(app, db) before register()", code="database_missing")
    sweep_every_s = engine.settings.celery_sweep_s
    carrier = _Carrier(celery_app, engine, {"queue": queue} if queue else {})

    @celery_app.task(name=DELIVER, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def deliver() -> None:
        carrier.deliver()

    # Named apart, so that one can be routed, watched or limited without the other.
    @celery_app.task(name=SWEEP, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def sweep() -> None:
        carrier.sweep()

    carrier.deliver_task = deliver
    # One that beat sent while no worker ran is of no use to the next.
    celery_app.add_periodic_task(
        sweep_every_s, sweep.s(), name="flask-outmail-sweep", expires=sweep_every_s, **carrier.options
    )
    engine.wake = carrier.send
    engine.alerting.expect_no_workers()
    engine.is_carried = True


class _Carrier:
    """What the tasks of one application do."""

    def __init__(self, celery_app: Any, engine: Engine, options: dict[str, Any]) -> None:
        self.options = options
        self.deliver_task: Any = None
        self._celery_app = celery_app
        self._engine = engine
        self._silent_until = float("-inf")
        self._forget()

    def _forget(self) -> None:
        self._process_id = os.getpid()
        self._busy = threading.Lock()
        # Lives from task to task: to see that a heart no longer beats one must look at it for a while.
        self._watch = Watch(self._engine.settings.worker_lease_s)

    def send(self) -> None:
        """Tells Celery that there is mail. Never raises: the sweep finds what no task was sent for."""
        if time.monotonic() < self._silent_until:
            return
        try:
            self.deliver_task.apply_async(retry=False, **self.options)
        except Exception as exc:  # each kind of broker has errors of its own
            self._silent_until = time.monotonic() + BROKER_PAUSE_S
            logger.warning("the broker took no task; the sweep delivers", extra={"error": type(exc).__name__})

    def deliver(self) -> None:
        """Hands over what is due in the outbox."""
        if self._hand_over():
            self.send()

    def sweep(self) -> None:
        """Looks for mail that no task was sent for, or whose task was lost, and for processes that died."""
        self.deliver()
        self._engine.alerting.watch()
        check_due(self._engine)

    def _hand_over(self) -> bool:
        """Works until nothing can leave now, or the time is up; returns whether the time was up."""
        if os.getpid() != self._process_id:
            self._forget()
        if not self._busy.acquire(blocking=False):
            # Another task of this process (its pool has threads) is at it, and looks again before it ends.
            return False
        try:
            with self._engine.app.app_context():
                return self._work()
        finally:
            self._busy.release()

    def _work(self) -> bool:
        worker, side = make_worker(self._engine, watch=self._watch)
        ends_at = time.monotonic() + BUDGET_S
        timer = threading.Timer(BUDGET_S, worker.stop)
        timer.daemon = True
        timer.start()
        try:
            worker.run(once=True)
        finally:
            timer.cancel()
            side.close()
        return time.monotonic() >= ends_at
