"""The servers people run Flask with: each sends through us for real."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flask_outmail.simulator import Fault, Simulator

from ..conftest import graph_setup, smtp_setup, world

GUNICORN = [sys.executable, "-m", "gunicorn", "--chdir", str(Path(__file__).parent), "--log-level", "warning"]
FACTORY = "served_app:create_app()"

SERVERS = {
    "gunicorn, 2 forked workers": [*GUNICORN, "-w", "2", "--preload", FACTORY],
    "gunicorn, threads": [*GUNICORN, "--threads", "4", FACTORY],
    "gunicorn, gevent": [*GUNICORN, "-k", "gevent", FACTORY],
    "uvicorn behind asgiref": [
        sys.executable, "-m", "uvicorn", "--app-dir", str(Path(__file__).parent), "--factory", "served_app:create_asgi",
        "--log-level", "warning",
    ],
    "flask run": [sys.executable, "-m", "flask", "--app", str(Path(__file__).with_name("served_app.py")), "run"],
}  # fmt: skip

Serve = Callable[..., Callable[[str], dict[str, Any]]]


@pytest.fixture
def serve(simulator: Simulator, tmp_path: Path) -> Iterator[Serve]:
    running: list[subprocess.Popen[bytes]] = []

    def start(server: str, setup: dict[str, Any], **environment: str) -> Callable[[str], dict[str, Any]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = list(SERVERS[server])
        command += ["-b", f"127.0.0.1:{port}"] if "gunicorn" in command else ["--port", str(port)]
        config = {**world(simulator), "OUTMAIL_SETUP": setup}
        env = {**os.environ, "SERVED_CONFIG": json.dumps(config), **environment}
        with open(tmp_path / "server.log", "wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=tmp_path)
        running.append(process)
        for _ in range(300):
            if process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)

        def get(path: str) -> dict[str, Any]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                    found: dict[str, Any] = json.loads(answer.read())
                    return found
            except OSError as exc:
                raise AssertionError((tmp_path / "server.log").read_text()[-3000:]) from exc

        return get

    yield start
    for process in running:
        process.terminate()
        try:
            assert process.wait(20) is not None
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.mark.parametrize("service", ["graph", "smtp"])
@pytest.mark.parametrize("server", list(SERVERS))
def test_each_message_is_accepted_once_under_every_server(
    serve: Serve, simulator: Simulator, server: str, service: str
) -> None:
    setup = graph_setup(simulator) if service == "graph" else smtp_setup(simulator)
    get = serve(server, setup)
    people = [f"p{number}@x.example" for number in range(12)]
    # Three at a time: what the simulator, as Exchange does, allows to one mailbox over SMTP.
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda to: get(f"/send?to={to}"), people))
    assert all(answer["accepted"] for answer in answers)
    assert sorted(mail.recipient for mail in simulator.wait_for(12)) == sorted(people)


@pytest.mark.parametrize("service", ["graph", "smtp"])
def test_a_connection_opened_before_the_fork_is_not_shared_by_the_children(
    serve: Serve, simulator: Simulator, service: str
) -> None:
    setup = graph_setup(simulator) if service == "graph" else smtp_setup(simulator)
    get = serve("gunicorn, 2 forked workers", setup, SERVED_WARM="1")
    people: list[str] = []
    pids: set[int] = set()
    # Three at a time: what the simulator, as Exchange does, allows to one mailbox over SMTP.
    with ThreadPoolExecutor(3) as pool:
        # Until both workers have sent, which the server decides; otherwise this would prove nothing.
        while len(pids) < 2 and len(people) < 400:
            batch = [f"p{number}@x.example" for number in range(len(people), len(people) + 20)]
            pids |= {answer["pid"] for answer in pool.map(lambda to: get(f"/send?to={to}"), batch)}
            people += batch
    assert len(pids) == 2
    found = sorted(mail.recipient for mail in simulator.wait_for(len(people) + 1))
    assert found == sorted([*people, "warm@x.example"])


@pytest.mark.parametrize("server", ["gunicorn, threads", "uvicorn behind asgiref", "gunicorn, 2 forked workers"])
def test_an_async_view_goes_on_while_mail_is_handed_over(serve: Serve, simulator: Simulator, server: str) -> None:
    simulator.faults.add(Fault(endpoint="sendMail", delay_s=0.3, times=None))
    get = serve(server, graph_setup(simulator))
    answer = get("/asend?to=a@x.example,b@x.example,c@x.example")
    assert answer["accepted"]
    # The loop has ticked all the time; a blocked one ticks once or twice.
    assert answer["ticks"] > 20
    assert {mail.recipient for mail in simulator.wait_for(3)} == {"a@x.example", "b@x.example", "c@x.example"}
