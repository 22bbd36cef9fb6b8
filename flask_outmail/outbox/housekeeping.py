"""What the log forgets, and when: each kind of message after its time, contents earlier, and what a person asks for.

Never touched: what has still to leave, and what the server is still to be asked about. Everything happens in short
transactions, and the state is asked again in the statement that deletes: a person, or a worker, may have taken the
message up since it was looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, Text, and_, delete, func, or_, select, update
from sqlalchemy import cast as as_type
from sqlalchemy.orm import Session

from ..models import AuditEntry, Lane
from .claims import attempts, deliveries
from .spool import Entry, Spool
from .states import ACCEPTED, CANCELLED, FAILED, FINAL, REFUSED, SUPPRESSED, UNKNOWN

audit = cast(Table, AuditEntry.__table__)
lanes = cast(Table, Lane.__table__)

#: Rows of one transaction.
BATCH = 500
#: What stands in the log in place of an address that was erased.
ERASED = "(erased)"

#: Nothing is still to happen to these: settled, and not one that the server is to be asked about.
SETTLED: ColumnElement[bool] = and_(deliveries.c.state.in_(sorted(FINAL)), deliveries.c.due_at.is_(None))
_HAS_BODY = deliveries.c.content_sealed.is_not(None)


@dataclass(frozen=True, slots=True)
class Rules:
    """How long the log keeps what, in days; at most how many rows, and bytes of contents nobody needs to deliver."""

    accepted_days: int = 90
    failed_days: int = 180
    unknown_days: int = 365
    cancelled_days: int = 30
    audit_days: int = 730
    bodies_days: int = 0
    failed_bodies_days: int = 14
    max_rows: int = 1_000_000
    max_bytes: int = 1024**3

    @property
    def rows(self) -> dict[str, int]:
        """How many days a line is kept, by state."""
        return {
            ACCEPTED: self.accepted_days,
            REFUSED: self.failed_days,
            FAILED: self.failed_days,
            UNKNOWN: self.unknown_days,
            SUPPRESSED: self.cancelled_days,
            CANCELLED: self.cancelled_days,
        }

    @property
    def bodies(self) -> dict[str, int]:
        """How many days a content is kept, by state."""
        return dict.fromkeys(self.rows, self.failed_bodies_days) | {ACCEPTED: self.bodies_days}


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was forgotten, or would be: lines, contents, and entries of who did what."""

    rows: int = 0
    bodies: int = 0
    audit: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.rows + other.rows, self.bodies + other.bodies, self.audit + other.audit)

    def __bool__(self) -> bool:
        return bool(self.rows or self.bodies or self.audit)


# -- by age and by size ----------------------------------------------------------------------------------------------


def prune(session: Session, rules: Rules, *, now: datetime, limit: int = BATCH) -> Pruned:
    """Forgets one batch of what is over its time or above a cap. The caller commits, and goes on while it is true."""
    bodies = sum(_drop(session, one, limit) for one in _over(rules.bodies, now, _HAS_BODY))
    rows = sum(_delete(session, one, limit) for one in _over(rules.rows, now))
    old = session.scalars(select(audit.c.id).where(_old_audit(rules, now)).order_by(audit.c.at).limit(limit)).all()
    session.execute(delete(audit).where(audit.c.id.in_(old)))
    # The caps are counted, which takes longer; so only when age leaves nothing to do.
    if not rows:
        rows = _above_rows(session, rules.max_rows, limit)
    if not bodies:
        bodies = _above_bytes(session, rules.max_bytes, limit)
    return Pruned(rows, bodies, len(old))


def would_prune(session: Session, rules: Rules, *, now: datetime) -> Pruned:
    """What `prune`, called until it is false, would forget; contents above the cap not counted. Changes nothing."""

    def count(wanted: Iterator[ColumnElement[bool]]) -> int:
        counts = (session.scalar(select(func.count()).select_from(deliveries).where(one)) for one in wanted)
        return sum(int(one or 0) for one in counts)

    rows, _ = size(session)
    old = session.scalar(select(func.count()).select_from(audit).where(_old_audit(rules, now)))
    over = max(count(_over(rules.rows, now)), min(rows - rules.max_rows, count(iter([SETTLED]))))
    return Pruned(over, count(_over(rules.bodies, now, _HAS_BODY)), int(old or 0))


