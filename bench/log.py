"""How long the pages take with 100,000 messages and years of use: `python -m bench.log [--rows N] [--url URL]`.

Fills a new SQLite file (or the empty database at URL) and prints, for each page, the median and the longest of some
requests in milliseconds: the time of the server, without a network. Nothing here can fail; it measures.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import insert, text

from flask_outmail import Mail, setups
from flask_outmail.models import Attempt, AuditEntry, AuthObject, Backlog, Delivery, Incident, Worker
from flask_outmail.outbox import backlog
from flask_outmail.setup_values import SetupValues

NAMES = ("ann", "bob", "carla", "dimitri", "eva", "farid")
#: Of a hundred messages.
STATES = ("failed", "refused", "unknown", "waiting", "queued") + ("accepted",) * 95
CODES = {"failed": "535 5.7.3", "refused": "550 5.1.1", "unknown": "timed_out", "waiting": "429"}
TOGETHER = 5000


def rows(count: int, now: datetime) -> Iterator[dict[str, Any]]:
    dice = random.Random(17)  # noqa: S311 -- no secret
    for number in range(count):
        at = now - timedelta(seconds=(count - number) * 20)
        state = dice.choice(STATES)
        yield {
            "uid": f"{number:032}",
            "state": state,
            "code": CODES.get(state, ""),
            "reason": "the server said so" if state in CODES else "",
            "connection": dice.choice(("primary", "primary", "backup")),
            "recipients": [f"{dice.choice(NAMES)}{dice.randrange(10_000)}@customers.example"],
            "subject": f"Order {number} of {dice.choice(NAMES)}",
            "sender": "shop@contoso.example",
            "message_id": f"<{number}@contoso.example>",
            "attempt_count": 1,
            "created_at": at,
            "updated_at": at,
            "queued_at": at,
            # What is kept must not make the others slow.
            "content_sealed": b"x" * 4000 if state in ("failed", "refused", "unknown") else None,
            "size_bytes": 4000,
        }


def fill(app: Flask, count: int) -> None:
    engine = app.extensions["outmail"]
    engine.database.create_tables()
    lines = list(rows(count, datetime.now(timezone.utc)))
    with engine.database.session() as session:
        for start in range(0, count, TOGETHER):
            session.execute(insert(Delivery), lines[start : start + TOGETHER])
            tries = [
                {"delivery_id": start + place + 1, "number": 1, "state": line["state"], "code": line["code"]}
                for place, line in enumerate(lines[start : start + TOGETHER])
            ]
            session.execute(insert(Attempt), tries)
        session.commit()
        mysql = session.get_bind().dialect.name in ("mysql", "mariadb")
        session.execute(text(f"analyze {'table ' if mysql else ''}outmail_deliveries"))
        session.commit()


def use(app: Flask) -> None:
    """What years of use leave behind beside messages: revisions, credentials, tests, incidents, activity, workers."""
    engine, now = app.extensions["outmail"], datetime.now(timezone.utc)
    with engine.database.session() as session:
        for number in range(100):
            facts = {
                "provider": "microsoft_client_credentials",
                "tenant": "contoso.example",
                "client_id": f"{number:036}",
            }
            session.add(AuthObject(name=f"Mailer {number:03}", client_secret_sealed=engine.vault.seal("x"), **facts))
        for number in range(200):
            values = SetupValues("smtp", "127.0.0.1", 25, "none", "shop", "secret", "a@contoso.example", f"{number}")
            row = setups.save(session, values, engine.vault, by="anna", seen_revision=number)
        setups.mark_verified(row, values, engine.vault, by="anna")
        setups.activate(row, by="anna")
        steps = [{"key": "settings", "title": "Settings complete", "state": "passed"}] * 12
        for _ in range(setups.PROOFS_KEPT):
            setups.add_proof(session, values, engine.vault, passed=True, steps=steps, by="anna")
        for number in range(1000):
            at = now - timedelta(hours=number)
            closed = {"closed_at": at, "closed_by": "recovered"} if number > 20 else {"open_key": f"{number:064}"}
            session.add(Incident(connection="primary", code="timeout", fault="connection", opened_at=at, **closed))
        session.execute(insert(AuditEntry), [{"who": "anna", "action": "read_body", "object": "delivery 1"}] * 20_000)
        session.execute(insert(Backlog), [
            {"start": backlog.slot_of(now) - number * backlog.SLOT, "ready": number % 7, "later": 0, "held": 0}
            for number in range(backlog.SLOTS)
        ])  # fmt: skip
        for number in range(20):
            session.add(Worker(id=f"{number}", host=f"app-{number}", pid=number, setups={"primary": row.id}))
        session.commit()


def pages(client: FlaskClient, count: int) -> dict[str, str]:
    """Names of pages and where they are."""
    found = {
        "newest": "",
        "one state": "?state=failed",
        "a state without messages": "?state=held",
        "a state and a cause": "?state=failed&code=535 5.7.3",
        "a cause": "?code=535 5.7.3",
        "a cause that never was": "?code=never",
        "an address": "?to=ann17@customers.example",
        "an address that never was": "?to=nobody@customers.example",
        "the beginning of addresses": "?to=dimitri9*",
        "words of a subject": "?subject=order 17",
        "words that never were": "?subject=never",
        "a connection": "?connection=backup",
        "the last 24 hours": "?period=day",
        "two days long ago": f"?since={_day(count, 0.1)}&until={_day(count, 0.1, 1)}",
        "two days long ago, and words": f"?since={_day(count, 0.1)}&until={_day(count, 0.1, 1)}&subject=ann",
    }
    found = {name: f"/outmail/deliveries/{query}" for name, query in found.items()}
    at = datetime.now(timezone.utc) - timedelta(seconds=count * 20 - 1000)
    found["the oldest page"] = f"/outmail/deliveries/?before={at:%Y%m%dT%H%M%S%f}-{60}"
    found["the oldest page of a state"] = f"{found['the oldest page']}&state=accepted"
    found["one message"] = f"/outmail/deliveries/{count // 2}"
    found["preview of a bulk"] = "/outmail/deliveries/again?state=failed&code=535 5.7.3"
    found["history and activity"] = "/outmail/history"
    found["two revisions compared"] = "/outmail/history/compare?from=1&to=200"
    found["older activity"] = "/outmail/history?before=10000"
    found["set-up"] = "/outmail/setup"
    found["authentication objects"] = "/outmail/auth-objects/"
    found["one authentication object"] = "/outmail/auth-objects/50"
    found["replace its secret"] = "/outmail/auth-objects/50/secret"
    found["alerts"] = "/outmail/alerts"
    found["domain"] = "/outmail/domain"
    found["overview"] = "/outmail/"
    found["health.json"] = "/outmail/health.json"
    return found


def _day(count: int, part: float, more: int = 0) -> str:
    at = datetime.now(timezone.utc) - timedelta(seconds=count * 20 * (1 - part)) + timedelta(days=more)
    return f"{at:%Y-%m-%d}"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.log")
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--url", default="", help="an empty database; a new SQLite file without it")
    options.add_argument("--repeat", type=int, default=7)
    given = options.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        app = Flask("bench")
        url = given.url or f"sqlite:///{Path(folder) / 'log.sqlite'}"
        app.config.update(SECRET_KEY="bench", SQLALCHEMY_DATABASE_URI=url)  # noqa: S106
        mail = Mail(app, SQLAlchemy(app))
        mail.access_control(lambda: True)
        with app.app_context():
            fill(app, given.rows)
            use(app)
        client = app.test_client()
        print(f"{given.rows} messages on {url.partition(':')[0]}; milliseconds, median and longest of {given.repeat}")
        for name, path in pages(client, given.rows).items():
            times = []
            for _ in range(given.repeat):
                started = time.perf_counter()
                answer = client.get(path)
                times.append((time.perf_counter() - started) * 1000)
                assert answer.status_code in (200, 503), (path, answer.status_code)  # noqa: S101 -- 503: mail waits
            print(f"{name:<32} {statistics.median(times):7.1f} {max(times):7.1f}")
        started = time.perf_counter()
        lines = client_export(client)
        print(f"export of everything: {lines} lines in {time.perf_counter() - started:.1f} s")
        with app.app_context():
            app.extensions["sqlalchemy"].engine.dispose()


def client_export(client: FlaskClient) -> int:
    """Exports the whole log as a person does; returns how many lines came."""
    page = client.get("/outmail/deliveries/").text
    token = page.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
    return client.post("/outmail/deliveries/export", data={"csrf_token": token}).text.count("\r\n") - 1


if __name__ == "__main__":
    main()
