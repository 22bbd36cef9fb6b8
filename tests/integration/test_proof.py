"""What a test of a setup proves, shows and leaves out: the same from the command line, `diagnose` and the page."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from flask import Flask

from flask_outmail.diagnosis.report import not_proven, proven, support_text
from flask_outmail.diagnosis.steps import Step
from flask_outmail.errors import Throttled
from flask_outmail.models import Setup, utc_now
from flask_outmail.outbox import roster
from flask_outmail.proving import count_test
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, graph_setup, smtp_setup
from .test_faults import extra_app
from .test_holding import activate, smtp_values

OTHER = "anna@contoso.example"


def by_key(steps: list[Step]) -> dict[str, Step]:
    return {step.key: step for step in steps}


# -- least privilege -------------------------------------------------------------------------------------------------


def test_a_foreign_mailbox_that_is_refused_proves_least_privilege(make_app: MakeApp, simulator: Simulator) -> None:
    scoped = extra_app(simulator, "scoped for proof", scoped_to=[simulator.mailbox])
    _, mail = make_app(graph_setup(simulator, **scoped))
    steps = list(mail.diagnose(foreign_mailbox=OTHER))
    found = by_key(steps)["least_privilege"]
    assert found.state == "passed" and f"may not send as {OTHER}" in found.seen
    assert "that the other mailbox is closed" in proven(steps)
    assert simulator.delivered == []


def test_a_foreign_mailbox_that_is_open_is_a_warning_with_a_remedy_and_sends_nothing(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator))
    steps = list(mail.diagnose(foreign_mailbox=OTHER))
    found = by_key(steps)["least_privilege"]
    assert (found.state, found.code) == ("warning", "foreign_mailbox_open")
    assert found.remedy is not None and "API permissions" in " ".join(found.remedy.steps)
    assert not any(step.state == "failed" for step in steps), "mail flows all the same"
    assert "that other mailboxes are closed to this application" in not_proven(steps)
    assert simulator.delivered == []


def test_a_mailbox_that_does_not_exist_settles_nothing(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    found = by_key(list(mail.diagnose(foreign_mailbox="nobody@contoso.example")))["least_privilege"]
    assert (found.state, found.code) == ("warning", "foreign_mailbox_unknown")


def test_a_fault_while_the_foreign_mailbox_is_tried_fails_no_test(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    simulator.faults.refuse("sendMail", 403, "ErrorQuotaExceeded", "full", mailbox=OTHER)
    found = by_key(list(mail.diagnose(foreign_mailbox=OTHER)))["least_privilege"]
    assert (found.state, found.code) == ("warning", "ErrorQuotaExceeded")


def test_over_smtp_a_token_for_one_mailbox_opens_no_other(make_app: MakeApp, simulator: Simulator) -> None:
    scoped = extra_app(simulator, "scoped for SMTP proof", scoped_to=[simulator.mailbox])
    for application, state in ((scoped, "passed"), ({}, "warning")):
        _, mail = make_app(graph_setup(simulator, service="microsoft365_smtp", port=simulator.smtp_port, **application))
        steps = list(mail.diagnose(foreign_mailbox=OTHER))
        assert by_key(steps)["least_privilege"].state == state
        assert not any(step.state == "failed" for step in steps)


def test_a_from_that_is_not_the_mailbox_itself_is_proven_too(make_app: MakeApp, simulator: Simulator) -> None:
    simulator.add_mailbox("shared@contoso.example", send_as=["shop@contoso.example"])
    setup = graph_setup(simulator, username="shared@contoso.example", from_address="shop@contoso.example")
    _, mail = make_app(setup)
    assert by_key(list(mail.diagnose()))["from"].seen == "the mailbox may send as this address"


def test_a_server_that_takes_a_message_for_nobody_is_warned_of(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    simulator.faults.refuse("sendMail", 202)
    found = by_key(list(mail.diagnose()))
    assert (found["mailbox"].state, found["mailbox"].code) == ("warning", "graph_accepted_empty")
    assert found["from"].state == "passed"


# -- the steps -------------------------------------------------------------------------------------------------------


def test_the_steps_of_smtp_end_with_taking_back_unless_a_message_is_asked_for(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(smtp_setup(simulator))
    keys = ["settings", "name", "connection", "greeting", "tls", "auth_offered", "login", "from", "recipient", "reset"]
    assert [step.key for step in mail.diagnose()] == keys
    assert simulator.delivered == []
    assert [step.key for step in mail.diagnose(test_message_to="me@customers.example")] == [*keys, "message"]
    assert [one.recipient for one in simulator.delivered] == ["me@customers.example"]


TOKEN_STEPS = ["settings", "secret", "sign_in_name", "sign_in_tls", "token", "role"]


def test_the_steps_of_graph_go_from_the_settings_to_the_worker_and_send_only_what_is_asked_for(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator), db=True, OUTMAIL_DELIVERY="outbox")
    keys = [*TOKEN_STEPS, "graph_name", "graph_tls", "mailbox", "from"]
    steps = list(mail.diagnose())
    assert [step.key for step in steps] == [*keys, "large_messages", "worker"]
    assert simulator.delivered == []
    steps = list(mail.diagnose(test_message_to="me@customers.example", foreign_mailbox=OTHER))
    assert [step.key for step in steps] == [*keys, "least_privilege", "large_messages", "message", "worker"]
    assert all(step.seen for step in steps)
    assert [one.recipient for one in simulator.delivered] == ["me@customers.example"]


def test_the_steps_of_microsofts_smtp_are_those_of_the_token_and_then_those_of_smtp(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator, service="microsoft365_smtp", port=simulator.smtp_port))
    smtp = ["name", "connection", "greeting", "tls", "auth_offered", "login", "from", "recipient", "reset"]
    assert [step.key for step in mail.diagnose(foreign_mailbox=OTHER)] == [*TOKEN_STEPS, *smtp, "least_privilege"]
    assert simulator.delivered == []


def worker_step(mail: object) -> Step:
    return list(mail.diagnose())[-1]  # type: ignore[attr-defined]


def test_without_a_worker_the_outbox_is_warned_of(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator), db=True, OUTMAIL_DELIVERY="outbox")
    step = worker_step(mail)
    assert (step.key, step.state, step.code) == ("worker", "warning", "worker_not_running")


def test_a_worker_with_this_revision_is_seen_and_one_with_another_is_named(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True, OUTMAIL_DELIVERY="outbox")
    activate(app, smtp_values(simulator))
    with engine_of(app).database.session() as session:
        setup_id = session.query(Setup).one().id
        worker = roster.register(session, version="1", now=utc_now())
        roster.beat(session, worker, now=utc_now(), setups={"primary": setup_id})
        session.commit()
    step = worker_step(mail)
    assert (step.state, step.seen) == ("passed", "1 worker runs, with revision 1")
    with engine_of(app).database.session() as session:
        roster.beat(session, worker, now=utc_now(), setups={"primary": setup_id + 1})
        session.commit()
    assert worker_step(mail).code == "worker_behind"
    with engine_of(app).database.session() as session:
        roster.beat(session, worker, now=utc_now() - timedelta(hours=1), setups={"primary": setup_id})
        session.commit()
    assert worker_step(mail).code == "worker_not_running", "one that has not been seen for an hour is none"


def test_where_mail_goes_at_once_no_worker_is_looked_for(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator), db=True)
    assert "worker" not in by_key(list(mail.diagnose()))


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_the_transcript_of_graph_shows_calls_and_answers_and_no_secret(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator))
    said: list[tuple[str, str]] = []
    list(mail.diagnose(test_message_to="me@customers.example", transcript=said))
    text = "\n".join(line for _, line in said)
    assert f"POST {simulator.cloud['graph']}/v1.0/users/{simulator.mailbox}/sendMail" in text
    assert "400 ErrorInvalidRecipients (request-id " in text and "\n202 (request-id " in text
    assert "token request to localhost" in text and "a token (not shown)" in text
    for secret in (simulator.client_secret, "eyJ", "Bearer", "This is a test of"):
        assert secret not in text


def test_a_refused_token_is_in_the_transcript_with_its_number_and_trace(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator, client_secret="wrong-secret-value"))
    said: list[tuple[str, str]] = []
    list(mail.diagnose(transcript=said))
    assert said[-1][0] == "server" and "no token: AADSTS7000215 (trace id " in said[-1][1]
    assert "wrong-secret-value" not in str(said)


@pytest.mark.parametrize("kind", ["graph", "smtp"])
def test_the_text_for_support_holds_what_helps_and_neither_secret_nor_whole_address(
    make_app: MakeApp, simulator: Simulator, kind: str
) -> None:
    setup = graph_setup(simulator) if kind == "graph" else smtp_setup(simulator, password="wrong-password")
    _, mail = make_app(setup)
    said: list[tuple[str, str]] = []
    steps = list(mail.diagnose(transcript=said))
    text = support_text(steps, title="Test", at="today", facts=[f"From: {simulator.mailbox}"], transcript=said)
    assert "Flask-Outmail" in text and "Python 3" in text
    assert simulator.mailbox not in text and f"{simulator.mailbox[0]}…@" in text
    assert ("Result: passed" in text) == (kind == "graph")
    if kind == "smtp":
        assert "code 535 5.7.3" in text and "(who: " in text
    for secret in (simulator.client_secret, simulator.smtp_password, "wrong-password", "eyJ"):
        assert secret not in text


def test_the_command_shows_transcript_and_foreign_mailbox(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(graph_setup(simulator))
    run = app.test_cli_runner().invoke
    told = run(args=["outmail", "test", "--foreign-mailbox", OTHER, "--transcript"]).output
    assert "→ POST https://" in told and "may send as other mailboxes too" in told
    assert "Proven: credential, mailbox" in told and "Not proven: that a real message is accepted" in told
    result = json.loads(run(args=["outmail", "test", "--json", "--transcript"]).output)
    assert result["transcript"] and result["proven"] and result["not_proven"]
    wrong = run(args=["outmail", "test", "--foreign-mailbox", simulator.mailbox])
    assert wrong.exit_code == 1 and "foreign_mailbox_own" in wrong.output
    app, _ = make_app(smtp_setup(simulator))
    pointless = app.test_cli_runner().invoke(args=["outmail", "test", "--foreign-mailbox", OTHER])
    assert pointless.exit_code == 1 and "foreign_mailbox_not_asked" in pointless.output


# -- limits ----------------------------------------------------------------------------------------------------------


def test_one_person_cannot_use_up_everybodys_tests_and_is_told_when_to_go_on(make_app: MakeApp) -> None:
    app, _ = make_app(OUTMAIL_TESTS_PER_MINUTE=3, OUTMAIL_TESTS_PER_PERSON=2)
    engine = engine_of(app)
    for _ in range(2):
        count_test(engine, "anna")
    with pytest.raises(Throttled, match=r"You have run 2 tests .* may begin in \d+ s") as caught:
        count_test(engine, "anna")
    assert 0 < (caught.value.retry_after_s or 0) <= 60
    count_test(engine, "boris")
    with pytest.raises(Throttled, match="There were 3 tests"):
        count_test(engine, "boris")


def test_the_last_test_told_of_is_one_of_what_is_in_force(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    list(mail.diagnose())
    assert status(app)["last_test"] != "never"
    with engine_of(app).database.session() as session:
        session.query(Setup).one()
    from dataclasses import replace

    from flask_outmail.proving import Trial, last_proof

    list(Trial(engine_of(app), replace(smtp_values(simulator), password="other")).steps())
    found = last_proof(engine_of(app), engine_of(app).current(fresh=True))
    assert found is not None and found.passed


def status(app: Flask) -> dict[str, str]:
    found: dict[str, str] = json.loads(app.test_cli_runner().invoke(args=["outmail", "status", "--json"]).output)
    return found
