"""What a run is made of: a mail server in a process of its own, a database, workers that are killed, and a comparison.

The server's record is what decides. It is taken over HTTP from the simulator, which shares no code with the package.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from sqlalchemy import select

from flask_outmail import Message
from flask_outmail.models import Delivery
from flask_outmail.models import Worker as WorkerRow

from ..conftest import engine_of
from .shop import create_app

ROOT = Path(__file__).parents[2]
FINAL = {"accepted", "unknown", "failed", "refused", "cancelled"}


@dataclass
class Report:
    """What came of a run. `violations` is empty when every promise was kept."""

    scenario: str
    seed: int
    messages: int
    kills: int = 0
    states: Counter[str] = field(default_factory=Counter)
    copies: Counter[int] = field(default_factory=Counter)
    unknown_arrived: int = 0
    attempts: int = 0
    elapsed_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        told = (
            f"{self.scenario}: {self.messages} messages, {self.kills} kills, {self.elapsed_s:.0f} s, seed {self.seed}\n"
            f"  rows: {states}; attempts {self.attempts}\n"
            f"  server: {self.copies[1]} once, {self.copies[0]} never, "
            f"{sum(count for times, count in self.copies.items() if times > 1)} more than once; "
            f"of the unknown {self.unknown_arrived} arrived\n"
        )
        return told + "".join(f"  BROKEN: {one}\n" for one in self.violations[:20])


class Server:
    """The simulator as another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._log = (folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flask_outmail.simulator", "--directory", str(folder / "server"),
             "--https-port", "0", "--smtp-port", "0", "--smtps-port", "0", "--web-port", str(self.port)],
            cwd=ROOT, env=environment(), stdout=self._log, stderr=self._log,
        )  # fmt: skip
        wait_until(self._is_up, 60, "the simulator does not start")
        self.facts: dict[str, Any] = self.get("identities")

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "the simulator ended"
        with suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{self.port}/api/identities", timeout=5).ok
        return False

    def get(self, path: str) -> Any:
        answer = requests.get(f"http://127.0.0.1:{self.port}/api/{path}", timeout=60)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, **values: Any) -> None:
        answer = requests.post(f"http://127.0.0.1:{self.port}/api/{path}", json=values, timeout=60)
        answer.raise_for_status()

    def clear_faults(self) -> None:
        requests.delete(f"http://127.0.0.1:{self.port}/api/faults", timeout=60).raise_for_status()

    def copies(self) -> Counter[str]:
        """How often each subject was really delivered."""
        return Counter(one["subject"] for one in self.get("delivered"))

    def setup(self, kind: str) -> dict[str, Any]:
        facts = self.facts
        common = {"username": facts["mailbox"], "from_address": facts["mailbox"]}
        if kind == "smtp":
            host, port = facts["cloud"]["smtp_host"], facts["cloud"]["smtp_port"]
            return {"service": "smtp", "host": host, "port": port, "tls": "starttls",
                    "password": facts["smtp_password"], **common}  # fmt: skip
        return {"service": "microsoft365_graph", "tenant": facts["tenant"], "client_id": facts["client_id"],
                "client_secret": facts["client_secret"], "cloud": "simulator", **common}  # fmt: skip

    def close(self) -> None:
        end(self._process)
        self._log.close()


