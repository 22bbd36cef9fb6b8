"""What a worker does when everything around it fails: the database, the disk, the clock, the server, the setup."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from flask_outmail import Mail
from flask_outmail.models import Delivery, Lane
from flask_outmail.outbox import claims, roster, store
from flask_outmail.outbox.spool import Entry
from flask_outmail.proving import trial
from flask_outmail.simulator import Simulator
from flask_outmail.working import make_worker

from ..conftest import MakeApp, engine_of, make_message, smtp_setup
from ..integration.test_holding import activate, smtp_values
from .conftest import QUICK, OutboxApp, attempts, rows, states, work


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def shop(outbox_app: OutboxApp, tmp_path: Path) -> tuple[Flask, Mail]:
    return outbox_app(OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"))


@contextmanager
def no_commits(app: Flask, *, begins_after: int, count: int, pretend: bool = False) -> Iterator[None]:
    """The database fails at `count` commits after some; with `pretend` it had committed, and nobody heard of it."""
    engine = app.extensions["sqlalchemy"].engine
    seen = [0]

    def fail(connection: Any) -> None:
        seen[0] += 1
        if begins_after < seen[0] <= begins_after + count:
            if pretend:
                connection.connection.dbapi_connection.commit()
            raise OperationalError("commit", {}, Exception("disk I/O error"))

    event.listen(engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(engine, "commit", fail)


@pytest.mark.parametrize("pretend", [False, True], ids=["nothing was committed", "it was committed all the same"])
@pytest.mark.parametrize("begins_after", range(6))
def test_a_commit_that_fails_at_any_moment_neither_loses_nor_repeats(
    shop: tuple[Flask, Mail], simulator: Simulator, begins_after: int, pretend: bool
) -> None:
    app, mail = shop
    for number in range(4):
        mail.send(make_message(subject=str(number)))
    with no_commits(app, begins_after=begins_after, count=3, pretend=pretend):
        work(app, drain=True, concurrency=1)
    assert states(app) == ["accepted"] * 4
    assert sorted(one.subject for one in simulator.delivered) == ["0", "1", "2", "3"]
    assert [state for state, _ in attempts(app)] == ["accepted"] * 4


def test_an_outcome_that_the_database_never_took_is_in_the_spool_and_counts_at_the_next_start(
    shop: tuple[Flask, Mail], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, mail = shop
    mail.send(make_message())
    worker, side = make_worker(engine_of(app))
    engine = app.extensions["sqlalchemy"].engine
    begun = threading.Event()

    def fail(connection: Any) -> None:
        # From the moment that the message has left, the database takes nothing more.
        if simulator.delivered:
            begun.set()
            raise OperationalError("commit", {}, Exception("database or disk is full"))

    event.listen(engine, "commit", fail)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert begun.wait(20)
    while not engine_of(app).queueing.spool.names():
        assert thread.is_alive()
    worker.stop()
    worker.stop()
    thread.join(20)
    event.remove(engine, "commit", fail)
    side.close()
    assert states(app) == ["claimed"], "as after a kill: begun, and no word of its end"
    assert work(app) == 0
    assert states(app) == ["accepted"]
    assert len(simulator.delivered) == 1


def test_a_worker_that_was_taken_for_dead_reports_what_really_came_of_its_message(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    simulator.faults.hang("smtp.dot", 1.0)
    mail.send(make_message())
    worker, side = make_worker(engine_of(app))
    thread = threading.Thread(target=lambda: worker.run(drain=True))
    thread.start()
    while states(app) != ["claimed"] or rows(app)[0].begun_at is None:
        assert thread.is_alive()
    with engine_of(app).database.session() as session:
        beat = roster.beats(session)[worker.id]
        while roster.bury(session, worker.id, beat, now=datetime.now(timezone.utc), at_least_once=False) is None:
            session.rollback()
            beat = roster.beats(session)[worker.id]
        session.commit()
    assert states(app) == ["unknown"]
    thread.join(20)
    side.close()
    assert states(app) == ["accepted"] and len(simulator.delivered) == 1


def test_what_another_process_hands_over_by_now_is_not_held_again(shop: tuple[Flask, Mail]) -> None:
    """Held, it would be released and sent a second time while the other is at it."""
    app, mail = shop
    mail.send(make_message())
    now = datetime.now(timezone.utc)
    with engine_of(app).database.session() as session:
        claims.hold(session, "primary")
        claimed = store.claim_held(session, "slow", connection="primary", after_id=0, now=now)
        assert claimed is not None
        [slow] = claims.begin(session, "slow", [claimed], now=now)
        claims.bury_expired(session, now=now + store.LEASE + timedelta(seconds=1))
        store.retry(session, claimed, may_arrive_twice=True)
        claims.claim(session, "quick", "primary", limit=1, now=now)
        [quick] = claims.begin(session, "quick", [claimed], now=now)
        store.hold_again(session, slow.id, slow.number, code="port_closed")
        session.commit()
    assert quick.number == 2
    assert states(app) == ["claimed"]


def test_a_clock_that_is_set_back_an_hour_stops_nothing(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    for _ in range(3):
        mail.send(make_message())
    simulator.faults.preset("smtp-rcpt-451", recipient="ann@customers.example")
    jumps = [timedelta(), timedelta(hours=-1)]
    calls = [0]

    def now() -> datetime:
        calls[0] += 1
        return datetime.now(timezone.utc) + jumps[calls[0] > 2]

    worker, side = make_worker(engine_of(app), now=now)
    worker.run(once=True)
    side.close()
    work(app)
    assert set(states(app)) <= {"accepted", "waiting"}
    assert len(simulator.delivered) >= 2


def test_two_revisions_switched_while_sending_lose_and_repeat_nothing(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"), **QUICK)
    activate(app, smtp_values(simulator, from_name="One"), verified=True)
    for number in range(30):
        mail.send(make_message(subject=str(number)))
    worker, side = make_worker(engine_of(app))
    thread = threading.Thread(target=lambda: worker.run(drain=True))
    thread.start()
    while len(simulator.delivered) < 5:
        assert thread.is_alive()
    activate(app, smtp_values(simulator, from_name="Two"), verified=True)
    thread.join(60)
    side.close()
    assert states(app) == ["accepted"] * 30
    assert sorted(int(one.subject) for one in simulator.delivered) == list(range(30))


def test_a_secret_that_expired_is_waited_for_and_its_replacement_lets_everything_go(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"), **QUICK)
    activate(app, smtp_values(simulator, password="expired", failure_alerts_to=""), verified=True)
    for _ in range(3):
        mail.send(make_message())
    work(app, once=True)
    assert states(app) == ["queued"] * 3
    with engine_of(app).database.session() as session:
        assert session.query(Lane).filter_by(connection="primary").one().paused_until is not None
    activate(app, smtp_values(simulator, failure_alerts_to=""), verified=True)
    assert work(app) == 3


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_passed_test_ends_the_pause_of_a_connection_that_was_mended_elsewhere(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, is_configured: bool
) -> None:
    setup = (smtp_setup(simulator),) if is_configured else ()
    app, mail = make_app(*setup, db=True, OUTMAIL_DELIVERY="outbox", OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"), **QUICK)
    if not is_configured:
        activate(app, smtp_values(simulator, failure_alerts_to=""), verified=True)
    simulator.faults.preset("smtp-auth-535", times=None)
    mail.send(make_message())
    work(app, once=True)
    simulator.faults.clear()
    assert work(app, once=True) == 0, "it pauses"
    run = trial(engine_of(app), by="ann")
    list(run.steps())
    assert run.passed
    assert work(app) == 1


@pytest.mark.parametrize(("per_minute", "left"), [(1, 3), (6000, 0)])
def test_held_mail_follows_a_passed_test_at_a_measured_pace(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, per_minute: int, left: int
) -> None:
    config = {"OUTMAIL_RELEASE_PER_MINUTE": per_minute, "OUTMAIL_SPOOL_DIR": str(tmp_path / "spool"), **QUICK}
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", **config)
    activate(app, smtp_values(simulator))
    for _ in range(4):
        mail.send(make_message())
    work(app, once=True)
    assert states(app) == ["held"] * 4
    activate(app, smtp_values(simulator), verified=True)
    work(app, once=True)
    assert sorted(states(app)) == ["accepted"] * (4 - left) + ["held"] * left


def test_one_that_cannot_be_decrypted_fails_and_keeps_its_content_for_the_day_the_key_is_back(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    mail.send(make_message())
    mail.send(make_message())
    with engine_of(app).database.session() as session:
        first = session.query(Delivery).order_by(Delivery.id).first()
        assert first is not None
        first.content_sealed = b"00000000:sealed with a key that is gone"
        session.commit()
    assert work(app) == 1
    assert [(row.state, row.code) for row in rows(app)] == [("failed", "secret_unreadable"), ("accepted", "")]
    with engine_of(app).database.session() as session:
        assert session.query(Delivery.content_sealed).order_by(Delivery.id).first()[0]  # type: ignore[index]


@pytest.mark.parametrize("poison", ["refused by the database", "of a later version"])
def test_a_file_of_the_spool_that_cannot_be_moved_keeps_no_other_there(
    shop: tuple[Flask, Mail], simulator: Simulator, poison: str
) -> None:
    app, mail = shop
    engine = engine_of(app)
    database = app.extensions["sqlalchemy"].engine
    spool = engine.queueing.spool

    def refuse(*of_statement: Any) -> None:
        if "outmail_deliveries" in of_statement[2] and "poison" in str(of_statement[3]):
            raise OperationalError("insert", {}, Exception("max_allowed_packet"))

    def down(connection: Any) -> None:
        raise OperationalError("commit", {}, Exception("server has gone away"))

    event.listen(database, "commit", down)
    mail.send(make_message(subject="poison"))
    mail.send(make_message(subject="fine"))
    event.remove(database, "commit", down)
    assert len(spool.names()) == 2
    if poison == "of a later version":
        [bad] = [one for one in spool.entries() if one.facts["subject"] == "poison"]
        spool.put(Entry(bad.name, bad.kind, bad.facts | {"not_known_yet": 1}, bad.sealed))
        # Before the other, as it was.
        os.utime(Path(spool.folder, f"{bad.name}.waiting"), (1, 1))
    else:
        event.listen(database, "before_cursor_execute", refuse)
    assert work(app) == 1
    if poison == "refused by the database":
        event.remove(database, "before_cursor_execute", refuse)
    assert [one.subject for one in simulator.delivered] == ["fine"]
    assert len(spool.names()) == 1, "the other is still there, and nothing is lost"
    assert [state for state, _ in attempts(app)] == ["accepted"]
