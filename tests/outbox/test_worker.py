"""A worker hands over what is queued: once, in order, as fast as the connection allows, and says what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from flask import Flask

from flask_outmail import Mail
from flask_outmail.models import Delivery, Lane, Slot, Worker
from flask_outmail.outbox import resending, store
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message, smtp_setup
from .conftest import QUICK, OutboxApp, attempts, commit, rows, states, work


@pytest.fixture
def queue_app(outbox_app: OutboxApp) -> tuple[Flask, Mail]:
    return outbox_app()


def test_what_send_queues_a_worker_hands_over(queue_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = queue_app
    receipt = mail.send(make_message(bcc=["bob@customers.example"]))
    assert receipt and receipt.queued and not receipt.accepted
    assert simulator.delivered == [] and states(app) == ["queued"]
    assert work(app) == 1
    assert {one.recipient for one in simulator.delivered} == {"ann@customers.example", "bob@customers.example"}
    [row] = rows(app)
    assert (row.state, row.uid, row.message_id) == ("accepted", receipt.delivery_id, receipt.message_id)
    assert attempts(app) == [("accepted", "")]


def test_the_content_is_dropped_when_it_is_accepted_and_never_readable_before(
    queue_app: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = queue_app
    mail.send(make_message(body="a private word"))
    with engine_of(app).database.session() as session:
        sealed = session.query(Delivery).one().content_sealed
    assert sealed is not None and b"private" not in sealed
    work(app)
    with engine_of(app).database.session() as session:
        assert session.query(Delivery).one().content_sealed is None


def test_messages_leave_in_the_order_of_priority_and_then_of_time(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True, **QUICK)
    for subject, priority in (("a", 0), ("b", 0), ("urgent", 5), ("bulk", -5), ("c", 0)):
        mail.enqueue(make_message(subject=subject), priority=priority)
    commit(app)
    work(app, drain=True, concurrency=1)
    assert [one.subject for one in simulator.delivered] == ["urgent", "a", "b", "c", "bulk"]


def test_a_busy_server_is_tried_again_and_every_attempt_is_on_record(
    queue_app: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = queue_app
    simulator.faults.preset("smtp-rcpt-451", recipient="ann@customers.example")
    mail.send(make_message())
    assert work(app) == 1
    assert [state for state, _ in attempts(app)] == ["refused", "accepted"]
    assert states(app) == ["accepted"]


def test_a_recipient_who_is_busy_is_tried_again_alone(queue_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = queue_app
    simulator.faults.preset("smtp-rcpt-451", recipient="full@x.example")
    mail.send(make_message(recipients=["ann@customers.example", "full@x.example"]))
    assert work(app) == 2
    assert [one.recipient for one in simulator.delivered] == ["ann@customers.example", "full@x.example"]
    first, second = rows(app)
    assert (second.parent_id, second.recipients, second.state) == (first.id, ["full@x.example"], "accepted")


@pytest.mark.parametrize("how", ["retry", "resend", "bulk"])
def test_who_is_tried_again_alone_gets_no_second_one_when_the_others_are_sent_it_again(
    queue_app: tuple[Flask, Mail], simulator: Simulator, how: str
) -> None:
    app, mail = queue_app
    simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    simulator.faults.preset("smtp-rcpt-451", recipient="full@x.example")
    mail.send(make_message(recipients=["ann@customers.example", "full@x.example"]))
    assert work(app) == 1
    assert [(row.state, one.recipient) for row, one in zip(rows(app)[1:], simulator.delivered, strict=True)] == [
        ("accepted", "full@x.example")
    ]
    engine = engine_of(app)
    with engine.database.session() as session:
        if how == "retry":
            store.retry(session, rows(app)[0].id)
        elif how == "resend":
            resending.resend(session, engine.vault, rows(app)[0].id, once="now")
        else:
            resending.resend_bulk(session, engine.vault, resending.Bulk(), limit=10)
        session.commit()
    work(app)
    assert [one.recipient for one in simulator.delivered] == ["full@x.example", "ann@customers.example"]


def test_what_is_refused_for_good_is_not_tried_again(queue_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = queue_app
    simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    mail.send(make_message())
    assert work(app) == 0
    assert states(app) == ["refused"]
    assert len(attempts(app)) == 1


def test_a_lost_answer_is_unknown_and_never_repeated(queue_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = queue_app
    simulator.faults.lose_answer("smtp.dot")
    mail.send(make_message())
    work(app)
    work(app)
    assert states(app) == ["unknown"]
    assert len(simulator.delivered) == 1


def test_a_lost_answer_is_repeated_when_at_least_once_was_chosen(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True, OUTMAIL_DELIVERY="outbox", OUTMAIL_AT_LEAST_ONCE=True, **QUICK)
    simulator.faults.lose_answer("smtp.dot")
    mail.send(make_message())
    assert work(app) == 1
    assert len(simulator.delivered) == 2


def test_a_connection_that_needs_a_person_pauses_and_the_messages_stay_queued(
    queue_app: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = queue_app
    simulator.faults.preset("smtp-auth-535", times=None)
    for _ in range(5):
        mail.send(make_message())
    assert work(app, once=True) == 0
    assert set(states(app)) == {"queued"}
    assert 1 <= len(attempts(app)) <= 5
    with engine_of(app).database.session() as session:
        lane = session.query(Lane).one()
        assert lane.paused_until is not None and lane.paused_until > datetime.now(timezone.utc) + timedelta(seconds=60)


def test_nothing_of_a_worker_is_left_behind(queue_app: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = queue_app
    mail.send(make_message())
    work(app)
    with engine_of(app).database.session() as session:
        assert session.query(Worker).count() == 0
        assert all(slot.worker_id == "" for slot in session.query(Slot))


def test_the_application_without_a_verified_setup_holds_what_is_queued(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox", **QUICK)
    mail.send(make_message())
    work(app, once=True)
    assert states(app) == ["held"]


def test_a_message_that_may_not_leave_any_more_fails(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True, **QUICK)
    mail.enqueue(make_message(), not_after=datetime.now(timezone.utc) - timedelta(seconds=1))
    commit(app)
    work(app)
    [row] = rows(app)
    assert (row.state, row.code) == ("failed", "expired")
    assert simulator.delivered == []


def test_a_worker_that_a_message_was_taken_from_does_not_send_it(
    queue_app: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = queue_app
    receipt = mail.send(make_message())
    with engine_of(app).database.session() as session:
        row = store.find(session, receipt.delivery_id)
        assert row is not None
        store.cancel(session, row.id)
        session.commit()
    assert work(app) == 0
    assert states(app) == ["cancelled"] and simulator.delivered == []
