"""Sending a message of the log again: a new delivery, linked to the old one, as long as its content is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import make_msgid
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, undefer

from ..address import check_addresses
from ..content import Content
from ..envelope import Envelope
from ..headers import wire
from ..models import Delivery, utc_now
from ..transports.guarded import addressed
from ..vault import Vault
from .claims import deliveries
from .states import ACCEPTED, CANCELLED, FAILED, QUEUED, REFUSED, UNKNOWN
from .store import Draft, NotPossible, Queued, add, not_followed_up

#: What can be sent again.
AGAIN = (ACCEPTED, REFUSED, FAILED, UNKNOWN, CANCELLED)
#: What can be sent again in bulk: what a cause has kept from being accepted.
AGAIN_IN_BULK = (REFUSED, FAILED, UNKNOWN)
#: How a delivery that was made here came to be.
RESENT = "resent"
#: Most messages of one bulk.
BULK_MAX = 500
#: Rows read at a time: their contents are in memory together.
_TOGETHER = 20


def resend(
    session: Session, vault: Vault, delivery_id: int, *, once: str, to: str = "", may_arrive_twice: bool = False
) -> Queued:
    """Queues a copy of a delivery, for its own recipients or for `to` alone. The caller commits.

    `once` names the wish: asked for again with the same one, nothing is added and `is_new` is False.

    Raises:
        NotPossible: it has still to leave, its content is gone, or it is unknown, would go to the same recipients
            again, and nobody has said that it may arrive twice.
        SecretUnreadable: its content cannot be read with the present keys.
        InvalidMessage: `to` is no address.
    """
    row = session.get(Delivery, delivery_id)
    if row is None:
        raise NotPossible("there is no such delivery")
    if row.state not in AGAIN or row.due_at is not None:
        raise NotPossible(f"only what is settled can be sent again; this one is {row.state}")
    if row.state == UNKNOWN and not to and not may_arrive_twice:
        raise NotPossible("it may have arrived: sending it again may deliver it twice", code="may_arrive_twice")
    if to:
        check_addresses([("recipient", to)])
        to = wire(to, "recipient")
    return _copy(session, vault, row, key=f"resent-{row.uid or row.id}-{once}"[:200], to=to)


def _copy(session: Session, vault: Vault, row: Delivery, *, key: str, to: str = "") -> Queued:
    if row.content_sealed is None:
        raise NotPossible("its content is not stored any more", code="content_gone")
    sealed, message_id, recipients = row.content_sealed, row.message_id, tuple(row.recipients or ())
    if row.state != ACCEPTED:
        # One that was accepted is wanted a second time; of another, some may have what they wait for.
        recipients = not_followed_up(session, row)
    if to or row.state == ACCEPTED:
        # Another message than the one that was accepted: servers drop a second one of the same name, and a look
        # for it must not find the first.
        envelope = _renamed(Envelope.from_bytes(vault.open_bytes(sealed)))
        if to:
            envelope = addressed(envelope, (to,), redirected=True)
        sealed, message_id, recipients = vault.seal_bytes(envelope.to_bytes()), envelope.message_id, envelope.recipients
    now = utc_now()
    return add(
        session,
        Draft(
            key=key,
            connection=row.connection,
            state=QUEUED,
            origin=RESENT,
            turn=row.turn,
            queued_at=now,
            created_at=now,
            message_id=message_id,
            sender=row.sender,
            recipients=recipients,
            subject=row.subject,
            size_bytes=row.size_bytes,
            parent_id=row.id,
            keeps_content=row.keeps_content,
            sealed=sealed,
        ),
    )


def _renamed(envelope: Envelope) -> Envelope:
    """The envelope with a Message-ID of its own."""
    domain = envelope.message_id.rpartition("@")[2].rstrip(">") or "localhost"
    fresh = make_msgid(domain=domain)
    head, *rest = envelope.content.pieces
    assert isinstance(head, bytes)  # noqa: S101 -- the headers are always the first piece
    renamed = head.replace(envelope.message_id.encode(), fresh.encode(), 1)
    return replace(envelope, message_id=fresh, content=Content((renamed, *rest)))


def _with_content(ids: Sequence[int]) -> Any:
    return select(Delivery).options(undefer(Delivery.content_sealed)).where(Delivery.id.in_(ids))


# -- in bulk ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bulk:
    """Which messages a bulk means: not accepted, for one cause, made within a time, and not sent again before.

    `last_id` is the newest one that the person was shown: what fails afterwards is not meant.
    """

    states: tuple[str, ...] = (FAILED, REFUSED)
    code: str = ""
    connection: str = ""
    since: datetime | None = None
    until: datetime | None = None
    last_id: int = 0

    def condition(self) -> ColumnElement[bool]:
        """What makes a row one of the bulk, content or not."""
        child = deliveries.alias("child")
        # Read once, not looked up for each row: where few have a parent, a planner takes the index for useless.
        again = select(child.c.parent_id).where(child.c.parent_id.is_not(None), child.c.origin == RESENT)
        parts: list[Any] = [
            deliveries.c.state.in_(self.states),
            deliveries.c.due_at.is_(None),
            deliveries.c.id.not_in(again),
        ]
        if self.code:
            parts.append(deliveries.c.code == self.code)
        if self.connection:
            parts.append(deliveries.c.connection == self.connection)
        if self.since is not None:
            parts.append(deliveries.c.created_at >= self.since)
        if self.until is not None:
            parts.append(deliveries.c.created_at < self.until)
        if self.last_id:
            parts.append(deliveries.c.id <= self.last_id)
        return and_(*parts)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a bulk would do: how many can be sent again, how many cannot (content gone), the oldest, some examples."""

    count: int
    gone: int
    unknown: int
    last_id: int
    oldest_at: datetime | None
    examples: Sequence[Delivery]


