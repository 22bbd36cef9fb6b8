"""What an application written for Flask-Mail relies on."""

from __future__ import annotations

import smtplib
import time
from email.utils import formatdate
from typing import Any

import pytest
from flask import Flask, current_app

import flask_outmail
from flask_outmail import Attachment, BadHeaderError, Connection, Mail, Message, email_dispatched
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, smtp_setup


@pytest.fixture
def app() -> Any:
    app = Flask("old")
    app.config.update(TESTING=True, MAIL_DEFAULT_SENDER="support@old.example")
    with app.app_context():
        yield app


@pytest.fixture
def mail(app: Flask) -> Mail:
    return Mail(app)


def test_the_names_of_flask_mail_can_be_imported() -> None:
    for name in ("Mail", "Message", "Attachment", "Connection", "BadHeaderError", "FlaskMailUnicodeDecodeError",
                 "signals", "email_dispatched", "force_text", "sanitize_subject", "sanitize_address",
                 "sanitize_addresses"):  # fmt: skip
        assert hasattr(flask_outmail, name)


def test_text_and_subjects_are_read_as_flask_mail_reads_them() -> None:
    assert [flask_outmail.force_text(value) for value in ("é", "é".encode(), 17)] == ["é", "é", "17"]
    assert flask_outmail.sanitize_subject("Grüße".encode()) == "=?utf-8?b?R3LDvMOfZQ==?="  # type: ignore[arg-type]
    with pytest.raises(flask_outmail.FlaskMailUnicodeDecodeError, match="The value is of <class 'bytes'>") as caught:
        flask_outmail.force_text(b"\xff")
    assert caught.value.obj == b"\xff"


def test_what_is_no_message_is_refused_by_its_type(mail: Mail) -> None:
    with pytest.raises(TypeError, match="takes a Message, not object"):
        mail.send(object())  # type: ignore[arg-type]


def test_the_arguments_of_a_message_keep_their_order() -> None:
    given: dict[str, Any] = {
        "subject": "subject",
        "recipients": ["to@x.example"],
        "body": "body",
        "html": "<p>",
        "alts": {"json": "{}"},
        "sender": "from@x.example",
        "cc": ["cc@x.example"],
        "bcc": ["bcc@x.example"],
        "attachments": [Attachment("a.txt", "text/plain", b"x")],
        "reply_to": "reply@x.example",
        "date": 1.0,
        "charset": "utf-8",
        "extra_headers": {"X-A": "b"},
        "mail_options": ["BODY=8BITMIME"],
        "rcpt_options": ["NOTIFY=NEVER"],
    }
    message = Message(*given.values())
    expected = {**given, "alts": {"json": "{}", "html": "<p>"}}
    assert {name: getattr(message, name) for name in given} == expected


def test_a_message_can_be_filled_by_attributes_or_by_its_dict(app: Flask, mail: Mail) -> None:
    message = Message()
    message.subject, message.body = "Hi", "text"
    message.add_recipient("to@x.example")
    copy = Message()
    copy.__dict__.update(message.__dict__)
    with mail.record_messages() as outbox:
        app.extensions["mail"].send(copy)
    assert outbox == [copy]


def test_the_default_sender_may_be_assigned_later(app: Flask, mail: Mail) -> None:
    app.extensions["mail"].default_sender = ("Support", "new@old.example")
    assert Message().sender == "Support <new@old.example>"


def test_state_attributes_are_read_through_the_extension_and_unknown_ones_are_none(mail: Mail) -> None:
    assert mail.suppress is True
    assert mail.default_sender == "support@old.example"
    assert mail.no_such_thing is None
    assert Mail().default_sender is None


def test_a_local_proxy_can_be_given_as_the_application(app: Flask, mail: Mail) -> None:
    again = Mail(current_app)  # type: ignore[arg-type]
    assert again.state is mail.state


def test_sending_without_a_set_up_application_says_what_is_missing() -> None:
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="init_app"):
        Mail().send(Message("x", ["to@x.example"], "y", sender="from@x.example"))


def test_suppression_can_be_switched_off_under_testing() -> None:
    app = Flask("old")
    app.config.update(TESTING=True, MAIL_SUPPRESS_SEND=False)
    assert Mail(app).state.suppress is False  # type: ignore[union-attr]


def test_nested_recorders_all_record(app: Flask, mail: Mail) -> None:
    with mail.record_messages() as outer, mail.record_messages() as inner:
        mail.send_message("x", ["to@x.example"], "y")
    assert len(outer) == len(inner) == 1


def test_the_signal_has_the_application_and_the_message(app: Flask, mail: Mail) -> None:
    heard = []

    def hear(sender: Any, message: Any) -> None:
        heard.append((sender, message.subject))

    with email_dispatched.connected_to(hear):
        mail.send_message("x", ["to@x.example"], "y")
    assert heard == [(app, "x")]


