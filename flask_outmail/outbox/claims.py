"""Who is busy with which delivery: every statement with which a worker, or another process, takes part.

A claim is for one process at a time. `begin` is committed right before a message is given to a transport and
`finish` after it, so that a process that dies in between leaves behind exactly the messages that may have left.

All functions leave the commit to the caller, and a transaction should begin with a statement that writes (a worker's
`workers.beat`): SQLite then gives it the lock at once, and no other process can come between a look and a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, and_, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from ..models import Attempt, Delivery, utc_now
from .states import BEGUN, CLAIMED, FAILED, HELD, QUEUED, UNKNOWN, WAITING

deliveries = cast(Table, Delivery.__table__)
attempts = cast(Table, Attempt.__table__)

#: How many rows one sweep changes at most, so that no transaction is long.
SWEEP = 500
#: The code of a message that was under way when its process died.
PROCESS_DIED = "process_died"
DIED = "the process that was handing it over ended, or could not record what came of it"

# The statements of every message, made once: making them anew would cost more than executing them.
_IDS: Any = bindparam("ids", expanding=True)
_MINE = (
    select(
        deliveries.c.id,
        deliveries.c.uid,
        deliveries.c.connection,
        deliveries.c.attempt_count,
        deliveries.c.recipients,
        deliveries.c.queued_at,
        deliveries.c.created_at,
        deliveries.c.not_after_at,
        deliveries.c.content_sealed,
    )
    .where(deliveries.c.id.in_(_IDS), deliveries.c.state == CLAIMED, deliveries.c.claimed_by == bindparam("by"))
    .where(deliveries.c.begun_at.is_(None))
    .with_for_update()
)
_BEGIN = (
    update(deliveries)
    .where(deliveries.c.id.in_(_IDS))
    .values(
        begun_at=bindparam("now", type_=deliveries.c.begun_at.type),
        attempt_count=deliveries.c.attempt_count + 1,
        updated_at=bindparam("now", type_=deliveries.c.begun_at.type),
    )
)


@dataclass(frozen=True, slots=True)
class Begun:
    """One attempt that is under way: what the transport needs, still sealed, and what the policy needs."""

    id: int
    uid: str
    number: int
    connection: str
    sealed: bytes
    recipients: tuple[str, ...]
    queued_at: datetime
    not_after_at: datetime | None


def promote(session: Session, *, now: datetime) -> int:
    """Queues what was waiting for a moment that has come; returns how many."""
    due = select(deliveries.c.id).where(deliveries.c.state == WAITING, deliveries.c.due_at <= now)
    ids = session.scalars(due.order_by(deliveries.c.due_at).limit(SWEEP)).all()
    return _move(session, ids, WAITING, QUEUED, due_at=None)


def expire(session: Session, *, now: datetime) -> int:
    """Fails what may not leave any more; returns how many."""
    found = (
        select(deliveries.c.id)
        .where(deliveries.c.state.in_((QUEUED, WAITING, HELD)), deliveries.c.not_after_at < now)
        .limit(SWEEP)
    )
    ids = session.scalars(found).all()
    values = {"code": "expired", "reason": "it could not leave before the moment it may not leave after"}
    return sum(_move(session, ids, state, FAILED, due_at=None, **values) for state in (QUEUED, WAITING, HELD))


def hold(session: Session, connection: str) -> int:
    """Holds what is queued for a connection whose setup is not verified; returns how many."""
    ids = session.scalars(next_queued(connection, SWEEP)).all()
    return _move(session, ids, QUEUED, HELD)


def release(session: Session, connection: str, *, limit: int, now: datetime) -> int:
    """Queues up to `limit` held messages of a connection, oldest first; returns how many."""
    held = select(deliveries.c.id).where(deliveries.c.state == HELD, deliveries.c.connection == connection)
    ids = session.scalars(held.order_by(deliveries.c.turn, deliveries.c.id).limit(limit)).all()
    return _move(session, ids, HELD, QUEUED, queued_at=now)


def _move(session: Session, ids: Sequence[int], before: str, after: str, **values: Any) -> int:
    if not ids:
        return 0
    moved = session.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(ids), deliveries.c.state == before)
        .values(state=after, updated_at=utc_now(), **values)
    )
    return _count(moved)


def next_queued(connection: str, limit: int) -> Any:
    """The query for what leaves next on a connection: one short range of an index."""
    return (
        select(deliveries.c.id)
        .where(deliveries.c.state == QUEUED, deliveries.c.connection == connection)
        .order_by(deliveries.c.turn, deliveries.c.id)
        .limit(limit)
    )


def is_queued(session: Session, connection: str) -> bool:
    """Whether a message of this connection could leave now."""
    return session.scalars(next_queued(connection, 1)).first() is not None


def claim(
    session: Session, by: str, connection: str, *, limit: int, now: datetime, until: datetime | None = None
) -> list[int]:
    """Up to `limit` queued messages of a connection that now belong to `by`, in the order in which they leave.

    Without `until` the claim lasts as long as the worker `by` lives; with it, until that moment.
    """
    ids = session.scalars(next_queued(connection, limit).with_for_update(skip_locked=True)).all()
    if not ids:
        return []
    won = session.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(ids), deliveries.c.state == QUEUED)
        .values(state=CLAIMED, claimed_by=by, claimed_until=until, begun_at=None, due_at=None, updated_at=now)
    )
    if _count(won) == len(ids):
        return list(ids)
    # Without row locks another was quicker with some of them (SQLite, in a transaction that began with a look).
    mine = select(deliveries.c.id).where(deliveries.c.id.in_(ids), deliveries.c.claimed_by == by)
    own = set(session.scalars(mine.where(deliveries.c.state == CLAIMED)))
    return [one for one in ids if one in own]


def begin(
    session: Session, by: str, ids: Sequence[int], *, now: datetime, transport: str = "", setup_id: int | None = None
) -> list[Begun]:
    """Starts an attempt for each of these claimed messages that still belongs to `by` and may still leave.

    Once this is committed, each message returned must be given to the transport, or be given back by `take_back`.
    """
    if not ids:
        return []
    rows = session.execute(_MINE, {"ids": ids, "by": by}).all()
    late = [row.id for row in rows if row.not_after_at is not None and row.not_after_at < now]
    if late:
        values = {"code": "expired", "reason": "it could not leave before the moment it may not leave after"}
        _move(session, late, CLAIMED, FAILED, claimed_by="", claimed_until=None, **values)
    empty = [row.id for row in rows if row.content_sealed is None and row.id not in late]
    if empty:
        values = {"code": "content_gone", "reason": "its content is not stored any more"}
        _move(session, empty, CLAIMED, FAILED, claimed_by="", claimed_until=None, **values)
    order = {one: place for place, one in enumerate(ids)}
    rows = sorted((row for row in rows if row.id not in late and row.id not in empty), key=lambda row: order[row.id])
    if not rows:
        return []
    session.execute(_BEGIN, {"ids": [row.id for row in rows], "now": now})
    session.execute(
        insert(attempts),
        [
            {
                "delivery_id": row.id,
                "number": row.attempt_count + 1,
                "at": now,
                "connection": row.connection,
                "state": BEGUN,
                "worker_id": by,
                "transport": transport,
                "setup_id": setup_id,
            }
            for row in rows
        ],
    )
    return [
        Begun(
            id=row.id,
            uid=row.uid or "",
            number=row.attempt_count + 1,
            connection=row.connection,
            sealed=row.content_sealed,
            recipients=tuple(row.recipients or ()),
            queued_at=row.queued_at or row.created_at,
            not_after_at=row.not_after_at,
        )
        for row in rows
    ]


def give_back(session: Session, by: str, ids: Sequence[int] | None = None) -> int:
    """Queues claimed messages again that were not begun (all of `by` without `ids`); returns how many."""
    wanted = [deliveries.c.claimed_by == by, deliveries.c.begun_at.is_(None)]
    if ids is not None:
        wanted.append(deliveries.c.id.in_(ids))
    return _unclaim(session, *wanted)


def take_back(session: Session, by: str, *, keep: Sequence[int]) -> None:
    """Undoes what was begun without reaching a transport: all of `by` but `keep`, and what is claimed with it.

    For a process that lost its database between asking for a commit and hearing of it, and so did not go on.
    """
    never_left = select(deliveries.c.id, deliveries.c.attempt_count).where(
        deliveries.c.state == CLAIMED, deliveries.c.claimed_by == by, deliveries.c.begun_at.is_not(None)
    )
    for row in session.execute(never_left).all():
        if row.id not in keep:
            session.execute(
                delete(attempts).where(attempts.c.delivery_id == row.id, attempts.c.number == row.attempt_count)
            )
            session.execute(
                update(deliveries)
                .where(deliveries.c.id == row.id)
                .values(begun_at=None, attempt_count=row.attempt_count - 1)
            )
    give_back(session, by)


def bury(session: Session, by: str, *, now: datetime, at_least_once: bool = False) -> tuple[int, int]:
    """Settles what a dead process had claimed; returns (queued again, unknown).

    What was not begun has not left. What was begun may have: it is unknown, unless `at_least_once` was chosen.
    """
    return _bury(session, deliveries.c.claimed_by == by, now=now, at_least_once=at_least_once)


def bury_expired(session: Session, *, now: datetime, at_least_once: bool = False) -> tuple[int, int]:
    """`bury` for those who are no workers, by the end of their claims."""
    return _bury(session, deliveries.c.claimed_until < now, now=now, at_least_once=at_least_once)


def _bury(session: Session, whose: Any, *, now: datetime, at_least_once: bool) -> tuple[int, int]:
    begun = and_(deliveries.c.state == CLAIMED, whose, deliveries.c.begun_at.is_not(None))
    ids = session.scalars(select(deliveries.c.id).where(begun)).all()
    if ids:
        state = QUEUED if at_least_once else UNKNOWN
        # Right at once: a transport that can look may know.
        due_at = None if at_least_once else now
        lost = {"code": PROCESS_DIED, "reason": DIED}
        session.execute(
            update(attempts)
            .where(attempts.c.delivery_id.in_(ids), attempts.c.state == BEGUN)
            .values(state=UNKNOWN, **lost)
        )
        unclaimed: dict[str, Any] = {"claimed_by": "", "claimed_until": None, "begun_at": None}
        _move(session, ids, CLAIMED, state, due_at=due_at, **unclaimed, **lost)
    return _unclaim(session, whose, deliveries.c.begun_at.is_(None)), len(ids)


def _unclaim(session: Session, *whose: Any) -> int:
    done = session.execute(
        update(deliveries)
        .where(deliveries.c.state == CLAIMED, *whose)
        .values(state=QUEUED, claimed_by="", claimed_until=None, updated_at=utc_now())
    )
    return _count(done)


def has_work(session: Session, connections: Sequence[str], *, now: datetime) -> bool:
    """Whether anything is queued for these connections, or due. Short looks, which change nothing."""
    looks = [next_queued(connection, 1) for connection in connections]
    for state in (WAITING, UNKNOWN):
        due = select(deliveries.c.id).where(deliveries.c.state == state, deliveries.c.due_at <= now)
        looks.append(due.limit(1))
    return any(session.scalars(look).first() is not None for look in looks)


def is_unsettled(session: Session, connection: str) -> bool:
    """Whether anything of a connection is queued, claimed, or waiting to be tried again."""
    mine = select(deliveries.c.id).where(deliveries.c.connection == connection)
    waiting = and_(deliveries.c.state == WAITING, deliveries.c.attempt_count > 0)
    looks = [mine.where(deliveries.c.state == state) for state in (QUEUED, CLAIMED)] + [mine.where(waiting)]
    return any(session.scalars(look.limit(1)).first() is not None for look in looks)


def _count(result: Any) -> int:
    return int(result.rowcount)
