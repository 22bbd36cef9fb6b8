"""What the watch looks at: the mail that has not left, the workers, and the credentials with their ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import and_, case, func, or_, select, type_coerce
from sqlalchemy.orm import Session

from ..models import Delivery, UtcDateTime, Worker
from .states import CLAIMED, HELD, QUEUED, WAITING


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that a setup in force uses. `ends_at` is the moment from which it is refused, if known."""

    name: str
    connections: tuple[str, ...]
    ends_at: datetime | None
    is_certificate: bool = False

    def days_left(self, now: datetime) -> int | None:
        """Days by the calendar (UTC): 0 on the last day, negative once it is over; None when the end is not known."""
        if self.ends_at is None:
            return None
        days = (self.ends_at.date() - now.date()).days
        return days if self.ends_at > now else min(-1, days)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The mail of one connection that has not left. `oldest_at` is when the oldest of them could have left first."""

    connection: str
    count: int = 0
    oldest_at: datetime | None = None
    held_count: int = 0
    held_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the watch looks at. `last_heartbeat_at` is the newest sign of life of any worker."""

    waiting: tuple[Waiting, ...] = ()
    credentials: tuple[Credential, ...] = ()
    worker_count: int = 0
    last_heartbeat_at: datetime | None = None

    @property
    def oldest_at(self) -> datetime | None:
        """Since when the oldest message waits that could have left."""
        return min((one.oldest_at for one in self.waiting if one.oldest_at), default=None)


def waiting(session: Session, *, now: datetime) -> tuple[Waiting, ...]:
    """The mail that has not left, by connection. Reads the database.

    What waits for a later moment, its own or that of its next attempt, is not late and does not count. What is
    claimed does: a worker that died holding it leaves nobody else to say so.
    """
    since = case(
        (Delivery.state == WAITING, Delivery.due_at),
        (
            and_(Delivery.state == QUEUED, Delivery.attempt_count == 0),
            func.coalesce(Delivery.queued_at, Delivery.created_at),
        ),
        else_=Delivery.updated_at,
    )
    is_held = Delivery.state == HELD
    rows = session.execute(
        select(Delivery.connection, is_held, func.count(), func.min(type_coerce(since, UtcDateTime)))
        .where(
            or_(
                Delivery.state.in_((QUEUED, CLAIMED, HELD)),
                and_(Delivery.state == WAITING, Delivery.due_at <= now),
            )
        )
        .group_by(Delivery.connection, is_held)
    ).all()
    found: dict[str, Waiting] = {}
    for name, held, count, oldest_at in rows:
        one = found.get(str(name), Waiting(str(name)))
        if held:
            found[str(name)] = replace(one, held_count=int(count), held_since=oldest_at)
        else:
            found[str(name)] = replace(one, count=int(count), oldest_at=oldest_at)
    return tuple(found.values())


def workers(session: Session) -> tuple[int, datetime | None]:
    """How many workers are on the list, and when the last of them was seen. Reads the database."""
    count, seen_at = session.execute(select(func.count(), func.max(Worker.seen_at))).one()
    return int(count), seen_at
