"""Adding a row unless there is one with the same key, on each database in its own words."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Session


def insert_unless_there(session: Session, table: Table, values: dict[str, Any], *, key: tuple[str, ...]) -> None:
    """Inserts a row; when another has the same `key` nothing happens, and the transaction goes on unharmed."""
    dialect = dialect_of(session, table)
    statement: Any
    if dialect in ("mysql", "mariadb"):
        from sqlalchemy.dialects import mysql

        # Not INSERT IGNORE, which would also pass over values that are too long.
        statement = mysql.insert(table).values(**values).on_duplicate_key_update({key[0]: table.c[key[0]]})
    elif dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        statement = postgresql.insert(table).values(**values).on_conflict_do_nothing(index_elements=key)
    else:
        from sqlalchemy.dialects import sqlite

        statement = sqlite.insert(table).values(**values).on_conflict_do_nothing(index_elements=key)
    session.execute(statement)


def dialect_of(session: Session, table: Table) -> str:
    # With the table, because the application's session may have several databases.
    return str(session.get_bind(clause=table).dialect.name)
