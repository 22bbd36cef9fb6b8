"""Which workers there are, and which of them are dead. The caller commits."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import Table, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from ..models import Delivery, Slot, Worker
from . import claims
from .states import CLAIMED

workers = cast(Table, Worker.__table__)
slots = cast(Table, Slot.__table__)

_BEAT = (
    update(workers)
    .where(workers.c.id == bindparam("me"))
    .values(
        beat=workers.c.beat + 1,
        seen_at=bindparam("now", type_=workers.c.seen_at.type),
        accepted_count=workers.c.accepted_count + bindparam("accepted", type_=workers.c.accepted_count.type),
    )
)


def register(session: Session, *, version: str, now: datetime) -> str:
    """Adds this process to the workers; returns its name, which no other ever has."""
    worker_id = uuid4().hex
    session.execute(
        insert(workers).values(
            id=worker_id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            version=version,
            setups={},
            started_at=now,
            seen_at=now,
            beat=0,
            is_stopping=False,
            accepted_count=0,
        )
    )
    return worker_id


def beat(session: Session, worker_id: str, *, now: datetime, accepted: int = 0, **facts: Any) -> bool:
    """One beat of the heart; False when the others took this worker for dead, and gave its claims away.

    A worker's transaction begins with it: the statement takes the lock that makes the rest of it safe on SQLite.
    """
    statement = _BEAT.values(**facts) if facts else _BEAT
    done = session.execute(statement, {"me": worker_id, "now": now, "accepted": accepted})
    return int(cast(Any, done).rowcount) == 1


def leave(session: Session, worker_id: str) -> None:
    """Takes a worker off the list, when it has nothing under way; what it had only claimed is queued again."""
    claims.give_back(session, worker_id)
    _remove(session, worker_id)


def _remove(session: Session, worker_id: str) -> None:
    session.execute(update(slots).where(slots.c.worker_id == worker_id).values(worker_id=""))
    session.execute(delete(workers).where(workers.c.id == worker_id))


def bury(
    session: Session, worker_id: str, beat_seen: int, *, now: datetime, at_least_once: bool
) -> tuple[int, int] | None:
    """Takes a dead worker off the list and settles its claims: (queued again, unknown). None: its heart beats."""
    gone = session.execute(delete(workers).where(workers.c.id == worker_id, workers.c.beat == beat_seen))
    if int(cast(Any, gone).rowcount) != 1:
        return None
    settled = claims.bury(session, worker_id, now=now, at_least_once=at_least_once)
    _remove(session, worker_id)
    return settled


def bury_strays(session: Session, *, now: datetime, at_least_once: bool) -> tuple[int, int]:
    """Settles claims of workers that are not on the list at all."""
    claimed = (
        select(Delivery.claimed_by)
        .where(Delivery.state == CLAIMED, Delivery.claimed_until.is_(None))
        .where(Delivery.claimed_by.not_in(select(workers.c.id)))
        .distinct()
    )
    queued = unknown = 0
    for worker_id in session.scalars(claimed).all():
        one = claims.bury(session, worker_id, now=now, at_least_once=at_least_once)
        session.execute(update(slots).where(slots.c.worker_id == worker_id).values(worker_id=""))
        queued, unknown = queued + one[0], unknown + one[1]
    return queued, unknown


def beats(session: Session) -> Mapping[str, int]:
    """How often each worker's heart has beaten."""
    rows = session.execute(select(workers.c.id, workers.c.beat)).all()
    return {str(row.id): int(row.beat) for row in rows}


def listed(session: Session) -> Sequence[Worker]:
    """All workers on the list, the oldest first."""
    return session.scalars(select(Worker).order_by(Worker.started_at)).all()


class Watch:
    """Tells which workers are dead: those whose heart has not beaten for `lease_s` seconds of our own watching.

    `clock` is monotonic, in seconds. What the clocks on the wall say, here or elsewhere, does not matter.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}

    def dead(self, beats: Mapping[str, int], clock: float) -> dict[str, int]:
        """Of the workers with these beats, those that are dead: name → last beat."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in beats}
        found = {}
        for name, beat in beats.items():
            before, since = self._seen.get(name, (None, clock))
            if before != beat:
                self._seen[name] = (beat, clock)
            elif clock - since >= self._lease_s:
                found[name] = beat
        return found