def test_a_connection_can_be_given_a_host_of_its_own(app: Flask, mail: Mail) -> None:
    sent: list[tuple[Any, ...]] = []

    class Host:
        def sendmail(self, *arguments: Any) -> None:
            sent.append(arguments)

        def quit(self) -> None:
            sent.append(("quit",))

    class Mine(Connection):
        def configure_host(self) -> Any:
            return Host()

    app.extensions["mail"].suppress = False
    app.extensions["mail"].max_emails = 1
    with Mine(app.extensions["mail"]) as connection:
        connection.send(Message("x", ["Ä <to@x.example>"], "y", cc=["cc@x.example"], date=1.0), "bounce@x.example")
    sender, recipients, data, mail_options, rcpt_options = sent[0]
    assert (sender, recipients) == ("bounce@x.example", ["=?utf-8?b?w4Q=?= <to@x.example>", "cc@x.example"])
    assert b"Subject: x" in data and (mail_options, rcpt_options) == ([], [])
    assert sent[1:] == [("quit",), ("quit",)]
    app.extensions["mail"].max_emails = None
    undated = Message("x", ["to@x.example"], "y")
    before = time.time()
    with Mine(app.extensions["mail"]) as connection:
        undated.send(connection)
    assert undated.date is not None and before <= undated.date <= time.time()
    assert f"Date: {formatdate(undated.date, localtime=True)}".encode() in sent[3][2]


def test_a_connection_goes_on_after_the_number_that_closes_it_while_sending_is_suppressed(
    app: Flask, mail: Mail
) -> None:
    app.extensions["mail"].max_emails = 1
    with mail.record_messages() as outbox, mail.connect() as connection:
        for subject in ("one", "two"):
            Message(subject, ["to@x.example"], "y").send(connection)
    assert [message.subject for message in outbox] == ["one", "two"]
    assert bytes(outbox[0]) == outbox[0].as_bytes()
    assert repr(app.extensions["mail"]) == "<State 127.0.0.1:25>"


def test_the_envelope_sender_of_a_connection_is_the_return_path(make_app: MakeApp, simulator: Simulator) -> None:
    simulator.add_mailbox("bounces@contoso.example")
    _, mail = make_app(smtp_setup(simulator))
    with mail.connect() as connection:
        connection.send(Message("x", ["to@x.example"], "y"), envelope_from=simulator.mailbox)
    assert simulator.delivered[0].envelope_from == simulator.mailbox


def test_printing_a_message_never_raises_for_a_line_break_and_sending_does(app: Flask, mail: Mail) -> None:
    message = Message("Hi", ["to\r\n@x.example"], "y", sender="from@x.example\r\n")
    assert "To: to@x.example\r\n" in str(message)
    assert message.has_bad_headers()
    with pytest.warns(DeprecationWarning, match="has_bad_headers"):
        assert message.is_bad_headers()
    with pytest.raises(BadHeaderError):
        mail.send(message)


def test_the_date_is_set_when_sent_and_stands_in_the_header(app: Flask, mail: Mail) -> None:
    message = Message("x", ["to@x.example"], "y")
    before = time.time()
    mail.send(message)
    assert message.date is not None and before <= message.date <= time.time()
    assert f"Date: {formatdate(message.date, localtime=True)}" in message.as_string()


def test_a_failure_is_caught_by_handlers_written_for_smtplib(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator, password="wrong"))
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        mail.send_message("x", ["to@x.example"], "y")
    assert caught.value.smtp_code == 535


def test_ascii_attachment_names_can_be_asked_for(app: Flask, mail: Mail) -> None:
    app.extensions["mail"].ascii_attachments = True
    message = Message("x", ["to@x.example"], "y")
    message.attach("ünïcödeß ←.→ ✓.txt", "text/plain", b"x")
    assert 'filename="unicode . .txt"' in message.as_string()


def test_a_sender_assigned_later_is_kept(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator), MAIL_DEFAULT_SENDER="old@x.example")
    for sender in ("news@contoso.example",):
        message = Message("x", ["to@x.example"], "y")
        message.sender = sender
        mail.send(message)
        assert sender in str(simulator.delivered[-1].parsed["From"])


def test_a_default_sender_assigned_at_run_time_is_meant(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(smtp_setup(simulator), MAIL_DEFAULT_SENDER="old@x.example")
    app.extensions["mail"].default_sender = "news@contoso.example"
    mail.send(Message("x", ["to@x.example"], "y"))
    assert "news@contoso.example" in str(simulator.delivered[-1].parsed["From"])


def test_what_can_be_sent_can_be_suppressed(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator), TESTING=True)
    with mail.record_messages() as outbox:
        mail.send_message("x", ["to@x.example"], "y")
    assert len(outbox) == 1


def test_the_text_part_is_there_even_where_only_html_was_given(make_app: MakeApp) -> None:
    make_app()
    message = Message("Hi", ["ann@x.example"], html="<p>Hällo</p>", sender="shop@x.example")
    assert 'Content-Type: text/plain; charset="utf-8"' in message.as_string()
    assert 'Content-Type: text/html; charset="utf-8"' in message.as_string()


def test_a_file_name_outside_ascii_is_spelt_as_flask_mail_spells_it(make_app: MakeApp) -> None:
    make_app()
    message = Message("Hi", ["ann@x.example"], "x", sender="shop@x.example")
    message.attach("größe.txt", "text/plain", b"x")
    assert "filename*=UTF8''gr%C3%B6%C3%9Fe.txt" in message.as_string()
