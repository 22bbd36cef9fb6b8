"""Incidents: one row for one cause, however many messages meet it, from the first until it is over.

Several processes may meet the same cause at once, and each of them may be the one to tell. Everything that must
happen once is therefore decided by the database: a unique key lets one row be open for a cause, and whoever's UPDATE
finds the row still untold is the one who tells. Every function takes the present moment as `now` (aware UTC).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, case, delete, exists, func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from ..diagnosis.remedies import Remedy, is_listed, remedy_for
from ..errors import (
    DeliveryError,
    InvalidMessage,
    OutmailError,
    SenderRefused,
    TransportUnavailable,
    UnsupportedFeature,
)
from ..models import Delivery, Incident, utc_now
from . import store

FAILING, MESSAGE, CREDENTIAL, QUEUE, WORKER, HELD = "failing", "message", "credential", "queue", "worker", "held"

#: Each kind in a sentence that says what is the matter; `{about}` is the connection or the credential.
KINDS: Mapping[str, str] = {
    FAILING: "Mail over the connection “{about}” is not being accepted.",
    MESSAGE: "Messages over the connection “{about}” are refused for a fault of their own.",
    CREDENTIAL: "The credential “{about}” comes to its end.",
    QUEUE: "Mail over the connection “{about}” has been waiting too long.",
    WORKER: "Mail waits, and no worker is running.",
    HELD: "Mail over the connection “{about}” is held.",
}

KEPT, PARTLY, TOLD, MAILED = "kept", "partly", "told", "mailed"

#: How often another process may come in between when a failure is counted.
_NOTE_TRIES = 10
#: How long an incident stays in the history after its end.
KEPT_CLOSED = timedelta(days=365)
#: Messages at fault themselves are over when none came for so long.
QUIET = timedelta(days=1)

_WORD = r"[^\s<>\"'(),;:\[\]]"
# From the beginning of a word only: tried from each of its letters, a long word would take its length squared.
_ADDRESS = re.compile(rf"(?<!{_WORD}){_WORD}+@{_WORD}+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What an incident is about. Two failures with the same kind, connection, code and `about` have one cause.

    `messages` is how many met it: none when it was found by a check.
    """

    kind: str
    connection: str
    code: str
    about: str = ""
    fault: str = "connection"
    reason: str = ""
    request_id: str = ""
    remedy: Remedy = field(compare=False)
    messages: int = field(default=1, compare=False)

    @classmethod
    def of(cls, error: OutmailError, connection: str, *, messages: int = 1, senders: Collection[str] = ()) -> Cause:
        """The cause of a failed hand-over. Holds none of the addresses that the error may quote.

        `senders` are the setup's own addresses, in small letters. One of them that is refused stops all mail; a From
        that the message brought is the message's own trouble. Without them every refused From is taken for the setup's.
        """
        code = (error.code or type(error).__name__)[:64]
        is_setups = isinstance(error, SenderRefused) and (not senders or error.sender.lower() in senders)
        message = isinstance(error, (InvalidMessage, UnsupportedFeature)) or (
            isinstance(error, DeliveryError) and error.fault == "message" and not is_setups
        )
        return cls(
            kind=MESSAGE if message else FAILING,
            connection=connection,
            code=code,
            fault=error.fault if isinstance(error, DeliveryError) else "message" if message else "connection",
            reason=scrubbed(str(error))[:500],
            request_id=str(getattr(error, "request_id", ""))[:255],
            remedy=safe_remedy(error),
            messages=messages,
        )

    @property
    def key(self) -> str:
        # MySQL compares text without regard to case and limits the length of a unique key; a hash has neither trouble.
        text = "\x00".join((self.kind, self.connection, self.about, self.code))
        return hashlib.sha256(text.encode()).hexdigest()


def scrubbed(text: str) -> str:
    """The text without email addresses: what servers say quotes the recipient's."""
    return _ADDRESS.sub("‹address›", text)


def safe_remedy(error: OutmailError) -> Remedy:
    """The remedy without the other side's own words, which may quote addresses or the subject."""
    remedy = remedy_for(error)
    if is_listed(error):
        return remedy
    return Remedy(
        code=remedy.code,
        title=remedy.title,
        meaning="What the other side said stands on the alerts page.",
        steps=tuple(scrubbed(step) for step in remedy.steps),
        who=remedy.who,
    )


# -- opening, counting, closing --------------------------------------------------------------------------------------


