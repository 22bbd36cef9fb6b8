"""`python -m example_app`, as somebody at a terminal meets it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import requests

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 30.0
STOP_WITHIN_S = 5.0


class Run:
    """One running example application; `urls` are those that it printed: the shop's, then the simulator's."""

    def __init__(self, *command: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment["PYTHONWARNINGS"] = "error"
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out = self.err = ""
        self.started = threading.Event()
        self._readers = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._read_out, self.process.stdout), (self._read_err, self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read_out(self, stream: IO[str]) -> None:
        for line in stream:
            self.out += line
            if "Ctrl-C" in line:
                self.started.set()

    def _read_err(self, stream: IO[str]) -> None:
        for line in stream:
            self.err += line

    @property
    def urls(self) -> list[str]:
        return re.findall(r"http://\S+", self.out)

    def wait_until_started(self) -> Run:
        deadline = time.monotonic() + START_WITHIN_S
        while not self.started.wait(0.1):
            assert self.process.poll() is None, self.err
            assert time.monotonic() < deadline, "it did not start in time"
        return self

    def wait(self, timeout_s: float) -> int:
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(STOP_WITHIN_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.wait(STOP_WITHIN_S)


Start = Callable[..., Run]


@pytest.fixture
def start() -> Iterator[Start]:
    runs: list[Run] = []

    def make(*command: str) -> Run:
        runs.append(Run(*command))
        return runs[-1]

    yield make
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.wait(STOP_WITHIN_S)


def shop(tmp_path: Path, *options: str, port: int = 0) -> list[str]:
    return ["-m", "example_app", "--instance", str(tmp_path / "instance"), "--port", str(port), *options]


def test_it_prints_where_to_go_answers_and_stops_on_ctrl_c(start: Start, tmp_path: Path) -> None:
    run = start(*shop(tmp_path)).wait_until_started()
    assert "admin / admin" in run.out
    assert "clara / clara" in run.out
    url, mailboxes = run.urls
    assert "Books, sent by post" in requests.get(url, timeout=5).text
    assert requests.get(mailboxes, timeout=5).status_code == 200
    began = time.monotonic()
    assert run.stop() == 0
    assert time.monotonic() - began < 2.5
    assert run.err == ""
    for port in (int(one.rstrip("/").rpartition(":")[2]) for one in (url, mailboxes)):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)


def test_a_second_start_finds_database_and_identities_again(start: Start, tmp_path: Path) -> None:
    kept = []
    for number in (signal.SIGTERM, signal.SIGINT):
        run = start(*shop(tmp_path)).wait_until_started()
        assert run.stop(number) == 0
        assert run.err == ""
        kept.append((tmp_path / "instance" / "simulator" / "simulator.json").read_text())
    assert kept[0] == kept[1]
    assert (tmp_path / "instance" / "shop.sqlite").exists()


def test_a_taken_port_is_left_to_whoever_has_it(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = start(*shop(tmp_path, "--no-simulator", port=port)).wait_until_started()
        [url] = run.urls
        assert f":{port}/" not in url
        assert requests.get(url, timeout=5).status_code == 200
        assert run.stop() == 0


def test_ctrl_c_before_it_is_ready_is_no_crash(start: Start, tmp_path: Path) -> None:
    run = start(*shop(tmp_path))
    deadline = time.monotonic() + START_WITHIN_S
    while not (tmp_path / "instance" / "simulator").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert run.stop() == 0
    assert run.err == ""


def test_when_one_part_stops_the_rest_stops_and_it_says_so(start: Start, tmp_path: Path) -> None:
    program = (
        "import sys, threading, example_app.run as run\n"
        "class Short(run.SimulatorPart):\n"
        "    def __init__(self, *arguments):\n"
        "        super().__init__(*arguments)\n"
        "        threading.Timer(1.0, self.stop).start()\n"
        "run.SimulatorPart = Short\n"
        "sys.exit(run.main(sys.argv[1:]))\n"
    )
    run = start("-c", program, *shop(tmp_path)[2:])
    assert run.wait(START_WITHIN_S) == 1
    assert "because the simulator has stopped by itself" in run.err
    assert "Traceback" not in run.err


def test_an_address_that_is_not_ours_is_told_in_one_line(start: Start, tmp_path: Path) -> None:
    run = start(*shop(tmp_path, "--no-simulator", "--host", "192.0.2.1"))
    assert run.wait(START_WITHIN_S) == 1
    assert "cannot start" in run.err
    assert "Traceback" not in run.err
