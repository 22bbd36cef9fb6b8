"""`make chaos`: every scenario at full size, over SMTP and Graph, on SQLite and PostgreSQL. Takes about half an hour.

`--only WORD` runs those whose name has the word, `--seed N` repeats a run. Exit code 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from ..servers.postgresql import PostgreSQL
from . import scenarios
from .field import Report, chaos
from .scenarios import Scenario

#: Share of the kills: the first scenario is about them, the others are made worse by a few.
FEW = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=60, help="in each run that is about kills")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", metavar="WORD")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    server = PostgreSQL()
    reports: list[Report] = []
    try:
        server.prepare()
        server.start()

        def restart() -> None:
            server.kill()
            server.start()

        plan: list[tuple[Scenario, str, str, int]] = [
            (scenarios.killed_workers, kind, database, options.kills)
            for kind in ("smtp", "graph")
            for database in ("sqlite", "postgresql")
        ]
        for scenario in (scenarios.lost_answers, scenarios.throttled, scenarios.clock_set_back):
            plan += [(scenario, "smtp", "sqlite", FEW), (scenario, "graph", "postgresql", FEW)]
        for scenario in (scenarios.no_tokens, scenarios.expired_secret, scenarios.switched_setups):
            plan += [(scenario, "graph", "sqlite", FEW), (scenario, "graph", "postgresql", FEW)]
        plan += [(scenarios.full_disk, "smtp", "sqlite", FEW)]
        plan += [(scenarios.restarted_database(restart), "smtp", "postgresql", FEW)]
        with tempfile.TemporaryDirectory(prefix="outmail-chaos-") as folder:
            for number, (scenario, kind, database, kills) in enumerate(plan):
                name = scenario.__qualname__.split(".")[0]
                if options.only not in f"{name} {kind} {database}":
                    continue
                url = server.create(f"run{number}") if database == "postgresql" else f"sqlite:///{folder}/{number}.db"
                with chaos(Path(folder) / str(number), url, kind, seed) as field:
                    report = scenario(field, options.messages, kills)
                report.scenario = f"{name}, {report.scenario}"
                print(report, flush=True)
                reports.append(report)
    finally:
        server.remove()
    broken = sum(bool(report.violations) for report in reports)
    kills = sum(report.kills for report in reports)
    print(f"{len(reports)} runs, {sum(report.messages for report in reports)} messages, {kills} kills: {broken} broken")
    return 1 if broken or not reports else 0


sys.exit(main())
