"""When a connection is to be tried although nobody asks, and by which process: the first. The caller commits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from . import lanes
from .lanes import lanes as _lanes

#: How long one process may be at a check before another may begin it anew: it may have died.
CLAIM = timedelta(minutes=10)
#: After a fault that may pass by itself, or may have passed: soon again, so that its end is noticed as well.
AGAIN = timedelta(minutes=5)


def claim(session: Session, connection: str, *, now: datetime, every: timedelta) -> bool:
    """Whether the check of a connection is due, and this process the one to do it."""
    mine = (_lanes.c.connection == connection, _is_due(now, every))
    lanes.ensure(session, connection, slot_count=0)
    # Looked for first: most calls end here, without a write.
    if session.scalar(select(_lanes.c.connection).where(*mine)) is None:
        return False
    won = session.execute(update(_lanes).where(*mine).values(check_due_at=now + CLAIM))
    return int(cast(Any, won).rowcount) == 1


def put_off(session: Session, connection: str, until: datetime) -> None:
    """Names the moment of the next check."""
    session.execute(update(_lanes).where(_lanes.c.connection == connection).values(check_due_at=until))


def sooner(session: Session, connection: str, *, now: datetime) -> None:
    """Brings the next check forward."""
    later = (_lanes.c.connection == connection, _lanes.c.check_due_at > now + AGAIN)
    # Looked for first, as above: this is asked with each message.
    if session.scalar(select(_lanes.c.connection).where(*later)) is not None:
        session.execute(update(_lanes).where(*later).values(check_due_at=now + AGAIN))


def _is_due(now: datetime, every: timedelta) -> ColumnElement[bool]:
    due = _lanes.c.check_due_at
    # One that is too far away was written before a clock was set back, or for longer pauses than now.
    return or_(due.is_(None), due <= now, due > now + max(every, CLAIM))
