"""What the simulator does wrong on request: keeps the faults that are due, and says which a request meets."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.presets import PRESETS


class Faults:
    """The faults that are due, oldest first; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._due.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._due.clear()

    def active(self) -> list[Fault]:
        """What is still to happen; `times` and `after` are what is left of them."""
        with self._lock:
            return list(self._due)

    def take(
        self,
        endpoint: str,
        *,
        mailbox: str | None = None,
        recipient: str | None = None,
        method: str | None = None,
    ) -> Fault | None:
        """The first fault that fits this request, counted down; None when it shall go well."""
        with self._lock:
            for position, fault in enumerate(self._due):
                if fault.endpoint != endpoint or not _matches(fault, mailbox, recipient, method):
                    continue
                if fault.after:
                    self._due[position] = replace(fault, after=fault.after - 1)
                    continue
                if fault.times is not None:
                    if fault.times == 1:
                        del self._due[position]
                    else:
                        self._due[position] = replace(fault, times=fault.times - 1)
                return fault
        return None

    # Helpers that read like what they do. More, by name, in `presets`.

    def preset(self, name: str, **changes: Any) -> Fault:
        """Adds one of `presets.PRESETS`; `changes` are fields of `Fault`, such as times or mailbox.

        Raises:
            ValueError: there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no preset called {name!r}")
        return self.add(replace(PRESETS[name].fault, **changes))

    def throttle(self, endpoint: str = "sendMail", *, retry_after: int | str | None = 5, **changes: Any) -> Fault:
        """429, with `retry_after` as seconds or an HTTP date, or without it when None."""
        return self.preset("graph-429", endpoint=endpoint, retry_after=retry_after, **changes)

    def refuse(self, endpoint: str, status: int, code: str = "", message: str = "", **changes: Any) -> Fault:
        """Any status, code and message at any endpoint."""
        return self.add(Fault(endpoint=endpoint, status=status, code=code, message=message, **changes))

    def lose_answer(self, endpoint: str = "sendMail", **changes: Any) -> Fault:
        """The request is obeyed, and the connection breaks before the answer."""
        return self.add(Fault(endpoint=endpoint, happens=True, drop=True, **changes))

    def lose_request(self, endpoint: str = "sendMail", **changes: Any) -> Fault:
        """The connection breaks after the request was read, and nothing is done."""
        return self.add(Fault(endpoint=endpoint, drop=True, **changes))

    def hang(self, endpoint: str, seconds: float, **changes: Any) -> Fault:
        """The ordinary answer, but late. Closing the simulator ends the wait."""
        return self.add(Fault(endpoint=endpoint, delay_s=seconds, **changes))


def _matches(fault: Fault, mailbox: str | None, recipient: str | None, method: str | None) -> bool:
    for wanted, actual in ((fault.mailbox, mailbox), (fault.recipient, recipient), (fault.method, method)):
        if wanted is not None and (actual is None or wanted.lower() != actual.lower()):
            return False
    return True
