"""The watch: what goes wrong without a message having failed, judged by arithmetic and told step by step."""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask

from flask_outmail import Mail, SetupNotVerified, auth_objects
from flask_outmail.auth_objects import Draft
from flask_outmail.models import AuthObject
from flask_outmail.outbox import alerts
from flask_outmail.outbox.conditions import Condition, Limits, conditions
from flask_outmail.outbox.facts import Credential, Facts, Waiting
from flask_outmail.setup_values import Credential as CredentialValues
from flask_outmail.setup_values import SetupValues
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message
from ..integration.test_holding import activate, smtp_values
from .conftest import alerting_of, incidents

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LIMITS = Limits(queue=15 * MINUTE, worker=3 * MINUTE)


def found(facts: Facts, *, failing: tuple[str, ...] = ()) -> list[Condition]:
    return conditions(facts, LIMITS, failing=failing, now=NOW)


# -- the judgement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "level", "code"),
    [
        (61, None, ""), (60, 60, "credential_expiring"), (31, 60, "credential_expiring"),
        (30, 30, "credential_expiring"), (15, 30, "credential_expiring"), (8, 14, "credential_expiring"),
        (7, 7, "credential_expiring"), (3, 3, "credential_expiring"), (2, 3, "credential_expiring"),
        (1, 1, "credential_expiring"), (0, 0, "credential_expiring"), (-1, -1, "credential_expired"),
        (-400, -1, "credential_expired"),
    ],
)  # fmt: skip
def test_a_credential_reaches_its_steps(days: int, level: int | None, code: str) -> None:
    ends_at = datetime.combine(date(2026, 11, 25) + days * DAY, datetime.max.time(), timezone.utc)
    told = found(Facts(credentials=(Credential("mailer", ("primary",), ends_at),)))
    assert [(one.level, one.code) for one in told] == ([(level, code)] if code else [])


def test_a_certificate_that_ended_an_hour_ago_is_over_though_its_day_is_not() -> None:
    [told] = found(Facts(credentials=(Credential("mailer", ("primary",), NOW - timedelta(hours=1), True),)))
    assert told.code == "credential_expired"


def test_a_credential_without_a_known_end_is_no_trouble() -> None:
    assert found(Facts(credentials=(Credential("mailer", ("primary",), None),))) == []


def waiting(age: timedelta, **changes: Any) -> Waiting:
    return Waiting("primary", **{"count": 3, "oldest_at": NOW - age, **changes})


def test_mail_that_waits_while_a_worker_lives_is_told_after_a_while() -> None:
    alive = {"worker_count": 1, "last_heartbeat_at": NOW - timedelta(seconds=20)}
    assert found(Facts(waiting=(waiting(14 * MINUTE),), **alive)) == []  # type: ignore[arg-type]
    [told] = found(Facts(waiting=(waiting(15 * MINUTE),), **alive))  # type: ignore[arg-type]
    assert (told.code, told.count, told.is_symptom) == ("queue_old", 3, False)


@pytest.mark.parametrize("heartbeat_at", [None, NOW - 5 * MINUTE])
def test_a_missing_worker_is_told_instead_of_what_follows_from_it(heartbeat_at: datetime | None) -> None:
    told = found(Facts(waiting=(waiting(20 * MINUTE),), last_heartbeat_at=heartbeat_at))
    assert [(one.code, one.is_symptom) for one in told] == [("worker_missing", False), ("queue_old", True)]


def test_no_worker_is_missing_while_nothing_waits() -> None:
    assert found(Facts()) == []
    assert found(Facts(waiting=(waiting(2 * MINUTE),))) == [], "one that restarts is not missing"


def test_a_queue_that_waits_for_a_failing_connection_is_no_news() -> None:
    facts = Facts(waiting=(waiting(20 * MINUTE),), worker_count=1, last_heartbeat_at=NOW)
    assert [one.is_symptom for one in found(facts, failing=("primary",))] == [True]


def test_a_held_backlog_is_told_after_a_while() -> None:
    def held(age: timedelta) -> Facts:
        return Facts(waiting=(Waiting("primary", held_count=2, held_since=NOW - age),))

    assert found(held(14 * MINUTE)) == []
    assert [(one.code, one.count) for one in found(held(15 * MINUTE))] == [("backlog_held", 2)]


# -- the watch itself ------------------------------------------------------------------------------------------------


def store_credential(app: Flask, expires_on: date | None, certificate: str = "") -> AuthObject:
    engine = engine_of(app)
    sim_secret = "" if certificate else "a-secret-of-the-tests~x"
    values = CredentialValues(
        tenant="11111111-1111-4111-8111-111111111111", client_id="22222222-2222-4222-8222-222222222222",
        client_secret=sim_secret, certificate=certificate,
    )  # fmt: skip
    with engine.database.session() as session:
        draft = Draft(name="Contoso mailer", credential=values, expires_on=expires_on)
        row = auth_objects.create(session, draft, engine.vault, by="ann", limit=10)
        session.commit()
    return row


def use(app: Flask, row: AuthObject) -> None:
    """Puts a setup into force that uses the authentication object; alerts go over the backup."""
    from flask_outmail import setups

    engine = engine_of(app)
    values = SetupValues(
        service="microsoft365_graph", username="noreply@contoso.example", from_address="noreply@contoso.example",
        failure_alerts_to="ops@elsewhere.example",
    )  # fmt: skip
    with engine.database.session() as session:
        setup = setups.save(session, values, engine.vault, by="ann", seen_revision=0, auth_object=row)
        setups.activate(setup, by="ann")
        session.commit()
    engine.connections.look_again()


