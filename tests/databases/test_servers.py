"""The tests' own servers do what tests rely on."""

from __future__ import annotations

from sqlalchemy import create_engine, text

from ..servers.mariadb import MariaDB
from ..servers.postgresql import PostgreSQL
from ..servers.redis import Redis


def test_each_database_is_new_and_empty_and_keeps_what_is_committed(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("create table orders (id integer)"))
        connection.execute(text("insert into orders values (1)"))
    engine.dispose()
    with engine.connect() as connection:
        assert connection.execute(text("select id from orders")).all() == [(1,)]
    engine.dispose()


def test_redis_answers(redis_server: Redis) -> None:
    assert redis_server.say("SET", "a", "b") == b"+OK\r\n"
    redis_server.kill()
    redis_server.start()
    assert redis_server.say("GET", "a") == b"$-1\r\n"


def test_postgresql_keeps_its_rows_over_a_kill(postgresql_server: PostgreSQL, postgresql_url: str) -> None:
    _survives(postgresql_server, postgresql_url)


def test_mariadb_keeps_its_rows_over_a_kill(mariadb_server: MariaDB, mariadb_url: str) -> None:
    _survives(mariadb_server, mariadb_url)


def _survives(server: PostgreSQL | MariaDB, url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("create table orders (id integer)"))
        connection.execute(text("insert into orders values (1)"))
    server.kill()
    server.start()
    engine.dispose()
    with engine.connect() as connection:
        assert connection.execute(text("select id from orders")).all() == [(1,)]
    engine.dispose()