class Field:
    """One run. Everything random comes from `seed`."""

    def __init__(self, folder: Path, database_url: str, kind: str, seed: int, **config: Any) -> None:
        self.folder, self.kind = folder, kind
        self.random = random.Random(seed)  # noqa: S311 -- moments to kill at, not secrets
        self.server = Server(folder)
        self.server.post("behaviour", smtp_connection_limit=1000)
        self.report = Report(f"{kind} on {database_url.split(':')[0]}", seed, 0)
        self._config_file = folder / "config.json"
        self._config = {
            "SECRET_KEY": "chaos",
            "SQLALCHEMY_DATABASE_URI": database_url,
            "OUTMAIL_CLOUDS": {"simulator": self.server.facts["cloud"]},
            "OUTMAIL_CA_FILE": self.server.facts["ca_file"],
            "OUTMAIL_SETUP": self.server.setup(kind),
            "OUTMAIL_SMTP_TIMEOUT_SECONDS": 5,
            "OUTMAIL_GRAPH_TIMEOUT_SECONDS": 5,
            "OUTMAIL_TOKEN_TIMEOUT_SECONDS": 5,
            "OUTMAIL_WORKER_LEASE_SECONDS": 3,
            "OUTMAIL_WORKER_POLL_SECONDS": 0.2,
            "OUTMAIL_RETRY_FIRST_SECONDS": 0.5,
            "OUTMAIL_RETRY_CAP_SECONDS": 2,
            **config,
        }
        self.configure()
        self.app: Flask = create_app(str(self._config_file))
        self._context = self.app.app_context()
        self._context.push()
        self.engine = engine_of(self.app)
        self.engine.database.create_tables()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._environ: dict[str, str] = {}
        self._log = (folder / "workers.log").open("ab")

    # -- the application ---------------------------------------------------------------------------------------------

    def configure(self, **changes: Any) -> None:
        """Writes the configuration that workers started from now on have."""
        self._config.update(changes)
        self._config_file.write_text(json.dumps(self._config))

    def enqueue(self, count: int, *, together: int = 50) -> None:
        """Puts messages into the outbox, several in one transaction; the subject is the message's number."""
        db, mail = self.app.extensions["sqlalchemy"], self.app.extensions["mail"]
        for first in range(self.report.messages, self.report.messages + count, together):
            last = min(first + together, self.report.messages + count)
            for number in range(first, last):
                mail.enqueue(Message(f"number {number}", [f"ann{number}@customers.example"], "Thank you.\n"))
            db.session.commit()
        self.report.messages += count

    def states(self) -> dict[str, str]:
        """The state of each message by its subject."""
        with self.engine.database.session() as session:
            return {row.subject: row.state for row in session.execute(select(Delivery.subject, Delivery.state))}

    # -- the workers -------------------------------------------------------------------------------------------------

    def start_workers(self, count: int, **environ: str) -> None:
        self._environ = environ
        self._workers += [self._worker() for _ in range(count)]

    def _worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "tests.chaos.shop", "outmail", "worker"],
            cwd=ROOT, env={**environment(), "CHAOS_CONFIG": str(self._config_file), **self._environ},
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    def kill_one(self, *, after_s: float = 0.0) -> None:
        """`kill -9` of a random worker among those that have begun to work; another takes its place."""
        wait_until(lambda: bool(self._at_work()), 60, "no worker begins to work")
        place = self.random.choice(self._at_work())
        time.sleep(after_s)
        victim = self._workers[place]
        victim.send_signal(signal.SIGKILL)
        victim.wait(30)
        self._workers[place] = self._worker()
        self.report.kills += 1

    def _at_work(self) -> list[int]:
        """The places of the workers that are on the list: one that is still being loaded is no victim."""
        with self.engine.database.session() as session:
            listed = set(session.scalars(select(WorkerRow.pid)))
        return [place for place, worker in enumerate(self._workers) if worker.pid in listed]

    def kill_workers(self, kills: int, within_s: float = 0.5) -> None:
        """Kills at random moments, until there were so many or nothing is left to do."""
        for _ in range(kills):
            if self.is_settled():
                return
            self.kill_one(after_s=self.random.uniform(0.0, within_s))

    def stop_workers(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            end(worker)
        self._workers.clear()

    # -- the end -----------------------------------------------------------------------------------------------------

    def is_settled(self) -> bool:
        states = self.states()
        return len(states) >= self.report.messages and set(states.values()) <= FINAL

    def settled_count(self) -> int:
        return sum(state in FINAL for state in self.states().values())

    def wait_for_some(self, count: int) -> None:
        """Waits until so many messages have come to an end."""
        wait_until(lambda: self.settled_count() >= min(count, self.report.messages), 120, "nothing moves")

    def forget_connections(self) -> None:
        """For a database that is about to go away."""
        self.app.extensions["sqlalchemy"].session.remove()
        self.app.extensions["sqlalchemy"].engine.dispose()

    def settle(self, timeout_s: float) -> None:
        """Waits until every message has come to an end."""
        with suppress(AssertionError):
            wait_until(self.is_settled, timeout_s, "")

    def compare(self) -> Report:
        """Holds the server's record against the rows."""
        report, states, copies = self.report, self.states(), self.server.copies()
        for number in range(report.messages):
            subject = f"number {number}"
            state, times = states.get(subject, "gone"), copies[subject]
            report.states[state] += 1
            report.copies[times] += 1
            if state == "unknown":
                report.unknown_arrived += times
            if times > 1:
                report.violations.append(f"{subject} ({state}) arrived {times} times")
            elif state == "accepted" and times != 1:
                report.violations.append(f"{subject} is accepted and never arrived")
            elif state not in ("accepted", "unknown"):
                report.violations.append(f"{subject} is {state}" + (" and arrived" if times else ""))
        with self.engine.database.session() as session:
            report.attempts = sum(session.scalars(select(Delivery.attempt_count)))
        return report

    def close(self) -> None:
        self.stop_workers()
        self._log.close()
        self.server.close()
        self.forget_connections()
        self._context.pop()


@contextmanager
def chaos(folder: Path, database_url: str, kind: str, seed: int, **config: Any) -> Iterator[Field]:
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    made = Field(folder, database_url, kind, seed, **config)
    try:
        yield made
        made.report.elapsed_s = time.monotonic() - started
    finally:
        made.close()


# -- small things ----------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)), "LC_ALL": "C.UTF-8"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, otherwise
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes], within_s: float = 20.0) -> None:
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(30)
