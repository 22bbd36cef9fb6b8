"""Runs one Python peer: `python -m bench.worker flask_mail`. Reads jobs, answers with the seconds each took.

A peer is a module in `bench/peers` with `DISTRIBUTION`, its name where packages are installed from, and one function:
`prepared(job)`, a context manager that gives what is to be timed. Setting up and tidying up are not timed.
"""

from __future__ import annotations

import cProfile
import gc
import importlib
import json
import pstats
import resource
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time
from types import ModuleType
from typing import Any

from .job import Job, NotOffered

LINUX_STATUS = Path("/proc/self/status")


def main(name: str, profile: bool = False) -> None:
    # What a library prints must not stand among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    try:
        peer = importlib.import_module(f"bench.peers.{name}")
        hello = {"version": _version(peer)}
    except (ModuleNotFoundError, PackageNotFoundError, NotOffered) as exc:
        print(json.dumps({"missing": str(exc)}), file=answers, flush=True)
        return
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(peer, Job.from_json(line), profile)), file=answers, flush=True)


def _version(peer: ModuleType) -> str:
    said: str = peer.version() if hasattr(peer, "version") else version(peer.DISTRIBUTION)
    return said


def _answer(peer: ModuleType, job: Job, profile: bool) -> dict[str, Any]:
    try:
        with peer.prepared(job) as work:
            gc.collect()
            _forget_peak()
            before = _peak_bytes()
            profiler = cProfile.Profile() if profile else None
            # What is made without a network is measured by the processor's time: other processes then matter less.
            clock = process_time if job.kind in ("build", "own-layers") else perf_counter
            started = clock()
            if profiler:
                profiler.runcall(work)
            else:
                work()
            seconds = clock() - started
            grown = _peak_bytes() - before
        if profiler:
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
        return {"seconds": seconds, "grown_bytes": grown}
    except NotOffered as exc:
        return {"reason": str(exc)}
    except Exception:  # a peer may raise anything; its row of the table tells it, and the others are still measured
        return {"error": traceback.format_exc(limit=-6)}


def _peak_bytes() -> int:
    """The most memory that this process has had in use."""
    if LINUX_STATUS.exists():
        # Not ru_maxrss, which begins with what the parent process had at its start.
        line = next(one for one in LINUX_STATUS.read_text().splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> None:
    """From here on the peak is counted anew, from what is in use now (Linux: proc(5), clear_refs)."""
    if LINUX_STATUS.exists():
        LINUX_STATUS.with_name("clear_refs").write_text("5")


if __name__ == "__main__":
    main(sys.argv[1], profile="--profile" in sys.argv)