@pytest.fixture
def shop(make_app: MakeApp, simulator: Simulator) -> tuple[Flask, Mail]:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), connection="other", verified=True)
    return app, mail


def subjects(simulator: Simulator) -> list[str]:
    return [str(one.parsed["Subject"]) for one in simulator.delivered]


def test_each_step_of_a_credential_is_told_once(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    use(app, store_credential(app, date(2027, 2, 1)))
    day = datetime(2026, 11, 25, 9, 0, tzinfo=timezone.utc)
    while day.date() < date(2027, 2, 8):
        for hour in (0, 6):
            alerting_of(app).watch(day + timedelta(hours=hour))
        day += DAY
    assert [subject.removeprefix("[shop] The credential “Contoso mailer” ") for subject in subjects(simulator)] == [
        "expires in 60 days", "expires in 30 days", "expires in 14 days", "expires in 7 days", "expires in 3 days",
        "expires in 1 day", "expires today", "has expired",
    ]  # fmt: skip
    assert [(one.code, one.closed_by) for one in incidents(app)] == [
        ("credential_expiring", "what followed it"),
        ("credential_expired", ""),
    ]


def test_after_a_pause_of_the_watch_only_the_nearest_step_is_told(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, _ = shop
    use(app, store_credential(app, date(2026, 11, 30)))
    alerting_of(app).watch(NOW)
    assert subjects(simulator) == ["[shop] The credential “Contoso mailer” expires in 5 days"]


def test_a_credential_that_was_replaced_is_told_as_well_again(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    row = store_credential(app, date(2026, 11, 30))
    use(app, row)
    alerting_of(app).watch(NOW)
    with engine_of(app).database.session() as session:
        seen = session.get_one(AuthObject, row.id)
        values = CredentialValues(tenant=row.tenant, client_id=row.client_id)
        draft = Draft(name=row.name, credential=values, expires_on=date(2028, 11, 30))
        auth_objects.edit(session, seen, draft, engine_of(app).vault, by="ann", version=1)
        session.commit()
    engine_of(app).connections.look_again()
    alerting_of(app).watch(NOW + MINUTE)
    assert "valid for long enough again" in subjects(simulator)[-1]
    assert [one.closed_by for one in incidents(app)] == ["recovered"]


def test_a_credential_that_no_setup_uses_is_nobodys_trouble(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    store_credential(app, date(2026, 11, 30))
    alerting_of(app).watch(NOW)
    assert incidents(app) == []


def certificate(ends_at: datetime) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mailer")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(NOW - 300 * DAY).not_valid_after(ends_at).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    return pem.decode()


def test_the_end_of_a_certificate_is_what_the_certificate_says(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    row = store_credential(app, None, certificate(NOW + 6 * DAY))
    with engine_of(app).database.session() as session:
        session.get_one(AuthObject, row.id).expires_on = date(2030, 1, 1)  # somebody's mistake
        session.commit()
    use(app, row)
    alerting_of(app).watch(NOW)
    assert "expires in 6 days" in subjects(simulator)[0]


def test_a_certificate_in_the_configuration_is_watched_too(make_app: MakeApp, simulator: Simulator) -> None:
    setup = graph_setup(simulator, certificate=certificate(NOW + 6 * DAY), failure_alerts_to="ops@elsewhere.example")
    del setup["client_secret"]
    app, mail = make_app(setup, db=True)
    told: list[str] = []
    mail.on_alert(lambda notice: told.append(notice.headline))
    alerting_of(app).watch(NOW)
    assert told == ["The credential “OUTMAIL_SETUP” expires in 6 days"]


def test_a_held_backlog_is_told_over_another_connection_and_its_end_too(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    activate(app, smtp_values(simulator))
    with pytest.raises(SetupNotVerified):
        mail.send(make_message())
    later = datetime.now(timezone.utc) + timedelta(minutes=16)
    for minute in range(3):
        alerting_of(app).watch(later + minute * MINUTE)
    assert subjects(simulator) == [
        "[shop] Mail over “primary” is held: Mail is held, because the setup is not verified"
    ]
    assert "Messages held: 1" in simulator.delivered[0].text
    alerting_of(app).watch(later + timedelta(minutes=61))
    assert len(simulator.delivered) == 2, "a reminder, because it still lasts"
    assert list(mail.diagnose())[-1].state == "passed"
    alerting_of(app).watch(later + timedelta(minutes=62))
    assert "no longer held" in subjects(simulator)[-1]
    assert [one.kind for one in incidents(app)] == [alerts.HELD]


def test_a_watch_that_finds_nothing_writes_nothing(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, _ = shop
    assert alerting_of(app).watch(NOW) == []
    assert incidents(app) == [] and simulator.delivered == []


def test_where_nobody_else_looks_a_process_that_sends_does_so_now_and_then(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    use(app, store_credential(app, datetime.now(timezone.utc).date() + 5 * DAY))
    told = threading.Event()
    mail.on_alert(lambda notice: told.set())
    mail.send(make_message(), via="other")
    assert not told.is_set(), "not with every message"
    alerting_of(app).look_every_s = 0
    mail.send(make_message(), via="other")
    alerting_of(app).look_every_s = 600
    assert told.wait(10)
    for thread in threading.enumerate():
        if thread.name == "outmail-watch":
            thread.join(10)
