"""A request that holds SQLite's one write lock sends all the same: nothing waits, fails or is lost because of it."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from flask_outmail import Mail, SetupNotVerified, TransportUnavailable
from flask_outmail.outbox.spool import Spool
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message, smtp_setup
from .conftest import QUICK, commit, rows, states, work


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def locked(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> tuple[Flask, Mail]:
    """An application that is in the middle of a transaction of its own, which has written."""
    return make_locked(make_app, smtp_setup(simulator), tmp_path)


def make_locked(make_app: MakeApp, setup: Any, tmp_path: Path, **config: Any) -> tuple[Flask, Mail]:
    config = {"OUTMAIL_DELIVERY": "outbox", "OUTMAIL_SPOOL_DIR": str(tmp_path / "spool"), **QUICK, **config}
    # Whoever waits for the lock in these tests waits longer than any of them lasts.
    options = {"connect_args": {"timeout": 300}}
    app, mail = make_app(setup, db=True, SQLALCHEMY_ENGINE_OPTIONS=options, **config)
    session = app.extensions["sqlalchemy"].session
    session.execute(text("create table orders (id integer)"))
    session.commit()
    session.execute(text("insert into orders values (1)"))
    return app, mail


def orders(app: Flask) -> int:
    return int(app.extensions["sqlalchemy"].session.execute(text("select count(*) from orders")).scalar())


def spool(app: Flask) -> Spool:
    return engine_of(app).queueing.spool


def test_what_is_sent_waits_in_the_spool_and_is_queued_after_the_commit(
    locked: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = locked
    receipt = mail.send(make_message())
    assert receipt.queued and spool(app).names() == [receipt.delivery_id]
    commit(app)
    assert spool(app).names() == []
    assert [row.uid for row in rows(app)] == [receipt.delivery_id]
    assert work(app) == 1 and len(simulator.delivered) == 1
    assert orders(app) == 1


def test_what_is_sent_leaves_although_the_request_is_rolled_back(
    locked: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = locked
    mail.send(make_message())
    app.extensions["sqlalchemy"].session.rollback()
    assert work(app) == 1
    assert orders(app) == 0


def test_the_end_of_the_request_is_enough(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    app, mail = make_locked(make_app, smtp_setup(simulator), tmp_path)
    commit(app)
    with app.app_context():
        app.extensions["sqlalchemy"].session.execute(text("insert into orders values (2)"))
        mail.send(make_message())
    assert spool(app).names() == []
    assert states(app) == ["queued"]


def test_a_file_in_the_spool_holds_nothing_readable(locked: tuple[Flask, Mail]) -> None:
    app, mail = locked
    mail.send(make_message(subject="a private matter", body="a private word"))
    [file] = spool(app).folder.iterdir()
    data = file.read_bytes()
    assert b"private" not in data and b"ann@" not in data
    assert file.stat().st_mode & 0o077 == 0


def test_a_process_that_died_after_moving_a_file_leaves_one_delivery(locked: tuple[Flask, Mail]) -> None:
    app, mail = locked
    mail.send(make_message())
    [file] = spool(app).folder.iterdir()
    kept = file.read_bytes()
    commit(app)
    # It had been moved, and the process died before it could delete the file.
    file.write_bytes(kept)
    assert engine_of(app).queueing.move() == 1
    assert len(rows(app)) == 1 and spool(app).names() == []


def test_a_worker_moves_what_a_process_that_died_had_left(locked: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = locked
    mail.send(make_message())
    [file] = spool(app).folder.iterdir()
    kept = file.read_bytes()
    app.extensions["sqlalchemy"].session.rollback()
    with engine_of(app).database.session() as session:
        session.execute(text("delete from outmail_deliveries"))
        session.commit()
    file.write_bytes(kept)
    assert work(app) == 1


def test_a_file_that_cannot_be_read_stays_and_the_others_are_moved(locked: tuple[Flask, Mail]) -> None:
    app, mail = locked
    (spool(app).folder).mkdir(parents=True)
    (spool(app).folder / "aaaa.waiting").write_bytes(b"rubbish")
    mail.send(make_message())
    commit(app)
    assert spool(app).names() == ["aaaa"]
    assert len(rows(app)) == 1


def test_when_neither_takes_it_the_caller_is_told(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("a file stands where the folder should be")
    _, mail = make_locked(make_app, smtp_setup(simulator), tmp_path, OUTMAIL_SPOOL_DIR=str(tmp_path / "no-folder"))
    with pytest.raises(TransportUnavailable) as caught:
        mail.send(make_message())
    assert caught.value.code == "spool_unwritable"


def test_a_message_that_is_held_meanwhile_is_kept_whatever_becomes_of_the_request(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = make_locked(make_app, None, tmp_path, OUTMAIL_DELIVERY="direct")
    with pytest.raises(SetupNotVerified) as caught:
        mail.send(make_message())
    assert caught.value.held
    app.extensions["sqlalchemy"].session.rollback()
    assert states(app) == ["held"]


def test_the_log_of_what_was_sent_at_once_follows_after_the_request(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = make_locked(make_app, smtp_setup(simulator), tmp_path, OUTMAIL_DELIVERY="direct")
    assert mail.send(make_message()).accepted
    assert rows(app) == []
    app.extensions["sqlalchemy"].session.rollback()
    assert states(app) == ["accepted"]


def test_no_line_of_the_log_goes_with_one_that_another_thread_has_written(
    make_app: MakeApp, simulator: Simulator, sqlite_url: str
) -> None:
    """Each sees what waits in memory, and takes out of it what it has written and nothing else."""
    app, mail = make_app(smtp_setup(simulator), db=True)
    written: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()

    def pause(session: Any) -> None:
        if threading.current_thread() not in threads:
            return
        go_on = threading.Event()
        written.put(go_on)
        assert go_on.wait(20)

    def send(subject: str) -> None:
        with app.app_context():
            mail.send(make_message(subject=subject))

    event.listen(Session, "after_commit", pause)
    threads = [threading.Thread(target=send, args=(subject,)) for subject in ("one", "two")]
    pauses = []
    for thread in threads:
        thread.start()
        pauses.append(written.get(timeout=20))
    pauses[0].set()
    threads[0].join()
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    with closing(other):
        other.execute("begin immediate")
        send("three")
        pauses[1].set()
        threads[1].join()
    event.remove(Session, "after_commit", pause)
    engine_of(app).queueing.move()
    assert sorted(row.subject for row in rows(app)) == ["one", "three", "two"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_forked_while_a_thread_moves_what_waits_moves_its_own(locked: tuple[Flask, Mail]) -> None:
    """The thread that would end the parent's turn does not exist in the child."""
    app, mail = locked
    commit(app)
    begun, end = threading.Event(), threading.Event()

    def take_long() -> None:
        begun.set()
        end.wait(20)

    def move_for_long() -> None:
        with app.app_context():
            app.extensions["sqlalchemy"].session.execute(text("insert into orders values (2)"))
            engine_of(app).queueing.soon(take_long)
            commit(app)

    thread = threading.Thread(target=move_for_long)
    thread.start()
    assert begun.wait(20)
    child = os.fork()
    if child == 0:
        try:
            app.extensions["sqlalchemy"].engine.dispose(close=False)
            with app.app_context():
                app.extensions["sqlalchemy"].session.execute(text("insert into orders values (3)"))
                mail.send(make_message(subject="child"))
                commit(app)
                assert spool(app).names() == []
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert [row.subject for row in rows(app)] == ["child"]


