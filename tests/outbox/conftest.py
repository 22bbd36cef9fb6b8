"""Applications with an outbox, a worker for them, and what the database says afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_outmail import Mail
from flask_outmail.models import Attempt, Delivery
from flask_outmail.simulator import Simulator
from flask_outmail.working import make_worker

from ..conftest import MakeApp, engine_of, smtp_setup

QUICK = {"OUTMAIL_RETRY_FIRST_SECONDS": 0.01, "OUTMAIL_WORKER_POLL_SECONDS": 0.02}

OutboxApp = Callable[..., tuple[Flask, Mail]]


@pytest.fixture
def app_database_url(database_url: str) -> str:
    """Everything here runs on SQLite, PostgreSQL and MariaDB."""
    return database_url


@pytest.fixture
def outbox_app(make_app: MakeApp, simulator: Simulator) -> OutboxApp:
    """`outbox_app(**config)`: sending over SMTP into the simulator; `mail.send` queues."""

    def make(**config: Any) -> tuple[Flask, Mail]:
        return make_app(smtp_setup(simulator), **{"db": True, "OUTMAIL_DELIVERY": "outbox", **QUICK, **config})

    return make


def work(app: Flask, **how: Any) -> int:
    """Runs a worker until everything is settled, or as said; returns how many messages were accepted."""
    concurrency = how.pop("concurrency", 0)
    worker, side = make_worker(engine_of(app), concurrency=concurrency)
    try:
        return worker.run(**(how or {"drain": True}))
    finally:
        side.close()


def rows(app: Flask) -> list[Delivery]:
    with engine_of(app).database.session() as session:
        return list(session.query(Delivery).order_by(Delivery.id))


def states(app: Flask) -> list[str]:
    return [row.state for row in rows(app)]


def attempts(app: Flask) -> list[tuple[str, str]]:
    with engine_of(app).database.session() as session:
        return [(row.state, row.code) for row in session.query(Attempt).order_by(Attempt.id)]


def commit(app: Flask) -> None:
    app.extensions["sqlalchemy"].session.commit()
