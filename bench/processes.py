"""The other processes of a run: sinks, slow lines, a worker for each peer. All speak one line of JSON at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from . import job
from .job import Job

Own = TypeVar("Own", bound="Process")
ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
#: Where `make bench` puts what npm installs.
NODE_MODULES = ROOT / ".bench" / "node_modules"
START_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 900.0


class BenchError(Exception):
    """A measurement that says nothing: a process died, or not every message arrived."""


class Process:
    """A child process; its answers are lines of JSON. It ends with its standard input, at the latest with ours."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**_clean_environment(), **environment},
        )
        self._buffer = b""
        try:
            self.hello = self._answer(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def ask(self, line: str = "", timeout_s: float = RUN_TIMEOUT_S) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([descriptor], [], [], timeout_s)
            piece = os.read(descriptor, 65_536) if readable else b""
            if not piece:
                raise BenchError(f"{' '.join(self._command)}: {'ended' if readable else 'no answer'}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _clean_environment() -> dict[str, str]:
    # What this machine trusts, or goes through, must not take part.
    theirs = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in theirs and not name.lower().endswith("_proxy") and not name.startswith(("MAIL_", "OUTMAIL_"))
    }


class SinkProcess(Process):
    def __init__(self, *, certificate: str = "", chunking: bool = False) -> None:
        options = ["--certificate", certificate] if certificate else []
        super().__init__([sys.executable, "-m", "bench.sink", *options, *(["--chunking"] if chunking else [])])
        self.port: int = self.hello["port"]

    def counts(self) -> dict[str, int]:
        return self.ask(timeout_s=10)


class SlowLine(Process):
    def __init__(self, port: int, round_trip_ms: float) -> None:
        super().__init__([sys.executable, "-m", "bench.proxy", str(port), "--round-trip-ms", str(round_trip_ms)])
        self.port: int = self.hello["port"]


class Worker(Process):
    """One peer in a process of its own, with nothing loaded but itself.

    `missing` says what to install when it is not there; `version` is its own.
    """

    def __init__(self, peer: str, *, profile: bool = False) -> None:
        script = PEERS / f"{peer}.mjs"
        command = ["node", str(script)] if script.exists() else [sys.executable, "-m", "bench.worker", peer]
        self.missing = self.version = ""
        try:
            super().__init__(
                [*command, *(["--profile"] if profile else [])],
                NODE_PATH=str(NODE_MODULES),
                BENCH_MESSAGE=json.dumps(job.MESSAGE),
            )
        except FileNotFoundError:
            self.missing = f"{command[0]} is not installed"
            return
        self.missing = self.hello.get("missing", "")
        self.version = self.hello.get("version", "")

    def run(self, work: Job) -> dict[str, Any]:
        """`seconds` for the whole job and `grown_bytes` of its peak; or `reason`, why there are none."""
        if self.missing:
            return {"reason": f"not there: {self.missing}"}
        answer = self.ask(work.to_json())
        if "error" in answer:
            print(answer["error"], file=sys.stderr)
            return {"reason": f"failed: {answer['error'].strip().splitlines()[-1]}"}
        return answer

    def close(self) -> None:
        if hasattr(self, "_process"):
            super().close()
