"""Deliveries in the database, apart from who is busy with them (`claims`): put in, looked at, acted on by people."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from ..envelope import Envelope
from ..errors import InvalidMessage, OutmailError
from ..models import Delivery, new_uid, utc_now
from ..settings import PRIMARY
from ..vault import Vault
from .claims import attempts, deliveries
from .finishing import AGAIN, drop_content
from .states import ACCEPTED, CANCELLED, CLAIMED, FAILED, HELD, QUEUED, REFUSED, RESTING, STATES, UNKNOWN, WAITING
from .upsert import dialect_of, insert_unless_there
from .verdicts import Verdict

__all__ = ["ACCEPTED", "CLAIMED", "FAILED", "HELD", "QUEUED", "STATES", "UNKNOWN", "WAITING"]

_MOMENTS = ("due_at", "queued_at", "not_after_at", "created_at")


class NotPossible(OutmailError):
    """The state of a delivery does not allow what was asked."""

    advice = "Look at the state of the delivery."

    def __init__(self, message: str, *, code: str = "delivery_state") -> None:
        super().__init__(message, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A delivery that has no row yet. `sealed` is the envelope, encrypted; None when only the line is kept."""

    uid: str = field(default_factory=new_uid)
    key: str | None = None
    connection: str = PRIMARY
    state: str = QUEUED
    origin: str = "send"
    turn: int = 0
    due_at: datetime | None = None
    queued_at: datetime | None = None
    not_after_at: datetime | None = None
    created_at: datetime = field(default_factory=utc_now)
    message_id: str = ""
    digest: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    subject: str = ""
    size_bytes: int = 0
    code: str = ""
    reason: str = ""
    parent_id: int | None = None
    keeps_content: bool | None = None
    sealed: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, envelope: Envelope, vault: Vault | None, *, subject: str, connection: str, max_bytes: int = 0, **facts: Any
    ) -> Draft:
        """For this envelope; its content is sealed when there is a vault.

        Raises:
            InvalidMessage: it is larger than `max_bytes`, when that is not 0.
            ConfigurationError: there is no key to encrypt it with.
        """
        sealed = None
        digest = ""
        size_bytes = envelope.content.size_bytes
        if vault is not None:
            if max_bytes and size_bytes > max_bytes:
                raise InvalidMessage(
                    f"the message has {size_bytes} bytes; at most {max_bytes} may be stored"
                    " (OUTMAIL_STORED_MESSAGE_MAX_BYTES)",
                    code="message_too_large_to_store",
                )
            data = envelope.to_bytes()
            digest = vault.fingerprints(f"{connection} {hashlib.sha256(data).hexdigest()}")[0]
            sealed = vault.seal_bytes(data)
        return cls(
            connection=connection,
            message_id=envelope.message_id[:255],
            digest=digest,
            sender=envelope.from_address[:320],
            recipients=tuple(envelope.recipients),
            subject=subject[:255],
            size_bytes=size_bytes,
            sealed=sealed,
            **facts,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the content, for JSON."""
        facts = asdict(self)
        del facts["sealed"]
        return facts | {name: facts[name].isoformat() for name in _MOMENTS if facts[name] is not None}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any], sealed: bytes | None) -> Draft:
        moments = {name: datetime.fromisoformat(facts[name]) for name in _MOMENTS if facts[name] is not None}
        return cls(**{**facts, **moments, "recipients": tuple(facts["recipients"]), "sealed": sealed})


@dataclass(frozen=True, slots=True)
class Queued:
    """What `enqueue` gives: the delivery's name, and its state at that moment.

    `is_new` is False when a delivery with the same key was there already.
    """

    delivery_id: str
    state: str
    is_new: bool = True


# -- putting in ------------------------------------------------------------------------------------------------------


def add(session: Session, draft: Draft) -> Queued:
    """Adds a delivery in the session's own transaction: it is there when the caller commits.

    With a key, a second one finds the first, whoever added it, and the transaction goes on unharmed. Two
    transactions that add one key at the same moment wait for each other.
    """
    if draft.key is None:
        session.execute(insert(deliveries).values(**_row(draft)))
        return Queued(draft.uid, draft.state)
    insert_unless_there(session, deliveries, _row(draft), key=("key",))
    query = select(deliveries.c.id, deliveries.c.uid, deliveries.c.state).where(deliveries.c.key == draft.key)
    if dialect_of(session, deliveries) in ("mysql", "mariadb"):
        # There a plain look sees what was committed when the transaction began; a locking one sees what is.
        query = query.with_for_update(read=True)
    row = session.execute(query).one()
    if row.uid != draft.uid:
        return Queued(row.uid or str(row.id), row.state, is_new=False)
    return Queued(draft.uid, draft.state)


def add_once(session: Session, draft: Draft) -> bool:
    """Adds a delivery unless one of this name is there: for what waited in the spool. False when it was."""
    if session.scalar(select(deliveries.c.id).where(deliveries.c.uid == draft.uid)) is not None:
        return False
    add(session, draft)
    return True


def add_done(session: Session, drafts: Sequence[tuple[Draft, Verdict | None]], *, now: datetime) -> None:
    """Adds lines of messages that were handed over at once, each with its attempt."""
    for draft, verdict in drafts:
        if session.scalar(select(deliveries.c.id).where(deliveries.c.uid == draft.uid)) is not None:
            continue
        values = _row(draft)
        if verdict is not None:
            values |= {"attempt_count": 1, "code": verdict.code, "reason": verdict.reason, "state": verdict.state}
        result = session.execute(insert(deliveries).values(**values))
        (row_id,) = cast(Any, result).inserted_primary_key
        if verdict is not None:
            session.execute(
                insert(attempts).values(
                    delivery_id=row_id,
                    number=1,
                    at=draft.created_at,
                    connection=verdict.connection,
                    transport=verdict.transport,
                    state=verdict.attempt_state,
                    code=verdict.code,
                    reason=verdict.reason,
                    request_id=verdict.request_id,
                    elapsed_s=verdict.elapsed_s,
                    refused={address: list(said) for address, said in verdict.refused.items()} or None,
                )
            )


def hold(session: Session, draft: Draft) -> Queued:
    """Keeps a message until a test passes; exactly the same one, handed in again while it is held, is one message.

    One that differs in anything, or that was held and has left, is another.
    """
    known = session.execute(
        select(deliveries.c.id, deliveries.c.uid)
        .where(deliveries.c.digest == draft.digest, deliveries.c.state == HELD)
        .limit(1)
    ).first()
    if known is not None:
        return Queued(known.uid or str(known.id), HELD, is_new=False)
    return add(session, draft)


def _row(draft: Draft) -> dict[str, Any]:
    names = [name for name in Draft.__dataclass_fields__ if name != "sealed"]
    values = {name: getattr(draft, name) for name in names}
    return values | {
        "recipients": list(draft.recipients),
        "content_sealed": draft.sealed,
        "updated_at": draft.created_at,
        "claimed_by": "",
        "attempt_count": 0,
    }


# -- looking ---------------------------------------------------------------------------------------------------------


def find(session: Session, name: str | int) -> Delivery | None:
    """The delivery of this number, or of this name (`delivery_id` of a receipt)."""
    text = str(name)
    row = session.scalars(select(Delivery).where(Delivery.uid == text)).first()
    if row is None and text.isdecimal() and len(text) < 19:
        row = session.get(Delivery, int(text))
    return row


def has_held(session: Session, connection: str) -> bool:
    """Whether a message of this connection is held."""
    found = exists().where(Delivery.state == HELD, Delivery.connection == connection)
    return bool(session.scalar(select(found)))


def still_held(session: Session, connection: str) -> tuple[int, str]:
    """How many messages of a connection are held, and why the newest that was tried stayed so ("": none was)."""
    mine = (Delivery.state == HELD, Delivery.connection == connection)
    tried = select(Delivery.code).where(*mine, Delivery.code != "").order_by(Delivery.id.desc()).limit(1)
    return session.scalar(select(func.count()).where(*mine)) or 0, session.scalar(tried) or ""


def counts(session: Session) -> dict[str, int]:
    """How many deliveries are in each state; states without any are left out."""
    rows = session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all()
    return {str(row[0]): int(row[1]) for row in rows}


def newest(session: Session, *, state: str = "", limit: int = 50) -> Sequence[Delivery]:
    """Deliveries, newest first."""
    query = select(Delivery).order_by(Delivery.id.desc()).limit(limit)
    return session.scalars(query.where(Delivery.state == state) if state else query).all()


# -- what people do --------------------------------------------------------------------------------------------------


def cancel(session: Session, delivery_id: int) -> None:
    """Cancels a delivery that has not left, and drops its content. The caller commits.

    Raises:
        NotPossible: it is being handed over, or is settled already.
    """
    _change(session, delivery_id, RESTING, CANCELLED, "only what has not left yet can be cancelled", due_at=None)
    drop_content(session, [delivery_id])


def retry(session: Session, delivery_id: int, *, may_arrive_twice: bool = False, now: datetime | None = None) -> None:
    """Queues a delivery again that was not accepted, or that is waiting for its time. The caller commits.

    Raises:
        NotPossible: it is under way, accepted or cancelled; its content is gone; or it is unknown, and nobody
            has said that it may arrive twice.
    """
    from_ = {FAILED, REFUSED, WAITING} | ({UNKNOWN} if may_arrive_twice else set())
    row = session.get(Delivery, delivery_id, populate_existing=True)
    if row is not None and row.state == UNKNOWN and not may_arrive_twice:
        raise NotPossible("it may have arrived: sending it again may deliver it twice", code="may_arrive_twice")
    has_content = exists().where(deliveries.c.id == delivery_id, deliveries.c.content_sealed.is_not(None))
    if row is not None and not session.scalar(select(has_content)):
        raise NotPossible("its content is not stored any more", code="content_gone")
    now = now or utc_now()
    told = "only what was not accepted can be sent again"
    values = {} if row is None else {"recipients": list(not_followed_up(session, row))}
    _change(session, delivery_id, from_, QUEUED, told, due_at=None, queued_at=now, not_after_at=None, **values)


def not_followed_up(session: Session, row: Delivery) -> tuple[str, ...]:
    """The recipients of a delivery without those who have one of their own since, in which they are tried again."""
    followed = select(deliveries.c.recipients).where(deliveries.c.parent_id == row.id, deliveries.c.origin == AGAIN)
    elsewhere = {one for recipients in session.scalars(followed) for one in recipients or ()}
    return tuple(one for one in row.recipients or () if one not in elsewhere)


def _change(session: Session, delivery_id: int, from_: Any, to: str, told: str, **values: Any) -> None:
    # The state is asked in the statement that changes it: a worker may be quicker than the look before.
    done = session.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state.in_(sorted(from_)))
        .values(state=to, updated_at=utc_now(), **values)
    )
    if cast(Any, done).rowcount != 1:
        state = session.scalar(select(deliveries.c.state).where(deliveries.c.id == delivery_id))
        raise NotPossible(f"{told}; this one is {state}" if state else "there is no such delivery")
    session.expire_all()


def forget(session: Session, delivery_ids: Sequence[int]) -> int:
    """Deletes deliveries with their attempts, but never one that is under way. The caller commits.

    SQLite does not cascade unless the application asked it to, so both tables are named.
    """
    free = select(deliveries.c.id).where(deliveries.c.id.in_(delivery_ids), deliveries.c.state != CLAIMED)
    ids = session.scalars(free).all()
    session.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids)))
    return int(cast(Any, session.execute(delete(deliveries).where(deliveries.c.id.in_(ids)))).rowcount)


# -- held messages, released by a request ---------------------------------------------------------------------------

#: Longer than any hand-over may last. A claim older than this belongs to a process that died with it.
LEASE = timedelta(minutes=15)


def claim_held(session: Session, by: str, *, connection: str, after_id: int, now: datetime) -> int | None:
    """The oldest held message of a connection behind `after_id`, now claimed by `by`; None when there is none."""
    while True:
        found = session.scalar(
            select(deliveries.c.id)
            .where(deliveries.c.state == HELD, deliveries.c.connection == connection, deliveries.c.id > after_id)
            .order_by(deliveries.c.id)
            .limit(1)
        )
        if found is None:
            return None
        # The database decides who wins: of two processes, one finds the row still held.
        won = session.execute(
            update(deliveries)
            .where(deliveries.c.id == found, deliveries.c.state == HELD)
            .values(state=CLAIMED, claimed_by=by, claimed_until=now + LEASE, queued_at=now, updated_at=now)
        )
        if cast(Any, won).rowcount == 1:
            return int(found)
        after_id = found


def hold_again(session: Session, delivery_id: int, number: int, *, code: str = "", reason: str = "") -> None:
    """Holds a claimed message again, when it is certain that nothing left. Its attempt stays on record.

    Unless it has moved on meanwhile, to another attempt of another process.
    """
    session.execute(
        update(attempts)
        .where(attempts.c.delivery_id == delivery_id, attempts.c.number == number)
        .values(state=FAILED, code=code[:64], reason=reason[:500])
    )
    session.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state == CLAIMED)
        .where(deliveries.c.attempt_count == number)
        .values(
            state=HELD,
            claimed_by="",
            claimed_until=None,
            begun_at=None,
            code=code[:64],
            reason=reason[:500],
            updated_at=utc_now(),
        )
    )
