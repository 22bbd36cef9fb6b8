"""Applications with migrations: `flask db migrate` sees our tables, and, run again, finds no difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, inspect

from flask_outmail.models import Base

OURS = set(Base.metadata.tables)

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

#: Runs the commands one after the other as `flask` would, in one process of their own.
RUN = """
import json, sys
from flask.cli import FlaskGroup
from shop import app

for words in json.loads(sys.argv[1]):
    print("$ flask", *words, flush=True)
    FlaskGroup(create_app=lambda: app).main(words, standalone_mode=False)
"""


def flask(folder: Path, url: str, *commands: str, convention: str = "") -> list[str]:
    """What each of these commands said in the shop's project."""
    (folder / "shop.py").write_text(SHOP.replace("{convention}", convention))
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([command.split() for command in commands])],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "SHOP_DATABASE": url, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split("$ flask ")[1:]


def test_migrations_make_our_tables_and_then_find_no_difference(tmp_path: Path, database_url: str) -> None:
    commands = ("db init", "db migrate -m first", "db upgrade", "db migrate -m second", "outmail init-db")
    *_, again, command = flask(tmp_path, database_url, *commands)
    engine = create_engine(database_url)
    assert set(inspect(engine).get_table_names()) == OURS | {"order", "alembic_version"}
    engine.dispose()
    assert "No changes in schema detected" in again
    assert "Added" not in command


def test_tables_that_the_command_made_are_no_difference_to_migrations(tmp_path: Path, database_url: str) -> None:
    flask(tmp_path, database_url, "outmail init-db", "db init", "db migrate -m own", convention=CONVENTION)
    [revision] = (tmp_path / "migrations" / "versions").glob("*.py")
    assert "outmail_" not in revision.read_text()
