"""What only MariaDB and MySQL do differently."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from flask_outmail import SetupNotVerified
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
