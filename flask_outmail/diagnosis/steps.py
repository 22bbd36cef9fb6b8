"""Proving a setup: an ordered list of checks, each of which says what it saw or raises what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from ..errors import OutmailError
from .remedies import Remedy, remedy_for

#: Is told what is said: ("client" or "server", line), free of secrets.
Observer = Callable[[str, str], None]
State = Literal["passed", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check saw, in a short sentence. With a `warning` the check did not settle the matter."""

    text: str = ""
    warning: Remedy | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to prove. `run` raises an `OutmailError` when it is not so; it may touch the network."""

    key: str
    title: str
    run: Callable[[], Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What came of one check. `elapsed_s` in seconds; `remedy` is set on failures and warnings."""

    key: str
    title: str
    state: State
    seen: str = ""
    elapsed_s: float = 0.0
    code: str = ""
    detail: str = ""
    request_id: str = ""
    remedy: Remedy | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for the record of a proof. Holds no secret, because no error does."""
        remedy = self.remedy
        return {
            "key": self.key,
            "title": self.title,
            "state": self.state,
            "seen": self.seen,
            "elapsed_s": round(self.elapsed_s, 3),
            "code": self.code,
            "detail": self.detail,
            "request_id": self.request_id,
            "remedy": remedy
            and {
                "code": remedy.code,
                "title": remedy.title,
                "meaning": remedy.meaning,
                "steps": list(remedy.steps),
                "who": remedy.who,
            },
        }


def run(checks: Sequence[Check]) -> Iterator[Step]:
    """Runs the checks in order and yields each step as it ends. After a failure the rest is skipped, not guessed."""
    failed = False
    for check in checks:
        if failed:
            yield Step(key=check.key, title=check.title, state="skipped")
            continue
        step = _one(check)
        failed = step.state == "failed"
        yield step


def _one(check: Check) -> Step:
    started = monotonic()
    try:
        seen = check.run()
    except OutmailError as exc:
        return Step(
            key=check.key,
            title=check.title,
            state="failed",
            seen=str(exc),
            elapsed_s=monotonic() - started,
            code=exc.code,
            detail=exc.detail,
            request_id=getattr(exc, "request_id", ""),
            remedy=remedy_for(exc),
        )
    return Step(
        key=check.key,
        title=check.title,
        state="warning" if seen.warning else "passed",
        seen=seen.text,
        elapsed_s=monotonic() - started,
        code=seen.warning.code if seen.warning else "",
        remedy=seen.warning,
    )


def passed(steps: Sequence[Step]) -> bool:
    """Whether nothing failed. Warnings do not count: they say what could not be settled, not that it is wrong."""
    return bool(steps) and all(step.state in ("passed", "warning") for step in steps)
