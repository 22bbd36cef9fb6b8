"""The way to one mailbox: how many requests are under way at a time, and whether Graph has asked for a pause.

Exchange counts for each application and mailbox: 4 requests at a time, 10,000 in 10 minutes, and a pause after a 429
during which every further request counts against the caller (Graph: throttling, throttling-limits). So all transports
of this process that use one mailbox share one lane, the old and the new revision of a setup too.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from weakref import WeakValueDictionary

from ..errors import Throttled

MAX_CONCURRENT_REQUESTS = 4
#: A little below Exchange's 10,000: other programs may use the mailbox with the same application.
MAX_REQUESTS, WINDOW_S = 9_900, 600.0
#: A hint beyond this is a mistake of the server's (an hour is already longer than any pause seen).
MAX_PAUSE_S = 3600.0
#: First pause after a 429 that names none; doubled for each 429 in a row, as the hint is sometimes stuck at 1 second.
FIRST_PAUSE_S, MAX_OWN_PAUSE_S = 1.0, 60.0
_BUCKET_S = 5.0


class Lane:
    """At most four places, and nobody moves during a pause. Safe to use from several threads.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """As new: for a forked child, which has none of its parent's threads, and for tests."""
        self._changed = threading.Condition()
        self._under_way = 0
        self._paused_until = 0.0
        self._refusals = 0
        self._asked: deque[tuple[float, int]] = deque()

    @contextmanager
    def turn(self, *, timeout_s: float, patience_s: float, urgent: bool = False) -> Iterator[None]:
        """A place for one request, given back at the end.

        Waits up to `timeout_s` for a place. A pause that lasts longer than `patience_s` is not waited for. `urgent`
        ignores pauses: for tidying up, which cannot be put off.

        Raises:
            Throttled: no place in time, or a pause; `retry_after_s` says how long it lasts. Nothing was asked.
        """
        begun = self._clock()
        deadline = begun + timeout_s
        with self._changed:
            while True:
                now = self._clock()
                pause_s, code = (0.0, "") if urgent else self._pause(now)
                if now + pause_s > begun + patience_s and pause_s > 0:
                    # Rounded up: whoever comes back after exactly so long must not be early.
                    raise Throttled(
                        "Graph asked for a pause that is not over yet",
                        code=code,
                        retry_after_s=math.ceil(pause_s * 1000) / 1000,
                    )
                if pause_s > 0:
                    self._changed.wait(pause_s)
                    # The wait for a place begins when there are places again.
                    deadline = self._clock() + timeout_s
                elif self._under_way < MAX_CONCURRENT_REQUESTS:
                    break
                elif now >= deadline:
                    raise Throttled("too many messages are under way to Graph", code="too_many_at_once")
                else:
                    self._changed.wait(deadline - now)
            self._under_way += 1
            self._count(now)
        # Taken with it, because a fork in between puts another one into its place.
        changed = self._changed
        try:
            yield
        finally:
            with changed:
                if changed is self._changed:
                    self._under_way -= 1
                changed.notify_all()

    def answered(self, status: int, retry_after_s: float | None) -> None:
        """What one request was answered: a 429, or a fault with a hint, makes everybody wait."""
        with self._changed:
            now = self._clock()
            if status != 429:
                self._refusals = 0
                # Beside a success the hint means nothing (it has been seen next to a 202).
                pause_s = (retry_after_s or 0.0) if status >= 500 else 0.0
            elif now < self._paused_until:
                # Under way when the pause began: one refusal seen several times.
                pause_s = retry_after_s or 0.0
            else:
                own_s = min(FIRST_PAUSE_S * 2**self._refusals, MAX_OWN_PAUSE_S)
                self._refusals = min(self._refusals + 1, 10)
                pause_s = max(retry_after_s or 0.0, own_s)
            self._paused_until = max(self._paused_until, now + min(pause_s, MAX_PAUSE_S))

    def _pause(self, now: float) -> tuple[float, str]:
        asked_s = self._paused_until - now
        while self._asked and self._asked[0][0] <= now - WINDOW_S:
            self._asked.popleft()
        if sum(count for _, count in self._asked) < MAX_REQUESTS:
            return asked_s, "paused_by_server"
        quota_s = self._asked[0][0] + WINDOW_S - now
        return (quota_s, "requests_used_up") if quota_s > asked_s else (asked_s, "paused_by_server")

    def _count(self, now: float) -> None:
        # In steps of some seconds, each at its end: a few numbers instead of ten thousand, and never too early.
        ends = (now // _BUCKET_S + 1) * _BUCKET_S
        count = self._asked.pop()[1] if self._asked and self._asked[-1][0] == ends else 0
        self._asked.append((ends, count + 1))


_lanes: WeakValueDictionary[tuple[str, str, str], Lane] = WeakValueDictionary()
_guard = threading.Lock()


def lane(graph: str, app: str, mailbox: str) -> Lane:
    """The one lane of this process for an application and a mailbox of a cloud; it lives as long as it is used."""
    key = (graph, app.lower(), mailbox.lower())
    with _guard:
        found = _lanes.get(key)
        if found is None:
            _lanes[key] = found = Lane()
        return found


def forget_pauses() -> None:
    """Every lane as new. For tests, in which another server stands at the same address."""
    with _guard:
        for one in list(_lanes.values()):
            one.reset()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()
    for one in list(_lanes.values()):
        one.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
