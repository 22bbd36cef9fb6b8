"""What is wrong without a message having failed: decided from facts, by arithmetic alone.

The same judgement serves the watch (which opens and closes incidents by it), the overview and `health.json`, so that
they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..models import PRIMARY
from .alerts import CREDENTIAL, HELD, QUEUE, WORKER
from .facts import Credential, Facts

#: Days before the end of a credential at which somebody is told, and once more when it is over.
STEPS_DAYS = (60, 30, 14, 7, 3, 1, 0, -1)


def next_step(days_left: int) -> int | None:
    """At how many days before its end somebody is told next of a credential; None when nothing more is told."""
    return max((step for step in STEPS_DAYS if step < days_left), default=None)


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is told."""

    queue: timedelta
    worker: timedelta


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong now. `level` is the step that a credential has reached.

    `is_symptom`: something that is told already is the reason, so this is no news of its own.
    """

    kind: str
    code: str
    connection: str
    about: str = ""
    count: int = 0
    since: datetime | None = None
    level: int | None = None
    days_left: int | None = None
    is_symptom: bool = False


def conditions(facts: Facts, limits: Limits, *, failing: Collection[str], now: datetime) -> list[Condition]:
    """Everything that is wrong now. `failing` names the connections whose failure is an open incident."""
    found = [one for credential in facts.credentials if (one := _of_credential(credential, now))]
    oldest_at = facts.oldest_at
    total = sum(one.count for one in facts.waiting)
    is_worker_missing = (
        oldest_at is not None
        and now - oldest_at >= limits.worker
        and (facts.last_heartbeat_at is None or now - facts.last_heartbeat_at >= limits.worker)
    )
    if is_worker_missing:
        found.append(Condition(WORKER, "worker_missing", PRIMARY, count=total, since=oldest_at))
    for mail in facts.waiting:
        if mail.oldest_at is not None and now - mail.oldest_at >= limits.queue:
            symptom = is_worker_missing or mail.connection in failing
            old = Condition(QUEUE, "queue_old", mail.connection, count=mail.count, since=mail.oldest_at)
            found.append(replace(old, is_symptom=symptom))
        if mail.held_since is not None and now - mail.held_since >= limits.queue:
            found.append(Condition(HELD, "backlog_held", mail.connection, count=mail.held_count, since=mail.held_since))
    return found


def _of_credential(credential: Credential, now: datetime) -> Condition | None:
    left = credential.days_left(now)
    if left is None or left > STEPS_DAYS[0]:
        return None
    # The step is the nearest one reached: after a pause of the watch, the steps it slept through are not made up for.
    level = min(step for step in STEPS_DAYS if left <= step) if left >= 0 else STEPS_DAYS[-1]
    return Condition(
        CREDENTIAL,
        "credential_expiring" if left >= 0 else "credential_expired",
        credential.connections[0] if credential.connections else PRIMARY,
        about=credential.name,
        since=credential.ends_at,
        level=level,
        days_left=left,
    )
