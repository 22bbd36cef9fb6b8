"""Brings a database to the tables of this version: adds what is missing, and leaves everything else as it is.

What is missing is found by comparing the database with `models`, by means of Alembic. So it does not matter which
version made the tables, an upgrade that was interrupted is simply run again, and applications with migrations of
their own (Flask-Migrate) get the same changes from `flask db migrate`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect, text

from .errors import ConfigurationError
from .models import Base

if TYPE_CHECKING:
    from alembic.operations.ops import MigrateOperation

#: Any number, as long as no other program takes an advisory lock of the same one.
_LOCK_NUMBER = 0x6F75746D61696C
#: How long a change may wait for others to let go of a table. Everybody else waits behind it in the meantime.
LOCK_TIMEOUT_S = 20


def missing(connection: Connection) -> tuple[list[str], list[str]]:
    """The names of our tables that the database lacks, and of the columns ("table.column") that tables lack."""
    found = inspect(connection)
    tables, columns = [], []
    for table in Base.metadata.sorted_tables:
        if not found.has_table(table.name):
            tables.append(table.name)
            continue
        known = {column["name"] for column in found.get_columns(table.name)}
        columns += [f"{table.name}.{column.name}" for column in table.columns if column.name not in known]
    return tables, columns


def upgrade(connection: Connection) -> list[str]:
    """Adds the tables, columns and indexes that are missing; returns their names. The caller commits.

    Nothing is ever dropped or changed, and no table of the application is looked at. Run again it does nothing.

    Raises:
        ConfigurationError: another process is at the same work for too long.
        sqlalchemy.exc.DBAPIError: the database refused, or a table was in use for too long.
    """
    with _alone(connection):
        tables, _ = missing(connection)
        if len(tables) == len(Base.metadata.tables):
            Base.metadata.create_all(connection)
            return tables
        return _add_what_is_missing(connection)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """One process at a time does this, and none waits for ever."""
    kind = connection.dialect.name
    if kind == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})"))
    elif kind in ("mysql", "mariadb"):
        # A table that is in use would be waited for as long as a day.
        connection.execute(text(f"SET SESSION lock_wait_timeout = {LOCK_TIMEOUT_S}"))
        if connection.scalar(text(f"SELECT GET_LOCK('outmail upgrade', {LOCK_TIMEOUT_S})")) != 1:
            raise ConfigurationError("another process is upgrading the tables", code="tables_refused")
    elif kind == "sqlite" and not getattr(connection.connection.dbapi_connection, "in_transaction", True):
        # Python's driver begins no transaction before a statement that makes a table.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        if kind in ("mysql", "mariadb"):
            connection.execute(text("SELECT RELEASE_LOCK('outmail upgrade')"))
            connection.execute(text("SET SESSION lock_wait_timeout = DEFAULT"))


def _add_what_is_missing(connection: Connection) -> list[str]:
    # Alembic takes a moment to load, and only an existing database needs it.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    context = MigrationContext.configure(connection, opts={"include_name": _is_ours, "compare_type": False})
    operations = Operations(context)
    done = []
    for operation in _additions(context):
        operations.invoke(operation)
        done.append(_name(operation))
    return done


def _additions(context: Any) -> Iterator[MigrateOperation]:
    from alembic.autogenerate import produce_migrations
    from alembic.operations import ops

    # No constraints: SQLite can add one only to a copy of the table, and dropping the original would take with it the
    # rows that refer to it. What must be unique in a table that exists already is made so by an index.
    kinds = (ops.CreateTableOp, ops.AddColumnOp, ops.CreateIndexOp)
    with warnings.catch_warnings():
        # Of an application's own indexes that SQLAlchemy cannot describe; they are not our business.
        warnings.simplefilter("ignore")
        found = produce_migrations(context, Base.metadata).upgrade_ops
    stack: list[Any] = [found]
    while stack:
        operation = stack.pop(0)
        if isinstance(operation, ops.OpContainer):
            stack[:0] = operation.ops
        elif isinstance(operation, kinds):
            yield operation


def _is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Alembic asks this before it looks at anything: the tables of the application stay unseen."""
    return kind != "table" or name in Base.metadata.tables


def _name(operation: Any) -> str:
    if hasattr(operation, "column"):
        return f"{operation.table_name}.{operation.column.name}"
    return str(getattr(operation, "index_name", operation.table_name))
