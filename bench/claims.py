"""`python -m bench.claims`: what it costs a worker to claim messages, while the rows that are done before grow.

100,000 messages are queued all the time. With `--write` the table, the curve and the databases' own plans go into
docs/explanation/claim-cost.md. PostgreSQL and MariaDB are started for it where they are installed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from flask_outmail import Mail
from flask_outmail.models import Delivery
from flask_outmail.outbox import claims
from flask_outmail.vault import generate_key

QUEUED = 100_000
DONE = (0, 10_000, 30_000, 100_000)
CLAIMED_TOGETHER = 10
SAMPLES = 150
PAGE = Path(__file__).parents[1] / "docs/explanation/claim-cost.md"
PICTURE = "claim-cost.svg"
NOW = datetime.now(timezone.utc)
COLOURS = {"SQLite": "a", "PostgreSQL": "b", "MariaDB": "c"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .grid { stroke: #d0d7de }
path { fill: none; stroke-width: 2.5 }
path.a { stroke: #2563a8 } path.b { stroke: #b45309 } path.c { stroke: #14683a }
text.a { fill: #2563a8 } text.b { fill: #b45309 } text.c { fill: #14683a }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .grid { stroke: #3a4450 }
  path.a { stroke: #6aa9e9 } path.b { stroke: #f0a44b } path.c { stroke: #7fd6a2 }
  text.a { fill: #6aa9e9 } text.b { fill: #f0a44b } text.c { fill: #7fd6a2 }
}
"""


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """The databases there are on this machine: name → address."""
    from tests.servers.mariadb import MariaDB
    from tests.servers.postgresql import PostgreSQL
    from tests.servers.process import ServerMissing

    servers: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        found = {"SQLite": f"sqlite:///{folder}/bench.sqlite"}
        try:
            for name, kind in (("PostgreSQL", PostgreSQL), ("MariaDB", MariaDB)):
                try:
                    server = kind()
                except ServerMissing as exc:
                    print(f"{name} is left out: {exc}")
                    continue
                servers.append(server)
                server.prepare()
                server.start()
                found[name] = server.create("bench")
            yield found
        finally:
            for server in servers:
                server.remove()


def add(session: Session, state: str, count: int, first: int) -> None:
    for start in range(0, count, 5000):
        session.execute(
            insert(Delivery),
            [
                {
                    "uid": f"{state}-{first + start + number}",
                    "state": state,
                    "message_id": f"<{first + start + number}@bench.example>",
                    "recipients": ["ann@customers.example"],
                    "connection": "primary",
                    "subject": "Your order",
                    "queued_at": NOW - timedelta(days=1),
                    "content_sealed": b"x" * 500 if state == "queued" else None,
                }
                for number in range(min(5000, count - start))
            ],
        )
        session.commit()


def measure(session: Session) -> float:
    """Milliseconds for one claim, without its commit, which costs what the disk costs.

    The fastest tenth: whatever else the machine does only adds to a claim.
    """
    times = []
    for _ in range(SAMPLES):
        session.connection()
        started = time.perf_counter()
        claimed = claims.claim(session, "bench", "primary", limit=CLAIMED_TOGETHER, now=NOW)
        times.append((time.perf_counter() - started) * 1000)
        assert len(claimed) == CLAIMED_TOGETHER  # noqa: S101 -- otherwise nothing was measured
        session.rollback()
    return statistics.quantiles(times, n=10)[0]


def plan(session: Session) -> str:
    """The database's own words for how it finds what leaves next."""
    dialect = session.get_bind().dialect
    query = claims.next_queued("primary", CLAIMED_TOGETHER)
    statement = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN QUERY PLAN " if dialect.name == "sqlite" else "EXPLAIN "
    rows = session.execute(text(explain + statement.replace(":", r"\:"))).all()
    return "\n".join(" | ".join(str(cell) for cell in row) for row in rows)


