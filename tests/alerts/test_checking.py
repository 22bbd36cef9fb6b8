"""Continuous proof: connections are tried although nobody asks, once, by one process, and nothing is sent."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

import pytest
from flask import Flask

from flask_outmail import AuthenticationFailed, Mail, setups
from flask_outmail.checking import Checked, check_due
from flask_outmail.models import Proof
from flask_outmail.simulator import Fault, Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message, smtp_setup
from ..integration.test_holding import activate, smtp_values
from ..unit.test_tokens import requests_made
from .conftest import alerting_of, incidents, refuse_log_in

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def proofs(app: Flask) -> list[tuple[str | None, bool]]:
    with engine_of(app).database.session() as session:
        return [(one.kind, one.passed) for one in session.query(Proof).order_by(Proof.created_at)]


@pytest.fixture
def graph(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    return make_app(graph_setup(simulator), db=True)


@pytest.fixture
def smtp(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    return make_app(smtp_setup(simulator), db=True)


def check(app: Flask, now: datetime) -> list[Checked]:
    return check_due(engine_of(app), now)


def test_a_check_gets_a_new_token_although_one_is_stored_and_sends_nothing(
    graph: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = graph
    mail.send(make_message())
    before = requests_made(simulator)
    [done] = check(app, NOW)
    assert done.passed
    assert requests_made(simulator) == before + 1
    assert len(simulator.delivered) == 1, "the message, and nothing else"
    assert proofs(app) == [("scheduled", True)]


def test_a_check_of_a_server_logs_in_and_names_nobody_to_it(smtp: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = smtp
    [done] = check(app, NOW)
    assert [(step.key, step.state) for step in done.steps][-1] == ("login", "passed")
    assert not {"from", "recipient"} & {step.key for step in done.steps}
    assert simulator.delivered == []


def test_it_is_tried_once_a_day_and_not_more(smtp: tuple[Flask, Mail]) -> None:
    app, _ = smtp
    count = [len(check(app, NOW + hours * timedelta(hours=1))) for hours in (0, 1, 23, 24, 25, 47, 48)]
    assert count == [1, 0, 0, 1, 0, 0, 1]


def test_zero_means_never(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(smtp_setup(simulator), db=True, OUTMAIL_CHECK_SECONDS=0)
    assert check(app, NOW) == [] == proofs(app)


def test_what_is_held_is_not_tried(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator))
    assert check(app, NOW) == []


def test_of_many_processes_one_does_it(smtp: tuple[Flask, Mail]) -> None:
    app, _ = smtp
    done: list[Checked] = []
    start = threading.Barrier(5)

    def process() -> None:
        with app.app_context():
            start.wait()
            done.extend(check(app, NOW))

    threads = [threading.Thread(target=process) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert proofs(app) == [("scheduled", True)]


def test_a_claim_of_a_process_that_died_is_taken_over(smtp: tuple[Flask, Mail]) -> None:
    from flask_outmail.outbox import checks

    app, _ = smtp
    with engine_of(app).database.session() as session:
        assert checks.claim(session, "primary", now=NOW, every=DAY)
        session.commit()
    assert check(app, NOW + 9 * MINUTE) == []
    assert len(check(app, NOW + 10 * MINUTE)) == 1


def test_a_clock_that_was_set_back_does_not_put_it_off_for_ever(smtp: tuple[Flask, Mail]) -> None:
    app, _ = smtp
    assert len(check(app, NOW + 300 * DAY)) == 1
    assert len(check(app, NOW)) == 1


def test_what_a_check_meets_is_told_once_affects_no_message_and_is_over_when_a_check_passes(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True)
    told: list[tuple[str, int]] = []
    mail.on_alert(lambda notice: told.append((notice.event, notice.count)))
    refuse_log_in(simulator, times=2)
    [done] = check(app, NOW)
    assert not done.passed
    assert "535" in done.words
    [incident] = incidents(app)
    assert (incident.kind, incident.count, incident.closed_at) == ("failing", 0, None)
    check(app, NOW + DAY)
    check(app, NOW + 2 * DAY)
    alerting_of(app).watch(NOW + 2 * DAY + MINUTE)
    assert [event for event, _ in told] == ["opened", "reminder", "recovered"]
    assert {count for _, count in told} == {0}
    assert [one.closed_by for one in incidents(app)] == ["recovered"]
    assert [passed for _, passed in proofs(app)] == [False, False, True]


def test_a_fault_that_may_pass_by_itself_is_looked_at_again_soon_and_told_only_if_it_lasts(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True)
    told: list[str] = []
    mail.on_alert(lambda notice: told.append(notice.event))
    simulator.faults.preset("smtp-auth-454", times=1)
    [done] = check(app, NOW)
    assert not done.passed
    assert check(app, NOW + 4 * MINUTE) == []
    assert [one.passed for one in check(app, NOW + 5 * MINUTE)] == [True]
    alerting_of(app).watch(NOW + 6 * MINUTE)
    assert told == []
    assert incidents(app) == []


def test_mail_that_leaves_with_an_old_token_does_not_end_what_a_check_has_met(
    make_app: MakeApp, simulator: Simulator, request: pytest.FixtureRequest
) -> None:
    """An expired secret is one incident: met by the check, and an hour later, with the last token, by the messages."""
    app, mail = make_app(graph_setup(simulator), db=True)
    told: list[str] = []
    mail.on_alert(lambda notice: told.append(notice.event))
    mail.send(make_message())
    application = simulator.state.apps()[0]
    application.secret_expired = True
    request.addfinalizer(lambda: setattr(application, "secret_expired", False))
    check(app, datetime.now(timezone.utc))
    assert mail.send(make_message()).accepted
    assert [(one.code, one.closed_at) for one in incidents(app)] == [("AADSTS7000222", None)]
    simulator.expire_tokens()
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert [(one.code, one.count, one.flaps) for one in incidents(app)] == [("AADSTS7000222", 1, 0)]
    assert told == ["opened"]


def test_mail_that_leaves_brings_the_check_forward_that_may_end_what_one_has_met(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(graph_setup(simulator), db=True)
    mail.send(make_message())
    simulator.faults.preset("token-7000222", times=1)
    now = datetime.now(timezone.utc)
    check(app, now)
    for _ in range(2):
        assert mail.send(make_message()).accepted
    assert check(app, now + 4 * MINUTE) == []
    assert [one.passed for one in check(app, now + 6 * MINUTE)] == [True]
    assert [one.closed_by for one in incidents(app)] == ["recovered"]


def test_a_check_does_not_end_a_failure_that_it_cannot_see(smtp: tuple[Flask, Mail], simulator: Simulator) -> None:
    from flask_outmail.errors import SenderRefused

    app, _ = smtp
    current = engine_of(app).current()
    assert current is not None
    alerting_of(app).tell(SenderRefused("no", sender=current.values.from_address, code="550 5.7.60"), current, now=NOW)
    refuse_log_in(simulator)
    check(app, NOW)
    check(app, NOW + DAY)
    assert [one.code for one in incidents(app) if one.closed_at is None] == ["550 5.7.60"]


def test_a_check_that_passed_verifies_nothing(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    check(app, NOW)
    engine = engine_of(app)
    with engine.database.session() as session:
        assert not setups.is_proven(session, smtp_values(simulator), engine.vault, valid_s=10**9)
        assert setups.last_proof(session) is None


def test_the_command_does_it_and_says_what_came_of_it(smtp: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = smtp
    refuse_log_in(simulator)
    result = app.test_cli_runner().invoke(args=["outmail", "check"])
    assert result.exit_code == 1
    assert "Connection primary" in result.output
    assert "535" in result.output


def test_the_worker_does_it(make_app: MakeApp, simulator: Simulator) -> None:
    from flask_outmail.working import ApplicationSide

    app, _ = make_app(smtp_setup(simulator), db=True, OUTMAIL_WATCH_SECONDS=1)
    side = ApplicationSide(engine_of(app))
    try:
        for _ in range(200):
            if proofs(app):
                break
            threading.Event().wait(0.05)
    finally:
        side.close()
    assert proofs(app) == [("scheduled", True)]


def test_a_server_that_is_busy_once_is_no_failure_of_the_setup(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(smtp_setup(simulator), db=True)
    simulator.faults.add(Fault(endpoint="smtp.auth", status=432, code="4.3.2", times=1))
    [done] = check(app, NOW)
    assert done.error is not None and done.error.code == "432 4.3.2"
    assert incidents(app) == []
    assert [one.passed for one in check(app, NOW + 5 * MINUTE)] == [True]
    assert incidents(app) == []


def test_a_fault_that_may_pass_by_itself_is_told_once_two_checks_in_a_row_met_it(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True)
    told: list[str] = []
    mail.on_alert(lambda notice: told.append(notice.event))
    simulator.faults.preset("smtp-auth-454", times=3)
    for minute in (0, 5, 10):
        check(app, NOW + minute * MINUTE)
        alerting_of(app).watch(NOW + minute * MINUTE)
    assert told == ["opened"]
    assert [one.passed for one in check(app, NOW + 15 * MINUTE)] == [True]
    assert [one.closed_by for one in incidents(app)] == ["recovered"]
