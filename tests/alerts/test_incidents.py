"""When mail fails, somebody is told: once for each cause, by a way that works, and again when it is over."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta, timezone

import pytest
from flask import Flask

from flask_outmail import AuthenticationFailed, ConfigurationError, Mail, OutmailError, RecipientsRefused, Throttled
from flask_outmail.errors import MessageRejected, Refusal, SenderRefused, TransportUnavailable
from flask_outmail.models import Incident
from flask_outmail.outbox import alerts
from flask_outmail.simulator import Fault, Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message, smtp_setup
from ..integration.test_holding import activate, smtp_values
from .conftest import alerting_of, incidents, refuse_log_in

OPS = "ops@elsewhere.example"
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


@pytest.fixture
def shop(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    """A primary connection and a backup, both working."""
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator, from_name="Backup"), connection="other", verified=True)
    return app, mail


def fail(app: Flask, error: OutmailError, now: datetime, connection: str = "primary", **options: bool) -> None:
    current = engine_of(app).current(connection)
    assert current is not None
    alerting_of(app).tell(error, current, now=now, **options)


def denied() -> AuthenticationFailed:
    return AuthenticationFailed("log-in refused", code="535 5.7.3", request_id="req-1")


def unknown_user(address: str = "ann@customers.example") -> RecipientsRefused:
    words = f"<{address}>: user unknown, subject 'Order 17'"
    return RecipientsRefused(words, recipients={address: Refusal(550, words)}, code="550 5.1.1", detail=words)


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_broken_connection_is_told_over_another_one(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message(body="a private word"))
    [alert] = simulator.delivered
    assert alert.recipient == OPS
    assert str(alert.parsed["From"]).startswith("Backup")
    assert alert.parsed["Auto-Submitted"] == "auto-generated"
    assert "535 5.7.3" in alert.text and "What to do:" in alert.text and "Who can do it:" in alert.text
    assert incidents(app)[0].alert == alerts.MAILED


def test_three_hundred_failures_of_one_cause_are_one_alert(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        activate(app, smtp_values(simulator, port=closed.getsockname()[1]), verified=True)
        activate(app, smtp_values(simulator), connection="other", verified=True)
        receipts = mail.send_many(make_message() for _ in range(300))
    assert not any(receipts)
    assert [(one.count, one.code) for one in incidents(app)] == [(300, "port_closed")]
    assert len(simulator.delivered) == 1


def test_two_causes_are_two_alerts(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    fail(app, denied(), NOW)
    fail(app, TransportUnavailable("no", code="port_closed"), NOW)
    assert len(simulator.delivered) == 2 == len(incidents(app))


def test_a_reminder_comes_once_an_hour_at_most_and_only_while_it_lasts(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, _ = shop
    for minute in range(0, 130, 10):
        fail(app, denied(), NOW + minute * MINUTE)
        alerting_of(app).watch(NOW + minute * MINUTE)
    subjects = [str(one.parsed["Subject"]) for one in simulator.delivered]
    assert len(subjects) == 3
    assert ["Still: " in subject for subject in subjects] == [False, True, True]
    # Nothing has failed since the last one: nobody needs to hear of it again.
    alerting_of(app).watch(NOW + 10 * HOUR)
    assert len(simulator.delivered) == 3


def test_what_is_tried_again_is_told_only_once_it_has_lasted(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    busy = Throttled("later", code="432 4.3.2")
    fail(app, busy, NOW, will_retry=True)
    fail(app, busy, NOW + MINUTE, will_retry=True)
    alerting_of(app).watch(NOW + MINUTE)
    assert simulator.delivered == []
    alerting_of(app).watch(NOW + 3 * MINUTE)
    assert len(simulator.delivered) == 1


def test_a_short_trouble_that_was_not_told_needs_no_notice_of_recovery(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, _ = shop
    fail(app, Throttled("later", code="432 4.3.2"), NOW, will_retry=True)
    alerting_of(app).recovered("primary", now=NOW + MINUTE)
    alerting_of(app).watch(NOW + HOUR)
    assert simulator.delivered == []
    assert incidents(app)[0].closed_by == "recovered"


# -- recovery --------------------------------------------------------------------------------------------------------


def test_recovery_is_told_once_with_how_long_and_how_many(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    for minute in range(30):
        fail(app, denied(), NOW + minute * MINUTE)
    for _ in range(3):
        alerting_of(app).recovered("primary", now=NOW + 134 * MINUTE)
        alerting_of(app).watch(NOW + 135 * MINUTE)
    _, recovered = simulator.delivered
    assert "Recovered after 2 h 14 min" in str(recovered.parsed["Subject"])
    assert "Messages affected: 30" in recovered.text
    assert [one.closed_by for one in incidents(app)] == ["recovered"]


@pytest.mark.parametrize("is_configured", [False, True])
def test_an_accepted_message_closes_what_it_disproves_and_tells_of_it(
    shop: tuple[Flask, Mail], make_app: MakeApp, simulator: Simulator, is_configured: bool
) -> None:
    app, mail = shop
    if is_configured:
        app, mail = make_app(smtp_setup(simulator, failure_alerts_to=OPS), db=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    mail.send(make_message())
    assert incidents(app)[0].closed_by == "recovered"
    assert [one.recipient for one in simulator.delivered] == [OPS, "ann@customers.example", OPS]


def test_a_passed_test_of_the_setup_in_force_ends_its_failure(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    fail(app, denied(), NOW)
    assert list(mail.diagnose())[-1].state == "passed"
    assert incidents(app)[0].closed_by == "recovered"


def test_what_comes_and_goes_is_one_incident_and_few_mails(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    for minute in range(0, 50, 2):
        fail(app, denied(), NOW + minute * MINUTE)
        alerting_of(app).recovered("primary", now=NOW + (minute + 1) * MINUTE)
        alerting_of(app).watch(NOW + (minute + 1) * MINUTE)
    assert [one.count for one in incidents(app)] == [25]
    # Failing, well again, failing after all; and then silence until it is clear how it went on.
    assert len(simulator.delivered) == 3
    alerting_of(app).watch(NOW + 3 * HOUR)
    assert len(simulator.delivered) == 4
    assert "Recovered" in str(simulator.delivered[-1].parsed["Subject"])


def test_what_a_backup_carries_does_not_make_the_first_connection_well(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        activate(app, smtp_values(simulator, port=closed.getsockname()[1]), verified=True)
        activate(app, smtp_values(simulator, from_name="Backup"), connection="backup", verified=True)
        # More than it takes for the first one to pause, so that it is not even tried any more.
        receipts = mail.send_many(make_message() for _ in range(12))
    assert all(receipts)
    assert {receipt.connection for receipt in receipts} == {"backup"}
    assert [(one.connection, one.code, one.closed_at) for one in incidents(app)] == [("primary", "port_closed", None)]
    assert [one.recipient for one in simulator.delivered].count(OPS) == 1


# -- no way to tell --------------------------------------------------------------------------------------------------


def test_with_no_other_way_the_alert_is_kept_and_the_recovery_says_so(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert simulator.delivered == []
    [incident] = incidents(app)
    assert (incident.alert, incident.code, incident.fault) == (alerts.KEPT, "535 5.7.3", "connection")
    mail.send(make_message())
    _, told = simulator.delivered
    assert told.recipient == OPS
    assert "Recovered after" in str(told.parsed["Subject"])
    assert "Nobody could be told of this before" in told.text


def test_a_kept_alert_is_told_as_soon_as_a_connection_can_carry_it(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    fail(app, denied(), NOW)
    activate(app, smtp_values(simulator), connection="other", verified=True)
    alerting_of(app).watch(NOW + MINUTE)
    assert simulator.delivered == [], "not at every look of the watch"
    alerting_of(app).watch(NOW + 6 * MINUTE)
    alerting_of(app).watch(NOW + 12 * MINUTE)
    assert len(simulator.delivered) == 1
    assert incidents(app)[0].alert == alerts.MAILED


def test_a_connection_that_fails_itself_carries_no_alert_of_another(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, _ = shop
    fail(app, denied(), NOW, connection="other")
    simulator.clear()
    fail(app, denied(), NOW, connection="primary")
    assert simulator.delivered == []
    assert [one.alert for one in incidents(app)] == [alerts.MAILED, alerts.KEPT]


def test_an_alert_that_cannot_be_sent_makes_no_further_alert(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    refuse_log_in(simulator, times=10)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert [(one.connection, one.count) for one in incidents(app)] == [("primary", 1)]


def test_a_recovery_that_nobody_took_is_told_later(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    fail(app, denied(), NOW)
    simulator.faults.add(Fault(endpoint="smtp.rcpt", status=450, code="4.2.0", message="Later", times=2))
    alerting_of(app).recovered("primary", now=NOW + MINUTE)
    assert len(simulator.delivered) == 1
    alerting_of(app).watch(NOW + 10 * MINUTE)
    alerting_of(app).watch(NOW + 20 * MINUTE)
    assert len(simulator.delivered) == 2


def test_no_alert_address_means_no_mail_but_the_incident_is_shown(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator, failure_alerts_to=""), verified=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert simulator.delivered == []
    assert [one.alert for one in incidents(app)] == [alerts.KEPT]


def test_the_address_of_another_setup_serves_a_connection_without_one(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator, failure_alerts_to=""), connection="billing", verified=True)
    fail(app, denied(), NOW, connection="billing")
    assert [one.recipient for one in simulator.delivered] == [OPS]


def test_what_somebody_knows_of_is_not_reminded_of_but_its_end_is_told(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, _ = shop
    fail(app, denied(), NOW)
    with engine_of(app).database.session() as session:
        alerts.acknowledge(session, session.query(Incident).one(), by="anna", now=NOW)
        session.commit()
    fail(app, denied(), NOW + 2 * HOUR)
    alerting_of(app).watch(NOW + 2 * HOUR)
    assert len(simulator.delivered) == 1
    alerting_of(app).recovered("primary", now=NOW + 3 * HOUR)
    assert len(simulator.delivered) == 2


def test_what_was_dismissed_is_told_anew_when_it_fails_again(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    fail(app, denied(), NOW)
    with engine_of(app).database.session() as session:
        alerts.dismiss(session, session.query(Incident).one(), by="anna", now=NOW)
        session.commit()
    fail(app, denied(), NOW + MINUTE)
    assert len(incidents(app)) == 2 == len(simulator.delivered)


# -- faults of messages ----------------------------------------------------------------------------------------------


def test_a_bad_address_is_counted_and_told_only_when_the_same_repeats(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    simulator.faults.add(
        Fault(endpoint="smtp.rcpt", status=550, code="5.1.1", message="User unknown", recipient="no@x.example")
    )
    with pytest.raises(RecipientsRefused):
        mail.send(make_message(recipients=["no@x.example"]))
    assert simulator.delivered == []
    assert [(one.kind, one.count, one.alert) for one in incidents(app)] == [(alerts.MESSAGE, 1, "")]
    for number in range(30):
        fail(app, unknown_user(f"u{number}@x.example"), NOW + number * HOUR / 2)
    assert len(simulator.delivered) == 1, "one a day at most"


def test_a_good_message_does_not_end_what_is_wrong_with_others(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    fail(app, unknown_user(), NOW)
    mail.send(make_message())
    assert incidents(app)[0].closed_at is None
    alerting_of(app).watch(NOW + timedelta(days=2))
    assert incidents(app)[0].closed_by == "quiet for a day"
    assert [one.recipient for one in simulator.delivered] == ["ann@customers.example"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MessageRejected("too large", code="552 5.3.4"), alerts.MESSAGE),
        (SenderRefused("no", sender="x@x.example", code="550 5.7.60"), alerts.FAILING),
        (ConfigurationError("no credential", code="credential_incomplete"), alerts.FAILING),
        (Throttled("later", code="432 4.3.2"), alerts.FAILING),
    ],
)
def test_whose_fault_it_is_decides_the_kind(error: OutmailError, kind: str) -> None:
    assert alerts.Cause.of(error, "primary").kind == kind


@pytest.mark.parametrize(
    ("sender", "kind"), [("News@contoso.example", alerts.FAILING), ("ann@contoso.example", alerts.MESSAGE)]
)
def test_a_from_that_is_refused_stops_all_mail_only_when_it_is_the_setups_own(sender: str, kind: str) -> None:
    error = SenderRefused("no", sender=sender, code="550 5.7.60")
    assert alerts.Cause.of(error, "primary", senders={"news@contoso.example"}).kind == kind


# -- without a database ----------------------------------------------------------------------------------------------


def test_without_a_database_a_repeated_fault_of_messages_is_still_told_once(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator, failure_alerts_to=OPS), OUTMAIL_ALERT_REPEATS=2)
    for _ in range(4):
        simulator.faults.refuse("sendMail", 400, "ErrorInvalidRecipients", "At least one recipient is not valid.")
        with pytest.raises(RecipientsRefused):
            mail.send(make_message())
    assert [one.recipient for one in simulator.delivered] == [OPS]


def test_without_a_database_failing_and_recovery_reach_the_other_channels(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator))
    told: list[str] = []
    mail.on_alert(lambda notice: told.append(notice.event))
    for _ in range(3):
        simulator.faults.refuse("sendMail", 403, "ErrorAccessDenied", "Access is denied.")
        with pytest.raises(AuthenticationFailed):
            mail.send(make_message())
    mail.send(make_message())
    assert told == ["opened", "recovered"]


def test_a_database_that_is_down_does_not_keep_the_alert_from_being_told(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    told: list[str] = []
    mail.on_alert(lambda notice: told.append(notice.code))
    current = engine_of(app).current()
    assert current is not None
    with engine_of(app).database.session() as session:
        Incident.__table__.drop(session.connection())  # type: ignore[attr-defined]
        session.commit()
    alerting_of(app).tell(denied(), current)
    alerting_of(app).tell(denied(), current)
    assert told == ["535 5.7.3"]