def run(name: str, url: str) -> tuple[list[float], str]:
    app = Flask("bench")
    app.config.update(OUTMAIL_ENCRYPTION_KEYS=[generate_key()], SQLALCHEMY_DATABASE_URI=url, MAIL_SERVER="localhost")
    db = SQLAlchemy(app)
    Mail(app, db)
    costs = []
    with app.app_context():
        db.create_all()
        with app.extensions["outmail"].database.session() as session:
            add(session, "queued", QUEUED, 0)
            before = 0
            for count in DONE:
                add(session, "accepted", count - before, QUEUED + before)
                before = count
                analyze = "ANALYZE TABLE outmail_deliveries" if name == "MariaDB" else "ANALYZE outmail_deliveries"
                session.execute(text(analyze))
                session.commit()
                measure(session)
                costs.append(measure(session))
                print(f"{name}: {count:>7,} done, {QUEUED:,} queued: {costs[-1]:.2f} ms for {CLAIMED_TOGETHER}")
            found = plan(session)
        db.engine.dispose()
    return costs, found


def curve(results: dict[str, tuple[list[float], str]]) -> str:
    width, height, left, bottom = 760, 300, 60, 40
    top_ms = max(max(costs) for costs, _ in results.values()) * 1.25
    across, up = (width - left - 130) / DONE[-1], (height - bottom - 20) / top_ms
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="Milliseconds for a claim, by the number of rows done before">',
        f"<style>{STYLE}</style>",
    ]
    for part in range(5):
        ms = top_ms * part / 4
        y = height - bottom - ms * up
        out.append(f'<line class="grid" x1="{left}" x2="{width - 130}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{ms:.1f}</text>')
    for count in DONE:
        out.append(f'<text x="{left + count * across:.1f}" y="{height - 18}" text-anchor="middle">{count:,}</text>')
    out.append(f'<text x="{left}" y="14">ms for a claim of {CLAIMED_TOGETHER}</text>')
    for name, (costs, _) in results.items():
        points = [(left + n * across, height - bottom - ms * up) for n, ms in zip(DONE, costs, strict=True)]
        line = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        x, y = points[-1]
        out.append(f'<path class="{COLOURS[name]}" d="M{line}"/>')
        out.append(f'<text class="{COLOURS[name]}" x="{x + 8:.1f}" y="{y + 4:.1f}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def page(results: dict[str, tuple[list[float], str]]) -> str:
    head = " | ".join(f"{count:,} done" for count in DONE)
    rows = [f"| {name} | {' | '.join(f'{ms:.2f} ms' for ms in costs)} |" for name, (costs, _) in results.items()]
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines = [
        "# What a claim costs",
        "",
        "<!-- Written by `python -m bench.claims --write`; do not edit. -->",
        "",
        f"A worker claims {CLAIMED_TOGETHER} messages of a connection while {QUEUED:,} are queued. What was accepted"
        " before stays in the table for as long as the delivery log keeps it, and must not make a claim slower. The"
        f" fastest tenth of {SAMPLES} claims (what else the machine does only adds), without the commit (which costs"
        " what the disk costs):",
        "",
        f"| database | {head} |",
        f"| --- | {' | '.join('---' for _ in DONE)} |",
        *rows,
        "",
        f"![The same as curves: they are level](../images/{PICTURE})",
        "",
        f"Measured on {machine}, {datetime.now(timezone.utc):%Y-%m-%d}, by `python -m bench.claims --write`.",
        "",
        "The reason is one short range of an index. In the databases' own words, with all those rows there:",
        "",
    ]
    for name, (_, found) in results.items():
        lines += [f"**{name}**", "", "```text", found, "```", ""]
    lines += [
        "A test (`tests/outbox/test_plans.py`) fails when any look of a worker scans the table or sorts it.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.claims", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page and its picture into the documentation")
    given = parser.parse_args()
    with databases() as found:
        results = {name: run(name, url) for name, url in found.items()}
    if given.write:
        PAGE.write_text(page(results))
        (PAGE.parents[1] / "images" / PICTURE).write_text(curve(results))
    else:
        print(page(results))


if __name__ == "__main__":
    main()
