"""Tokens in the application's database, so that its processes share one: encrypted, and named by a keyed hash.

The work of a message must not wait for this: on SQLite a lock that somebody holds, perhaps the very request that
sends, is waited for a moment only, and then each process has its own token.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from .database import Database
from .models import SavedToken, utc_now
from .vault import Vault

#: How long a lock in the database is waited for.
LOCK_WAIT_S = 0.2
#: How many tokens are kept in a process without a database; the oldest goes first.
OWN_MAX = 50

_table: Any = SavedToken.__table__


class StoredTokens:
    """A `tokens.TokenStore` over a database. Safe to use from several threads, and after `fork`.

    Without a database that others see it keeps tokens in this process: for transports that are made anew, after a
    fork too.
    """

    def __init__(self, database: Database, vault: Callable[[], Vault]) -> None:
        self._database = database
        self._vault = vault
        self._own: dict[str, str] = {}

    def load(self, key: str) -> str | None:
        if not self._database.is_shared:
            return self._own.get(key)
        wanted = select(_table.c.token_sealed).where(_table.c.id == self._id(key), _table.c.expires_at > utc_now())
        with self._database.connection(LOCK_WAIT_S) as connection:
            sealed = connection.scalar(wanted)
        return self._vault().open(sealed) if sealed else None

    def save(self, key: str, text: str, seconds: float) -> None:
        if not self._database.is_shared:
            while len(self._own) >= OWN_MAX:
                self._own.pop(next(iter(self._own)), None)
            self._own[key] = text
            return
        now = utc_now()
        values = {
            "token_sealed": self._vault().seal(text),
            "expires_at": now + timedelta(seconds=seconds),
            "claimed_until": None,
        }
        row = self._id(key)
        with self._database.connection(LOCK_WAIT_S) as connection:
            if not connection.execute(update(_table).where(_table.c.id == row).values(values)).rowcount:
                _add(connection, id=row, **values)
            connection.commit()
            # Those of secrets that were replaced. Looked for first: a delete by date would lock what it passes.
            old = connection.scalars(select(_table.c.id).where(_table.c.expires_at < now)).all()
            if old:
                connection.execute(delete(_table).where(_table.c.id.in_(old)))
                connection.commit()

    def claim(self, key: str, seconds: float) -> bool:
        if not self._database.is_shared:
            return True
        now, row = utc_now(), self._id(key)
        until = now + timedelta(seconds=seconds)
        # A clock that was set back must not make a claim last for ever. Twice, because those of others are made at
        # other moments, by other clocks.
        too_far = now + timedelta(seconds=2 * seconds)
        free = or_(_table.c.claimed_until.is_(None), _table.c.claimed_until < now, _table.c.claimed_until > too_far)
        with self._database.connection(LOCK_WAIT_S) as connection:
            # First, and in a transaction of its own: InnoDB locks the gap where an update finds nothing, and two
            # processes that then insert there would wait for each other.
            is_there = connection.scalar(select(_table.c.id).where(_table.c.id == row)) is not None
            connection.rollback()
            if not is_there and _add(connection, id=row, claimed_until=until):
                connection.commit()
                return True
            connection.rollback()
            taken = connection.execute(update(_table).where(_table.c.id == row, free).values(claimed_until=until))
            connection.commit()
            return taken.rowcount == 1

    def release(self, key: str) -> None:
        if self._database.is_shared:
            with self._database.connection(LOCK_WAIT_S) as connection:
                connection.execute(update(_table).where(_table.c.id == self._id(key)).values(claimed_until=None))
                connection.commit()

    def _id(self, key: str) -> str:
        return self._vault().fingerprints(key)[0]


def _add(connection: Connection, **values: Any) -> bool:
    """Whether the row was added; False when another process was first."""
    try:
        with connection.begin_nested():
            connection.execute(_table.insert().values(values))
    except IntegrityError:
        return False
    return True
