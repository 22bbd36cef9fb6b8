"""`database_url` (SQLite, PostgreSQL, MariaDB in turn), `postgresql_url`, `mariadb_url`, `redis_server` and `postfix`.

Each server is started at most once in a run, and only when a test asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from .mariadb import MariaDB
from .postfix import Postfix
from .postgresql import PostgreSQL
from .process import Server, ServerMissing
from .redis import Redis

__all__ = ["database_url", "mariadb_server", "mariadb_url", "postfix", "postfix_server", "postgresql_server",
           "postgresql_url", "redis_process", "redis_server", "sqlite_url"]  # fmt: skip

STRICT = os.environ.get("OUTMAIL_TESTS_STRICT") == "1"
S = TypeVar("S", bound=Server)


def running(make: Callable[[], S]) -> Iterator[S]:
    try:
        server = make()
    except ServerMissing as exc:
        if STRICT:
            pytest.fail(str(exc))
        pytest.skip(str(exc))  # a machine with only python3, pip and make has no such server
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    yield from running(PostgreSQL)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    yield from running(MariaDB)


@pytest.fixture(scope="session")
def postfix_server() -> Iterator[Postfix]:
    yield from running(Postfix)


@pytest.fixture
def postfix(postfix_server: Postfix) -> Postfix:
    """Postfix with an empty mailbox, and log-ins by Dovecot."""
    postfix_server.empty()
    return postfix_server


@pytest.fixture(scope="session")
def redis_process() -> Iterator[Redis]:
    yield from running(Redis)


@pytest.fixture
def redis_server(redis_process: Redis) -> Iterator[Redis]:
    """An empty Redis; `redis_server.url` is for Celery. It may be killed and started again."""
    redis_process.say("FLUSHALL")
    yield redis_process
    if not redis_process.is_running:
        redis_process.start()


def _new_database(server: Any) -> Iterator[str]:
    name = f"t{uuid4().hex[:12]}"
    url: str = server.create(name)
    yield url
    if not server.is_running:
        server.start()
    server.drop(name)


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQL) -> Iterator[str]:
    """A new, empty PostgreSQL database."""
    yield from _new_database(postgresql_server)


@pytest.fixture
def mariadb_url(mariadb_server: MariaDB) -> Iterator[str]:
    """A new, empty MariaDB database."""
    yield from _new_database(mariadb_server)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A new, empty SQLite file."""
    return f"sqlite:///{tmp_path / 'shop.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new, empty database: the test runs once on each of the three."""
    # Asked for by name, so that the servers not meant this time are not started.
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
