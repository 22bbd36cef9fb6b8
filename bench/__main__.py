"""`make bench`: what a message costs, beside other libraries, all measured in this run.

Prints a table; with --write it also goes into docs/explanation/speed.md, with its picture. Absolute figures drift
with the machine; ratios hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import chart, special, table
from .measuring import Lab
from .processes import ROOT, Worker
from .workloads import OURS, WORKLOADS, Workload

PAGE = ROOT / "docs" / "explanation" / "speed.md"
PICTURE = ROOT / "docs" / "images" / "speed.svg"
SPECIAL = ("graph", "imports", "memory", "own-layers")
QUICK_SHARE = 0.02


def main() -> int:
    options = _options()
    quick, rounds = options.quick, options.rounds or (1 if options.quick else 5)
    share = QUICK_SHARE if quick else 1.0
    chosen = options.only or [*(workload.key for workload in WORKLOADS), *SPECIAL]
    if options.write and (quick or options.only or rounds < 5):
        print("--write wants the whole of it: no --quick, no --only, five rounds", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="outmail-bench-") as directory, Lab(Path(directory)) as lab:
        if options.profile:
            return _profile(lab, options.profile)
        report = table.Report(command=_command(options), rounds=rounds, versions=lab.versions)
        for workload in WORKLOADS:
            if workload.key in chosen:
                report.smtp.append((workload, lab.measure(workload, rounds=rounds, share=share)))
        if "graph" in chosen:
            report.graph, report.graph_notes = special.graph(lab, rounds, share)
        if "imports" in chosen:
            report.imports = special.imports(lab, rounds)
        if "memory" in chosen:
            report.memory = special.memory(lab, min(rounds, 3), share)
        if "own-layers" in chosen:
            report.own_layers = special.own_layers(lab, rounds, share)
        report.versions = lab.versions
        text = table.render(report)
    print(text)
    if options.write:
        PAGE.write_text(table.written(PAGE.read_text(), text))
        PICTURE.write_text(chart.draw(report.verdicts()))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    keys = [*(workload.key for workload in WORKLOADS), *SPECIAL]
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", choices=keys, help=f"some of: {', '.join(keys)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (default 5, or 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few messages: shows that everything works, no more")
    parser.add_argument("--write", action="store_true", help="write the table and its picture into the documentation")
    parser.add_argument("--profile", metavar="WORKLOAD", choices=[one.key for one in WORKLOADS],
                        help="print where ours spends the time of one run, and measure nothing")  # fmt: skip
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    words = ["python -m bench", *(["--quick"] if options.quick else [])]
    words += ["--only", *options.only] if options.only else []
    words += [f"--rounds {options.rounds}"] if options.rounds else []
    return " ".join([*words, *(["--write"] if options.write else [])])


def _profile(lab: Lab, key: str) -> int:
    workload: Workload = next(one for one in WORKLOADS if one.key == key)
    contender = next(one for one in workload.contenders if one.peer == OURS)
    with Worker(OURS, profile=True) as worker:
        for count in (1, workload.job.count):
            job, _ = lab.placed(contender, workload, count)
            worker.run(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