def size(session: Session) -> tuple[int, int]:
    """(lines in the log, bytes of the contents that are kept in it although nobody needs them to deliver)."""
    kept = select(func.sum(deliveries.c.size_bytes)).where(SETTLED, _HAS_BODY)
    rows = session.scalar(select(func.count()).select_from(deliveries))
    return int(rows or 0), int(session.scalar(kept) or 0)


def _over(days: dict[str, int], now: datetime, *also: ColumnElement[bool]) -> Iterator[ColumnElement[bool]]:
    """For each state the condition that a settled message is over its time."""
    for state, kept_days in days.items():
        before = now - timedelta(days=kept_days)
        # Made before it was settled: so the first condition is a range of an index that holds what the second means.
        age = (deliveries.c.created_at < before, deliveries.c.updated_at < before)
        yield and_(deliveries.c.state == state, *age, deliveries.c.due_at.is_(None), *also)


def _old_audit(rules: Rules, now: datetime) -> ColumnElement[bool]:
    return audit.c.at < now - timedelta(days=rules.audit_days)


def _oldest(session: Session, wanted: ColumnElement[bool], limit: int) -> Sequence[int]:
    query = select(deliveries.c.id).where(wanted).order_by(deliveries.c.created_at, deliveries.c.id).limit(limit)
    # What another process prunes, or a person takes up, is left to it.
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def _delete(session: Session, wanted: ColumnElement[bool], limit: int) -> int:
    ids = _oldest(session, wanted, limit)
    if not ids:
        return 0
    done = session.execute(delete(deliveries).where(deliveries.c.id.in_(ids), wanted))
    # Not every SQLite follows the foreign key. A message that was taken up meanwhile keeps its attempts.
    there = select(deliveries.c.id).where(deliveries.c.id.in_(ids))
    session.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids), attempts.c.delivery_id.not_in(there)))
    # SQLite gives a free number to the next row, which is not where the other one came from.
    session.execute(update(deliveries).where(deliveries.c.parent_id.in_(ids)).values(parent_id=None))
    return _count(done)


def _drop(session: Session, wanted: ColumnElement[bool], limit: int) -> int:
    ids = _oldest(session, wanted, limit)
    if not ids:
        return 0
    return _count(
        session.execute(update(deliveries).where(deliveries.c.id.in_(ids), wanted).values(content_sealed=None))
    )


def _above_rows(session: Session, max_rows: int, limit: int) -> int:
    # The first line beyond the cap, by a walk along an index.
    beyond = select(deliveries.c.created_at).order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc())
    last = session.scalar(beyond.offset(max_rows).limit(1))
    return _delete(session, and_(SETTLED, deliveries.c.created_at <= last), limit) if last is not None else 0


def _above_bytes(session: Session, max_bytes: int, limit: int) -> int:
    excess = size(session)[1] - max_bytes
    if excess <= 0:
        return 0
    wanted = and_(SETTLED, _HAS_BODY)
    oldest = select(deliveries.c.id, deliveries.c.size_bytes).where(wanted)
    ids = []
    for row in session.execute(oldest.order_by(deliveries.c.created_at, deliveries.c.id).limit(limit)).all():
        if excess <= 0:
            break
        ids.append(row.id)
        excess -= max(1, row.size_bytes)
    return _drop(session, and_(deliveries.c.id.in_(ids), wanted), limit)


# -- by person -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Erased:
    """How many messages were anonymised, and how many are left alone because they have still to leave."""

    rows: int = 0
    waiting: int = 0
    last_id: int = 0

    def __add__(self, later: Erased) -> Erased:
        return Erased(self.rows + later.rows, self.waiting + later.waiting, later.last_id)


