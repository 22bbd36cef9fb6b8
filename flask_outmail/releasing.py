"""Held messages: those that waited for a setup to pass its test leave, oldest first, a little at a time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .connections import Connections
from .current import Current
from .database import Database
from .envelope import Receipt
from .errors import (
    ConfigurationError,
    DeliveryError,
    DeliveryUnknown,
    OutmailError,
    RecipientsRefused,
    SenderRefused,
)
from .models import utc_now
from .outbox import claims, finishing, hands, store, verdicts
from .outbox.claims import Begun
from .outbox.hands import Job
from .outbox.retry import Try
from .outbox.spool import Spool, verdict_entry
from .outbox.states import ACCEPTED
from .settings import PRIMARY
from .vault import Vault

logger = logging.getLogger(__name__)

#: How much of a caller's time may go into releasing messages that were held.
SLICE_S = 1.0


class Releasing:
    """Releases the held messages of one application.

    `tell` is given each failure, with the setup that met it; `settled` the facts of `signals.delivery_settled`.
    """

    def __init__(
        self,
        database: Database,
        connections: Connections,
        vault: Callable[[], Vault],
        spool: Spool,
        tell: Callable[[OutmailError, Current], None],
        settled: Callable[..., None],
    ) -> None:
        self._database = database
        self._connections = connections
        self._vault = vault
        self._spool = spool
        self._tell = tell
        self._settled = settled

    def release(self, connection: str = PRIMARY, *, budget_s: float = 10.0) -> tuple[int, int]:
        """Hands over held messages, oldest first, for at most `budget_s` seconds; returns (accepted, not accepted).

        Stops early when the connection itself fails; what is certain not to have left is held again.
        """
        accepted = refused = 0
        deadline = time.monotonic() + budget_s
        current = self._connections.current(connection, fresh=True)
        if current is None or not current.verified:
            return 0, 0
        if current.source != "database" and self._database.tables_missing():
            return 0, 0  # nothing can have been held
        by = f"release-{os.getpid()}-{uuid4().hex[:12]}"
        with self._database.session() as session:
            claims.bury_expired(session, now=utc_now())
            session.commit()
            last_id = 0
            # Looked up for each: the setup may be replaced while a backlog leaves, as a person does who sees it wrong.
            while time.monotonic() < deadline and (current := self._connections.current(connection)) is not None:
                if not current.verified:
                    break
                begun = _begin(session, by, current, connection, last_id)
                if begun is None:
                    break
                last_id = begun.id
                outcome = hands.perform(Job(connection, begun, current), self._vault())
                result, now = outcome.result, utc_now()
                if _stays_held(result, outcome.tried):
                    assert isinstance(result, OutmailError)  # noqa: S101 -- what was accepted does not stay
                    store.hold_again(session, begun.id, begun.number, code=result.code, reason=str(result))
                    session.commit()
                    if isinstance(result, RecipientsRefused) or result.code == "secret_unreadable":
                        continue  # the trouble is this message's own; the others need not wait for it
                    break
                verdict = verdicts.settled(result, connection=connection, elapsed_s=outcome.elapsed_s)
                verdict = replace(verdict, delivery_id=begun.id, number=begun.number)
                try:
                    finishing.finish(session, [verdict], now=now)
                    session.commit()
                except SQLAlchemyError:
                    # What is known of a message that has left must not be lost with the database.
                    self._spool.put(verdict_entry(begun.id, begun.number, verdict.to_dict()))
                    raise
                if verdict.state == ACCEPTED:
                    accepted += 1
                else:
                    refused += 1
                    if isinstance(result, OutmailError):
                        self._tell(result, current)
                receipt, error = (result, None) if isinstance(result, Receipt) else (None, result)
                facts = {"connection": connection, "state": verdict.state, "receipt": receipt, "error": error}
                self._settled(delivery_id=begun.uid or str(begun.id), **facts)
        if accepted or refused:
            logger.info("held messages released", extra={"accepted_count": accepted, "not_accepted_count": refused})
            self._connections.look_soon()
        return accepted, refused

    def release_a_little(self, connection: str) -> None:
        """`release` for a caller who came for something else. Never raises."""
        try:
            self.release(connection, budget_s=SLICE_S)
        except (OutmailError, SQLAlchemyError) as exc:
            logger.warning("held messages were not released", extra={"error": type(exc).__name__})


def _begin(session: Session, by: str, current: Current, connection: str, after_id: int) -> Begun | None:
    while True:
        now = utc_now()
        claimed = store.claim_held(session, by, connection=connection, after_id=after_id, now=now)
        if claimed is None:
            session.commit()
            return None
        name, setup_id = current.transport.name, current.setup_id
        begun = claims.begin(session, by, [claimed], now=now, transport=name, setup_id=setup_id)
        session.commit()
        if begun:
            return begun[0]
        after_id = claimed  # it may not leave any more, or has no content


def _stays_held(outcome: Receipt | OutmailError, tried: Try) -> bool:
    """Whether nothing left for sure, and the trouble is not this message's own."""
    if isinstance(outcome, (Receipt, DeliveryUnknown)):
        return False
    if isinstance(outcome, SenderRefused):
        # A From that the setup gives is refused for all, and one that a message brings, for it alone. What is denied
        # is not tried over and over: Exchange blocks a mailbox for that.
        return tried.sender_is_setups
    if isinstance(outcome, ConfigurationError):
        return True
    return isinstance(outcome, DeliveryError) and (outcome.fault == "connection" or outcome.retryable)
