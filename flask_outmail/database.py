"""The application's database, through sessions of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, current_app, has_app_context
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from . import models
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
    def session(self) -> Iterator[Session]:
        """A session of our own, so that our work neither commits nor rolls back the application's.

        Raises:
            ConfigurationError: there is no database, or our tables are not in it.
            TransportUnavailable: the database does not answer (nothing was sent).
        """
        if not self:
            raise ConfigurationError(
                "this needs a database: give Mail the application's Flask-SQLAlchemy object", code="database_missing"
            )
        with self._app_context():
            try:
                with self._new_session() as session:
                    yield session
            except (DBAPIError, PoolTimeout) as exc:
                # From None: a database's own text quotes the values of the statement, addresses and subjects too.
                raise self._fault(exc) from None

    def tables_missing(self) -> bool:
        """Whether the database lacks our tables. Touches the database."""
        with self._app_context(), self._new_session() as session:
            # On the session's own connection: for a database in memory another would roll the application's work back.
            found = inspect(session.connection())
            return not all(found.has_table(name) for name in models.Base.metadata.tables)

    def create_tables(self) -> None:
        """Creates our tables; those that exist stay as they are.

        Raises:
            ConfigurationError: there is no database.
        """
        if not self:
            raise ConfigurationError(
                "there is no database: give Mail the application's Flask-SQLAlchemy object", code="database_missing"
            )
        with self._app_context():
            models.Base.metadata.create_all(self.db.engine)

    @contextmanager
    def _app_context(self) -> Iterator[None]:
        # Flask-SQLAlchemy asks the current application which database it means.
        if has_app_context() and current_app._get_current_object() is self._app:  # type: ignore[attr-defined]
            yield
        else:
            with self._app.app_context():
                yield

    def _new_session(self) -> Session:
        engine = self.db.engine
        if isinstance(engine.pool, StaticPool):
            # An SQLite database in memory has one connection. A second session on it would commit or roll back what
            # the application has not finished, so it works inside the application's transaction instead.
            own = self.db.session()
            if own.in_transaction():
                return Session(own.connection(), expire_on_commit=False, join_transaction_mode="create_savepoint")
        return Session(engine, expire_on_commit=False)

    def _fault(self, exc: SQLAlchemyError) -> OutmailError:
        try:
            missing = self.tables_missing()
        except SQLAlchemyError:
            missing = False
        if missing:
            return ConfigurationError("the tables are missing: run `flask outmail init-db`", code="tables_missing")
        # Only the kind of fault: the text of a database error quotes the values of the statement.
        return TransportUnavailable(
            "the database did not answer", code="database_unavailable", detail=type(getattr(exc, "orig", exc)).__name__
        )
