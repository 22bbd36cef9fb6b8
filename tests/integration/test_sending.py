from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, render_template_string

from flask_outmail import (
    AuthenticationFailed,
    ConfigurationError,
    Mail,
    Message,
    MissingSender,
    OutmailError,
    Receipt,
    email_dispatched,
    message_accepted,
    message_failed,
)
from flask_outmail.envelope import Envelope
from flask_outmail.models import Delivery
from flask_outmail.simulator import Fault, Simulator

from ..conftest import MakeApp, asked, engine_of, graph_setup, make_message, smtp_setup


def test_a_message_and_its_fields_are_two_ways_to_say_the_same(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    mail.send(make_message(subject="one"))
    mail.send(subject="two", recipients=["ann@customers.example"], body="x")
    mail.send_message("three", ["ann@customers.example"], "x")
    assert [one.subject for one in simulator.delivered] == ["one", "two", "three"]


def test_a_message_and_fields_together_are_refused(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    with pytest.raises(TypeError, match="not both"):
        mail.send(make_message(), subject="other")


def test_the_setups_from_stands_in_for_a_missing_sender(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator, from_name="Contoso Größe"))
    mail.send(make_message())
    assert simulator.delivered[0].parsed["From"] == f"Contoso Größe <{simulator.mailbox}>"


def test_a_default_sender_left_from_flask_mail_gives_way_to_the_setups_from(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator), MAIL_DEFAULT_SENDER="old@elsewhere.example")
    message = make_message()
    assert message.sender == "old@elsewhere.example"
    assert mail.send(message).accepted
    assert simulator.mailbox in str(simulator.delivered[0].parsed["From"])


def test_another_from_than_the_mailbox_names_the_mailbox_as_sender(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator, from_address="news@contoso.example"))
    mail.send(make_message())
    parsed = simulator.delivered[0].parsed
    assert "news@contoso.example" in str(parsed["From"])
    assert str(parsed["Sender"]) == simulator.mailbox


def test_send_many_gives_one_receipt_each_and_one_refusal_does_not_stop_the_rest(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(smtp_setup(simulator))
    receipts = mail.send_many(
        [make_message(subject="1"), make_message(recipients=[]), make_message(subject="3", recipients=["bo@x.example"])]
    )
    assert [bool(one) for one in receipts] == [True, False, True]
    assert isinstance(receipts[1].error, OutmailError)
    assert [one.subject for one in simulator.delivered] == ["1", "3"]


@pytest.mark.parametrize("setup", [smtp_setup, graph_setup])
def test_what_the_callers_own_messages_raise_reaches_the_caller(
    make_app: MakeApp, simulator: Simulator, setup: Callable[[Simulator], dict[str, Any]]
) -> None:
    app, mail = make_app(setup(simulator), db=True)

    def messages() -> Iterator[Message]:
        yield make_message(subject="before")
        raise LookupError("the query broke off")

    with pytest.raises(LookupError, match="broke off"):
        mail.send_many(messages())
    assert [one.subject for one in simulator.delivered] == ["before"]
    assert [(row.subject, row.state) for row in logged(app)] == [("before", "accepted")]
    engine_of(app).connections.look_again()


class Ended:
    """A transport in the middle of whose work somebody ends the program."""

    name = "ended"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def deliver(self, envelope: Envelope) -> Receipt:
        raise self.error

    def close(self) -> None: ...


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("many", [False, True], ids=["send", "send_many"])
def test_a_message_under_way_when_somebody_ends_the_program_is_unknown(
    make_app: MakeApp, simulator: Simulator, error: BaseException, many: bool
) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True)
    current = engine_of(app).current()
    assert current is not None
    object.__setattr__(current, "transport", Ended(error))
    with pytest.raises(type(error)):
        mail.send_many([make_message(subject="cut off")]) if many else mail.send(make_message(subject="cut off"))
    assert [(row.subject, row.state, row.code) for row in logged(app)] == [("cut off", "unknown", "process_died")]


def logged(app: Flask) -> list[Delivery]:
    with engine_of(app).database.session() as session:
        return list(session.query(Delivery).order_by(Delivery.id))


