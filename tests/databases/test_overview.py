"""The overview's numbers and the claim of a check, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flask_outmail.models import Backlog, Delivery
from flask_outmail.outbox import backlog, checks, statistics
from flask_outmail.outbox.backlog import Depth

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


def test_the_most_that_waited_in_a_half_hour_is_kept_for_a_day(make_app: MakeApp, simulator: object) -> None:
    app, _ = make_app(smtp_setup(simulator), db=True)  # type: ignore[arg-type]
    database = engine_of(app).database

    def wait(**counts: int) -> None:
        with database.session() as session:
            session.query(Delivery).delete()
            for state, count in counts.items():
                session.add_all(Delivery(message_id="m", recipients=[], state=state) for _ in range(count))
            session.commit()

    def look(at: datetime) -> None:
        with database.session() as session:
            backlog.note(session, now=at)

    hour = timedelta(hours=1)
    for at, counts in (
        (NOW - DAY, {"queued": 9}),  # a day ago: a half hour too early to be shown
        (NOW - hour, {"queued": 2, "claimed": 1, "accepted": 7}),
        (NOW - hour + timedelta(minutes=20), {"waiting": 1, "held": 3, "failed": 2}),
        (NOW - hour + timedelta(minutes=29, seconds=59), {"queued": 1}),
        (NOW, {"queued": 5}),
    ):
        wait(**counts)
        look(at)
    wait(held=2)
    with database.session() as session:
        slots = backlog.last_day(session, now=NOW + timedelta(minutes=3))
        assert session.query(Backlog).count() == 3
    assert len(slots) == 48
    assert slots[0].start == NOW - DAY + timedelta(minutes=30)
    assert {slot.start: slot.most for slot in slots if slot.most is not None} == {
        NOW - hour: Depth(later=1, held=3), NOW: Depth(ready=5)
    }  # fmt: skip


def test_of_two_processes_that_look_at_once_the_higher_number_stays(make_app: MakeApp, simulator: object) -> None:
    app, _ = make_app(smtp_setup(simulator), db=True)  # type: ignore[arg-type]
    database = engine_of(app).database
    with database.session() as first, database.session() as second:
        backlog.note(first, now=NOW)
        second.add(Delivery(message_id="m", recipients=[], state="queued"))
        second.commit()
        backlog.note(second, now=NOW)
        backlog.note(first, now=NOW)
    with database.session() as session:
        assert session.query(Backlog.ready).all() == [(1,)]
