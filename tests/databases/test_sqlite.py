"""What only SQLite does differently."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ..conftest import MakeApp


def journal_mode(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "shop.sqlite")
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize(("options", "mode"), [([], "wal"), (["--no-wal"], "delete")])
def test_the_command_switches_the_write_ahead_log_on_unless_told_not_to(
    make_app: MakeApp, tmp_path: Path, options: list[str], mode: str
) -> None:
    app, _ = make_app(db=True)
    assert journal_mode(tmp_path) == "delete", "starting the application must not change the application's file"
    result = app.test_cli_runner().invoke(args=["outmail", "init-db", *options])
    assert result.exit_code == 0, result.output
    assert ("write-ahead log" in result.output) == (mode == "wal")
    assert journal_mode(tmp_path) == mode
    again = app.test_cli_runner().invoke(args=["outmail", "init-db", *options])
    assert "write-ahead log" not in again.output


def test_a_database_in_memory_has_no_log_to_switch(make_app: MakeApp) -> None:
    app, _ = make_app(db=True, SQLALCHEMY_DATABASE_URI="sqlite://")
    result = app.test_cli_runner().invoke(args=["outmail", "init-db"])
    assert (result.exit_code, result.output) == (0, "The tables are there.\n")
