"""The application's database, through sessions of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, current_app, has_app_context
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from . import models, upgrade
from .errors import ConfigurationError, OutmailError, TransportUnavailable


class Database:
    """Sessions on the database of one application. Safe to use from several threads."""

    def __init__(self, app: Flask, db: Any) -> None:
        self._app = app
        self._db = db

    @property
    def db(self) -> Any:
        """The application's Flask-SQLAlchemy object, or None. Found late too, whatever was initialised first."""
        if self._db is None:
            self._db = self._app.extensions.get("sqlalchemy")
            if self._db is not None:
                models.attach(self._db.metadata)
        return self._db

    def __bool__(self) -> bool:
        return self.db is not None

    @contextmanager
    def session(self, *, wait_s: float | None = None) -> Iterator[Session]:
        """A session of our own, so that our work neither commits nor rolls back the application's.

        `wait_s` is how long to wait for SQLite's lock, in seconds; by default what the application has set (5 s).

        Raises:
            ConfigurationError: there is no database, or our tables are not in it.
            TransportUnavailable: the database does not answer (nothing was sent).
        """
        if not self:
            raise ConfigurationError(
                "this needs a database: give Mail the application's Flask-SQLAlchemy object", code="database_missing"
            )
        with self._app_context(), self.faults(), self._new_session(wait_s) as session:
            yield session

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turns what the database raises into errors of ours; see `session`."""
        try:
            yield
        except (DBAPIError, PoolTimeout) as exc:
            # From None: a database's own text quotes the values of the statement, addresses and subjects too.
            raise self._fault(exc) from None

    @property
    def is_shared(self) -> bool:
        """Whether other processes see what is stored here. Not so without a database, or with one in memory."""
        if not self:
            return False
        with self._app_context():
            engine = self.db.engine
        return engine.dialect.name != "sqlite" or engine.url.database not in (None, "", ":memory:")

    @contextmanager
    def connection(self, lock_wait_s: float) -> Iterator[Connection]:
        """A connection of our own, for what may be left undone: it waits no longer than that for a lock.

        The caller commits.

        Raises:
            SQLAlchemyError: as SQLAlchemy has it.
        """
        with self._app_context(), self._engine().connect() as connection:
            question, order, patience = _lock_waits(connection.dialect.name, lock_wait_s)
            usual = connection.exec_driver_sql(question).scalar_one() if question else ""
            if question:
                connection.exec_driver_sql(order.format(patience))
                # PostgreSQL takes a setting back with the transaction it was made in.
                connection.commit()
            try:
                yield connection
            finally:
                try:
                    connection.rollback()
                    if question:
                        connection.exec_driver_sql(order.format(usual))
                        connection.commit()
                except SQLAlchemyError:
                    # A connection that cannot be given back as it was is not given back.
                    connection.invalidate()

    def tables_missing(self) -> bool:
        """Whether the database lacks a table of ours. Touches the database."""
        return bool(self._missing()[0])

    def _missing(self) -> tuple[list[str], list[str]]:
        with self._app_context(), self._new_session() as session:
            # On the session's own connection: for a database in memory another would roll the application's work back.
            return upgrade.missing(session.connection())

    def create_tables(self) -> list[str]:
        """Creates our tables, and adds to those of an earlier version what this one needs; returns what was added.

        Rows stay as they are, and so do the application's own tables.

        Raises:
            ConfigurationError: there is no database, or it refused; the message tells what it said.
            TransportUnavailable: the database does not answer.
        """
        if not self:
            raise ConfigurationError(
                "there is no database: give Mail the application's Flask-SQLAlchemy object", code="database_missing"
            )
        with self._app_context():
            try:
                with self.db.engine.begin() as connection:
                    return upgrade.upgrade(connection)
            except (DBAPIError, PoolTimeout) as exc:
                raise self._refused(exc) from None

    def use_wal(self) -> bool:
        """Switches an SQLite file to its write-ahead log (WAL), which stays with the file; whether that changed it.

        Otherwise every worker that looks for mail keeps requests from writing, and the other way round. Only the
        command does this, not `init_app`: the file is the application's, and WAL does not work on a network drive.

        Raises:
            ConfigurationError: somebody else has the file open.
        """
        with self._app_context():
            if self.db.engine.dialect.name != "sqlite":
                return False
            try:
                with self.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    before = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
                    after = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
                    return bool(before != after == "wal")
            except DBAPIError as exc:
                raise self._refused(exc) from None

    def _refused(self, exc: SQLAlchemyError) -> OutmailError:
        try:
            self._missing()
        except SQLAlchemyError:
            return self._fault(exc)
        # Statements that make tables hold no person's data, so what the database says of them may be told.
        said = str(getattr(exc, "orig", exc)).strip()
        return ConfigurationError(f"the database did not take the change: {said}", code="tables_refused", detail=said)

    @contextmanager
    def _app_context(self) -> Iterator[None]:
        # Flask-SQLAlchemy asks the current application which database it means.
        if has_app_context() and current_app._get_current_object() is self._app:  # type: ignore[attr-defined]
            yield
        else:
            with self._app.app_context():
                yield

    def _engine(self) -> Engine:
        """The application's engine; when its pool has nothing left to lend, one that opens a connection beside it.

        A request that is in a transaction keeps its connection while it waits for ours. When all of a pool are kept
        like that, each would wait for the others until the pool gives up.
        """
        engine: Engine = self.db.engine
        pool = engine.pool
        if not isinstance(pool, QueuePool) or pool.checkedin() or not 0 <= pool._max_overflow <= pool.overflow():
            return engine
        # With the listeners of the application's pool, which may prepare each connection (a PRAGMA, a search path).
        beside = NullPool(pool._creator, dialect=engine.dialect, _dispatch=pool.dispatch)
        options = engine.get_execution_options()
        return Engine(
            beside, engine.dialect, engine.url, execution_options=options, hide_parameters=engine.hide_parameters
        )

    @contextmanager
    def _new_session(self, wait_s: float | None = None) -> Iterator[Session]:
        engine = self._engine()
        if isinstance(engine.pool, StaticPool):
            # An SQLite database in memory has one connection. A second session on it would commit or roll back what
            # the application has not finished, so it works inside the application's transaction instead.
            own = self.db.session()
            if own.in_transaction():
                joined = Session(own.connection(), expire_on_commit=False, join_transaction_mode="create_savepoint")
                with joined as session:
                    yield session
                return
        elif wait_s is not None and engine.dialect.name == "sqlite":
            with (
                engine.connect() as connection,
                _patience(connection, wait_s),
                Session(connection, expire_on_commit=False) as session,
            ):
                yield session
            return
        if engine.dialect.name in ("mysql", "mariadb"):
            # What others have committed is seen at once, and a look at an index locks no gap in it.
            engine = engine.execution_options(isolation_level="READ COMMITTED")
        with Session(engine, expire_on_commit=False) as session:
            yield session

    @property
    def is_sqlite(self) -> bool:
        with self._app_context():
            return bool(self.db.engine.dialect.name == "sqlite")

    @property
    def is_in_memory(self) -> bool:
        """Whether it is an SQLite database in memory: one connection, which all share."""
        with self._app_context():
            return isinstance(self.db.engine.pool, StaticPool)

    def application_session(self) -> Session | None:
        """The application's own session, when it is in the middle of a transaction."""
        if not self or not has_app_context() or current_app._get_current_object() is not self._app:  # type: ignore[attr-defined]
            return None
        registry = self.db.session.registry
        if not registry.has():
            return None
        session: Session = registry()
        return session if session.in_transaction() else None

    def _fault(self, exc: SQLAlchemyError) -> OutmailError:
        try:
            # A lock says nothing about tables, and looking for them would wait for it once more.
            tables, columns = ([], []) if _is_locked(exc) else self._missing()
        except SQLAlchemyError:
            tables, columns = [], []
        if len(tables) == len(models.Base.metadata.tables):
            return ConfigurationError("the tables are missing: run `flask outmail init-db`", code="tables_missing")
        if tables or columns:
            return ConfigurationError(
                "the tables are those of an earlier version: run `flask outmail init-db`"
                f" (missing: {', '.join((tables + columns)[:5])})",
                code="tables_outdated",
            )
        # Only the kind of fault: the text of a database error quotes the values of the statement.
        return TransportUnavailable(
            "the database did not answer", code="database_unavailable", detail=type(getattr(exc, "orig", exc)).__name__
        )


def _is_locked(exc: SQLAlchemyError) -> bool:
    return "locked" in str(getattr(exc, "orig", ""))


@contextmanager
def _patience(connection: Connection, wait_s: float) -> Iterator[None]:
    """Lets SQLite wait so long for a lock on this connection."""
    raw: Any = connection.connection.dbapi_connection
    (before,) = raw.execute("PRAGMA busy_timeout").fetchone()
    raw.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA busy_timeout = {int(before)}")


def _lock_waits(dialect: str, seconds: float) -> tuple[str, str, str]:
    """How a database is asked how long it waits for a lock, how it is told, and the time as it wants it."""
    if dialect == "sqlite":
        return "PRAGMA busy_timeout", "PRAGMA busy_timeout = {}", str(int(seconds * 1000))
    if dialect == "postgresql":
        return "SHOW lock_timeout", "SET lock_timeout = '{}'", f"{int(seconds * 1000)}ms"
    if dialect in ("mysql", "mariadb"):
        # Whole seconds, and none is not allowed.
        words = "innodb_lock_wait_timeout"
        return f"SELECT @@SESSION.{words}", f"SET SESSION {words} = {{}}", str(max(1, round(seconds)))
    return "", "", ""
