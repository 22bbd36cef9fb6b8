"""A database of version 0.1.0 becomes one of this version: every row stays, and the application's tables are left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import Engine, MetaData, create_engine, inspect, text

from flask_outmail import ConfigurationError, Mail, upgrade
from flask_outmail.models import Base, attach
from flask_outmail.outbox import store
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message
from ..integration.test_holding import activate, smtp_values

VERSION_0_1_0 = Path(__file__).parent / "version_0_1_0"
#: What the rows of version 0.1.0 are sealed with.
KEY = "b3V0bWFpbC10ZXN0LWtleS12ZXJzaW9uLTAtMS0wLi4="
APPLICATIONS_OWN = [
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, note VARCHAR(20), surplus INTEGER)",
    "CREATE INDEX ix_note ON orders (note)",
    "INSERT INTO orders VALUES (1, 'keep me', 2)",
]


def run(engine: Engine, statements: list[str]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def facts(engine: Engine, tables: list[str] | None = None) -> dict[str, Any]:
    """Every row, column by column, of these tables (default: all)."""
    with engine.connect() as connection:
        names = tables or inspect(connection).get_table_names()
        return {
            name: [dict(row._mapping) for row in connection.execute(text(f"select * from {name}"))]  # noqa: S608
            for name in names
        }


@pytest.fixture
def old(database_url: str) -> Any:
    """A database as version 0.1.0 left it, with a table of the application beside ours."""
    engine = create_engine(database_url)
    kind = engine.dialect.name.replace("mysql", "mariadb")
    dump = (VERSION_0_1_0 / f"{kind}.sql").read_text().split("\n", 1)[1]
    run(engine, [*APPLICATIONS_OWN, *(part for part in dump.split(";\n") if part)])
    yield engine
    engine.dispose()


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


def upgraded(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return upgrade.upgrade(connection)


def test_every_row_of_the_earlier_version_is_there_after_the_upgrade(old: Engine) -> None:
    before = facts(old)
    upgraded(old)
    after = facts(old, list(before))
    for table, rows in before.items():
        assert rows, f"the dump has no row in {table}"
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert kept == rows


def test_after_the_upgrade_nothing_differs_from_new_tables(old: Engine) -> None:
    upgraded(old)
    with old.connect() as connection:
        opts = {"include_name": lambda name, kind, parents: kind != "table" or name in Base.metadata.tables}
        assert compare_metadata(MigrationContext.configure(connection, opts=opts), Base.metadata) == []


def test_an_upgrade_run_again_changes_nothing(old: Engine) -> None:
    upgraded(old)
    assert upgraded(old) == []


def test_an_upgrade_that_was_interrupted_is_finished_by_the_next(old: Engine) -> None:
    """MariaDB and SQLite keep each change at once; what one run did not reach, the next one adds."""
    run(old, ["DROP TABLE outmail_attempts", "DROP TABLE outmail_incidents",
              "ALTER TABLE outmail_setups DROP COLUMN restored_from"])  # fmt: skip
    added = upgraded(old)
    assert {"outmail_attempts", "outmail_incidents", "outmail_setups.restored_from"} <= set(added)
    with old.connect() as connection:
        assert upgrade.missing(connection) == ([], [])


def test_the_applications_tables_are_left_alone(old: Engine) -> None:
    found = inspect(old)
    before = found.get_columns("orders"), found.get_indexes("orders"), facts(old, ["orders"])
    upgraded(old)
    found = inspect(old)
    assert str(before) == str((found.get_columns("orders"), found.get_indexes("orders"), facts(old, ["orders"])))


def test_mail_held_by_the_earlier_version_leaves_after_the_upgrade(
    old: Engine, make_app: MakeApp, simulator: Simulator
) -> None:
    app, _ = make_app(db=True, OUTMAIL_ENCRYPTION_KEYS=[KEY])
    activate(app, smtp_values(simulator), verified=True)
    assert engine_of(app).releasing.release() == (1, 0)
    parsed = {one.recipient: one.parsed for one in simulator.delivered}
    assert set(parsed) == {"ann@customers.example", "bob@customers.example"}
    letter = parsed["ann@customers.example"]
    assert letter["Subject"] == "Order 3 – paid"
    [attachment] = letter.iter_attachments()
    assert attachment.get_payload(decode=True) == "17 €\n".encode()
    with engine_of(app).database.session() as session:
        assert store.counts(session) == {"accepted": 2, "unknown": 1}


def test_secrets_of_the_earlier_version_are_readable_after_the_upgrade(old: Engine, make_app: MakeApp) -> None:
    app, _ = make_app(db=True, OUTMAIL_ENCRYPTION_KEYS=[KEY])
    current = engine_of(app).current()
    assert current is not None and current.verified
    assert (current.values.password, current.values.from_name) == ("hunter2", "Größe & Co")


def test_tables_made_by_create_all_need_no_upgrade(database_url: str) -> None:
    """Whatever the application's own naming convention is."""
    metadata = MetaData(naming_convention={"ix": "own_%(column_0_label)s", "uq": "own_%(column_0_label)s"})
    attach(metadata)
    engine = create_engine(database_url)
    metadata.create_all(engine)
    assert upgraded(engine) == []
    engine.dispose()


def test_a_constraint_that_has_another_name_is_not_added_again(postgresql_url: str) -> None:
    """`db.create_all()` of version 0.1.0 left the name to the database."""
    engine = create_engine(postgresql_url)
    upgraded(engine)
    run(engine, ["ALTER TABLE outmail_auth_objects RENAME CONSTRAINT uq_outmail_auth_objects_name TO by_name"])
    assert upgraded(engine) == []
    engine.dispose()


# -- the command, and what is said without it ------------------------------------------------------------------------


def shop(url: str) -> Flask:
    from flask_sqlalchemy import SQLAlchemy

    app = Flask("shop")
    app.config.update(SECRET_KEY="x", SQLALCHEMY_DATABASE_URI=url, OUTMAIL_ENCRYPTION_KEYS=[KEY])
    Mail(app, SQLAlchemy(app))
    return app


def close(app: Flask) -> None:
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()


def test_the_command_upgrades_and_says_what_it_added(old: Engine, database_url: str) -> None:
    run(old, ["DROP TABLE outmail_attempts"])
    app = shop(database_url)
    result = app.test_cli_runner().invoke(args=["outmail", "init-db"])
    assert result.exit_code == 0, result.output
    assert "Added outmail_attempts\n" in result.output
    again = app.test_cli_runner().invoke(args=["outmail", "init-db"])
    assert again.output == "The tables are there.\n"
    close(app)


def test_tables_of_an_earlier_version_are_told_with_the_command_that_mends_them(
    make_app: MakeApp, database_url: str
) -> None:
    _, mail = make_app(db=True)
    engine = create_engine(database_url)
    run(engine, ["ALTER TABLE outmail_setups DROP COLUMN verified_by"])
    with pytest.raises(ConfigurationError, match=r"flask outmail init-db.*outmail_setups\.verified_by") as caught:
        mail.send(make_message())
    assert caught.value.code == "tables_outdated"
    engine.dispose()


def test_two_upgrades_at_the_same_time_both_end_well(old: Engine, database_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run(old, ["DROP TABLE outmail_attempts", "DROP TABLE outmail_incidents", "DROP TABLE outmail_proofs"])
    apps = [shop(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda app: engine_of(app).database.create_tables(), apps))
    with old.connect() as connection:
        assert upgrade.missing(connection) == ([], [])
    for app in apps:
        close(app)
