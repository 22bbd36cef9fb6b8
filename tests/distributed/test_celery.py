"""What docs/how-to/use-celery.md shows, run as it stands: two worker processes and beat, on PostgreSQL and Redis."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from flask_outmail import ConfigurationError, Mail, Message
from flask_outmail.celery import register
from flask_outmail.models import Delivery, utc_now
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, smtp_setup
from ..servers.redis import Redis

GUIDE = (Path(__file__).parents[2] / "docs/how-to/use-celery.md").read_text()
FILES = {re.match(r"# (\w+\.py)\n", block).group(1): block  # type: ignore[union-attr]
         for block in re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)}  # fmt: skip
COMMANDS = re.findall(r"^celery .*$", GUIDE, flags=re.MULTILINE)
FINAL = {"accepted", "unknown", "failed", "refused", "cancelled"}


class Shop:
    """The guide's application in a folder of its own, and its processes."""

    def __init__(self, folder: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name, text in FILES.items():
            (folder / name).write_text(text)
        self._settings = {
            f"FLASK_{name}": value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()
        }
        for name, value in self._settings.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("shop", folder / "shop.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.app: Flask = module.create_app()
        self.mail: Mail = module.mail
        self.db = module.db
        self.count = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Runs every command that the guide shows, each as a process."""
        assert len(COMMANDS) == 3, "two workers and beat"
        for number, command in enumerate(COMMANDS):
            with (self.folder / f"{number}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", *shlex.split(command)],
                        cwd=self.folder,
                        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **self._settings},
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill(process)
        self.processes.clear()

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """With the processes that it forked, as when the machine goes."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def enqueue(self, count: int, *, together: int = 5) -> None:
        for first in range(self.count, self.count + count, together):
            for number in range(first, min(first + together, self.count + count)):
                self.mail.enqueue(Message(f"number {number}", ["ann@customers.example"], "Thank you.\n"))
            self.db.session.commit()
        self.count += count

    def states(self) -> Counter[str]:
        with engine_of(self.app).database.session() as session:
            return Counter(session.scalars(select(Delivery.state)))

    def wait_until(self, done: Any, within_s: float = 90.0) -> None:
        ends = time.monotonic() + within_s
        while not done(self.states()):
            if time.monotonic() > ends:
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
                raise AssertionError(f"{self.states()}\n{logs}")
            time.sleep(0.1)

    def settle(self) -> None:
        self.wait_until(lambda states: sum(states[one] for one in FINAL) == self.count)


@pytest.fixture
def shop(
    tmp_path: Path, postgresql_url: str, redis_server: Redis, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    settings = {
        "SECRET_KEY": "tests",
        "SQLALCHEMY_DATABASE_URI": postgresql_url,
        "CELERY": {"broker_url": redis_server.url, "broker_connection_retry_on_startup": True},
        "OUTMAIL_SETUP": smtp_setup(simulator),
        "OUTMAIL_CA_FILE": str(simulator.ca_file),
        "OUTMAIL_CELERY_SWEEP_SECONDS": 1.0,
        "OUTMAIL_WORKER_LEASE_SECONDS": 3.0,
    }
    made = Shop(tmp_path, settings, monkeypatch)
    with made.app.app_context():
        engine_of(made.app).database.create_tables()
        try:
            yield made
        finally:
            made.stop()
            made.db.session.remove()
            made.db.engine.dispose()


def arrived(simulator: Simulator) -> Counter[int]:
    """How many messages arrived how often."""
    return Counter(Counter(one.subject for one in simulator.delivered).values())


def test_two_processes_hand_each_message_over_once_however_often_they_are_told(
    shop: Shop, simulator: Simulator
) -> None:
    shop.start()
    deliver = shop.app.extensions["celery"].tasks["flask_outmail.deliver"]
    for _ in range(4):
        shop.enqueue(15)
        for _ in range(5):
            deliver.delay()
    shop.settle()
    assert shop.states() == {"accepted": 60}
    assert arrived(simulator) == {1: 60}


def test_a_broker_that_is_killed_and_comes_back_loses_nothing_and_doubles_nothing(
    shop: Shop, simulator: Simulator, redis_server: Redis
) -> None:
    simulator.faults.hang("smtp.dot", 0.05, times=None)
    shop.start()
    shop.enqueue(30)
    shop.wait_until(lambda states: states["accepted"] >= 5)
    redis_server.kill()
    shop.enqueue(10)  # the request neither fails nor waits
    redis_server.start()
    shop.enqueue(10)
    shop.settle()
    assert shop.states() == {"accepted": 50}
    assert arrived(simulator) == {1: 50}


def test_tasks_that_the_broker_lost_are_made_up_for_by_the_sweep(
    shop: Shop, simulator: Simulator, redis_server: Redis
) -> None:
    shop.enqueue(20)
    redis_server.say("FLUSHALL")
    shop.start()
    shop.settle()
    assert shop.states() == {"accepted": 20}
    assert arrived(simulator) == {1: 20}


def test_a_killed_worker_leaves_at_most_what_it_was_handing_over_unknown(shop: Shop, simulator: Simulator) -> None:
    simulator.faults.hang("smtp.dot", 0.1, times=None)
    shop.start()
    shop.enqueue(40)
    shop.wait_until(lambda states: states["accepted"] >= 5)
    shop.kill(shop.processes[0])
    shop.settle()
    states, copies = shop.states(), arrived(simulator)
    current = engine_of(shop.app).current()
    assert current is not None
    assert set(states) <= {"accepted", "unknown"} and states["unknown"] <= current.transport.concurrency  # type: ignore[attr-defined]
    assert set(copies) == {1} and states["accepted"] <= copies[1] <= 40


def test_a_rolled_back_message_sends_no_task_and_a_committed_one_does(shop: Shop, redis_server: Redis) -> None:
    shop.mail.enqueue(Message("never", ["ann@customers.example"], "x"))
    assert redis_server.say("LLEN", "celery") == b":0\r\n", "nobody may be told before the commit"
    shop.db.session.rollback()
    shop.enqueue(3, together=3)
    assert redis_server.say("LLEN", "celery") in (b":1\r\n", b":2\r\n")


def test_register_says_what_must_be_done_first() -> None:
    from celery import Celery

    with pytest.raises(ConfigurationError, match=r"init_app\(app, db\)"):
        register(Celery("shop"), Flask("shop"))


def test_between_two_tasks_no_worker_is_missed_but_mail_that_waits_is(make_app: MakeApp, simulator: Simulator) -> None:
    from celery import Celery

    app, mail = make_app(smtp_setup(simulator), db=True)
    register(Celery("shop", broker="memory://"), app)
    mail.enqueue(Message("number 0", ["ann@customers.example"], "Thank you.\n"))
    app.extensions["sqlalchemy"].session.commit()
    found = engine_of(app).alerting.watch(utc_now() + timedelta(hours=2))
    assert [(one.kind, one.is_symptom) for one in found] == [("queue", False)]
    app.extensions["sqlalchemy"].session.remove()
