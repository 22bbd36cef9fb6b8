"""How much mail waited over the last day: one small row for each half hour, written by whoever watches.

It cannot be had from the log afterwards: a message that was tried again, or has been pruned, no longer says when it
waited. So the most that was seen to wait is kept, and a half hour in which nobody looked is known as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.orm import Session

from ..models import Backlog, Delivery
from .states import CLAIMED, HELD, QUEUED, WAITING
from .upsert import insert_unless_there

#: What one row stands for, and how many of them are looked at.
SLOT = timedelta(minutes=30)
SLOTS = 48

_rows = cast(Table, Backlog.__table__)
_ALL = _rows.c.ready + _rows.c.later + _rows.c.held


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages wait: ready to leave or leaving, for a later try, until the setup is verified."""

    ready: int = 0
    later: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        return self.ready + self.later + self.held


@dataclass(frozen=True, slots=True)
class Slot:
    """The most that was seen to wait in the half hour from `start` (UTC); None: nobody looked."""

    start: datetime
    most: Depth | None


def depth(session: Session) -> Depth:
    """How many wait now. Reads an index."""
    waiting = Delivery.state.in_((QUEUED, CLAIMED, WAITING, HELD))
    found = session.execute(select(Delivery.state, func.count()).where(waiting).group_by(Delivery.state)).all()
    counts = {str(row[0]): int(row[1]) for row in found}
    return Depth(counts.get(QUEUED, 0) + counts.get(CLAIMED, 0), counts.get(WAITING, 0), counts.get(HELD, 0))


def note(session: Session, *, now: datetime) -> None:
    """Keeps what waits now, if that is the most of this half hour, and drops what is too old to be shown. Commits."""
    start, seen = slot_of(now), depth(session)
    values = {"ready": seen.ready, "later": seen.later, "held": seen.held}
    # Looked for first: most looks end here, without a write.
    known = session.scalar(select(_ALL).where(_rows.c.start == start))
    if known is None:
        insert_unless_there(session, _rows, {"start": start, **values}, key=("start",))
        session.execute(delete(_rows).where(_rows.c.start < start - SLOTS * SLOT))
    if known is None or seen.total > known:
        session.execute(update(_rows).where(_rows.c.start == start, seen.total > _ALL).values(**values))
        session.commit()


def last_day(session: Session, *, now: datetime) -> Sequence[Slot]:
    """The half hours of the last day, the present one included, the oldest first. Reads the database."""
    present = slot_of(now)
    rows = session.scalars(select(Backlog).where(Backlog.start > present - SLOTS * SLOT))
    found = {row.start: Depth(row.ready, row.later, row.held) for row in rows}
    # Whoever asks is looking, too.
    found[present] = max(depth(session), found.get(present, Depth()), key=lambda one: one.total)
    starts = [present - number * SLOT for number in reversed(range(SLOTS))]
    return [Slot(start, found.get(start)) for start in starts]


def slot_of(moment: datetime) -> datetime:
    """Where the half hour of a moment begins."""
    return moment.replace(minute=moment.minute // 30 * 30, second=0, microsecond=0)
