"""The runs of `make chaos`, small: a few messages, a few kills."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from ..conftest import STRICT
from ..servers.postgresql import PostgreSQL
from . import scenarios
from .field import chaos
from .scenarios import Scenario

MESSAGES = 60


def run(scenario: Scenario, kind: str, url: str, folder: Path, *, kills: int = 1, **config: int) -> None:
    seed = secrets.randbelow(10**6)
    with chaos(folder / "run", url, kind, seed, **config) as field:
        report = scenario(field, MESSAGES, kills)
    print(report)
    assert not report.violations, str(report)


@pytest.mark.parametrize(("kind", "database"), [("smtp", "sqlite"), ("graph", "postgresql")])
def test_killed_workers_neither_lose_nor_double_a_message(
    kind: str, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run(scenarios.killed_workers, kind, request.getfixturevalue(f"{database}_url"), tmp_path, kills=5)


@pytest.mark.parametrize("kind", ["smtp", "graph"])
def test_a_lost_answer_leaves_a_message_unknown_or_settled_by_a_look(
    kind: str, sqlite_url: str, tmp_path: Path
) -> None:
    run(scenarios.lost_answers, kind, sqlite_url, tmp_path)


def test_a_storm_of_throttling_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    run(scenarios.throttled, "graph", sqlite_url, tmp_path)


def test_a_token_endpoint_that_is_down_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    # Without the breaker, which lets a minute pass between two tries.
    run(scenarios.no_tokens, "graph", sqlite_url, tmp_path, kills=0, OUTMAIL_BREAKER_FAULTS=1000)


def test_a_secret_that_expires_half_way_and_is_replaced_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    run(scenarios.expired_secret, "graph", sqlite_url, tmp_path)


def test_setups_that_are_switched_while_mail_leaves_lose_nothing(sqlite_url: str, tmp_path: Path) -> None:
    run(scenarios.switched_setups, "graph", sqlite_url, tmp_path)


def test_a_full_disk_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    run(scenarios.full_disk, "smtp", sqlite_url, tmp_path)


def test_a_clock_that_jumps_back_an_hour_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    if not scenarios.FAKETIME.exists():
        (pytest.fail if STRICT else pytest.skip)("libfaketime is not installed")
    run(scenarios.clock_set_back, "smtp", sqlite_url, tmp_path)


def test_a_database_that_is_restarted_loses_nothing(
    postgresql_server: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    def restart() -> None:
        postgresql_server.kill()
        postgresql_server.start()

    run(scenarios.restarted_database(restart), "smtp", postgresql_url, tmp_path)
