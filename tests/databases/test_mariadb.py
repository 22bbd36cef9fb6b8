"""What only MariaDB and MySQL do differently."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from flask_outmail import OutmailError, SetupNotVerified
from flask_outmail.models import Delivery

from ..conftest import MakeApp, engine_of, make_message


@pytest.fixture
def app_database_url(mariadb_url: str) -> str:
    return mariadb_url


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_subject_may_hold_any_character_whatever_the_default_of_the_database_is(
    make_app: MakeApp, mariadb_url: str, scheme: str
) -> None:
    engine = create_engine(mariadb_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER DATABASE CHARACTER SET latin1")
    engine.dispose()
    app, mail = make_app(db=True, SQLALCHEMY_DATABASE_URI=mariadb_url.replace("mysql", scheme, 1))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message(subject="Größe 📚 Łódź"))
    with engine_of(app).database.session() as session:
        assert session.query(Delivery).one().subject == "Größe 📚 Łódź"


def test_a_content_above_64_kib_is_kept_whole(make_app: MakeApp) -> None:
    app, mail = make_app(db=True)
    with pytest.raises(SetupNotVerified):
        mail.send(make_message(body="x" * 300_000))
    engine = engine_of(app)
    with engine.database.session() as session:
        sealed = session.query(Delivery).one().content_sealed
    assert sealed is not None and engine.vault.open_bytes(sealed).count(b"x") >= 300_000


def test_keys_that_differ_in_case_or_accent_only_are_different_keys(make_app: MakeApp) -> None:
    """Taken for the same, the second message would be swallowed as a repetition of the first."""
    app, mail = make_app(db=True)
    for key in ("order-a", "order-A", "order-ä"):
        assert mail.enqueue(make_message(), key=key).is_new
    assert not mail.enqueue(make_message(), key="order-A").is_new
    app.extensions["sqlalchemy"].session.commit()
    with engine_of(app).database.session() as session:
        assert session.query(Delivery).count() == 3
    app.extensions["sqlalchemy"].session.remove()


def test_one_row_takes_no_more_than_the_server_takes_in_one_statement(make_app: MakeApp) -> None:
    """MariaDB takes 16 MiB at a time unless it is told otherwise; what is larger must be told, not lost."""
    app, mail = make_app(db=True)
    with pytest.raises(OutmailError) as caught:
        mail.enqueue(make_message(body="x" * 17_000_000))
    assert caught.value.code
    app.extensions["sqlalchemy"].session.rollback()
    with engine_of(app).database.session() as session:
        assert session.query(Delivery).count() == 0
    app.extensions["sqlalchemy"].session.remove()
