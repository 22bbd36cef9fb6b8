"""What became of the messages of the last hours, in numbers. Reads the database, by its indexes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.orm import Session

from ..models import Delivery
from . import states

ACCEPTED, REFUSED, UNKNOWN, UNDER_WAY, ASIDE = "accepted", "not accepted", "unknown", "under way", "not handed over"
#: What a person wants to tell apart, and which states that is.
OUTCOMES: Mapping[str, frozenset[str]] = {
    ACCEPTED: frozenset({states.ACCEPTED}),
    UNDER_WAY: frozenset({states.QUEUED, states.CLAIMED, states.WAITING, states.HELD}),
    UNKNOWN: frozenset({states.UNKNOWN}),
    REFUSED: frozenset({states.REFUSED, states.FAILED}),
    ASIDE: frozenset({states.SUPPRESSED, states.CANCELLED}),
}
_OUTCOME_OF = {state: outcome for outcome, members in OUTCOMES.items() for state in members}
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Hour:
    """The messages handed in within one hour (UTC), counted by what has become of them by now."""

    start: datetime
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def last_hours(session: Session, *, now: datetime, hours: int = 24) -> list[Hour]:
    """The last full hours and the present one, the oldest first."""
    first = now.replace(minute=0, second=0, microsecond=0) - (hours - 1) * HOUR
    starts = [first + number * HOUR for number in range(hours)]
    each = [
        select(literal(number).label("hour"), Delivery.state, func.count())
        .where(
            Delivery.state.in_(states.STATES),
            Delivery.created_at >= start,
            # What is dated later, by a clock that goes ahead, belongs to the present hour.
            *([Delivery.created_at < start + HOUR] if number < hours - 1 else []),
        )
        .group_by(Delivery.state)
        for number, start in enumerate(starts)
    ]
    counts: list[dict[str, int]] = [dict.fromkeys(OUTCOMES, 0) for _ in starts]
    for number, state, count in session.execute(union_all(*each)):
        counts[number][_OUTCOME_OF[state]] += count
    return [Hour(start, count) for start, count in zip(starts, counts, strict=True)]


def causes(session: Session, *, since: datetime, limit: int = 5) -> Sequence[tuple[str, int]]:
    """Why messages handed in since then were not accepted, or not yet: code and count, the most frequent first."""
    troubled = (states.REFUSED, states.FAILED, states.UNKNOWN, states.WAITING)
    count = func.count().label("count")
    rows = session.execute(
        select(Delivery.code, count)
        .where(Delivery.state.in_(troubled), Delivery.created_at >= since, Delivery.code != "")
        .group_by(Delivery.code)
        .order_by(count.desc(), Delivery.code)
        .limit(limit)
    )
    return [(str(code), int(found)) for code, found in rows]


def last_accepted_at(session: Session) -> datetime | None:
    """When the newest message that was accepted was accepted."""
    newest = select(Delivery.updated_at).where(Delivery.state == states.ACCEPTED).order_by(Delivery.id.desc()).limit(1)
    return session.scalar(newest)


def next_try_at(session: Session) -> datetime | None:
    """When the next of the waiting messages is due."""
    return session.scalar(select(func.min(Delivery.due_at)).where(Delivery.state == states.WAITING))
