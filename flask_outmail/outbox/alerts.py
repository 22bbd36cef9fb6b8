"""Failure alerts: failures with one cause are one incident, and an incident is told once, not once a message.

An alert is a mail about mail, so it holds no body and no secret, never causes another alert, and where it cannot be
sent by a way that works it is kept and shown on every page.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from ..diagnosis.remedies import Remedy, remedy_for
from ..errors import DeliveryError, OutmailError
from ..message import Message
from ..models import Incident, utc_now

MAILED, KEPT = "mailed", "kept"


def note(session: Session, connection: str, error: OutmailError, *, pause_s: float) -> tuple[Incident, bool]:
    """Counts a failure; returns its incident, and whether somebody is to be told now. Flushes; the caller commits."""
    now = utc_now()
    code = (error.code or type(error).__name__)[:64]
    incident = session.scalars(
        select(Incident)
        .where(Incident.connection == connection, Incident.code == code, Incident.closed_at.is_(None))
        .limit(1)
    ).first()
    if incident is None:
        fault = error.fault if isinstance(error, DeliveryError) else "message"
        incident = Incident(connection=connection, code=code, fault=fault, opened_at=now, last_at=now, count=1)
        session.add(incident)
        tell = True
    else:
        incident.count += 1
        incident.last_at = now
        tell = incident.alerted_at is None or now - incident.alerted_at >= timedelta(seconds=pause_s)
    incident.reason = str(error)[:500]
    incident.request_id = str(getattr(error, "request_id", ""))[:255]
    if tell:
        # Set before the mail is tried: of two processes that fail together, the second finds it told.
        incident.alerted_at = now
        incident.alert = KEPT
    session.flush()
    return incident, tell


def has_open(session: Session, connection: str) -> bool:
    """Whether an incident of the connection itself is open (those of single messages do not count)."""
    return bool(
        session.scalar(
            select(
                exists().where(
                    Incident.connection == connection, Incident.fault != "message", Incident.closed_at.is_(None)
                )
            )
        )
    )


def recover(session: Session, connection: str) -> None:
    """Closes what a message that was accepted has disproved. The caller commits."""
    session.execute(
        update(Incident)
        .where(Incident.connection == connection, Incident.fault != "message", Incident.closed_at.is_(None))
        .values(closed_at=utc_now(), closed_by="recovered")
        .execution_options(synchronize_session=False)
    )


def open_incidents(session: Session, *, limit: int = 50) -> Sequence[Incident]:
    """Incidents nobody has closed, newest first."""
    return session.scalars(
        select(Incident).where(Incident.closed_at.is_(None)).order_by(Incident.last_at.desc()).limit(limit)
    ).all()


def recent_incidents(session: Session, *, limit: int = 50) -> Sequence[Incident]:
    """Closed and open ones, newest first."""
    return session.scalars(select(Incident).order_by(Incident.id.desc()).limit(limit)).all()


def dismiss(session: Session, incident: Incident, *, by: str) -> None:
    """Closes an incident by hand. The caller commits."""
    incident.closed_at, incident.closed_by = utc_now(), by


def remedy_of(incident: Incident) -> Remedy:
    """What to do about an incident, from what was recorded of it."""
    return remedy_for(OutmailError(incident.reason, code=incident.code, detail=incident.reason))


def alert_message(
    *, to: str, application: str, connection: str, error: OutmailError, count: int, page: str = ""
) -> Message:
    """The mail that tells of a failure: what, since when, what to do, who can do it."""
    remedy = remedy_for(error)
    request_id = str(getattr(error, "request_id", ""))
    steps = [f"  {number}. {step}" for number, step in enumerate(remedy.steps, 1)]
    lines = [
        f"{application} could not send mail over the connection “{connection}”.",
        "",
        remedy.title,
        remedy.meaning,
        "",
        *(["What to do:", *steps, ""] if steps else []),
        f"Messages affected so far: {count}",
        f"Time: {utc_now():%Y-%m-%d %H:%M} UTC",
        f"Code: {error.code or type(error).__name__}",
        *([f"Request id: {request_id}"] if request_id else []),
        *(["", f"Details: {page}"] if page else []),
    ]
    return Message(
        subject=f"[{application}] Mail is not being sent: {remedy.title}",
        recipients=[to],
        body="\n".join(lines) + "\n",
        # So that no robot answers, and no mail programme sends "I am on holiday" (RFC 3834).
        extra_headers={"Auto-Submitted": "auto-generated"},
    )
