"""Applications with migrations: `flask db migrate` sees our tables, and, run again, finds no difference."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, inspect

from flask_outmail.models import Base

OURS = set(Base.metadata.tables)
NO_CHANGE = "No changes in schema detected"

SHOP = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_outmail import Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData

app = Flask(__name__)
app.config.update(SECRET_KEY="x", SQLALCHEMY_DATABASE_URI=os.environ["SHOP_DATABASE"])
db = SQLAlchemy(metadata=MetaData({convention}))


class Order(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    note = db.Column(db.String(20), index=True, unique=True)


db.init_app(app)
migrate = Migrate(app, db)
mail = Mail(app, db)
"""
#: As an application may have chosen, and none of ours.
CONVENTION = """naming_convention={
    "ix": "idx__%(table_name)s__%(column_0_name)s", "uq": "unique__%(table_name)s__%(column_0_name)s",
    "fk": "foreign__%(table_name)s__%(column_0_name)s", "pk": "primary__%(table_name)s",
    "ck": "check__%(table_name)s__%(constraint_name)s",
}"""

Flask = Callable[..., str]


def project(folder: Path, url: str, convention: str = "") -> Flask:
    """`flask("db", "migrate")` runs that command in a project of its own, and returns what it said."""
    (folder / "shop.py").write_text(SHOP.replace("{convention}", convention))

    def flask(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "shop", *words],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "SHOP_DATABASE": url, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    return flask


def test_migrations_make_our_tables_and_then_find_no_difference(tmp_path: Path, database_url: str) -> None:
    flask = project(tmp_path, database_url)
    flask("db", "init")
    flask("db", "migrate", "-m", "first")
    flask("db", "upgrade")
    engine = create_engine(database_url)
    assert set(inspect(engine).get_table_names()) == OURS | {"order", "alembic_version"}
    engine.dispose()
    assert NO_CHANGE in flask("db", "migrate", "-m", "second")
    assert "Added" not in flask("outmail", "init-db")


def test_tables_that_the_command_made_are_no_difference_to_migrations(tmp_path: Path, database_url: str) -> None:
    flask = project(tmp_path, database_url, CONVENTION)
    flask("outmail", "init-db")
    flask("db", "init")
    flask("db", "migrate", "-m", "the application's own tables")
    [revision] = (tmp_path / "migrations" / "versions").glob("*.py")
    assert "outmail_" not in revision.read_text()