def note(session: Session, cause: Cause, *, now: datetime, pause: timedelta, since: datetime | None = None) -> Incident:
    """Counts one more for a cause, opening its incident if none is open. Commits.

    `since` is when a cause that is watched began, if that was before `now`.

    A cause that comes back within `pause` after it was over is the same incident again: a setup that works every
    other minute is one trouble and not thirty.
    """
    for attempt in range(1, _NOTE_TRIES + 1):
        try:
            if not _count(session, cause, now) and not _reopen(session, cause, now, pause):
                session.add(_new(cause, now, since or now))
            session.commit()
        except IntegrityError:
            session.rollback()  # another process opened it between the two statements
            continue
        except DBAPIError as exc:
            session.rollback()
            if attempt == _NOTE_TRIES or not _is_deadlock(exc):
                raise
            continue
        if found := read(session, select(Incident).where(Incident.open_key == cause.key)):
            return found[0]
        # Closed by another process just now: what happened to us happened after that, so it opens again.
    raise TransportUnavailable("an incident changed too often to be counted", code="database_unavailable")


def _count(session: Session, cause: Cause, now: datetime) -> bool:
    # Looked for first: on MySQL and MariaDB an UPDATE that finds nothing locks the gap that the next INSERT needs,
    # and two processes that do so wait for each other.
    if session.scalar(select(Incident.id).where(Incident.open_key == cause.key)) is None:
        return False
    known = session.execute(
        update(Incident)
        .where(Incident.open_key == cause.key)
        .values(count=Incident.count + cause.messages, **_seen(cause, now))
        .execution_options(synchronize_session=False)
    )
    return rows(known) == 1


def _is_deadlock(exc: DBAPIError) -> bool:
    """Whether the database undid our work so that another process could go on; the same again may succeed."""
    sqlstate = str(getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None) or "")
    number = exc.orig.args[0] if exc.orig is not None and exc.orig.args else None
    return sqlstate in ("40001", "40P01") or number in (1205, 1213)


def _new(cause: Cause, now: datetime, since: datetime) -> Incident:
    return Incident(
        connection=cause.connection,
        code=cause.code,
        fault=cause.fault,
        kind=cause.kind,
        about=cause.about,
        open_key=cause.key,
        remedy=asdict(cause.remedy),
        opened_at=since,
        count=cause.messages,
        **_seen(cause, now),
    )


def _seen(cause: Cause, now: datetime) -> dict[str, Any]:
    return {"last_at": now, "reason": cause.reason, "request_id": cause.request_id}


def _reopen(session: Session, cause: Cause, now: datetime, pause: timedelta) -> bool:
    last = session.scalars(
        select(Incident)
        .where(
            Incident.kind == cause.kind,
            Incident.connection == cause.connection,
            Incident.code == cause.code,
            Incident.about == cause.about,
            Incident.closed_by == "recovered",
            Incident.closed_at > now - pause,
        )
        .order_by(Incident.id.desc())
        .limit(1)
    ).first()
    if last is None:
        return False
    values: dict[str, Any] = {"closed_at": None, "closed_by": "", "open_key": cause.key, "recovery_at": None}
    if last.recovery_at is None and last.flaps == 0:
        # It was told that all is well again, so that must be taken back once. After that, the reminders do.
        values["alerted_at"] = values["level"] = values["acknowledged_at"] = None
    won = session.execute(
        update(Incident)
        .where(Incident.id == last.id, Incident.closed_at.is_not(None))
        .values(count=Incident.count + cause.messages, flaps=Incident.flaps + 1, **values, **_seen(cause, now))
        .execution_options(synchronize_session=False)
    )
    return rows(won) == 1


def touch(session: Session, incident_id: int, *, now: datetime, count: int) -> None:
    """Notes that a cause which is watched, not met, still lasts; `count` is how many messages it concerns. Commits."""
    session.execute(
        update(Incident)
        .where(Incident.id == incident_id, Incident.closed_at.is_(None))
        .values(last_at=now, count=count)
        .execution_options(synchronize_session=False)
    )
    session.commit()


def close(
    session: Session, *conditions: ColumnElement[bool], now: datetime, pause: timedelta, settle: timedelta = timedelta()
) -> None:
    """Closes the open incidents that fulfil the conditions, as recovered. Commits.

    Where somebody was told, or was to be told, the notice of recovery becomes due: after `settle`, or, for a cause
    that comes and goes, once it has stayed away for `pause`.
    """
    session.execute(
        update(Incident)
        .where(Incident.closed_at.is_(None), *conditions)
        .values(
            closed_at=now,
            closed_by="recovered",
            open_key=None,
            # Asked of the database: another process may be telling of it at this moment.
            recovery_at=case((Incident.alert == "", None), (Incident.flaps > 0, now + pause), else_=now + settle),
        )
        .execution_options(synchronize_session=False)
    )
    session.commit()