def naming(column: Any, text: str, *, exact: bool = True) -> ColumnElement[bool]:
    """The condition that a JSON list of addresses holds `text`, or, not `exact`, an address that begins with it."""
    plain = text.lower()
    # As it is stored: databases with a JSON type of their own keep the characters, others what Python wrote.
    spellings = {json.dumps(plain)[1:-1], plain}
    end = '"%' if exact else "%"
    lowered = func.lower(as_type(column, Text))
    return or_(*(lowered.like(f'%"{_escaped(one)}{end}', escape="!") for one in sorted(spellings)))


def containing(column: Any, text: str) -> ColumnElement[bool]:
    """The condition that a text holds `text`, whatever the case."""
    return func.lower(as_type(column, Text)).like(f"%{_escaped(text.lower())}%", escape="!")


def _escaped(text: str) -> str:
    for one in "!%_":
        text = text.replace(one, f"!{one}")
    return text


def erase(session: Session, address: str, *, after_id: int, limit: int = BATCH) -> Erased | None:
    """Anonymises one batch of the messages that name an address; None when there is none behind `after_id`.

    The address becomes "(erased)"; subject, content, answers of servers and an application's key that holds the
    address go, for any of them may name the person. What has still to leave stays as it is and is counted. The
    caller commits.
    """
    named = or_(naming(deliveries.c.recipients, address), func.lower(deliveries.c.sender) == address.lower())
    found = select(deliveries.c.id, deliveries.c.state, deliveries.c.due_at, deliveries.c.recipients,
                   deliveries.c.sender, deliveries.c.key)  # fmt: skip
    rows = session.execute(
        found.where(deliveries.c.id > after_id, named).order_by(deliveries.c.id).limit(limit).with_for_update()
    ).all()
    if not rows:
        return None
    done = waiting = 0
    for row in rows:
        values: dict[str, Any] = {
            "recipients": [_anonymous(one, address) for one in row.recipients or []],
            "sender": _anonymous(row.sender, address),
            "subject": "",
            "reason": "",
            "digest": "",
            "content_sealed": None,
        }
        if row.key and address.lower() in row.key.lower():
            values["key"] = None
        changed = session.execute(update(deliveries).where(deliveries.c.id == row.id, SETTLED).values(**values))
        if _count(changed) == 1:
            done += 1
            _erase_attempts(session, row.id, address)
        else:
            waiting += 1
    return Erased(done, waiting, rows[-1].id)


def _erase_attempts(session: Session, delivery_id: int, address: str) -> None:
    mine = attempts.c.delivery_id == delivery_id
    for row in session.execute(select(attempts.c.id, attempts.c.refused).where(mine)).all():
        refused = {_anonymous(one, address): [said[0], ""] for one, said in (row.refused or {}).items()} or None
        session.execute(update(attempts).where(attempts.c.id == row.id).values(reason="", refused=refused))


def erase_elsewhere(session: Session, address: str) -> None:
    """What servers said about connections, where it names the address. The caller commits."""
    session.execute(update(lanes).where(containing(lanes.c.reason, address)).values(reason=""))


def erase_spool(spool: Spool, address: str) -> int:
    """Anonymises outcomes that wait in the spool folder; returns how many messages for the address wait there."""
    waiting = 0
    for entry in spool.entries():
        if address.lower() not in json.dumps(entry.facts, ensure_ascii=False).lower():
            continue
        if entry.kind == "delivery":
            waiting += 1
            continue
        refused = {_anonymous(one, address): [said[0], ""] for one, said in (entry.facts.get("refused") or {}).items()}
        # Those to be tried again have still to leave.
        facts = {**entry.facts, "refused": refused, "reason": ""}
        spool.put(Entry(entry.name, entry.kind, facts, entry.sealed))
    return waiting


def _anonymous(text: str, address: str) -> str:
    return ERASED if text.lower() == address.lower() else text


def _count(result: Any) -> int:
    return int(result.rowcount)
