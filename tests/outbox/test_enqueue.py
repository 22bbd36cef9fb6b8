"""`enqueue` joins the caller's transaction: with it a message comes to be, or never was."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from flask_outmail import (
    Attachment,
    ConfigurationError,
    InvalidMessage,
    Mail,
    MissingRecipients,
    message_queued,
)
from flask_outmail.models import Delivery
from flask_outmail.outbox import store
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message, smtp_setup
from .conftest import OutboxApp, commit, rows, states, work

NOW = datetime.now(timezone.utc)


@pytest.fixture
def direct_app(outbox_app: OutboxApp) -> tuple[Flask, Mail]:
    return outbox_app(OUTMAIL_DELIVERY="direct")


def session_of(app: Flask) -> Any:
    return app.extensions["sqlalchemy"].session


def test_what_is_committed_is_handed_over(direct_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = direct_app
    queued = mail.enqueue(make_message())
    assert (queued.state, queued.is_new) == ("queued", True)
    commit(app)
    assert work(app) == 1
    [row] = rows(app)
    assert (row.uid, row.state, row.origin) == (queued.delivery_id, "accepted", "enqueue")
    assert len(simulator.delivered) == 1


def test_what_is_rolled_back_never_existed(direct_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = direct_app
    mail.enqueue(make_message())
    session_of(app).rollback()
    assert work(app) == 0
    assert rows(app) == [] and simulator.delivered == []


def test_nobody_else_sees_it_before_the_commit(direct_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = direct_app
    mail.enqueue(make_message())
    seen = []

    def look() -> None:
        with app.app_context():
            seen.extend(rows(app))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == []
    session_of(app).rollback()


def test_a_key_queues_once_and_gives_the_first_delivery(direct_app: tuple[Flask, Mail]) -> None:
    app, mail = direct_app
    first = mail.enqueue(make_message(), key="order-17")
    again = mail.enqueue(make_message(subject="other"), key="order-17")
    assert (again.delivery_id, again.is_new) == (first.delivery_id, False)
    mail.enqueue(make_message(), key="order-18")
    commit(app)
    assert mail.enqueue(make_message(), key="order-17").delivery_id == first.delivery_id
    commit(app)
    assert len(rows(app)) == 2


def test_a_key_that_was_rolled_back_is_free_again(direct_app: tuple[Flask, Mail]) -> None:
    app, mail = direct_app
    mail.enqueue(make_message(), key="order-17")
    session_of(app).rollback()
    assert mail.enqueue(make_message(), key="order-17").is_new
    commit(app)
    assert len(rows(app)) == 1


def test_of_many_that_enqueue_one_key_at_once_all_get_the_same_delivery(direct_app: tuple[Flask, Mail]) -> None:
    app, mail = direct_app
    session_of(app).rollback()
    gate = threading.Barrier(6)
    found: list[str] = []
    problems: list[BaseException] = []

    def enqueue() -> None:
        try:
            with app.app_context():
                gate.wait(10)
                # Work of its own in the same transaction, before and after, must come through.
                session_of(app).execute(text("select 1"))
                queued = mail.enqueue(make_message(), key="only-once")
                session_of(app).execute(text("select 1"))
                commit(app)
                found.append(queued.delivery_id)
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=enqueue) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert len(found) == 6 and len(set(found)) == 1
    assert len(rows(app)) == 1


def test_a_wrong_message_is_refused_at_once(direct_app: tuple[Flask, Mail]) -> None:
    _, mail = direct_app
    with pytest.raises(MissingRecipients):
        mail.enqueue(make_message(recipients=[]))
    with pytest.raises(InvalidMessage):
        mail.enqueue(make_message(subject="two\r\nlines"))


def test_a_moment_without_a_time_zone_is_refused(direct_app: tuple[Flask, Mail]) -> None:
    _, mail = direct_app
    with pytest.raises(ValueError, match="at has no time zone"):
        mail.enqueue(make_message(), at=datetime(2030, 1, 1))
    with pytest.raises(ValueError, match="not_after has no time zone"):
        mail.enqueue(make_message(), not_after=datetime(2030, 1, 1))


def test_what_is_scheduled_waits_for_its_moment(direct_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = direct_app
    mail.enqueue(make_message(subject="later"), at=NOW + timedelta(days=3))
    mail.enqueue(make_message(subject="now"), at=NOW - timedelta(days=1))
    commit(app)
    assert work(app) == 1
    assert [one.subject for one in simulator.delivered] == ["now"]
    assert states(app) == ["waiting", "accepted"]
    with engine_of(app).database.session() as session:
        session.query(Delivery).filter_by(state="waiting").update({"due_at": NOW - timedelta(seconds=1)})
        session.commit()
    assert work(app) == 1


def test_an_attached_file_is_read_when_it_is_queued(
    direct_app: tuple[Flask, Mail], simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = direct_app
    file = tmp_path / "terms.txt"
    file.write_bytes(b"the terms of today")
    mail.enqueue(make_message(attachments=[Attachment("terms.txt", "text/plain", file)]))
    file.unlink()
    commit(app)
    assert work(app) == 1
    attached = [part for part in simulator.delivered[0].parsed.walk() if part.get_filename() == "terms.txt"]
    assert attached[0].get_payload(decode=True) == b"the terms of today"


def test_what_is_too_large_to_be_stored_is_refused_at_once(outbox_app: OutboxApp) -> None:
    _, mail = outbox_app(OUTMAIL_STORED_MESSAGE_MAX_BYTES=1000)
    with pytest.raises(InvalidMessage, match="OUTMAIL_STORED_MESSAGE_MAX_BYTES"):
        mail.enqueue(make_message(body="x" * 2000))
    with pytest.raises(InvalidMessage, match="OUTMAIL_STORED_MESSAGE_MAX_BYTES"):
        mail.send(make_message(body="x" * 2000))


def test_without_a_database_it_says_so(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator))
    with pytest.raises(ConfigurationError, match="database"):
        mail.enqueue(make_message())


def test_a_connection_that_does_not_exist_is_refused_at_once(direct_app: tuple[Flask, Mail]) -> None:
    _, mail = direct_app
    with pytest.raises(ConfigurationError, match="nowhere"):
        mail.enqueue(make_message(), via="nowhere")


def test_while_sending_is_suppressed_it_is_recorded_and_never_leaves(
    outbox_app: OutboxApp, simulator: Simulator
) -> None:
    app, mail = outbox_app(MAIL_SUPPRESS_SEND=True)
    with mail.record_messages() as outbox:
        mail.enqueue(make_message())
    commit(app)
    assert len(outbox) == 1
    assert work(app) == 0
    assert states(app) == ["suppressed"] and simulator.delivered == []


def test_a_signal_tells_that_it_is_queued(direct_app: tuple[Flask, Mail]) -> None:
    _, mail = direct_app
    told = []

    def listen(sender: Any, **facts: Any) -> None:
        told.append(facts["receipt"].delivery_id)

    with message_queued.connected_to(listen):
        queued = mail.enqueue(make_message())
    assert told == [queued.delivery_id]


# -- what people do --------------------------------------------------------------------------------------------------


def test_only_what_has_not_left_can_be_cancelled(direct_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = direct_app
    queued = mail.enqueue(make_message())
    mail.enqueue(make_message())
    commit(app)
    with engine_of(app).database.session() as session:
        row = store.find(session, queued.delivery_id)
        assert row is not None
        store.cancel(session, row.id)
        session.commit()
        assert session.query(Delivery.content_sealed).filter_by(id=row.id).scalar() is None
    assert work(app) == 1
    with engine_of(app).database.session() as session, pytest.raises(store.NotPossible, match="accepted"):
        store.cancel(session, rows(app)[1].id)


def test_an_unknown_message_is_repeated_only_by_somebody_who_says_that_it_may_arrive_twice(
    direct_app: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = direct_app
    simulator.faults.lose_answer("smtp.dot")
    mail.enqueue(make_message())
    commit(app)
    work(app)
    [row] = rows(app)
    with engine_of(app).database.session() as session:
        with pytest.raises(store.NotPossible, match="twice"):
            store.retry(session, row.id)
        store.retry(session, row.id, may_arrive_twice=True)
        session.commit()
    assert work(app) == 1
    assert len(simulator.delivered) == 2


def test_a_delivery_that_is_under_way_is_not_forgotten(direct_app: tuple[Flask, Mail]) -> None:
    app, mail = direct_app
    mail.enqueue(make_message())
    mail.enqueue(make_message())
    commit(app)
    first, second = rows(app)
    with engine_of(app).database.session() as session:
        session.query(Delivery).filter_by(id=first.id).update({"state": "claimed"})
        assert store.forget(session, [first.id, second.id]) == 1
        session.commit()
    assert [row.id for row in rows(app)] == [first.id]


def test_keys_that_differ_in_anything_are_two_messages_or_are_refused(direct_app: tuple[Flask, Mail]) -> None:
    """A database that passes over case, accents or blanks at the end would drop the second message without a word."""
    app, mail = direct_app
    for key in ("order-1", "Order-1", "ordér-1", "order-1\u00a0"):
        assert mail.enqueue(make_message(), key=key).is_new
    with pytest.raises(ValueError, match="blank"):
        mail.enqueue(make_message(), key="order-1 ")
    commit(app)
    assert len(rows(app)) == 4
