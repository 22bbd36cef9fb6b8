"""What the watch looks at: the mail that has not left, the workers, and the credentials with their ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ..models import Delivery
from . import store


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

    def of(self, connection: str) -> Waiting:
        return next((one for one in self.waiting if one.connection == connection), Waiting(connection))

    @property
    def oldest_at(self) -> datetime | None:
        """Since when the oldest message waits that could have left."""
        return min((one.oldest_at for one in self.waiting if one.oldest_at), default=None)


def waiting(session: Session) -> tuple[Waiting, ...]:
    """The mail that has not left, by connection. Reads the database."""
    rows = session.execute(
        select(Delivery.connection, func.count(), func.min(Delivery.created_at))
        .where(Delivery.state == store.HELD)
        .group_by(Delivery.connection)
    ).all()
    return tuple(Waiting(str(name), held_count=int(count), held_since=since) for name, count, since in rows)
