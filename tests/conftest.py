"""Shared by all tests: no environment of the developer, and applications in the simulator's world."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from flask_sqlalchemy import SQLAlchemy

from flask_outmail import Mail, Message
from flask_outmail.engine import Engine
from flask_outmail.simulator import Simulator

from .servers.fixtures import *  # noqa: F403 -- fixtures are found where they are named

STRICT = os.environ.get("OUTMAIL_TESTS_STRICT") == "1"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy or a .netrc of the person who runs the tests must not take part in them.
    for name in list(os.environ):
        azure = name.startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_"))
        ours = name.startswith(("OUTMAIL_", "MAIL_", "EXAMPLE_")) and name != "OUTMAIL_TESTS_STRICT"
        if ours or azure or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


#: The files that take longest begin first: a process that came to one of them last would work on alone.
LONGEST = (
    "web/test_accessibility.py",
    "chaos/test_chaos.py",
    "outbox/test_processes.py",
    "web/test_browser.py",
    "package/test_wheel.py",
    "distributed/test_celery.py",
    "alerts/test_with_worker.py",
    "alerts/test_concurrency.py",
    "web/test_embedding.py",
    "web/test_credential_log.py",
    "web/test_first_visit.py",
    "smtp/test_smtp_postfix.py",
)
_PLACE_OF = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _PLACE_OF.get(item.path, len(LONGEST)))


def world(simulator: Simulator) -> dict[str, Any]:
    """Configuration that knows the simulator's cloud and trusts its certificate, and waits briefly."""
    return {
        "SECRET_KEY": "tests",
        "OUTMAIL_CLOUDS": {"simulator": simulator.cloud},
        "OUTMAIL_CA_FILE": str(simulator.ca_file),
        "OUTMAIL_CONNECT_TIMEOUT_SECONDS": 2,
        "OUTMAIL_SMTP_TIMEOUT_SECONDS": 2,
        "OUTMAIL_GRAPH_TIMEOUT_SECONDS": 2,
        "OUTMAIL_TOKEN_TIMEOUT_SECONDS": 2,
        "OUTMAIL_TESTS_PER_MINUTE": 1000,
        "OUTMAIL_TESTS_PER_PERSON": 1000,
    }


def graph_setup(simulator: Simulator, **changes: Any) -> dict[str, Any]:
    return {
        "service": "microsoft365_graph",
        "tenant": simulator.tenant,
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        "cloud": "simulator",
        "username": simulator.mailbox,
        "from_address": simulator.mailbox,
        "from_name": "Contoso",
        **changes,
    }


def smtp_setup(simulator: Simulator, **changes: Any) -> dict[str, Any]:
    return {
        "service": "smtp",
        "host": simulator.smtp_host,
        "port": simulator.smtp_port,
        "tls": "starttls",
        "username": simulator.mailbox,
        "password": simulator.smtp_password,
        "from_address": simulator.mailbox,
        "from_name": "Contoso",
        **changes,
    }


MakeApp = Callable[..., tuple[Flask, Mail]]


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    """The database of `make_app`. A module whose tests shall run on all three overrides it with `database_url`."""
    return sqlite_url


def searched_runner(simulator: Simulator) -> type[FlaskCliRunner]:
    """Runs commands, and looks for secrets in what they print."""

    class Runner(FlaskCliRunner):
        def invoke(self, *args: Any, **kwargs: Any) -> Any:
            result = super().invoke(*args, **kwargs)
            for secret in (simulator.client_secret, simulator.smtp_password, "PRIVATE KEY-----", "eyJ0eXAi"):
                assert secret not in result.output, f"a command shows {secret[:4]}…"
            return result

    return Runner


@pytest.fixture
def make_app(simulator: Simulator, app_database_url: str) -> Iterator[MakeApp]:
    """`make_app(setup, db=True, **config)` → (app, mail), with the application context pushed."""
    contexts = []
    databases = []

    def make(setup: dict[str, Any] | None = None, *, db: bool = False, **config: Any) -> tuple[Flask, Mail]:
        app = Flask("shop")
        app.test_cli_runner_class = searched_runner(simulator)
        app.config.update(world(simulator), SQLALCHEMY_DATABASE_URI=app_database_url)
        if setup is not None:
            app.config["OUTMAIL_SETUP"] = setup
        app.config.update(config)
        database = SQLAlchemy(app) if db else None
        mail = Mail(app, database)
        context = app.app_context()
        context.push()
        contexts.append(context)
        if database is not None:
            engine_of(app).database.create_tables()
            databases.append(database.engine)
        return app, mail

    yield make
    # With its context goes the session of a test that left a transaction open, and gives its connection back.
    for context in reversed(contexts):
        context.pop()
    for engine in databases:
        engine.dispose()


def engine_of(app: Flask) -> Engine:
    engine: Engine = app.extensions["outmail"]
    return engine


def make_message(**changes: Any) -> Message:
    fields: dict[str, Any] = {"subject": "Order 17", "recipients": ["ann@customers.example"], "body": "Thank you.\n"}
    return Message(**{**fields, **changes})


def asked(simulator: Simulator) -> list[Any]:
    """What the simulator was asked, but for the goodbyes of connections that an earlier test had kept."""
    return [answer for answer in simulator.answers if answer.method != "QUIT"]
