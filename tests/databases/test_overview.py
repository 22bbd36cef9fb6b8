"""The overview's numbers and the claim of a check, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flask_outmail.models import Delivery
from flask_outmail.outbox import checks, statistics

from ..conftest import MakeApp, engine_of, smtp_setup

NOW = datetime(2026, 11, 25, 12, 30, tzinfo=timezone.utc)
DAY = timedelta(days=1)


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


def test_the_numbers_are_the_same_everywhere_and_one_process_gets_the_check(
    make_app: MakeApp, simulator: object
) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True)  # type: ignore[arg-type]
    mail.access_control(lambda: True)
    database = engine_of(app).database
    lines = [("accepted", "", 0), ("accepted", "", 1), ("failed", "timeout", 1), ("waiting", "timeout", 0)]
    with database.session() as session:
        for state, code, hours in lines:
            at = NOW - timedelta(hours=hours)
            session.add(
                Delivery(message_id="m", recipients=[], state=state, code=code, created_at=at, updated_at=at, due_at=at)
            )
        session.commit()
    with database.session() as session:
        *_, before, present = statistics.last_hours(session, now=NOW)
        assert (before.counts["accepted"], before.counts["not accepted"], before.total) == (1, 1, 2)
        assert (present.counts["accepted"], present.counts["under way"], present.total) == (1, 1, 2)
        assert statistics.causes(session, since=NOW - DAY) == [("timeout", 2)]
        assert statistics.next_try_at(session) == NOW
        assert statistics.last_accepted_at(session) == NOW - timedelta(hours=1)
        assert [checks.claim(session, "primary", now=NOW, every=DAY) for _ in range(2)] == [True, False]
        checks.put_off(session, "primary", NOW + DAY)
        session.commit()
    with database.session() as session:
        assert not checks.claim(session, "primary", now=NOW + DAY - timedelta(seconds=1), every=DAY)
        assert checks.claim(session, "primary", now=NOW + DAY, every=DAY)
    assert app.test_client().get("/outmail/").status_code == 200
