"""Who did what: one line for every change on a page or command, and for every look into a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from .models import AuditEntry, utc_now

audit = cast(Table, AuditEntry.__table__)


def record(session: Session, *, who: str, action: str, object: str = "", detail: str = "") -> None:
    """Adds a line; the caller commits it together with what it tells of.

    Give neither secrets nor addresses: the lines outlive the erasing of a person's data.
    """
    values = {"who": who[:200], "action": action[:64], "object": object[:200], "detail": detail[:200]}
    session.execute(insert(audit).values(at=utc_now(), **values))


def entries(session: Session, *, limit: int = 50, before_id: int = 0) -> Sequence[AuditEntry]:
    """Lines, newest first; with `before_id`, those behind it."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    return session.scalars(query.where(AuditEntry.id < before_id) if before_id else query).all()
