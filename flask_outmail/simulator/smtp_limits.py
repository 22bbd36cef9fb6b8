"""What the SMTP ports count per mailbox."""

from __future__ import annotations

import threading
from collections import Counter

from flask_outmail.simulator.state import State


class SmtpLimits:
    """Counts per mailbox, over both ports: open connections, and refused senders."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._connections: Counter[str] = Counter()
        self._denials: Counter[str] = Counter()

    def enter(self, mailbox: str) -> bool:
        """Counts a connection in, unless the mailbox has its three already."""
        with self._lock:
            if self._connections[mailbox] >= self._state.behaviour.smtp_connection_limit:
                return False
            self._connections[mailbox] += 1
            return True

    def leave(self, mailbox: str) -> None:
        with self._lock:
            self._connections[mailbox] -= 1

    def deny(self, mailbox: str) -> None:
        with self._lock:
            self._denials[mailbox] += 1

    def blocked(self, mailbox: str) -> bool:
        with self._lock:
            return self._denials[mailbox] >= self._state.behaviour.send_as_denials

    def forgive(self) -> None:
        with self._lock:
            self._denials.clear()
