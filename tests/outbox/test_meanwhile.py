"""Another process was quicker, a file is gone, a disk is full: what one process finds that others have changed."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError

from flask_outmail import Mail, TransportUnavailable
from flask_outmail.models import Delivery, Setup, utc_now
from flask_outmail.outbox import claims, roster, store
from flask_outmail.outbox.spool import Entry
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message
from ..integration.test_holding import activate, smtp_values
from .conftest import QUICK, OutboxApp, rows, states, work
from .test_housekeeping import fill


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def shop(outbox_app: OutboxApp, tmp_path: Path) -> tuple[Flask, Mail]:
    return outbox_app(OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"))


@contextmanager
def meanwhile(app: Flask, act: Callable[[], None]) -> Iterator[None]:
    """Somebody else acts between our look at the deliveries and our change of them."""
    engine = app.extensions["sqlalchemy"].engine
    left = [act]

    def before(*of_statement: Any) -> None:
        if of_statement[2].startswith("UPDATE outmail_deliveries") and left:
            left.pop()()

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)


# -- another process was quicker -------------------------------------------------------------------------------------


def test_of_two_that_looked_at_the_same_time_each_message_belongs_to_one(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    for _ in range(3):
        mail.send(make_message())
    database, now = engine_of(app).database, utc_now()
    first: list[int] = []

    def quicker() -> None:
        with database.session() as session:
            first.extend(claims.claim(session, "quick", "primary", limit=2, now=now))
            session.commit()

    with meanwhile(app, quicker), database.session() as session:
        second = claims.claim(session, "slow", "primary", limit=3, now=now)
        session.commit()
    assert len(first) == 2 and len(second) == 1
    assert not set(first) & set(second)


def test_a_held_message_is_released_by_one_of_two(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    for _ in range(2):
        mail.send(make_message())
    database, now = engine_of(app).database, utc_now()
    with database.session() as session:
        claims.hold(session, "primary")
        session.commit()
    first: list[int | None] = []

    def quicker() -> None:
        with database.session() as session:
            first.append(store.claim_held(session, "quick", connection="primary", after_id=0, now=now))
            session.commit()

    with meanwhile(app, quicker), database.session() as session:
        second = store.claim_held(session, "slow", connection="primary", after_id=0, now=now)
        session.commit()
    assert [*first, second] == [row.id for row in rows(app)]


def test_a_worker_whose_heart_has_beaten_since_is_not_buried(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    mail.send(make_message())
    now = utc_now()
    with engine_of(app).database.session() as session:
        me = roster.register(session, version="", now=now)
        claims.claim(session, me, "primary", limit=1, now=now)
        seen = roster.beats(session)[me]
        roster.beat(session, me, now=now)
        assert roster.bury(session, me, seen, now=now, at_least_once=False) is None
        session.commit()
    assert states(app) == ["claimed"]


def test_what_belongs_to_a_worker_that_is_on_no_list_leaves_by_another(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    mail.send(make_message())
    with engine_of(app).database.session() as session:
        claims.claim(session, "nobody", "primary", limit=1, now=utc_now())
        session.commit()
    assert work(app) == 1
    assert states(app) == ["accepted"]


def test_what_became_too_late_while_it_was_claimed_does_not_leave(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    now = utc_now()
    mail.enqueue(make_message(), not_after=now + timedelta(hours=1))
    mail.enqueue(make_message())
    app.extensions["sqlalchemy"].session.commit()
    with engine_of(app).database.session() as session:
        ids = claims.claim(session, "me", "primary", limit=2, now=now)
        [begun] = claims.begin(session, "me", ids, now=now + timedelta(hours=2))
        session.commit()
    assert begun.id == ids[1]
    assert [(row.state, row.code) for row in rows(app)] == [("failed", "expired"), ("claimed", "")]


def test_a_held_message_that_came_too_late_does_not_keep_the_next(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", **QUICK)
    activate(app, smtp_values(simulator))
    for _ in range(2):
        mail.send(make_message())
    work(app, once=True)
    with engine_of(app).database.session() as session:
        late = session.query(Delivery).order_by(Delivery.id).first()
        assert late is not None
        late.not_after_at = utc_now() - timedelta(seconds=1)
        session.commit()
    assert engine_of(app).releasing.release() == (0, 0), "not verified yet"
    activate(app, smtp_values(simulator), verified=True)
    assert engine_of(app).releasing.release() == (1, 0)
    assert states(app) == ["failed", "accepted"]
    assert len(simulator.delivered) == 1


def test_a_release_ends_with_its_time(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", **QUICK)
    activate(app, smtp_values(simulator))
    mail.send(make_message())
    work(app, once=True)
    activate(app, smtp_values(simulator), verified=True)
    assert engine_of(app).releasing.release(budget_s=0.0) == (0, 0)
    assert states(app) == ["held"]


def test_a_setup_that_cannot_be_read_keeps_its_own_mail_and_no_other(make_app: MakeApp, simulator: Simulator) -> None:
    """Its key is gone, or its row was damaged: what waits for it waits on, and leaves once it is saved again."""
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", **QUICK)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator), connection="billing", verified=True)
    mail.send(make_message(), via="billing")
    mail.send(make_message())
    with engine_of(app).database.session() as session:
        session.execute(update(Setup).where(Setup.connection == "billing").values(password_sealed="00000000:gone"))
        session.commit()
    later, _ = make_app(db=True, OUTMAIL_DELIVERY="outbox", **QUICK)
    assert work(later, once=True) == 1
    assert states(later) == ["queued", "accepted"]
    activate(later, smtp_values(simulator), connection="billing", verified=True)
    assert work(later) == 1
    assert states(later) == ["accepted", "accepted"]


# -- the spool -------------------------------------------------------------------------------------------------------


def test_a_file_that_another_process_has_moved_is_no_entry_and_no_error(
    shop: tuple[Flask, Mail], caplog: pytest.LogCaptureFixture
) -> None:
    spool = engine_of(shop[0]).queueing.spool
    spool.put(Entry("one", "delivery", {}))
    spool.put(Entry("two", "delivery", {}))
    entries = spool.entries()
    assert next(entries).name == "one"
    spool.done("two")
    spool.done("two")
    assert list(entries) == []
    assert "a file of the spool cannot be read" not in caplog.text


def test_a_full_disk_leaves_no_half_a_file(shop: tuple[Flask, Mail]) -> None:
    spool = engine_of(shop[0]).queueing.spool
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(TransportUnavailable) as caught:
            spool.put(Entry("one", "delivery", {}, b"x" * 10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "spool_unwritable"
    assert list(spool.folder.iterdir()) == []


# -- the log tidies itself -------------------------------------------------------------------------------------------


def test_tidying_is_nobodys_trouble_and_goes_on_when_the_database_is_back(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    fill(app, {"days": 100}, {"days": 1})
    keeping = engine_of(app).keeping
    engine = app.extensions["sqlalchemy"].engine

    def away(*of_statement: Any) -> None:
        if of_statement[2].startswith("DELETE"):
            raise OperationalError("delete", {}, Exception("disk I/O error"))

    event.listen(engine, "before_cursor_execute", away)
    for tidy in (lambda: mail.send(make_message()), keeping.tidy):
        keeping._due_at = 0.0
        tidy()
    event.remove(engine, "before_cursor_execute", away)
    assert len(rows(app)) == 3
    keeping.tidy()
    assert len(rows(app)) == 3, "it is not time yet"
    keeping._due_at = 0.0
    keeping.tidy()
    assert len(rows(app)) == 2
