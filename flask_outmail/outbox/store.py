"""Deliveries in the database: kept while they are held, claimed by one process at a time, finished with a state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from ..envelope import Envelope, Receipt
from ..errors import DeliveryError, DeliveryUnknown, OutmailError, SecretUnreadable
from ..models import Attempt, Delivery, utc_now
from ..vault import Vault

HELD, CLAIMED, ACCEPTED, FAILED, UNKNOWN = "held", "claimed", "accepted", "failed", "unknown"

#: Each state in a sentence a person can read.
STATES = {
    HELD: "Waiting: the active setup had not passed a test. It leaves soon after one has.",
    CLAIMED: "Being handed over now.",
    ACCEPTED: "The server has taken it over. That is not yet its arrival.",
    FAILED: "Not accepted; nothing more will be tried by itself.",
    UNKNOWN: "It left, and no answer came: it may have arrived. It is never sent again by itself.",
}

#: Longer than any hand-over may last. A claim older than this belongs to a process that died with it.
LEASE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours until the lease ends."""

    id: int
    connection: str
    envelope: Envelope


def hold(session: Session, envelope: Envelope, vault: Vault, *, subject: str, connection: str) -> None:
    """Keeps a message until a test passes. Flushes; the caller commits."""
    data = envelope.to_bytes()
    digest = vault.fingerprints(f"{connection} {hashlib.sha256(data).hexdigest()}")[0]
    # Exactly the same message, handed in again by a caller that retries while it is held, is one message. One that
    # differs in anything, or that was held and has left, is another.
    known = session.scalar(select(Delivery.id).where(Delivery.digest == digest, Delivery.state == HELD).limit(1))
    if known is not None:
        return
    session.add(
        Delivery(
            connection=connection,
            state=HELD,
            message_id=envelope.message_id[:255],
            digest=digest,
            sender=envelope.from_address,
            recipients=list(envelope.recipients),
            subject=subject[:255],
            content_sealed=vault.seal_bytes(data),
        )
    )
    session.flush()


def has_held(session: Session, connection: str) -> bool:
    """Whether a message of this connection is held."""
    found = exists().where(Delivery.state == HELD, Delivery.connection == connection)
    return bool(session.scalar(select(found)))


def claim_held(session: Session, vault: Vault, *, connection: str, after_id: int = 0) -> Claimed | None:
    """The oldest held message of a connection behind `after_id`, now ours; None when there is none. Commits.

    One that cannot be decrypted stays held, and those behind it do not wait for it.
    """
    while True:
        row = session.scalars(
            select(Delivery)
            .where(Delivery.state == HELD, Delivery.connection == connection, Delivery.id > after_id)
            .order_by(Delivery.id)
            .limit(1)
        ).first()
        if row is None:
            return None
        after_id = row.id
        try:
            envelope = Envelope.from_bytes(vault.open_bytes(row.content_sealed or b""))
        except SecretUnreadable as exc:
            row.code, row.reason = exc.code, str(exc)
            session.commit()
            continue
        # The database decides who wins: of two processes, one finds the row still held.
        won = session.execute(
            update(Delivery)
            .where(Delivery.id == row.id, Delivery.state == HELD)
            .values(state=CLAIMED, claimed_until=utc_now() + LEASE, updated_at=utc_now())
            .execution_options(synchronize_session=False)
        )
        session.commit()
        if won.rowcount == 1:  # type: ignore[attr-defined]
            return Claimed(row.id, row.connection, envelope)


def hold_again(session: Session, claimed: Claimed) -> None:
    """Gives a claimed message back, when it is certain that nothing left. Commits."""
    _set(session, claimed.id, HELD)
    session.commit()


def finish(session: Session, claimed: Claimed, outcome: Receipt | OutmailError) -> str:
    """Records what came of a claimed message and drops its content when it is accepted. Commits; returns the state."""
    if isinstance(outcome, Receipt):
        state = ACCEPTED
        code = "recipients_refused" if outcome.refused else ""
        refused = (f"{address}: {refusal.code} {refusal.text}" for address, refusal in outcome.refused.items())
        reason = "; ".join(refused)[:500]
        request_id, elapsed_s = outcome.request_id, outcome.elapsed_s
    else:
        state = UNKNOWN if isinstance(outcome, DeliveryUnknown) else FAILED
        code, reason = outcome.code[:64], str(outcome)[:500]
        request_id = outcome.request_id if isinstance(outcome, DeliveryError) else ""
        elapsed_s = 0.0
    session.add(
        Attempt(
            delivery_id=claimed.id,
            connection=claimed.connection,
            state=state,
            code=code,
            reason=reason,
            request_id=request_id[:255],
            elapsed_s=elapsed_s,
        )
    )
    _set(session, claimed.id, state, code=code, reason=reason)
    session.commit()
    return state


def _set(session: Session, delivery_id: int, state: str, *, code: str = "", reason: str = "") -> None:
    values = {"state": state, "code": code, "reason": reason, "claimed_until": None, "updated_at": utc_now()}
    if state == ACCEPTED:
        values["content_sealed"] = None
    session.execute(
        update(Delivery).where(Delivery.id == delivery_id).values(**values).execution_options(synchronize_session=False)
    )


def bury_the_dead(session: Session) -> int:
    """Marks claims whose process died as unknown: it may have been handed over. Commits; returns how many."""
    found = session.execute(
        update(Delivery)
        .where(Delivery.state == CLAIMED, Delivery.claimed_until < utc_now())
        .values(
            state=UNKNOWN,
            code="process_died",
            reason="the process that was handing it over ended, or could not record what came of it",
            claimed_until=None,
            updated_at=utc_now(),
        )
        .execution_options(synchronize_session=False)
    )
    session.commit()
    return int(found.rowcount)  # type: ignore[attr-defined]


def counts(session: Session) -> dict[str, int]:
    """How many deliveries are in each state; states without any are left out."""
    rows = session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all()
    return {str(row[0]): int(row[1]) for row in rows}


def newest(session: Session, *, state: str = "", limit: int = 50) -> Sequence[Delivery]:
    """Deliveries, newest first."""
    query = select(Delivery).order_by(Delivery.id.desc()).limit(limit)
    return session.scalars(query.where(Delivery.state == state) if state else query).all()
