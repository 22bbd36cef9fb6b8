"""Several processes that meet the same trouble at the same moment: one incident, one alert."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_outmail.errors import AuthenticationFailed
from flask_outmail.outbox import alerts, telling
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, world
from ..integration.test_holding import activate, smtp_values
from .conftest import alerting_of, incidents

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)

# What each process does: waits for the word to begin, then meets the same failure `times` times.
PROCESS = """
import json, sys
from datetime import datetime
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_outmail import AuthenticationFailed, Mail

work = json.loads(sys.argv[1])
app = Flask("shop")
app.config.update(work["config"])
Mail(app, SQLAlchemy(app))
now = datetime.fromisoformat(work["now"])
with app.app_context():
    engine = app.extensions["outmail"]
    current = engine.current()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(work["times"]):
        engine.alerting.tell(AuthenticationFailed("no", code="535 5.7.3"), current, now=now)
        engine.alerting.watch(now)
    if work["recovers"]:
        engine.alerting.recovered("primary", now=now)
"""


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


def run_at_once(count: int, work: dict[str, Any]) -> None:
    command = [sys.executable, "-c", PROCESS, json.dumps(work)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n", one.communicate(timeout=30)[1]
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        for one in running:
            _, complaints = one.communicate(timeout=90)
            assert one.returncode == 0, complaints
    finally:
        for one in running:
            one.kill()
            one.wait()


def test_processes_that_fail_at_once_make_one_incident_one_alert_and_one_recovery(
    make_app: MakeApp, simulator: Simulator, app_database_url: str
) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator), connection="other", verified=True)
    config = {**world(simulator), "SQLALCHEMY_DATABASE_URI": app_database_url}
    work = {"config": config, "now": NOW.isoformat(), "times": 10, "recovers": False}
    run_at_once(3, work)
    assert [(one.count, one.alert) for one in incidents(app)] == [(30, alerts.MAILED)]
    assert len(simulator.delivered) == 1
    run_at_once(3, {**work, "now": (NOW + timedelta(hours=2)).isoformat()})
    assert [(one.count, one.alert) for one in incidents(app)] == [(60, alerts.MAILED)]
    assert len(simulator.delivered) == 2, "one reminder"
    run_at_once(3, {**work, "now": (NOW + timedelta(hours=2, minutes=30)).isoformat(), "times": 0, "recovers": True})
    assert [one.closed_by for one in incidents(app)] == ["recovered"]
    assert "Recovered after 2 h 30 min" in str(simulator.delivered[-1].parsed["Subject"])
    assert len(simulator.delivered) == 3


def test_an_alert_whose_process_died_while_telling_is_told_by_another(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator), connection="other", verified=True)
    error = AuthenticationFailed("no", code="535 5.7.3")
    with engine_of(app).database.session() as session:
        cause = alerts.Cause.of(error, "primary")
        pause = timedelta(hours=1)
        incident = alerts.note(session, cause, now=NOW, pause=pause)
        assert telling.claim_alert(session, incident.id, now=NOW, pause=pause, grace=timedelta())
    # That process never came back. Until then nobody else tells, and the pages show it as kept.
    assert incidents(app)[0].alert == alerts.KEPT
    alerting_of(app).watch(NOW + timedelta(minutes=1))
    assert simulator.delivered == []
    alerting_of(app).watch(NOW + telling.RETRY)
    assert len(simulator.delivered) == 1
