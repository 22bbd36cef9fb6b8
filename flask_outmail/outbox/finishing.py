"""How deliveries end: what an attempt came to, and what a server says later about one that nobody heard of.

As in `claims`, the commit is the caller's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from .claims import PROCESS_DIED, attempts, deliveries
from .states import ACCEPTED, BEGUN, QUEUED, UNKNOWN, WAITING
from .verdicts import Verdict

#: How a delivery came to be that goes to those recipients of another who were busy.
AGAIN = "again"

# The statements of every message, made once: making them anew would cost more than executing them.
_IDS: Any = bindparam("ids", expanding=True)
_ATTEMPTS_OF = select(attempts.c.delivery_id, attempts.c.number, attempts.c.state, attempts.c.code).where(
    attempts.c.delivery_id.in_(_IDS)
)
_END_ATTEMPT = (
    update(attempts)
    .where(attempts.c.delivery_id == bindparam("b_id"), attempts.c.number == bindparam("b_number"))
    .values(
        state=bindparam("b_state"),
        connection=bindparam("b_connection"),
        transport=bindparam("b_transport"),
        code=bindparam("b_code"),
        reason=bindparam("b_reason"),
        request_id=bindparam("b_request_id"),
        elapsed_s=bindparam("b_elapsed_s"),
        refused=bindparam("b_refused", type_=attempts.c.refused.type),
    )
)
_END = (
    update(deliveries)
    # The number keeps an old outcome from touching a delivery that has moved on to another attempt.
    .where(deliveries.c.id == bindparam("b_id"), deliveries.c.attempt_count == bindparam("b_number"))
    .values(
        state=bindparam("b_state"),
        due_at=bindparam("b_due_at", type_=deliveries.c.due_at.type),
        code=bindparam("b_code"),
        reason=bindparam("b_reason"),
        claimed_by="",
        claimed_until=None,
        begun_at=None,
        updated_at=bindparam("b_now", type_=deliveries.c.updated_at.type),
    )
)
_UNWANTED = (deliveries.c.id.in_(_IDS), deliveries.c.keeps_content.is_(None))
_DROP_CONTENT = update(deliveries).where(*_UNWANTED).values(content_sealed=None)


def finish(session: Session, verdicts: Iterable[Verdict], *, now: datetime) -> list[Verdict]:
    """Records what attempts came to; returns those that counted.

    Doing it twice changes nothing. An attempt that others had given up as dead is put right.
    """
    by_id = {one.delivery_id: one for one in verdicts}
    if not by_id:
        return []
    live = []
    for row in session.execute(_ATTEMPTS_OF, {"ids": list(by_id)}):
        verdict = by_id[row.delivery_id]
        if row.number == verdict.number and (row.state == BEGUN or row.code == PROCESS_DIED):
            live.append(verdict)
    if not live:
        return []
    session.execute(
        _END_ATTEMPT,
        [
            {
                "b_id": one.delivery_id,
                "b_number": one.number,
                "b_state": one.attempt_state,
                "b_connection": one.connection,
                "b_transport": one.transport,
                "b_code": one.code,
                "b_reason": one.reason,
                "b_request_id": one.request_id,
                "b_elapsed_s": one.elapsed_s,
                "b_refused": {address: list(said) for address, said in one.refused.items()} or None,
            }
            for one in live
        ],
    )
    for one in live:
        if one.again:
            _follow_up(session, one, now=now)
    # Before the rest, so that the row is small when it is written again.
    drop_content(session, [one.delivery_id for one in live if one.state == ACCEPTED])
    session.execute(
        _END,
        [
            {
                "b_id": one.delivery_id,
                "b_number": one.number,
                "b_state": one.state,
                "b_due_at": one.due_at if one.state in (WAITING, UNKNOWN) else None,
                "b_code": one.code,
                "b_reason": one.reason,
                "b_now": now,
            }
            for one in live
        ],
    )
    return live


def drop_content(session: Session, ids: Sequence[int]) -> None:
    """Deletes what nobody needs to deliver any more, unless it is to be kept for some days."""
    if ids:
        session.execute(_DROP_CONTENT, {"ids": list(ids)})


def _follow_up(session: Session, verdict: Verdict, *, now: datetime) -> None:
    """A delivery of its own for the recipients who are to be tried again."""
    old = session.execute(select(deliveries).where(deliveries.c.id == verdict.delivery_id)).one()
    session.execute(
        insert(deliveries).values(
            uid=_follow_up_uid(old.uid or str(old.id), verdict.number),
            connection=old.connection,
            state=WAITING,
            origin=AGAIN,
            turn=old.turn,
            due_at=verdict.due_at,
            queued_at=old.queued_at or old.created_at,
            not_after_at=old.not_after_at,
            message_id=old.message_id,
            sender=old.sender,
            recipients=list(verdict.again),
            subject=old.subject,
            content_sealed=old.content_sealed,
            size_bytes=old.size_bytes,
            created_at=now,
            updated_at=now,
            attempt_count=verdict.number,
            parent_id=old.id,
            keeps_content=old.keeps_content,
            code=verdict.code,
            reason=verdict.reason,
        )
    )


def _follow_up_uid(uid: str, number: int) -> str:
    # The same each time, so that of two processes that record one outcome only one adds it; and short enough for
    # the column, however many follow one another where a server takes few recipients at a time.
    name = f"{uid}-{number}"
    return name if len(name) <= 64 else hashlib.sha256(name.encode()).hexdigest()


def unknown_to_ask(session: Session, connection: str, *, now: datetime, limit: int) -> list[Any]:
    """Unknown messages of a connection about which the server should be asked now: (id, message_id, attempt_count)."""
    rows = session.execute(
        select(deliveries.c.id, deliveries.c.message_id, deliveries.c.attempt_count, deliveries.c.updated_at)
        .where(deliveries.c.state == UNKNOWN, deliveries.c.due_at <= now, deliveries.c.connection == connection)
        .order_by(deliveries.c.due_at)
        .limit(limit)
    )
    return list(rows.all())


def answered(session: Session, delivery_id: int, is_there: bool | None, *, now: datetime, ask_again_s: float) -> bool:
    """Records what the server said about an unknown message; returns whether that settled it.

    `is_there` True: accepted. False: certainly not, so it is queued again. None: asked again in `ask_again_s`
    seconds, or not any more when that is 0.
    """
    values: dict[str, Any] = {"due_at": None, "updated_at": now}
    if is_there is None:
        values["due_at"] = now + timedelta(seconds=ask_again_s) if ask_again_s else None
        values.pop("updated_at")
    elif is_there:
        values |= {"state": ACCEPTED, "code": "found", "reason": "no answer came, and the server has it"}
    else:
        values |= {"state": QUEUED, "code": "not_found", "reason": "no answer came, and the server does not have it"}
    done = session.execute(
        update(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.state == UNKNOWN).values(**values)
    )
    if is_there:
        drop_content(session, [delivery_id])
    return is_there is not None and int(cast(Any, done).rowcount) == 1


def ask_nobody(session: Session, connection: str, *, now: datetime) -> None:
    """Lets unknown messages rest on a connection whose server cannot be asked about them."""
    session.execute(
        update(deliveries)
        .where(deliveries.c.state == UNKNOWN, deliveries.c.due_at <= now, deliveries.c.connection == connection)
        .values(due_at=None)
    )