def test_a_template_sends_and_never_raises(make_app: MakeApp, simulator: Simulator) -> None:
    make_app(graph_setup(simulator))
    page = (
        "{% set receipt = mail.send(subject='Hi', recipients=to, body='x') %}"
        "[{{ receipt }}][{{ 'sent' if receipt else receipt.error }}]"
    )
    assert render_template_string(page, to=["ann@customers.example"]) == "[][sent]"
    assert render_template_string(page, to=[]) == "[][the message has no recipients]"
    simulator.faults.refuse("sendMail", 403, "ErrorAccessDenied")
    assert "ErrorAccessDenied" in render_template_string(page, to=["ann@customers.example"])


def test_without_a_database_the_keys_of_flask_mail_are_enough(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(
        MAIL_SERVER=simulator.smtp_host,
        MAIL_PORT=simulator.smtp_port,
        MAIL_USE_TLS=True,
        MAIL_USERNAME=simulator.mailbox,
        MAIL_PASSWORD=simulator.smtp_password,
        MAIL_DEFAULT_SENDER=("Shop", simulator.mailbox),
    )
    assert mail.send(make_message()).transport == "smtp"
    with mail.connect() as connection:
        connection.send(make_message(subject="second"))
        connection.send_message("third", ["ann@customers.example"], "x")
    assert [one.subject for one in simulator.delivered] == ["Order 17", "second", "third"]


def test_tables_that_are_missing_do_not_stop_what_the_configuration_can_do(
    make_app: MakeApp, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    app, mail = make_app(
        db=True,
        MAIL_SERVER=simulator.smtp_host,
        MAIL_PORT=simulator.smtp_port,
        MAIL_USE_TLS=True,
        MAIL_USERNAME=simulator.mailbox,
        MAIL_PASSWORD=simulator.smtp_password,
        MAIL_DEFAULT_SENDER=simulator.mailbox,
    )
    drop_tables(app)
    assert mail.send(make_message()).accepted
    assert "flask outmail init-db" in caplog.text


def test_tables_that_are_missing_with_nothing_else_configured_name_the_command(make_app: MakeApp) -> None:
    app, mail = make_app(db=True)
    drop_tables(app)
    with pytest.raises(ConfigurationError, match="flask outmail init-db") as caught:
        mail.send(make_message(sender="shop@x.example"))
    assert caught.value.code == "tables_missing"


def drop_tables(app: Flask) -> None:
    from flask_outmail.models import Base

    Base.metadata.drop_all(app.extensions["sqlalchemy"].engine)


def test_a_message_without_any_sender_is_refused(make_app: MakeApp) -> None:
    _, mail = make_app(MAIL_SERVER="localhost")
    with pytest.raises(MissingSender):
        mail.send(make_message())


def test_suppressed_mail_is_recorded_and_goes_nowhere(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator), TESTING=True)
    with mail.record_messages() as outbox:
        assert mail.send(make_message(sender="shop@x.example")).transport == "memory"
    assert len(outbox) == 1
    assert simulator.delivered == [] and asked(simulator) == []


def test_signals_tell_what_happened_and_a_receiver_that_raises_changes_nothing(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(graph_setup(simulator))
    heard: list[tuple[str, Any]] = []

    def broken(sender: Any, **_: Any) -> None:
        raise RuntimeError("a receiver's own mistake")

    def dispatched(sender: Any, message: Message) -> None:
        heard.append(("dispatched", sender))

    def accepted(sender: Any, message: Message, receipt: Receipt) -> None:
        heard.append(("accepted", receipt.request_id))

    def failed(sender: Any, message: Message, error: OutmailError, connection: str) -> None:
        heard.append(("failed", error.code))

    email_dispatched.connect(broken)
    with (
        email_dispatched.connected_to(dispatched),
        message_accepted.connected_to(accepted),
        message_failed.connected_to(failed),
    ):
        receipt = mail.send(make_message())
        simulator.faults.refuse("sendMail", 403, "ErrorAccessDenied")
        with pytest.raises(AuthenticationFailed):
            mail.send(make_message())
    email_dispatched.disconnect(broken)
    assert heard == [("dispatched", app), ("accepted", receipt.request_id), ("failed", "ErrorAccessDenied")]


def test_no_secret_token_address_or_subject_is_logged(
    make_app: MakeApp, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for setup in (graph_setup(simulator), smtp_setup(simulator)):
        _, mail = make_app(setup)
        mail.send(make_message(subject="A private subject", body="private words"))
    simulator.faults.refuse("sendMail", 500, "UnknownError")
    with pytest.raises(OutmailError):
        make_app(graph_setup(simulator))[1].send(make_message())
    ours = [record for record in caplog.records if record.name.startswith("flask_outmail")]
    everything = " ".join(str(vars(record)) for record in ours if "simulator" not in record.name)
    assert "message accepted" in everything
    for private in (simulator.client_secret, simulator.smtp_password, "private", "ann@customers.example", "eyJ"):
        assert private not in everything
    assert simulator.client_secret not in caplog.text


def test_one_token_serves_many_messages_and_many_threads(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator))

    def send() -> None:
        with app.app_context():
            mail.send(make_message())

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(simulator.delivered) == 8
    assert sum(1 for one in simulator.answers if one.path.endswith("/oauth2/v2.0/token")) == 1


def test_a_token_that_is_refused_is_renewed_once(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    mail.send(make_message())
    simulator.expire_tokens()
    assert mail.send(make_message()).accepted
    assert len(simulator.delivered) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_sends_over_connections_of_its_own(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    mail.send(make_message(subject="parent"))
    child = os.fork()
    if child == 0:
        try:
            mail.send(make_message(subject="child"))
        except BaseException:
            os._exit(1)
        os._exit(0)
    mail.send(make_message(subject="parent again"))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sorted(one.subject for one in simulator.delivered) == ["child", "parent", "parent again"]


def test_two_applications_in_one_process_keep_their_own_setups(make_app: MakeApp, simulator: Simulator) -> None:
    mail = Mail()
    apps = []
    for name in ("one", "two"):
        app, _ = make_app(graph_setup(simulator, from_name=name))
        mail.init_app(app)
        apps.append(app)
    for app in apps:
        with app.app_context():
            mail.send(make_message())
    assert [str(one.parsed["From"]).split()[0] for one in simulator.delivered] == ["one", "two"]


def test_init_app_again_changes_nothing_and_another_database_is_refused(make_app: MakeApp) -> None:
    app, mail = make_app(db=True)
    state = app.extensions["mail"]
    assert Mail(app).state is state
    assert mail.init_app(app, app.extensions["sqlalchemy"]) is state
    with pytest.raises(ConfigurationError):
        mail.init_app(app, object())


def test_an_unknown_connection_is_named(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    with pytest.raises(ConfigurationError, match="backup"):
        mail.send(make_message(), via="backup")


def test_an_answer_that_is_not_202_is_no_acceptance(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    simulator.faults.add(Fault(endpoint="sendMail", status=200, body=""))
    with pytest.raises(OutmailError) as caught:
        mail.send(make_message())
    assert caught.value.code == "not_accepted"


def test_a_202_with_retry_after_is_accepted_once(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    simulator.faults.preset("graph-202-retry-after")
    assert mail.send(make_message()).accepted
    assert len(simulator.delivered) == 1


def test_a_burst_of_threads_needs_one_token_and_one_more_when_that_is_refused(
    make_app: MakeApp, simulator: Simulator
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    app, mail = make_app(graph_setup(simulator))

    def send(number: int) -> bool:
        with app.app_context():
            return mail.send(make_message(subject=f"Order {number}")).accepted

    def requests_for_tokens() -> int:
        return sum(one.method == "POST" and one.path.endswith("/token") for one in simulator.answers)

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(send, range(40)))
        assert requests_for_tokens() == 1
        simulator.expire_tokens()
        assert all(pool.map(send, range(40)))
    assert requests_for_tokens() == 2
    assert len(simulator.delivered) == 80
