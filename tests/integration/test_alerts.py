"""When a message fails for good, somebody is told: once for each cause, by a way that works, or on every page."""

from __future__ import annotations

import pytest

from flask_outmail import AuthenticationFailed, RecipientsRefused
from flask_outmail.models import Incident
from flask_outmail.outbox import alerts
from flask_outmail.simulator import Fault, Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message
from .test_holding import activate, smtp_values

OPS = "ops@elsewhere.example"


@pytest.fixture
def app_database_url(database_url: str) -> str:
    return database_url


def incidents(app: object) -> list[Incident]:
    with engine_of(app).database.session() as session:  # type: ignore[arg-type]
        return list(session.query(Incident))


def refuse_log_in(simulator: Simulator, times: int = 1) -> None:
    simulator.faults.preset("smtp-auth-535", times=times)


def test_a_fault_of_the_message_is_told_over_the_same_connection(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    simulator.faults.add(
        Fault(endpoint="smtp.rcpt", status=550, code="5.1.1", message="User unknown", recipient="nobody@x.example")
    )
    with pytest.raises(RecipientsRefused):
        mail.send(make_message(recipients=["nobody@x.example"], body="a private word"))
    [alert] = simulator.delivered
    assert alert.recipient == OPS
    assert alert.parsed["Auto-Submitted"] == "auto-generated"
    assert "550 5.1.1" in alert.text and "private" not in alert.text
    assert [one.alert for one in incidents(app)] == [alerts.MAILED]


def test_a_broken_connection_is_told_over_another_one(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator, from_name="Backup"), connection="backup", verified=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    [alert] = simulator.delivered
    assert alert.recipient == OPS
    assert str(alert.parsed["From"]).startswith("Backup")
    assert incidents(app)[0].alert == alerts.MAILED


def test_with_no_other_way_the_alert_is_kept(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert simulator.delivered == []
    [incident] = incidents(app)
    assert (incident.alert, incident.code, incident.fault) == (alerts.KEPT, "535 5.7.3", "connection")


def test_many_failures_of_one_cause_are_one_incident_and_one_alert(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator), connection="backup", verified=True)
    for _ in range(5):
        refuse_log_in(simulator)
        with pytest.raises(AuthenticationFailed):
            mail.send(make_message())
    assert [one.count for one in incidents(app)] == [5]
    assert len(simulator.delivered) == 1


def test_an_accepted_message_closes_what_it_disproves(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    mail.send(make_message())
    [incident] = incidents(app)
    assert incident.closed_at is not None and incident.closed_by == "recovered"


def test_an_alert_that_cannot_be_sent_makes_no_further_alert(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator), connection="backup", verified=True)
    refuse_log_in(simulator, times=10)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert [(one.connection, one.count) for one in incidents(app)] == [("primary", 1)]


def test_without_a_database_a_fault_of_the_message_is_still_told_once(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator, failure_alerts_to=OPS))
    for _ in range(2):
        simulator.faults.refuse("sendMail", 400, "ErrorInvalidRecipients", "At least one recipient is not valid.")
        with pytest.raises(RecipientsRefused):
            mail.send(make_message())
    assert [one.recipient for one in simulator.delivered] == [OPS]


def test_no_alert_address_means_no_mail_but_the_incident_is_shown(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator, failure_alerts_to=""), verified=True)
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert simulator.delivered == []
    assert len(incidents(app)) == 1
