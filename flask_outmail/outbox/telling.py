"""Who tells of an incident, and when: of several processes that want to, the database lets one.

Whoever's UPDATE finds the row as it was before is the one; the others find it done. `now` is an aware moment in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from ..models import Incident
from .alerts import CREDENTIAL, KEPT, MESSAGE, PARTLY, read, rows

#: How long until an alert that nobody took is tried again, and how long one process may take to tell.
RETRY = timedelta(minutes=5)
#: A recovered cause that nobody could be told of for so long is of no interest any more.
RECOVERY_VALID = timedelta(days=1)


# -- who tells --------------------------------------------------------------------------------------------------------


def _claim(session: Session, incident_id: int, *conditions: ColumnElement[bool], **values: Any) -> bool:
    won = session.execute(
        update(Incident)
        .where(Incident.id == incident_id, *conditions)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    session.commit()
    return rows(won) == 1


def claim_alert(session: Session, incident_id: int, *, now: datetime, pause: timedelta, grace: timedelta) -> bool:
    """Whether the caller is the one to tell of an open incident now: the first time, or as a reminder. Commits.

    Until the caller has recorded what came of it the alert counts as kept, so one whose process dies is not lost.
    """
    return _claim(
        session,
        incident_id,
        Incident.closed_at.is_(None),
        Incident.acknowledged_at.is_(None),
        or_(
            and_(Incident.alerted_at.is_(None), Incident.opened_at <= now - grace),
            Incident.alerted_at <= now - pause,
        ),
        alerted_at=now,
        tried_at=now,
        alert=KEPT,
    )


def claim_level(session: Session, incident_id: int, level: int, *, now: datetime) -> bool:
    """Whether the caller is the one to tell that a step (a lower level) is reached. Commits."""
    return _claim(
        session,
        incident_id,
        Incident.closed_at.is_(None),
        or_(Incident.level.is_(None), Incident.level > level),
        level=level,
        alerted_at=now,
        tried_at=now,
        alert=KEPT,
        acknowledged_at=None,
    )


def claim_retry(session: Session, incident_id: int, *, now: datetime) -> bool:
    """Whether the caller is the one to try again what some channel did not take. Commits."""
    return _claim(
        session,
        incident_id,
        Incident.closed_at.is_(None),
        Incident.acknowledged_at.is_(None),
        Incident.alert.in_((KEPT, PARTLY)),
        Incident.tried_at <= now - RETRY,
        tried_at=now,
    )


def claim_recovery(session: Session, incident_id: int, *, now: datetime) -> bool:
    """Whether the caller is the one to tell that an incident is over. Commits."""
    return _claim(
        session,
        incident_id,
        Incident.closed_at.is_not(None),
        Incident.recovery_at <= now,
        recovery_at=now + RETRY,
    )


def record(session: Session, incident_id: int, *, alert: str, channels: Mapping[str, Any]) -> None:
    """What came of telling. Commits."""
    _claim(session, incident_id, alert=alert, channels=dict(channels))


def recovery_told(session: Session, incident_id: int) -> None:
    """The notice of recovery has reached somebody. Commits."""
    _claim(session, incident_id, Incident.closed_at.is_not(None), recovery_at=None)


# -- what there is to do ----------------------------------------------------------------------------------------------


def due_alerts(session: Session, *, now: datetime, pause: timedelta, grace: timedelta) -> Sequence[Incident]:
    """Open incidents that are to be told now: never told and old enough, or still going on after the pause."""
    first = and_(Incident.alerted_at.is_(None), Incident.opened_at <= now - grace)
    again = and_(Incident.alerted_at <= now - pause, Incident.last_at > Incident.alerted_at)
    return read(
        session,
        select(Incident).where(
            Incident.closed_at.is_(None),
            Incident.acknowledged_at.is_(None),
            Incident.kind.not_in((MESSAGE, CREDENTIAL)),
            or_(first, again),
        ),
    )


def due_retries(session: Session, *, now: datetime) -> Sequence[Incident]:
    """Open incidents whose alert some channel did not take, and that were last tried a while ago."""
    return read(
        session,
        select(Incident).where(
            Incident.closed_at.is_(None),
            Incident.acknowledged_at.is_(None),
            Incident.alert.in_((KEPT, PARTLY)),
            Incident.tried_at <= now - RETRY,
        ),
    )


def due_recoveries(session: Session, *, now: datetime) -> Sequence[Incident]:
    """Closed incidents whose notice of recovery is due; those it is too late for are forgotten. Commits."""
    session.execute(
        update(Incident)
        .where(Incident.recovery_at.is_not(None), Incident.closed_at < now - RECOVERY_VALID)
        .values(recovery_at=None)
        .execution_options(synchronize_session=False)
    )
    session.commit()
    return read(session, select(Incident).where(Incident.recovery_at <= now))
