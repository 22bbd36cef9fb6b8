"""What all workers share about a connection: its places, its pauses, its rate. The caller commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from ..models import Lane, Slot
from .roster import slots
from .upsert import insert_unless_there

lanes = cast(Table, Lane.__table__)


@dataclass(frozen=True, slots=True)
class LaneState:
    """How a connection is, as last read."""

    paused_at: datetime | None = None
    paused_until: datetime | None = None
    fault_count: int = 0
    code: str = ""
    stamp: str = ""

    def is_paused(self, now: datetime) -> bool:
        if self.paused_at is None or self.paused_until is None:
            return False
        # A pause that begins in the future was written before the clock was set back: it would last too long.
        return self.paused_at - timedelta(seconds=60) <= now < self.paused_until

    def pause_left_s(self, now: datetime) -> float:
        """For how many seconds it still pauses."""
        return (self.paused_until - now).total_seconds() if self.is_paused(now) and self.paused_until else 0.0

    def is_probing(self, faults: int) -> bool:
        """Whether it has failed so often that one message at a time is tried."""
        return self.fault_count >= faults


def read(session: Session) -> Mapping[str, LaneState]:
    """All connections that anything is known of."""
    found = {}
    for row in session.execute(select(lanes)):
        found[row.connection] = LaneState(row.paused_at, row.paused_until, row.fault_count, row.code, row.stamp)
    return found


def ensure(session: Session, connection: str, *, slot_count: int) -> None:
    """Makes the rows of a connection that are missing."""
    known = session.scalar(select(lanes.c.connection).where(lanes.c.connection == connection))
    if known is None:
        row = {"connection": connection, "code": "", "reason": "", "fault_count": 0, "stamp": "", "allowance": 0.0}
        insert_unless_there(session, lanes, row, key=("connection",))
    there = set(session.scalars(select(slots.c.number).where(slots.c.connection == connection)))
    for number in sorted(set(range(slot_count)) - there):
        row = {"connection": connection, "number": number, "worker_id": ""}
        insert_unless_there(session, slots, row, key=("connection", "number"))


def pause(
    session: Session,
    connection: str,
    *,
    now: datetime,
    pause_s: float,
    fault_count: int,
    code: str,
    reason: str,
    stamp: str,
    probed_until: datetime | None = None,
) -> None:
    """Lets no worker begin anything on a connection for `pause_s` seconds; a longer pause already set stands.

    Except that of the caller's own probe (`probed_until`, what `take_probe` gave), which is over with its outcome.
    """
    until = now + timedelta(seconds=pause_s)
    state = session.execute(select(lanes).where(lanes.c.connection == connection).with_for_update()).first()
    values: dict[str, Any] = {"fault_count": fault_count, "code": code[:64], "reason": reason[:500], "stamp": stamp}
    known = LaneState(state.paused_at, state.paused_until) if state is not None else LaneState()
    stands = (
        known.is_paused(now) and known.paused_until not in (None, probed_until) and known.pause_left_s(now) > pause_s
    )
    if pause_s and not stands:
        values |= {"paused_at": now, "paused_until": until}
    session.execute(update(lanes).where(lanes.c.connection == connection).values(**values))


def clear(session: Session, connection: str, *, stamp: str = "") -> None:
    """Forgets faults and pauses: a message has passed, or the setup is another."""
    session.execute(
        update(lanes)
        .where(lanes.c.connection == connection)
        .values(paused_at=None, paused_until=None, fault_count=0, code="", reason="", stamp=stamp)
    )


def take_probe(session: Session, connection: str, *, now: datetime, hold_s: float) -> datetime | None:
    """Until when the others wait, if this worker is the one to try a failing connection again; else None."""
    state = session.execute(select(lanes).where(lanes.c.connection == connection).with_for_update()).first()
    if state is None or LaneState(state.paused_at, state.paused_until).is_paused(now):
        return None
    until = now + timedelta(seconds=hold_s)
    session.execute(update(lanes).where(lanes.c.connection == connection).values(paused_at=now, paused_until=until))
    return until


def allow(session: Session, connection: str, *, per_minute: int, wanted: int, now: datetime) -> int:
    """How many of `wanted` messages the rate limit lets through now, for all workers together."""
    state = session.execute(select(lanes).where(lanes.c.connection == connection).with_for_update()).first()
    if state is None:
        return 0
    # Ten seconds' worth may leave at once; never less than one message, or nothing would ever leave.
    most = max(1.0, per_minute / 6.0)
    elapsed_s = (now - state.allowance_at).total_seconds() if state.allowance_at is not None else 60.0
    # A clock that was set back adds nothing, and takes nothing away.
    left = min(most, state.allowance + max(0.0, elapsed_s) * per_minute / 60.0)
    granted = min(wanted, int(left))
    session.execute(
        update(lanes).where(lanes.c.connection == connection).values(allowance=left - granted, allowance_at=now)
    )
    return granted


def take_slots(session: Session, connection: str, worker_id: str, *, wanted: int, slot_count: int) -> set[int]:
    """Up to `wanted` further places on a connection, of the `slot_count` that its server allows."""
    free = session.scalars(
        select(Slot.number)
        .where(Slot.connection == connection, Slot.worker_id == "", Slot.number < slot_count)
        .order_by(Slot.number)
    ).all()
    taken: set[int] = set()
    for number in free:
        if len(taken) == wanted:
            break
        won = session.execute(
            update(slots)
            .where(slots.c.connection == connection, slots.c.number == number, slots.c.worker_id == "")
            .values(worker_id=worker_id)
        )
        if int(cast(Any, won).rowcount) == 1:
            taken.add(number)
    return taken


def free_slots(session: Session, connection: str, worker_id: str, numbers: Sequence[int]) -> None:
    """Gives places back."""
    if numbers:
        session.execute(
            update(slots)
            .where(slots.c.connection == connection, slots.c.number.in_(numbers), slots.c.worker_id == worker_id)
            .values(worker_id="")
        )
