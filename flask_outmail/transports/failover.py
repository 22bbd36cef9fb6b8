"""A transport made of transports: the second is tried when it is certain that nothing left by the first.

It moves on for a fault of the connection only. A message that may have left stays unknown, one that was refused was
refused for itself, and a server that asks to wait is waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..envelope import Envelope, Receipt
from ..errors import DeliveryError, OutmailError, TransportUnavailable
from ..message import Address
from .base import Transport

#: Shortest and longest pause of a way that failed, in seconds; doubled with each fault.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0
#: How long one that tries a failing way again keeps the others from doing the same.
PROBE_S = 60.0


@dataclass(frozen=True)
class Way:
    """One connection that a message may take: its name, and who a message is from that names nobody."""

    name: str
    transport: Transport
    sender: str = ""
    mailbox: str = ""


class Board:
    """How the connections of a process are doing: closed (in use), open (passed by), or half open (one tries it).

    Shared by the threads of the process; workers carry what it says into the database, and back. `clock` is
    monotonic, in seconds.
    """

    def __init__(self, faults: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, float]] = {}
        self._news: list[tuple[str, OutmailError | None]] = []
        #: Whether somebody collects the news; otherwise none is kept.
        self.collects = False

    def is_open(self, name: str) -> bool:
        """Whether a connection is passed by at this moment."""
        with self._lock:
            count, until = self._known.get(name, (0, 0.0))
            return count >= self._faults and self._clock() < until

    def may_try(self, name: str) -> bool:
        """Whether to try a connection now. Of several that ask when its pause is over, one is let through."""
        with self._lock:
            count, until = self._known.get(name, (0, 0.0))
            if count < self._faults:
                return True
            if self._clock() < until:
                return False
            self._known[name] = (count, self._clock() + PROBE_S)
            return True

    def failed(self, name: str, error: OutmailError) -> None:
        with self._lock:
            count = self._known.get(name, (0, 0.0))[0] + 1
            if not getattr(error, "retryable", False):
                # Trying again cannot help until a person has mended it.
                count = max(count, self._faults)
            over = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(max(0, count - self._faults), 10))
            self._known[name] = (count, self._clock() + over)
            if self.collects:
                self._news.append((name, error))

    def passed(self, name: str) -> None:
        with self._lock:
            known = self._known.pop(name, None)
            if self.collects and known is not None:
                self._news.append((name, None))

    def load(self, name: str, fault_count: int, pause_s: float) -> None:
        """What others know of a connection: its faults in a row, and for how many seconds it still pauses."""
        with self._lock:
            if fault_count:
                self._known[name] = (fault_count, self._clock() + pause_s)
            else:
                self._known.pop(name, None)

    def news(self) -> list[tuple[str, OutmailError | None]]:
        """What happened since the last call: a fault, or None for a message that passed after faults."""
        with self._lock:
            news, self._news = self._news, []
        return news


class Failover:
    """Tries its ways in order. Its name is the first one's, and it takes as many messages at a time as all of them do.

    `fills_sender` tells callers to leave From out of a message that names no sender: each way has its own.
    """

    fills_sender = True

    def __init__(self, ways: Sequence[Way], board: Board) -> None:
        self.ways = tuple(ways)
        self._board = board
        self.name = self.ways[0].transport.name
        self.concurrency = min(int(getattr(way.transport, "concurrency", 1)) for way in self.ways)
        if all(callable(getattr(way.transport, "check", None)) for way in self.ways):
            self.check = self._check

    def deliver(self, envelope: Envelope) -> Receipt:
        """As a transport's; the receipt names the connection that was used, and what failed before in `tried`.

        Raises:
            TransportUnavailable: every way is passed by at this moment; nothing left.
            DeliveryError: what the first way said, when none took the message.
        """
        tried: list[tuple[str, OutmailError]] = []
        for way in self.ways:
            if not self._board.may_try(way.name):
                continue
            try:
                # A copy for each way: what one adds, the next must not find.
                mine = envelope.sent_from(Address.parse(way.sender), way.mailbox)
                receipt = way.transport.deliver(mine)
            except OutmailError as exc:
                if not _nothing_left(exc):
                    if not isinstance(exc, DeliveryError) or exc.fault == "message":
                        # The server was reached and spoke about this message: the way itself is well.
                        self._board.passed(way.name)
                    raise
                self._board.failed(way.name, exc)
                tried.append((way.name, exc))
                continue
            self._board.passed(way.name)
            return replace(receipt, connection=way.name, tried=tuple(tried))
        if tried:
            raise tried[0][1]
        raise TransportUnavailable(
            "every connection failed a moment ago, and pauses", code="connections_pause", transport=self.name
        )

    def is_possible(self) -> bool:
        """Whether any way would be tried now."""
        return any(not self._board.is_open(way.name) for way in self.ways)

    def close(self) -> None:
        for way in self.ways:
            way.transport.close()

    def _check(self, message_id: str) -> bool | None:
        answers: list[Any] = [way.transport.check(message_id) for way in self.ways]  # type: ignore[attr-defined]
        if any(answers):
            return True
        return None if None in answers else False


def _nothing_left(error: OutmailError) -> bool:
    """Whether it is certain that nothing left, and the next message would fail in the same way."""
    return isinstance(error, DeliveryError) and error.fault == "connection"
