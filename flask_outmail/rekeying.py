"""Putting everything that is stored under the newest key, so that the older ones may go.

Works row by row, each in a short transaction, while the application runs: whatever is read in the meantime is readable
with either key. Run again after an interruption, it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, Table, delete, func, or_, select, update
from sqlalchemy.orm import Session

from . import setups
from .engine import Engine
from .errors import SecretUnreadable
from .models import Base, SavedToken, Setup
from .vault import Vault

#: The end of a column's name that says it is encrypted (`models`).
SEALED = "_sealed"


@dataclass(frozen=True, slots=True)
class Done:
    """How far it is: rows looked at of all in one table, and how many of them could not be read with any key."""

    table: str
    done_count: int
    total_count: int
    unreadable_count: int


def rotate(engine: Engine) -> Iterator[Done]:
    """Seals everything anew, yielding after each row. Touches the database.

    What no key opens is left as it is and counted.

    Raises:
        ConfigurationError: there is no database, or no key.
        TransportUnavailable: the database does not answer; what was done so far stays done.
    """
    vault = engine.vault
    with engine.database.session() as session:
        # Recognised by a hash under the newest key from now on; they would not be found again, and last an hour.
        session.execute(delete(SavedToken))
        session.commit()
        # Before the secrets themselves: what is proven is told by the old hash or by the new one, never by none.
        _renew_proofs(session, vault)
        for table in Base.metadata.sorted_tables:
            columns = [column for column in table.columns if column.name.endswith(SEALED)]
            if columns:
                yield from _table(session, vault, table, columns)


def _renew_proofs(session: Session, vault: Vault) -> None:
    for row in session.scalars(select(Setup).where(Setup.verified_fingerprint != "")):
        try:
            values = setups.values_of(row, vault)
        except SecretUnreadable:
            continue
        known = vault.fingerprints(values.canonical())
        if row.verified_fingerprint in known:
            row.verified_fingerprint = known[0]
    # A test of values that were not saved cannot be recognised anew; it counts for an hour at most, and is made again.
    session.commit()


def _table(session: Session, vault: Vault, table: Table, columns: list[Any]) -> Iterator[Done]:
    key = next(iter(table.primary_key))
    wanted = or_(*(_needs_it(column, vault) for column in columns))
    total = int(session.scalar(select(func.count()).select_from(table).where(wanted)) or 0)
    done = unreadable = 0
    last: Any = None
    while True:
        query = select(key, *columns).where(wanted).order_by(key).limit(1)
        row = session.execute(query if last is None else query.where(key > last)).first()
        if row is None:
            return
        last = row[0]
        try:
            fresh = {column.name: _resealed(value, vault) for column, value in zip(columns, row[1:], strict=True)}
        except SecretUnreadable:
            unreadable += 1
        else:
            # Only if it is still what was read: somebody may have saved another secret in the meantime.
            same = [column == value for column, value in zip(columns, row[1:], strict=True) if value is not None]
            session.execute(update(table).where(key == last, *same).values(fresh))
        session.commit()
        done += 1
        yield Done(table.name, done, total, unreadable)


def _needs_it(column: Any, vault: Vault) -> Any:
    """Stored, and not under the newest key: each value begins with the name of its key."""
    newest: Any = f"{vault.newest_key_id}:"
    if isinstance(column.type, LargeBinary) or column.name == "content_sealed":
        return column.is_not(None) & (func.substr(column, 1, len(newest)) != newest.encode())
    return column.is_not(None) & (column != "") & (func.substr(column, 1, len(newest)) != newest)


def _resealed(value: Any, vault: Vault) -> Any:
    if not value:
        return value
    if isinstance(value, bytes):
        return vault.seal_bytes(vault.open_bytes(value))
    return vault.seal(vault.open(value))