def preview(session: Session, bulk: Bulk, *, examples: int = 5) -> Preview:
    """What a bulk would do now. Changes nothing."""
    wanted, has_content = bulk.condition(), deliveries.c.content_sealed.is_not(None)
    facts = select(func.count(), func.max(deliveries.c.id), func.min(deliveries.c.created_at))
    count, last_id, oldest_at = session.execute(facts.select_from(deliveries).where(wanted, has_content)).one()
    counted = select(func.count()).select_from(deliveries).where(wanted)
    gone = session.scalar(counted.where(~has_content)) or 0
    unknown = session.scalar(counted.where(has_content, deliveries.c.state == UNKNOWN)) or 0
    shown = select(Delivery).where(wanted, has_content).order_by(Delivery.id.desc()).limit(examples)
    return Preview(int(count), int(gone), int(unknown), int(last_id or 0), oldest_at, session.scalars(shown).all())


def resend_bulk(session: Session, vault: Vault, bulk: Bulk, *, limit: int, may_arrive_twice: bool = False) -> int:
    """Queues copies of up to `limit` messages of a bulk, oldest first; returns how many. The caller commits.

    A message takes part in a bulk once: however often the button is pressed, and by whomever, one copy is queued.

    Raises:
        NotPossible: unknown ones are among the states, and nobody has said that they may arrive twice.
    """
    if UNKNOWN in bulk.states and not may_arrive_twice:
        raise NotPossible("they may have arrived: sending them again may deliver them twice", code="may_arrive_twice")
    wanted = (bulk.condition(), deliveries.c.content_sealed.is_not(None))
    found = select(deliveries.c.id).where(*wanted).order_by(deliveries.c.id).limit(min(limit, BULK_MAX))
    ids = session.scalars(found).all()
    count = 0
    for start in range(0, len(ids), _TOGETHER):
        for row in session.scalars(_with_content(ids[start : start + _TOGETHER])).all():
            if row.content_sealed is not None:
                # The key, not the look before, is what makes it one copy.
                count += _copy(session, vault, row, key=f"bulk-{row.uid or row.id}").is_new
        session.expunge_all()
    return count
