"""The shop in the simulator's world, and visitors who use it as a browser would."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from example_app import create_app
from example_app.config import simulator_settings
from example_app.extensions import db
from example_app.models import create_tables
from example_app.world import World
from flask_outmail.simulator import Simulator

MakeShop = Callable[..., Flask]


@pytest.fixture(autouse=True)
def _clean_example_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EXAMPLE_") or name == "SECRET_KEY":
            monkeypatch.delenv(name)


@pytest.fixture
def setups(simulator: Simulator) -> dict[str, dict[str, Any]]:
    """For each mail service, what `OUTMAIL_SETUP` says in the simulator's world."""
    sender = {"username": simulator.mailbox, "from_address": simulator.mailbox, "from_name": "Quill & Page"}
    microsoft = {
        **sender,
        "cloud": "simulator",
        "tenant": simulator.tenant,
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
    }
    server = {"host": simulator.smtp_host, "port": simulator.smtp_port, "password": simulator.smtp_password}
    return {
        "microsoft365_graph": {"service": "microsoft365_graph", **microsoft},
        "microsoft365_smtp": {"service": "microsoft365_smtp", **microsoft},
        "smtp": {"service": "smtp", **sender, **server},
    }


@pytest.fixture
def make_shop(simulator: Simulator, tmp_path: Path) -> Iterator[MakeShop]:
    """`make_shop(setup)`: a shop with its tables; without a setup its mail is not set up yet."""
    made: list[Flask] = []

    def make(setup: dict[str, Any] | None = None, **changes: Any) -> Flask:
        config: dict[str, Any] = {
            "EXAMPLE_INSTANCE": tmp_path / "instance",
            **simulator_settings(World.of(simulator)),
            "OUTMAIL_CONNECT_TIMEOUT_SECONDS": 2,
            "OUTMAIL_GRAPH_TIMEOUT_SECONDS": 2,
            "OUTMAIL_SMTP_TIMEOUT_SECONDS": 2,
            "OUTMAIL_TOKEN_TIMEOUT_SECONDS": 2,
        }
        if setup is not None:
            config["OUTMAIL_SETUP"] = setup
        app = create_app({**config, **changes})
        made.append(app)
        with app.app_context():
            create_tables()
        return app

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


class Visitor:
    """Opens pages and submits the forms on them, with their CSRF token."""

    def __init__(self, app: Flask, name: str = "") -> None:
        self.client: FlaskClient = app.test_client()
        if name:
            answer = self.submit("/login", name=name, password=name)
            assert answer.status_code == 302, answer.text

    def open(self, path: str) -> TestResponse:
        return self.client.get(path)

    def submit(self, path: str, page: str = "", **fields: Any) -> TestResponse:
        """Posts to `path` what the form on `page` (by default the same) would."""
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.open(page or path).text)
        assert token, f"there is no form on {page or path}"
        return self.client.post(path, data={**fields, "csrf_token": token[1]})

    def order(self, slug: str = "the-lighthouse-ledger", **fields: Any) -> TestResponse:
        """Orders a book and returns the page of the order."""
        answer = self.submit(f"/books/{slug}", **{"quantity": 2, "email": "clara@reader.example", **fields})
        assert answer.status_code == 302, answer.text
        return self.open(answer.location)


@pytest.fixture
def visit() -> type[Visitor]:
    return Visitor
