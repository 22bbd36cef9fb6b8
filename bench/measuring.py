"""Runs a workload: every contender once a round, round after round, so that a slow moment of the machine hits all."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flask_outmail.simulator.certificates import Authority

from . import job as message
from .job import Job
from .processes import BenchError, SinkProcess, SlowLine, Worker
from .sink import PASSWORD, USERNAME
from .workloads import EVEN, SLOW_MS, Contender, Workload

Progress = Callable[[str], None]


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Result:
    """What one contender needed: seconds for each message, one value a round; or why there is none."""

    name: str
    values: list[float] = field(default_factory=list)
    reason: str = ""
    count: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.values) < 4:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / 2 / self.median


class Lab:
    """The sinks, slow lines and workers of a run; each started when it is first needed, all ended by `close`."""

    def __init__(self, directory: Path, progress: Progress = to_stderr) -> None:
        self._stack = ExitStack()
        self.progress = progress
        authority = Authority(directory)
        authority.context()
        self.ca_file = str(authority.ca_file)
        self._certificate = str(directory / "good.pem")
        self._sinks: dict[tuple[str, bool], SinkProcess] = {}
        self._lines: dict[int, SlowLine] = {}
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def versions(self) -> dict[str, str]:
        return {peer: worker.version for peer, worker in self._workers.items() if worker.version}

    def worker(self, peer: str) -> Worker:
        if peer not in self._workers:
            worker = Worker(peer)
            self._stack.callback(worker.close)
            self._workers[peer] = worker
        return self._workers[peer]

    def sink(self, job: Job, chunking: bool) -> SinkProcess:
        key = (job.security, chunking)
        if key not in self._sinks:
            certificate = self._certificate if job.security == "starttls" else ""
            sink = SinkProcess(certificate=certificate, chunking=chunking)
            self._stack.callback(sink.close)
            self._sinks[key] = sink
        return self._sinks[key]

    def placed(self, contender: Contender, workload: Workload, count: int) -> tuple[Job, SinkProcess | None]:
        """The contender's job with a server to talk to, and the sink that counts what arrives there."""
        job = replace(workload.job, count=count, **contender.fields)
        if workload.line == "none":
            return job, None
        sink = self.sink(job, contender.chunking)
        port = sink.port
        if workload.line == "slow":
            if port not in self._lines:
                self._lines[port] = SlowLine(port, SLOW_MS)
                self._stack.callback(self._lines[port].close)
            port = self._lines[port].port
        job = replace(job, host="127.0.0.1", port=port, ca_file=self.ca_file)
        return replace(job, username=USERNAME, password=PASSWORD) if job.security == "starttls" else job, sink

    def measure(self, workload: Workload, *, rounds: int, share: float = 1.0) -> list[Result]:
        """One result for each contender. `share` of the messages are sent (for a quick look).

        Raises:
            BenchError: a message that a library believes accepted did not arrive at the sink.
        """
        results = []
        for contender in workload.contenders:
            even = workload.count_even if contender.peer in EVEN else 0
            count = max(1, round((even or workload.job.count) * share))
            results.append(Result(contender.name, count=count))
        # The first time is not counted: modules are loaded, authorities read. Who cannot do it is told by it too.
        for number in range(-1, rounds):
            for contender, result in zip(workload.contenders, results, strict=True):
                if result.reason:
                    continue
                answer = self._run(contender, workload, result.count if number >= 0 else 1)
                result.reason = answer.get("reason", "")
                if number >= 0 and not result.reason:
                    result.values.append(answer["seconds"] / result.count)
                    self.progress(
                        f"{workload.key} {number + 1}/{rounds} {contender.name}: {result.values[-1] * 1e6:,.0f} µs"
                    )
        return results

    def _run(self, contender: Contender, workload: Workload, count: int) -> dict[str, Any]:
        job, sink = self.placed(contender, workload, count)
        before = sink.counts() if sink else {}
        answer = self.worker(contender.peer).run(job)
        if sink and "seconds" in answer:
            after = sink.counts()
            arrived = {name: after[name] - before[name] for name in after}
            answer["arrived"] = arrived
            least = count * (message.SMALL_BYTES + job.attachment_bytes * 4 // 3)
            if arrived["messages"] != count or arrived["recipients"] != count or arrived["content_bytes"] < least:
                raise BenchError(f"{workload.key}: {contender.name}: of {count} messages arrived {arrived}")
            if job.security == "starttls" and not (arrived["encrypted"] and arrived["logins"]):
                # A kept connection is opened once, but every run begins without one.
                raise BenchError(f"{workload.key}: {contender.name}: not encrypted, or not logged in: {arrived}")
        return answer
