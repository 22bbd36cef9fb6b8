"""What is not told by the seconds of a batch alone: imports, our own layers, memory, and Graph."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from flask_outmail.simulator import Fault, Simulator

from . import job as message
from .job import Job
from .measuring import Lab, Result
from .processes import BenchError, Worker
from .workloads import NAMES

LATENCY_S = 0.1
MEMORY_BYTES = 150_000_000
OURS = NAMES["flask_outmail"]


def imports(lab: Lab, rounds: int) -> list[Result]:
    """Seconds of the processor to import a package, in fresh processes."""
    statements = {
        "import flask_outmail": "import flask_outmail",
        "from flask_outmail import Mail, Message": "from flask_outmail import Mail, Message",
        "import flask_mail": "import flask_mail",
        "from flask_mail import Mail, Message": "from flask_mail import Mail, Message",
        "import flask": "import flask",
    }
    results = {name: Result(name, count=1) for name in statements}
    for number in range(-1, 3 * rounds):
        for name, statement in statements.items():
            if results[name].reason:
                continue
            code = f"from time import process_time as now; start = now(); {statement}; print(now() - start)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode:
                results[name].reason = done.stderr.strip().rpartition("\n")[2]
            elif number >= 0:
                results[name].values.append(float(done.stdout))
    for result in results.values():
        lab.progress(f"imports {result.name}: {result.reason or f'{result.median * 1000:.0f} ms'}")
    return list(results.values())


def own_layers(lab: Lab, rounds: int, share: float) -> list[Result]:
    """Seconds of one `send()` into memory, and of making the bytes alone; the difference is ours to answer for."""
    count = max(1, round(400 * share))
    worker = lab.worker("flask_outmail")
    send, build = Result("mail.send into memory", count=count), Result("making the bytes", count=count)
    difference = Result("our own layers", count=count)
    # Small pieces that take turns: the difference is far smaller than what another process may cost meanwhile.
    for number in range(-1, 10 * rounds):
        both = []
        for result, kind in ((send, "own-layers"), (build, "build")):
            answer = worker.run(Job(kind=kind, count=count))  # type: ignore[arg-type]
            if "reason" in answer:
                raise BenchError(answer["reason"])
            both.append(answer["seconds"] / count)
            if number >= 0:
                result.values.append(both[-1])
        if number >= 0:
            difference.values.append(both[0] - both[1])
    lab.progress(f"own-layers: {difference.median * 1e6:.0f} µs")
    return [difference, send, build]


def memory(lab: Lab, rounds: int, share: float) -> list[Result]:
    """Bytes by which the peak of a process grows while it sends one attachment from a path; a fresh process each."""
    size = max(5_000_000, round(MEMORY_BYTES * share))
    results = [
        Result(f"{OURS}, SMTP", count=1),
        Result(f"{OURS}, Graph", count=1),
        Result(NAMES["flask_mail"], count=1),
    ]
    with tempfile.NamedTemporaryFile(suffix=".bin") as file, _microsoft(latency_s=0) as (simulator, world):
        piece = bytes(range(256)) * 4096
        while file.tell() < size:
            file.write(piece[: size - file.tell()])
        file.flush()
        simulator.behaviour.message_limit_bytes = 4 * size
        base = Job(kind="memory", count=1, attachment_path=file.name)
        sink = lab.sink(base, chunking=False)
        over_smtp = replace(base, host="127.0.0.1", port=sink.port)
        over_graph = replace(base, graph=world, ca_file=str(simulator.ca_file))
        for number in range(rounds):
            parts = (("flask_outmail", over_smtp), ("flask_outmail", over_graph), ("flask_mail", over_smtp))
            for result, (peer, job) in zip(results, parts, strict=True):
                if result.reason:
                    continue
                before = sink.counts()["content_bytes"]
                with Worker(peer) as worker:
                    answer = worker.run(job)
                result.reason = answer.get("reason", "")
                if result.reason:
                    continue
                if job.graph:
                    arrived = sum(len(part.content) for mail in simulator.delivered for part in mail.attachments)
                    simulator.clear()
                    simulator.behaviour.message_limit_bytes = 4 * size
                else:
                    arrived = (sink.counts()["content_bytes"] - before) * 3 // 4
                if arrived < size:
                    raise BenchError(f"memory: {result.name}: {arrived} bytes arrived")
                result.values.append(answer["grown_bytes"])
                lab.progress(f"memory {number + 1}/{rounds} {result.name}: {result.values[-1] / 1e6:.1f} MB")
    return results


def graph(lab: Lab, rounds: int, share: float) -> tuple[list[Result], list[str]]:
    """Seconds for each message to one mailbox when an answer takes 100 ms; and how requests were answered."""
    # The more messages, the less the token and the first connection count; who opens them for each needs few to tell.
    parts = {
        f"{OURS}, send_many": ("flask_outmail", "", 120),
        f"{OURS}, one at a time": ("flask_outmail", "one by one", 120),
        "msgraph-sdk, one client": ("msgraph_sdk", "kept", 60),
        "msgraph-sdk, a client for each": ("msgraph_sdk", "anew", 12),
        "O365, one account": ("o365", "kept", 60),
        "O365, an account for each": ("o365", "anew", 12),
    }
    results = {name: Result(name, count=max(4, round(count * share))) for name, (_, _, count) in parts.items()}
    notes: dict[str, str] = {}
    with _microsoft(latency_s=LATENCY_S) as (simulator, world):
        for number in range(-1, rounds):
            for name, (peer, way, _) in parts.items():
                result = results[name]
                if result.reason:
                    continue
                times = result.count if number >= 0 else 1
                simulator.state.forget_answers()
                simulator.state.forget_mail()
                job = Job(kind="graph", count=times, way=way, graph=world, ca_file=str(simulator.ca_file))
                answer = lab.worker(peer).run(job)
                result.reason = answer.get("reason", "")
                if result.reason:
                    continue
                arrived = len(simulator.wait_for(times))
                if arrived != times:
                    raise BenchError(f"graph: {name}: of {times} messages arrived {arrived}")
                if number < 0:
                    continue
                result.values.append(answer["seconds"] / times)
                tokens = sum(one.path.endswith("/token") for one in simulator.answers)
                too_many = sum(one.status == 429 for one in simulator.answers)
                notes[name] = f"{tokens} token request{'' if tokens == 1 else 's'}, {too_many} answers 429"
                lab.progress(f"graph {number + 1}/{rounds} {name}: {result.values[-1] * 1000:.1f} ms, {notes[name]}")
    return list(results.values()), [f"{name}: {note}" for name, note in notes.items()]


@contextmanager
def _microsoft(*, latency_s: float) -> Iterator[tuple[Simulator, str]]:
    """The simulator, with a mailbox of our sender's name, and what a client must know of it."""
    with Simulator() as simulator:
        simulator.add_mailbox(message.SENDER)
        if latency_s:
            for endpoint in ("token", "sendMail"):
                simulator.faults.add(Fault(endpoint=endpoint, delay_s=latency_s, times=None))
        names = ("tenant", "client_id", "client_secret", "cloud")
        yield simulator, json.dumps({name: getattr(simulator, name) for name in names})
