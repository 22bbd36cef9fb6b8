"""An unverified setup holds mail: nothing leaves, nothing is lost, and a passed test lets it go."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from flask_outmail import Mail, SetupNotVerified, message_held, setups
from flask_outmail.connections import LOOK_S
from flask_outmail.errors import TransportUnavailable
from flask_outmail.models import PRIMARY, Delivery, Setup
from flask_outmail.outbox import alerts, store
from flask_outmail.proving import trial
from flask_outmail.setup_values import SetupValues
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, asked, engine_of, make_message, smtp_setup


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


def smtp_values(simulator: Simulator, **changes: Any) -> SetupValues:
    fields: dict[str, Any] = {
        "service": "smtp",
        "host": simulator.smtp_host,
        "port": simulator.smtp_port,
        "tls": "starttls",
        "username": simulator.mailbox,
        "password": simulator.smtp_password,
        "from_address": simulator.mailbox,
        "failure_alerts_to": "ops@elsewhere.example",
    }
    return SetupValues(**{**fields, **changes})


def activate(app: Flask, values: SetupValues, *, connection: str = PRIMARY, verified: bool = False) -> None:
    engine = engine_of(app)
    with engine.database.session() as session:
        newest = setups.latest(session, connection)
        row = setups.save(
            session,
            values,
            engine.vault,
            by="ann",
            seen_revision=newest.revision if newest else 0,
            connection=connection,
        )
        setups.activate(row, by="ann")
        if verified:
            setups.mark_verified(row, values, engine.vault, by="ann")
        session.commit()
    engine.connections.look_again()


def states(app: Flask) -> dict[str, int]:
    with engine_of(app).database.session() as session:
        return store.counts(session)


def test_an_unverified_setup_holds_and_says_so(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    held: list[str] = []

    def listen(sender: Any, **facts: Any) -> None:
        held.append(facts["connection"])

    with message_held.connected_to(listen), pytest.raises(SetupNotVerified) as caught:
        mail.send(make_message())
    assert caught.value.held
    assert held == [PRIMARY]
    assert states(app) == {"held": 1}
    assert simulator.delivered == [] and asked(simulator) == []


def test_what_is_held_is_encrypted_in_the_database(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message(body="a private word"))
    with engine_of(app).database.session() as session:
        row = session.query(Delivery).one()
        assert row.content_sealed is not None and b"private" not in row.content_sealed


def test_the_same_message_sent_again_by_its_caller_is_held_once(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    message = make_message()
    for _ in range(3):
        with pytest.raises(SetupNotVerified):
            mail.send(message)
    assert states(app) == {"held": 1}


def test_a_passed_test_lets_held_mail_go_exactly_once(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    for number in range(3):
        with pytest.raises(SetupNotVerified):
            mail.send(make_message(subject=str(number)))
    engine = engine_of(app)
    run = trial(engine, by="ann")
    list(run.steps())
    assert run.passed

    assert engine.releasing.release() == (3, 0)
    assert engine.releasing.release() == (0, 0)
    assert [one.subject for one in simulator.delivered] == ["0", "1", "2"]
    assert states(app) == {"accepted": 3}
    with engine.database.session() as session:
        assert all(row.content_sealed is None for row in session.query(Delivery))
    assert mail.send(make_message()).accepted


def test_held_mail_leaves_with_the_from_of_the_setup_that_was_mended(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator, from_address="wrong@contoso.example"))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message(bcc=["bob@customers.example"]))
    activate(app, smtp_values(simulator, from_name="Contoso"), verified=True)
    assert engine_of(app).releasing.release() == (1, 0)
    assert {str(one.parsed["From"]) for one in simulator.delivered} == {f"Contoso <{simulator.mailbox}>"}
    assert {one.recipient for one in simulator.delivered} == {"ann@customers.example", "bob@customers.example"}


def test_without_any_setup_mail_is_held_until_there_is_one(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    with pytest.raises(SetupNotVerified, match="no mail service is set up"):
        mail.send(make_message())
    activate(app, smtp_values(simulator), verified=True)
    assert engine_of(app).releasing.release() == (1, 0)
    assert len(simulator.delivered) == 1


def test_what_is_still_held_leaves_by_the_setup_that_came_into_force_meanwhile(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator, from_name="One"))
    mail.send_many([make_message(subject=str(number)) for number in range(3)])
    activate(app, smtp_values(simulator, from_name="One"), verified=True)
    simulator.faults.hang("smtp.dot", LOOK_S + 0.3)

    def replace_it() -> None:
        while simulator.faults.active():
            threading.Event().wait(0.01)
        with app.app_context():
            activate(app, smtp_values(simulator, from_name="Two"), verified=True)

    thread = threading.Thread(target=replace_it)
    thread.start()
    assert engine_of(app).releasing.release() == (3, 0)
    thread.join()
    assert [str(one.parsed["From"]).split()[0] for one in simulator.delivered] == ["One", "Two", "Two"]


def test_release_stops_at_a_broken_connection_and_keeps_what_did_not_leave(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    for _ in range(2):
        with pytest.raises(SetupNotVerified):
            mail.send(make_message())
    activate(app, smtp_values(simulator), verified=True)
    simulator.faults.preset("smtp-connect-421")
    assert engine_of(app).releasing.release() == (0, 0)
    assert states(app) == {"held": 2}
    assert engine_of(app).releasing.release() == (2, 0)


def test_a_lost_answer_while_releasing_is_unknown_and_never_repeated(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message())
    activate(app, smtp_values(simulator), verified=True)
    simulator.faults.lose_answer("smtp.dot")
    assert engine_of(app).releasing.release() == (0, 1)
    assert engine_of(app).releasing.release() == (0, 0)
    assert states(app) == {"unknown": 1}
    assert len(simulator.delivered) == 1


def change(app: Flask, statement: str) -> None:
    with engine_of(app).database.session() as session:
        session.execute(text(statement))
        session.commit()


def test_what_left_while_the_database_failed_is_on_record_once_it_is_back(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message())
    activate(app, smtp_values(simulator), verified=True)
    engine = engine_of(app)
    trigger = "CREATE TRIGGER down BEFORE UPDATE ON outmail_deliveries WHEN NEW.state = 'accepted'"
    fail, mend = f"{trigger} BEGIN SELECT RAISE(ABORT, 'disk full'); END", "DROP TRIGGER down"
    if "sqlite" not in app.config["SQLALCHEMY_DATABASE_URI"]:
        fail = "ALTER TABLE outmail_deliveries ADD CONSTRAINT down CHECK (state <> 'accepted')"
        mend = "ALTER TABLE outmail_deliveries DROP CONSTRAINT down"
    change(app, fail)
    with pytest.raises(TransportUnavailable):
        engine.releasing.release()
    assert len(simulator.delivered) == 1 and states(app) == {"claimed": 1}
    change(app, mend)
    assert engine.queueing.move() == 1
    assert states(app) == {"accepted": 1} and len(simulator.delivered) == 1


def test_any_change_of_a_value_that_matters_clears_verified(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    assert mail.send(make_message()).accepted
    engine = engine_of(app)
    with engine.database.session() as session:
        row = session.query(Setup).one()
        row.port = simulator.smtps_port
        session.commit()
    engine.connections.look_again()
    with pytest.raises(SetupNotVerified):
        mail.send(make_message())


def test_another_process_sees_a_change_within_a_moment(make_app: MakeApp, simulator: Simulator) -> None:
    """Two applications on one database stand for two processes."""
    app, mail = make_app(db=True)
    other, _ = make_app(db=True)
    activate(app, smtp_values(simulator))
    with other.app_context(), pytest.raises(SetupNotVerified):
        mail.send(make_message())
    activate(app, smtp_values(simulator), verified=True)
    with other.app_context():
        # Held mail is never held because of something remembered: the database is asked again first.
        assert mail.send(make_message()).accepted


@pytest.fixture
def two_connections(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator, from_name="Backup"), connection="backup", verified=True)
    return app, mail


def test_a_message_goes_by_the_connection_that_is_named(
    two_connections: tuple[Flask, Mail], simulator: Simulator
) -> None:
    _, mail = two_connections
    assert mail.send(make_message(), via="backup").connection == "backup"
    assert str(simulator.delivered[0].parsed["From"]).startswith("Backup")


def test_one_message_object_sent_to_several_people_in_turn_is_held_for_each(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    message = make_message()
    for recipient in ("ann@customers.example", "bob@customers.example"):
        message.recipients = [recipient]
        with pytest.raises(SetupNotVerified):
            mail.send(message)
    activate(app, smtp_values(simulator), verified=True)
    assert engine_of(app).releasing.release() == (2, 0)
    assert [one.recipient for one in simulator.delivered] == ["ann@customers.example", "bob@customers.example"]


def test_a_refused_recipient_of_a_held_message_is_on_record(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(recipients=["ann@customers.example", "nobody@x.example"])])
    activate(app, smtp_values(simulator), verified=True)
    simulator.faults.preset("smtp-rcpt-550", recipient="nobody@x.example")
    assert engine_of(app).releasing.release() == (1, 0)
    with engine_of(app).database.session() as session:
        assert "nobody@x.example: 550" in session.query(Delivery).one().reason


def test_one_recipient_who_is_busy_does_not_hold_up_the_other_messages(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(recipients=["full@x.example"]), make_message()])
    activate(app, smtp_values(simulator), verified=True)
    simulator.faults.preset("smtp-rcpt-451", recipient="full@x.example")
    assert engine_of(app).releasing.release() == (1, 0)
    assert states(app) == {"held": 1, "accepted": 1}


def test_a_message_that_cannot_be_decrypted_does_not_hold_up_the_others(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(), make_message()])
    engine = engine_of(app)
    with engine.database.session() as session:
        first = session.query(Delivery).order_by(Delivery.id).first()
        assert first is not None
        first.content_sealed = b"00000000:sealed with a key that is gone"
        session.commit()
    activate(app, smtp_values(simulator), verified=True)
    assert engine.releasing.release() == (1, 0)
    assert states(app) == {"held": 1, "accepted": 1}


def test_what_was_held_follows_the_next_message_that_is_accepted(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(subject="held")])
    activate(app, smtp_values(simulator), verified=True)
    assert mail.send(make_message(subject="now")).accepted
    assert [one.subject for one in simulator.delivered] == ["now", "held"]


def test_what_was_held_follows_when_the_setup_comes_from_the_configuration(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(subject="held")])
    _, configured = make_app(smtp_setup(simulator), db=True)
    assert configured.send(make_message(subject="now")).accepted
    assert [one.subject for one in simulator.delivered] == ["now", "held"]


def test_a_passed_diagnosis_lets_held_mail_go(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message()])
    assert all(step.state == "passed" for step in mail.diagnose())
    assert len(simulator.delivered) == 1


def test_a_from_that_is_denied_stops_the_release_before_exchange_blocks_the_mailbox(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(), make_message()])
    activate(app, smtp_values(simulator, from_address="anna@contoso.example"), verified=True)
    assert engine_of(app).releasing.release() == (0, 0)
    assert states(app) == {"held": 2}


def test_a_from_of_its_own_that_is_denied_is_settled_and_does_not_hold_up_the_others(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(sender="anna@contoso.example"), make_message()])
    activate(app, smtp_values(simulator), verified=True)
    assert engine_of(app).releasing.release() == (1, 1)
    assert states(app) == {"refused": 1, "accepted": 1}
    with engine_of(app).database.session() as session:
        # The next message leaves, so mail is not failing.
        assert [one.kind for one in alerts.open_incidents(session)] == [alerts.MESSAGE]
    denied = len(asked(simulator))
    assert engine_of(app).releasing.release() == (0, 0)
    assert len(asked(simulator)) == denied, "it is not tried over and over"


def test_a_setup_that_was_verified_carries_mail_while_the_database_is_away(
    make_app: MakeApp, simulator: Simulator, tmp_path: Any, sqlite_url: str
) -> None:
    app, mail = make_app(db=True, SQLALCHEMY_DATABASE_URI=sqlite_url)
    activate(app, smtp_values(simulator), verified=True)
    mail.send(make_message())
    engine_of(app).connections.look_soon()
    app.extensions["sqlalchemy"].engine.dispose()
    database = tmp_path / "shop.sqlite"
    database.rename(tmp_path / "away.sqlite")
    database.mkdir()  # nothing can be opened there
    assert mail.send(make_message()).accepted


def test_no_password_can_be_tried_on_what_the_database_holds(make_app: MakeApp, simulator: Simulator) -> None:
    """A plain hash beside the other values would let anybody with a copy of the database guess the password."""
    import hashlib

    app, _ = make_app(db=True)
    values = smtp_values(simulator)
    activate(app, values, verified=True)
    with engine_of(app).database.session() as session:
        stored = session.query(Setup).one().verified_fingerprint
    assert stored != hashlib.sha256(values.canonical().encode()).hexdigest()


def test_the_applications_own_work_in_a_database_in_memory_is_left_alone(
    make_app: MakeApp, simulator: Simulator
) -> None:
    from sqlalchemy import text

    app, mail = make_app(db=True, SQLALCHEMY_DATABASE_URI="sqlite://", OUTMAIL_SETUP=None)
    activate(app, smtp_values(simulator), verified=True)
    session = app.extensions["sqlalchemy"].session
    session.execute(text("create table orders (id integer)"))
    session.commit()
    session.execute(text("insert into orders values (1)"))
    mail.send(make_message())
    simulator.faults.preset("smtp-auth-535")
    mail.send_many([make_message()])
    assert engine_of(app).database.tables_missing() is False
    session.commit()
    assert session.execute(text("select count(*) from orders")).scalar() == 1
    session.remove()
