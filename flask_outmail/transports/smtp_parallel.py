"""Several connections for one bulk of messages: the caller's thread gives and gets, others send."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from ..envelope import Receipt
from ..errors import DeliveryUnknown, OutmailError
from .smtp_jobs import Job, Lost, Take

#: Messages asked for ahead of the outcomes, for each connection.
_AHEAD = 4
#: Longest sleep between two looks round; whoever has news says so at once.
_LOOK_S = 1.0

#: What a worker does: sends what `take` gives and yields the outcomes. It does with what is free, and gives a message
#: back as `Lost` when nothing is; only one that is alone may wait for a connection, and have its refusal stand.
Work = Callable[[Take, bool], Iterator[tuple[Job, Receipt | OutmailError | Lost]]]


def spread(next_job: Callable[[], Job | None], work: Work, *, workers: int) -> Iterator[Receipt | OutmailError]:
    """The outcomes of all jobs, in order. `next_job` is called in the caller's thread only, a few jobs ahead."""
    crew = _Crew(work, workers)
    order: deque[Job] = deque()
    ended = False
    try:
        while True:
            while not ended and len(order) < workers * _AHEAD:
                job = next_job()
                if job is None:
                    ended = True
                    crew.no_more()
                else:
                    order.append(job)
                    crew.add(job)
            if not order:
                return
            yield crew.outcome(order.popleft())
    finally:
        crew.dismiss()


class _Crew:
    def __init__(self, work: Work, workers: int) -> None:
        self._work = work
        self._workers = workers
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._closing = False
        self._hungry = 0
        self._threads: list[threading.Thread] = []
        self._at_work = 0

    def add(self, job: Job) -> None:
        with self._changed:
            self._queue.append(job)
            if self._hungry < len(self._queue) and len(self._threads) < self._workers:
                self._start()
            self._changed.notify()

    def no_more(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def outcome(self, job: Job) -> Receipt | OutmailError:
        """Waits for the outcome of `job`. Every step of a worker has its time-out, so this ends."""
        with self._changed:
            while job.outcome is None:
                if not self._at_work:
                    self._start(waits=True)  # all gave up for want of a connection
                self._changed.wait(_LOOK_S)
        return job.outcome

    def dismiss(self) -> None:
        """Lets the workers finish what has left, and no more."""
        with self._changed:
            self._queue.clear()
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()  # ends: every wait for the server has the timeout of its phase

    def _start(self, *, waits: bool = False) -> None:
        thread = threading.Thread(target=self._run, args=(waits,), name="outmail-smtp", daemon=True)
        thread.start()
        self._threads.append(thread)
        self._at_work += 1

    def _run(self, waits: bool) -> None:
        mine: dict[int, Job] = {}

        def take(wait: bool) -> Job | None:
            with self._changed:
                self._hungry += 1
                while wait and not self._queue and not self._closing:
                    self._changed.wait(_LOOK_S)
                self._hungry -= 1
                if not self._queue:
                    return None
                job = self._queue.popleft()
                mine[id(job)] = job
                return job

        try:
            for job, outcome in self._work(take, waits):
                with self._changed:
                    del mine[id(job)]
                    if isinstance(outcome, Lost):
                        self._queue.appendleft(job)
                    self._changed.notify_all()
        finally:
            with self._changed:
                for job in mine.values():
                    if job.outcome is None:
                        job.outcome = DeliveryUnknown("the sending thread failed", code="transport_fault")
                self._at_work -= 1
                self._changed.notify_all()
