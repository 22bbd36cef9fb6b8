"""Tokens in a database: one process claims, all find, and nobody waits long for a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func, select, update

from flask_outmail.database import Database
from flask_outmail.models import SavedToken, utc_now
from flask_outmail.token_store import StoredTokens
from flask_outmail.vault import Vault, generate_key

KEY = "k" * 64
MakeStore = Callable[[], StoredTokens]


@pytest.fixture
def make_store(database_url: str) -> Iterator[MakeStore]:
    """Stores as separate processes have them: each with its own pool of connections, with the same keys."""
    vault, databases = Vault([generate_key()]), []

    def make() -> StoredTokens:
        app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        database = Database(app, SQLAlchemy(app))
        if not databases:
            database.create_tables()
        with app.app_context():
            databases.append(database.db.engine)
        return StoredTokens(database, lambda: vault)

    yield make
    for engine in databases:
        engine.dispose()


def row_of(store: StoredTokens) -> SavedToken:
    with store._database.session() as session:
        return session.scalars(select(SavedToken)).one()


def test_what_one_saves_another_finds_until_it_ends(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    assert two.load(KEY) is None
    one.save(KEY, "a token", 3600)
    assert two.load(KEY) == "a token" and two.load("other") is None
    two.save(KEY, "a newer one", 3600)
    assert one.load(KEY) == "a newer one"
    one.save(KEY, "ended", -1)
    assert one.load(KEY) is None


def test_nothing_in_the_row_can_be_read(make_store: MakeStore) -> None:
    store = make_store()
    store.save(KEY, "a token", 3600)
    row = row_of(store)
    assert row.token_sealed and "a token" not in row.token_sealed and KEY not in (row.id, row.token_sealed)


def test_of_many_that_claim_at_once_one_gets_it(make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(8)]
    for _ in range(5):
        start = threading.Barrier(len(stores))

        def claim(store: StoredTokens, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                return store.claim(KEY, 60)
            except Exception:
                # A lock that took too long: this one asks for itself, which is dear but right.
                return False

        with ThreadPoolExecutor(len(stores)) as pool:
            claims = list(pool.map(claim, stores))
        assert sum(claims) == 1
        stores[claims.index(True)].release(KEY)


def test_a_claim_ends_with_a_token_or_with_its_time(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    assert one.claim(KEY, 60) and not two.claim(KEY, 60)
    one.save(KEY, "a token", 3600)
    assert two.claim(KEY, 60)
    with two._database.session() as session:
        session.execute(update(SavedToken).values(claimed_until=utc_now() - timedelta(seconds=1)))
        session.commit()
    assert one.claim(KEY, 60)
    # A clock that was set back leaves a claim far in the future.
    with two._database.session() as session:
        session.execute(update(SavedToken).values(claimed_until=utc_now() + timedelta(hours=5)))
        session.commit()
    assert one.claim(KEY, 60)


def test_tokens_of_secrets_that_were_replaced_are_cleared_away(make_store: MakeStore) -> None:
    store = make_store()
    store.save("old secret", "x", -10)
    store.save(KEY, "y", 3600)
    with store._database.session() as session:
        assert session.scalar(select(func.count()).select_from(SavedToken)) == 1


def test_a_lock_held_elsewhere_is_told_and_what_was_wanted_comes_later(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    one.save(KEY, "a token", 3600)
    with one._database.session() as session:
        session.execute(update(SavedToken).values(claimed_until=None, token_sealed="held"))
        with pytest.raises(Exception, match=r"(?i)lock"):
            two.claim(KEY, 60)
        session.rollback()
    assert two.claim(KEY, 60)


#: How long a lock is waited for: the question, the usual answer, and the answer while 0.2 s are wanted.
WAITS = {
    "sqlite": ("PRAGMA busy_timeout", 5000, 200),
    "postgresql": ("SHOW lock_timeout", "0", "200ms"),
    "mysql": ("SELECT @@SESSION.innodb_lock_wait_timeout", 50, 1),
}


def test_a_connection_is_given_back_with_the_patience_it_had(make_store: MakeStore) -> None:
    database = make_store()._database
    with database.connection(0.2) as connection:
        question, usual, brief = WAITS[connection.dialect.name]
        assert connection.exec_driver_sql(question).scalar_one() == brief
        connection.rollback()
        assert connection.exec_driver_sql(question).scalar_one() == brief
    with database._app_context(), database.db.engine.connect() as connection:
        assert connection.exec_driver_sql(question).scalar_one() == usual
