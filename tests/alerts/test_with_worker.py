"""Alerts where a real worker hands the mail over: a process of its own, the simulator, and time that passes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_outmail import Mail
from flask_outmail.models import Delivery, utc_now
from flask_outmail.outbox import alerts, facts
from flask_outmail.outbox.states import CLAIMED, HELD, QUEUED, WAITING
from flask_outmail.simulator import Fault, Simulator

from ..conftest import MakeApp, engine_of, make_message, world
from ..integration.test_holding import activate, smtp_values
from .conftest import alerting_of, incidents

ANN = "ann@customers.example"
SHOP = """
import json, pathlib
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_outmail import Mail

app = Flask("shop")
app.config.update(json.loads(pathlib.Path(__file__).with_suffix(".json").read_text()))
Mail(app, SQLAlchemy(app))
"""


@pytest.fixture
def shop(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    """One connection that works, and another one for alerts that is no backup."""
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator, from_name="Other"), connection="other", verified=True)
    return app, mail


@pytest.fixture
def worker(simulator: Simulator, app_database_url: str, tmp_path: Path) -> Callable[..., Any]:
    """`with worker():` runs `flask outmail worker` on the database of the test, in a process of its own."""
    import json

    @contextmanager
    def run(**config: Any) -> Iterator[subprocess.Popen[bytes]]:
        (tmp_path / "worked.py").write_text(SHOP)
        values = {
            **world(simulator), "SQLALCHEMY_DATABASE_URI": app_database_url, "OUTMAIL_WATCH_SECONDS": 1,
            "OUTMAIL_RETRY_FIRST_SECONDS": 1, "OUTMAIL_ALERT_GRACE_SECONDS": 1, **config,
        }  # fmt: skip
        (tmp_path / "worked.json").write_text(json.dumps(values))
        command = [sys.executable, "-m", "flask", "--app", str(tmp_path / "worked.py"), "outmail", "worker"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait()

    return run


def until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def queue(app: Flask, mail: Mail, count: int) -> None:
    for number in range(count):
        mail.enqueue(make_message(subject=f"Order {number}"))
    app.extensions["sqlalchemy"].session.commit()


def subjects_to_ops(simulator: Simulator) -> list[str]:
    return [str(one.parsed["Subject"]) for one in simulator.delivered if one.recipient == "ops@elsewhere.example"]


def test_a_worker_tells_once_of_a_setup_that_fails_and_once_of_its_recovery_with_what_was_sent(
    shop: tuple[Flask, Mail], worker: Callable[..., Any], simulator: Simulator
) -> None:
    app, mail = shop
    queue(app, mail, 20)
    simulator.faults.add(Fault(endpoint="smtp.rcpt", status=421, code="4.3.2", recipient=ANN, times=None))
    with worker():
        until(lambda: len(subjects_to_ops(simulator)) == 1)
        assert "not being accepted" in subjects_to_ops(simulator)[0]
        simulator.faults.clear()
        until(lambda: len(simulator.delivered) == 21)
        until(lambda: incidents(app)[0].recovery_at)
    [incident] = incidents(app)
    assert (incident.kind, incident.closed_by) == (alerts.FAILING, "recovered")
    # The notice waits a minute, so that it can say how many have left since.
    alerting_of(app).watch(utc_now() + timedelta(minutes=2))
    told = simulator.delivered[-1]
    assert "Recovered after" in str(told.parsed["Subject"])
    accepted = re.search(r"Waiting messages accepted since: (\d+)", told.text)
    # One that was accepted in the same breath as the last failure may count as before it.
    assert accepted is not None and 15 <= int(accepted[1]) <= 20
    assert "Still waiting: 0" in told.text


def test_the_watch_of_a_worker_tells_of_mail_that_is_held(
    make_app: MakeApp, worker: Callable[..., Any], simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    activate(app, smtp_values(simulator, from_name="Other"), connection="other", verified=True)
    queue(app, mail, 2)
    with engine_of(app).database.session() as session:
        session.query(Delivery).update({Delivery.updated_at: utc_now() - timedelta(hours=1), Delivery.state: HELD})
        session.commit()
    with worker():
        until(lambda: subjects_to_ops(simulator))
    assert "is held" in subjects_to_ops(simulator)[0]


def test_a_worker_that_was_killed_is_missed_while_mail_waits(
    shop: tuple[Flask, Mail], worker: Callable[..., Any], simulator: Simulator
) -> None:
    app, mail = shop

    def beats() -> int:
        with engine_of(app).database.session() as session:
            return facts.workers(session)[0]

    with worker() as process:
        until(lambda: beats() == 1)
        process.kill()
        process.wait()
    queue(app, mail, 3)
    alerting_of(app).watch(utc_now() + timedelta(minutes=2))
    assert subjects_to_ops(simulator) == []
    for minute in (4, 5, 20):
        alerting_of(app).watch(utc_now() + timedelta(minutes=minute))
    [subject] = subjects_to_ops(simulator)
    assert "no worker is running" in subject
    with worker(OUTMAIL_ALERT_WORKER_SECONDS=5):
        until(lambda: len(simulator.delivered) == 4 + 1)
    assert "mail leaves again" in subjects_to_ops(simulator)[-1]
    assert [(one.kind, one.closed_by) for one in incidents(app)] == [(alerts.WORKER, "recovered")]


@pytest.mark.parametrize(
    ("state", "changes", "late_minutes"),
    [
        (QUEUED, {}, 30),
        (QUEUED, {"attempt_count": 1, "updated_minutes": 5}, 5),
        (WAITING, {"due_minutes": 10}, 10),
        (WAITING, {"due_minutes": -10}, None),
        (CLAIMED, {"updated_minutes": 20}, 20),
        ("accepted", {}, None),
        ("unknown", {}, None),
    ],
)
def test_how_long_mail_has_been_late(
    make_app: MakeApp, state: str, changes: dict[str, Any], late_minutes: int | None
) -> None:
    app, _ = make_app(db=True)
    now = utc_now().replace(microsecond=0)
    minutes = {name: now - timedelta(minutes=changes.pop(f"{name}_minutes", 30)) for name in ("due", "updated")}
    with engine_of(app).database.session() as session:
        session.add(
            Delivery(
                state=state, message_id="<1@x.example>", recipients=["ann@customers.example"],
                created_at=now - timedelta(minutes=40), queued_at=now - timedelta(minutes=30),
                due_at=minutes["due"], updated_at=minutes["updated"], **changes,
            )
        )  # fmt: skip
        session.commit()
        found = facts.waiting(session, now=now)
    expected = [] if late_minutes is None else [(1, now - timedelta(minutes=late_minutes))]
    assert [(one.count, one.oldest_at) for one in found] == expected