def recover(
    session: Session,
    connection: str,
    *,
    is_proven: bool,
    now: datetime,
    pause: timedelta,
    settle: timedelta = timedelta(),
) -> None:
    """Closes what a message that was accepted has disproved: what messages have met, or `is_proven` all. Commits."""
    mine = [Incident.connection == connection, Incident.kind == FAILING]
    if not is_proven:
        mine.append(Incident.count > 0)
    close(session, *mine, now=now, pause=pause, settle=settle)


def tidy(session: Session, *, now: datetime) -> None:
    """Closes incidents of single messages once none has come for a day, and drops what is long over. Commits."""
    session.execute(delete(Incident).where(Incident.closed_at < now - KEPT_CLOSED))
    session.execute(
        update(Incident)
        .where(Incident.closed_at.is_(None), Incident.kind == MESSAGE, Incident.last_at < now - QUIET)
        .values(closed_at=now, closed_by="quiet for a day", open_key=None)
        .execution_options(synchronize_session=False)
    )
    session.commit()


def dismiss(session: Session, incident: Incident, *, by: str, now: datetime | None = None) -> None:
    """Closes an incident by hand, without a notice of recovery. The caller commits."""
    incident.closed_at, incident.closed_by, incident.open_key = now or utc_now(), by or "a person", None


def acknowledge(session: Session, incident: Incident, *, by: str, now: datetime | None = None) -> None:
    """Notes that somebody knows of it: no reminder any more, and the notice of recovery when it is over."""
    incident.acknowledged_at, incident.acknowledged_by = now or utc_now(), by or "a person"


# -- looking ----------------------------------------------------------------------------------------------------------


def has_open(session: Session, connection: str) -> bool:
    """Whether a failure of the connection itself is open (those of single messages do not count)."""
    mine = (Incident.connection == connection, Incident.kind == FAILING, Incident.closed_at.is_(None))
    return bool(session.scalar(select(exists().where(*mine))))


def open_counts(session: Session, connection: str) -> Sequence[int]:
    """For each open failure of the connection itself, how many messages have met it."""
    mine = (Incident.connection == connection, Incident.kind == FAILING, Incident.closed_at.is_(None))
    return session.scalars(select(Incident.count).where(*mine)).all()


def failing_connections(session: Session) -> set[str]:
    """The connections that have a failure open."""
    query = select(Incident.connection).where(Incident.kind == FAILING, Incident.closed_at.is_(None))
    return set(session.scalars(query.distinct()))


def open_incidents(session: Session, *, limit: int = 50) -> Sequence[Incident]:
    """Incidents nobody has closed, newest first."""
    return read(
        session, select(Incident).where(Incident.closed_at.is_(None)).order_by(Incident.last_at.desc()).limit(limit)
    )


def recent_incidents(session: Session, *, limit: int = 50) -> Sequence[Incident]:
    """Closed and open ones, newest first."""
    return read(session, select(Incident).order_by(Incident.id.desc()).limit(limit))


def accepted_since(session: Session, incident: Incident) -> int:
    """How many messages that waited when an incident ended have been accepted since its last failure."""
    return int(
        session.scalar(
            select(func.count(Delivery.id)).where(
                Delivery.connection == incident.connection,
                Delivery.state == store.ACCEPTED,
                Delivery.origin != "direct",
                Delivery.created_at <= incident.closed_at,
                Delivery.updated_at >= incident.last_at,
            )
        )
        or 0
    )


def remedy_of(incident: Incident) -> Remedy:
    """What to do about an incident, as it was recorded."""
    kept = incident.remedy
    if isinstance(kept, Mapping):
        return Remedy(**{**kept, "steps": tuple(kept["steps"])})
    return remedy_for(OutmailError(incident.reason, code=incident.code, detail=incident.reason))


def about(incident: Incident) -> str:
    """The sentence that says what is the matter."""
    return KINDS.get(incident.kind, KINDS[FAILING]).format(about=incident.about or incident.connection)


def read(session: Session, query: Select[Any]) -> Sequence[Incident]:
    # As they are now: the UPDATEs here pass by what the session has read before.
    return session.scalars(query.execution_options(populate_existing=True)).all()


def rows(result: Any) -> int:
    return int(result.rowcount)