def test_a_failure_meanwhile_is_on_record_after_the_request(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = make_locked(make_app, smtp_setup(simulator), tmp_path, OUTMAIL_DELIVERY="direct")
    simulator.faults.preset("smtp-auth-535", times=None)
    assert not mail.send_many([make_message()])[0]
    commit(app)
    assert states(app) == ["failed"]
    from flask_outmail.models import Incident

    with engine_of(app).database.session() as session:
        assert session.query(Incident).count() == 1


def test_a_lock_of_another_program_is_no_trouble_either(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, sqlite_url: str
) -> None:
    app, mail = make_locked(make_app, smtp_setup(simulator), tmp_path)
    commit(app)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        other.execute("begin immediate")
        mail.send(make_message())
        assert len(spool(app).names()) == 1
        other.execute("rollback")
    finally:
        other.close()
    mail.send(make_message())
    assert spool(app).names() == [] and states(app) == ["queued", "queued"]


def test_in_a_database_in_memory_nothing_goes_with_the_applications_rollback(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True, SQLALCHEMY_DATABASE_URI="sqlite://")
    session = app.extensions["sqlalchemy"].session
    session.execute(text("create table orders (id integer)"))
    session.commit()
    session.execute(text("insert into orders values (1)"))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message())
    session.rollback()
    assert states(app) == ["held"]
    assert orders(app) == 0
    session.remove()
