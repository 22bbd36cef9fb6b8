"""Real worker processes: stopped gently, stopped hard, killed; each message leaves once, or is called unknown."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_outmail import Mail
from flask_outmail.models import Delivery, Worker
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message, smtp_setup
from .conftest import QUICK, OutboxApp, states, work

APPLICATION = """
import json, pathlib
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_outmail import Mail

app = Flask("shop")
app.config.update(json.loads((pathlib.Path(__file__).parent / "config.json").read_text()))
Mail(app, SQLAlchemy(app))
"""

StartWorker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def shop(outbox_app: OutboxApp, tmp_path: Path) -> tuple[Flask, Mail]:
    return outbox_app(
        OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"), OUTMAIL_WORKER_LEASE_SECONDS=1, OUTMAIL_SMTP_TIMEOUT_SECONDS=60
    )


@pytest.fixture
def start_worker(shop: tuple[Flask, Mail], tmp_path: Path) -> Iterator[StartWorker]:
    """`start_worker("--drain")`: a process of its own on the same database."""
    app, _ = shop
    config = {key: value for key, value in app.config.items() if key.isupper() and _is_json(value)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "application.py").write_text(APPLICATION)
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flask", "--app", str(tmp_path / "application.py"), "outmail", "worker"]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(0.02)


def workers(app: Flask) -> int:
    with engine_of(app).database.session() as session:
        return session.query(Worker).count()


def under_way(app: Flask) -> int:
    with engine_of(app).database.session() as session:
        return session.query(Delivery).filter(Delivery.begun_at.is_not(None)).count()


def test_a_worker_process_hands_over_what_is_there_and_says_how_many(
    shop: tuple[Flask, Mail], start_worker: StartWorker, simulator: Simulator
) -> None:
    _, mail = shop
    for _ in range(3):
        mail.send(make_message())
    output, _ = start_worker("--once").communicate(timeout=60)
    assert "Messages accepted: 3." in output
    assert len(simulator.delivered) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_it_finish_what_is_under_way(
    shop: tuple[Flask, Mail], start_worker: StartWorker, simulator: Simulator, number: signal.Signals
) -> None:
    app, mail = shop
    simulator.faults.hang("smtp.dot", 1.0)
    mail.send(make_message())
    process = start_worker()
    until(lambda: under_way(app) == 1)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert states(app) == ["accepted"] and len(simulator.delivered) == 1
    assert workers(app) == 0


def test_the_second_signal_ends_it_and_what_was_under_way_is_unknown(
    shop: tuple[Flask, Mail], start_worker: StartWorker, simulator: Simulator
) -> None:
    app, mail = shop
    simulator.faults.hang("smtp.dot", 20.0)
    mail.send(make_message())
    process = start_worker()
    until(lambda: under_way(app) == 1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.wait(15)
    assert states(app) == ["unknown"]
    assert workers(app) == 0


def test_what_a_killed_worker_had_only_claimed_leaves_by_another_and_what_it_had_begun_is_unknown(
    shop: tuple[Flask, Mail], start_worker: StartWorker, simulator: Simulator
) -> None:
    app, mail = shop
    simulator.faults.hang("smtp.dot", 20.0)
    for number in range(6):
        mail.send(make_message(subject=str(number)))
    process = start_worker("--concurrency", "1")
    until(lambda: under_way(app) == 1)
    process.kill()
    process.wait()
    simulator.clear()
    work(app)
    assert Counter(states(app)) == {"unknown": 1, "accepted": 5}
    # The unknown one may have arrived or not; nothing arrived twice.
    copies = Counter(one.subject for one in simulator.delivered)
    assert len(copies) in (5, 6) and set(copies.values()) == {1}


def test_workers_killed_at_random_moments_send_nothing_twice_and_lose_nothing(
    shop: tuple[Flask, Mail], start_worker: StartWorker, simulator: Simulator
) -> None:
    app, mail = shop
    dice = random.Random(os.environ.get("OUTMAIL_TESTS_SEED", "17"))  # noqa: S311 -- it decides who is killed, no more
    for number in range(150):
        mail.send(make_message(subject=str(number)))
    running = [start_worker() for _ in range(3)]
    for _ in range(6):
        time.sleep(dice.uniform(0.6, 1.2))
        victim = dice.randrange(3)
        running[victim].kill()
        running[victim].wait()
        running[victim] = start_worker()
    until(lambda: set(states(app)) <= {"accepted", "unknown"}, 240)
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        # The one started last may be told to end before it listens to signals, and so before it does anything.
        assert process.wait(30) in (0, -signal.SIGTERM)
    copies = Counter(one.subject for one in simulator.delivered)
    with engine_of(app).database.session() as session:
        told = {row.subject: row.state for row in session.query(Delivery)}
    assert len(told) == 150
    assert [subject for subject, state in told.items() if state == "accepted" and copies[subject] != 1] == []
    assert [subject for subject in told if copies[subject] > 1] == []


SERVED = (
    APPLICATION
    + """
@app.get("/order")
def order():
    receipt = app.extensions["mail"].send(subject="Order 17", recipients=["ann@customers.example"], body="Thanks.")
    return receipt.delivery_id
"""
)


def test_the_development_server_runs_a_worker_and_ends_with_it(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, sqlite_url: str
) -> None:
    config = {"OUTMAIL_DELIVERY": "outbox", "SQLALCHEMY_DATABASE_URI": sqlite_url, **QUICK}
    app, _ = make_app(smtp_setup(simulator), db=True, **config)
    # Without what `flask run --debug` decides.
    kept = {key: value for key, value in app.config.items() if key != "DEBUG" and _is_json(value)}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    (tmp_path / "application.py").write_text(SERVED)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "flask", "--app", str(tmp_path / "application.py"), "run", "--debug"]
    # A job in the background of a shell inherits that SIGINT is ignored; here it is the way to end.
    process = subprocess.Popen(
        [*command, "--no-reload", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:

        def asked() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/order", timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        until(asked)
        until(lambda: states(app) == ["accepted"])
        process.send_signal(signal.SIGINT)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert len(simulator.delivered) == 1
    assert workers(app) == 0
