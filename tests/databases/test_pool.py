"""A pool that has nothing left to lend: requests that are in a transaction need a second connection for ours."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text

from flask_outmail import Mail
from flask_outmail.models import Delivery
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message, smtp_setup

REQUESTS = 3


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


@pytest.fixture
def shop(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    """As many connections as there are requests, and a pool that gives up at once when they are out."""
    options = {"pool_size": REQUESTS, "max_overflow": 0, "pool_timeout": 0.01}
    return make_app(smtp_setup(simulator), db=True, SQLALCHEMY_ENGINE_OPTIONS=options)


def lines(app: Flask) -> int:
    with engine_of(app).database.session() as session:
        return session.query(Delivery).count()


def test_requests_that_hold_all_connections_do_not_keep_each_other_from_sending(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    all_hold = threading.Barrier(REQUESTS)
    failed: list[Exception] = []

    def request(number: int) -> None:
        try:
            with app.app_context():
                app.extensions["sqlalchemy"].session.execute(text("select 1"))
                all_hold.wait(60)
                assert mail.send(make_message(subject=f"Order {number}")).accepted
                all_hold.wait(60)
                app.extensions["sqlalchemy"].session.commit()
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=request, args=(number,)) for number in range(REQUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    app.extensions["sqlalchemy"].session.rollback()
    assert lines(app) == REQUESTS


def test_a_connection_beside_the_pool_is_prepared_as_those_of_the_pool_and_is_not_kept(
    shop: tuple[Flask, Mail],
) -> None:
    app, _ = shop
    engine = app.extensions["sqlalchemy"].engine
    opened: list[Any] = []
    closed: list[Any] = []
    event.listen(engine, "connect", lambda connection, record: opened.append(connection))
    event.listen(engine, "close", lambda connection, record: closed.append(connection))
    held = [engine.connect() for _ in range(REQUESTS)]
    count = len(opened)
    assert lines(app) == 0
    assert len(opened) == count + 1
    assert closed == opened[-1:]
    for connection in held:
        connection.close()
    assert lines(app) == 0
    assert len(opened) == count + 1, "with a free one in the pool, nothing is opened beside it"
