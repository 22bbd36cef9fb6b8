"""A transport that remembers instead of sending: for tests, and for applications that suppress mail."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

from ..envelope import Envelope, Receipt


class MemoryTransport:
    """Accepts every message and keeps the newest of them in `envelopes`, oldest first."""

    def __init__(self, *, name: str = "memory", keep: int = 1000) -> None:
        self.name = name
        self._keep = keep
        self._lock = threading.Lock()
        self._envelopes: list[Envelope] = []

    @property
    def envelopes(self) -> list[Envelope]:
        with self._lock:
            return list(self._envelopes)

    def deliver(self, envelope: Envelope) -> Receipt:
        with self._lock:
            self._envelopes.append(envelope)
            # A process that suppresses mail for weeks must not fill its memory with it.
            del self._envelopes[: -self._keep]
        return Receipt(
            accepted=True,
            transport=self.name,
            message_id=envelope.message_id,
            accepted_at=datetime.now(timezone.utc),
        )

    def close(self) -> None:
        """Nothing to give back; what was remembered stays readable."""
