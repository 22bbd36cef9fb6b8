"""The alerts page, the banner on every page, and what machines read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_outmail.errors import AuthenticationFailed, OutmailError, RecipientsRefused, Refusal
from flask_outmail.models import Delivery, utc_now
from flask_outmail.outbox import alerts
from flask_outmail.outbox.states import QUEUED

from ..alerts.conftest import incidents
from ..conftest import MakeApp, engine_of
from ..integration.test_holding import activate, smtp_values
from .conftest import Site

TOKEN = "a-token-of-the-monitor"
MakeSite = Callable[..., Site]


def fail(site: Site, error: OutmailError | None = None, connection: str = "primary") -> None:
    with site.app.app_context():
        engine = engine_of(site.app)
        current = engine.current(connection, fresh=True)
        assert current is not None
        engine.alerting.tell(error or AuthenticationFailed("no", code="535 5.7.3", request_id="req-17"), current)


@pytest.fixture
def broken(site: Site) -> Site:
    """A site whose only connection fails."""
    activate(site.app, smtp_values(site.simulator), verified=True)
    fail(site)
    return site


# -- the page --------------------------------------------------------------------------------------------------------


def test_an_open_incident_shows_what_to_do_who_can_do_it_and_why_nobody_was_told(broken: Site) -> None:
    text = broken.get("/alerts").text
    for words in ("What to do", "Who can do it", "535 5.7.3", "req-17", "nobody could be told", "1 message"):
        assert words in text
    assert "There is no other verified connection that could carry the alert." in text


def test_knowing_of_it_takes_the_banner_away_and_leaves_the_incident_open(broken: Site) -> None:
    assert "could carry this alert" in broken.get("/").text
    answer = broken.post("/alerts/1/acknowledge", token_from="/alerts")
    assert "Noted" in answer.text and "anna" in answer.text
    assert "could carry this alert" not in broken.get("/").text
    [incident] = incidents(broken.app)
    assert (incident.closed_at, incident.acknowledged_by) == (None, "anna")
    assert "I know" not in broken.get("/alerts").text


def test_a_dismissed_incident_is_found_among_the_closed_ones_with_who_did_it(broken: Site) -> None:
    text = broken.post("/alerts/1/dismiss", token_from="/alerts").text
    assert "Nothing is open." in text and "Closed lately" in text
    assert incidents(broken.app)[0].closed_by == "anna"
    broken.mail.actor(lambda: "ben")
    for late in ("acknowledge", "dismiss"):
        broken.post(f"/alerts/1/{late}", token_from="/setup")
    [incident] = incidents(broken.app)
    assert (incident.closed_by, incident.acknowledged_by) == ("anna", ""), "it was ended already"


@pytest.mark.parametrize("action", ["acknowledge", "dismiss"])
def test_nothing_changes_without_a_token(broken: Site, action: str) -> None:
    assert broken.client.post(f"/outmail/alerts/1/{action}").status_code == 400
    [incident] = incidents(broken.app)
    assert (incident.closed_at, incident.acknowledged_at) == (None, None)
    assert broken.post(f"/alerts/99/{action}", token_from="/alerts").status_code == 404


def test_without_an_address_the_banner_says_that_nobody_is_told(site: Site) -> None:
    activate(site.app, smtp_values(site.simulator, failure_alerts_to=""), verified=True)
    fail(site)
    assert "there is no address for alerts" in site.get("/").text


def test_the_test_button_tells_what_each_channel_said(site: Site) -> None:
    activate(site.app, smtp_values(site.simulator), verified=True)
    answer = site.post("/alerts/test", token_from="/alerts")
    assert "Accepted for ops@elsewhere.example, over the connection “primary”." in answer.text
    assert [one.recipient for one in site.simulator.delivered] == ["ops@elsewhere.example"]
    assert site.get("/alerts/test").request.path == "/outmail/alerts"


def test_a_test_that_no_connection_carries_shows_its_remedy(broken: Site) -> None:
    text = broken.post("/alerts/test", token_from="/alerts").text
    assert "Nobody would be told when mail stops" in text
    assert broken.simulator.delivered == []


def test_the_test_button_needs_a_token_and_cannot_be_pressed_for_ever(make_site: MakeSite) -> None:
    site = make_site(OUTMAIL_TESTS_PER_MINUTE=2)
    activate(site.app, smtp_values(site.simulator), verified=True)
    assert site.client.post("/outmail/alerts/test").status_code == 400
    answers = [site.post("/alerts/test", token_from="/alerts").status_code for _ in range(3)]
    assert answers == [200, 200, 503]
    assert len(site.simulator.delivered) == 2


def test_the_page_says_who_is_told_and_shows_no_secret_of_a_webhook(make_site: MakeSite) -> None:
    url = "https://hooks.slack.example/services/T0/B0/hook-secret"
    site = make_site(OUTMAIL_ALERT_WEBHOOK_URL=url, OUTMAIL_ALERT_WEBHOOK_KIND="slack")
    site.mail.on_alert(print)
    activate(site.app, smtp_values(site.simulator), verified=True)
    text = site.get("/alerts").text
    for words in ("ops@elsewhere.example", "slack, hooks.slack.example", "print"):
        assert words in text
    assert "hook-secret" not in text


def test_what_a_server_said_is_shown_without_addresses_and_cannot_be_markup(broken: Site) -> None:
    words = "<ann@customers.example> <script>alert(1)</script> unknown"
    fail(broken, RecipientsRefused(words, recipients={"ann@customers.example": Refusal(550, words)}, code="550 5.1.1"))
    text = broken.get("/alerts").text
    assert "<script>alert" not in text and "ann@" not in text
    assert "&lt;script&gt;" in text


# -- health.json -----------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(make_site: MakeSite) -> Site:
    site = make_site(OUTMAIL_HEALTH_TOKEN=TOKEN)
    site.mail.access_control(lambda: False)
    activate(site.app, smtp_values(site.simulator), verified=True)
    return site


def ask(site: Site, authorization: str | None = f"Bearer {TOKEN}", path: str = "/outmail/health.json") -> Any:
    headers = {"Authorization": authorization} if authorization is not None else {}
    return site.client.get(path, headers=headers)


def test_a_monitor_with_the_token_reads_health_and_nothing_else(watched: Site) -> None:
    answer = ask(watched)
    assert (answer.status_code, answer.json["status"]) == (200, "working")
    for path in ("/outmail/", "/outmail/alerts", "/outmail/setup"):
        assert ask(watched, path=path).status_code == 403


@pytest.mark.parametrize(
    "authorization", ["Bearer wrong", "Bearer ", "Bearer", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ä" * 3]
)
def test_a_wrong_token_is_turned_away_as_a_machine(watched: Site, authorization: str) -> None:
    answer = ask(watched, authorization)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "reason" not in answer.json


def test_the_token_does_not_work_in_the_address(watched: Site) -> None:
    assert ask(watched, None, f"/outmail/health.json?token={TOKEN}").status_code == 403


def test_without_a_configured_token_no_token_opens(make_app: MakeApp) -> None:
    app, _ = make_app(db=True)
    for authorization in ("Bearer ", "Bearer None", "Bearer"):
        headers = {"Authorization": authorization}
        assert app.test_client().get("/outmail/health.json", headers=headers).status_code == 401


def test_whoever_may_administer_may_read_it_too(broken: Site) -> None:
    answer = broken.get("/health.json")
    assert answer.status_code == 503
    assert answer.json["incidents"] == ["535 5.7.3"] and answer.json["kept_alerts"] == 1


def test_it_is_503_while_mail_fails_or_is_held_and_names_neither_people_nor_subjects(watched: Site) -> None:
    fail(watched)
    answer = ask(watched)
    assert (answer.status_code, answer.json["status"]) == (503, "failing")
    activate(watched.app, smtp_values(watched.simulator, from_name="New", password="other"))
    answer = ask(watched)
    assert (answer.status_code, answer.json["status"]) == (503, "held")
    assert "@" not in json.dumps(answer.json)
    assert set(answer.json) >= {
        "status", "reason", "checked_at", "counts", "held", "oldest_waiting_seconds", "incidents", "kept_alerts",
        "credentials", "workers", "issues",
    }  # fmt: skip


def test_a_database_that_is_not_ready_is_told_in_json_too(make_site: MakeSite) -> None:
    site = make_site(OUTMAIL_HEALTH_TOKEN=TOKEN)
    with site.app.app_context():
        from flask_outmail.models import Base

        Base.metadata.drop_all(site.app.extensions["sqlalchemy"].engine)
    answer = ask(site)
    assert (answer.status_code, answer.json["status"]) == (503, "broken")
    assert answer.json["issues"][0]["code"] == "tables_missing"


def test_the_days_left_of_a_credential_are_there(make_site: MakeSite) -> None:
    site = make_site()
    ends = datetime.now(timezone.utc).date() + timedelta(days=12)
    site.post("/auth-objects/new", action="save", **site.object_fields(expires_on=ends.isoformat()))
    site.save_tested(site.graph_fields())
    answer = site.get("/health.json")
    assert answer.json["credentials"] == [{"connections": ["primary"], "days_left": 12}]
    assert answer.status_code == 200
    assert [issue["title"] for issue in answer.json["issues"]] == ["Credential “Contoso mailer” expires in 12 days."]
    assert "expires in 12 days" in site.get("/").text


# -- commands --------------------------------------------------------------------------------------------------------


def test_the_commands_tell_the_same(broken: Site) -> None:
    run = broken.app.test_cli_runner().invoke
    listed = run(args=["outmail", "alerts", "list", "--json"])
    [row] = json.loads(listed.output)
    assert (listed.exit_code, row["code"], row["alert"]) == (1, "535 5.7.3", alerts.KEPT)
    assert "535 5.7.3" in run(args=["outmail", "alerts", "list"]).output
    status = run(args=["outmail", "status", "--json"])
    assert (status.exit_code, json.loads(status.output)["incidents"]) == (1, ["535 5.7.3"])
    assert run(args=["outmail", "check"]).exit_code == 1
    tested = run(args=["outmail", "alerts", "test"])
    assert tested.exit_code == 1 and "Nobody would be told when mail stops" in tested.output


def test_the_commands_are_content_when_all_is_well(site: Site) -> None:
    activate(site.app, smtp_values(site.simulator), verified=True)
    run = site.app.test_cli_runner().invoke
    for arguments, words in (
        (["alerts", "list"], "No incident is open."),
        (["check"], "Nothing is wrong."),
        (["alerts", "test"], "Accepted for ops@elsewhere.example"),
    ):
        answer = run(args=["outmail", *arguments])
        assert (answer.exit_code, words in answer.output) == (0, True), answer.output


def test_a_test_alert_without_any_channel_says_what_to_set(site: Site) -> None:
    answer = site.app.test_cli_runner().invoke(args=["outmail", "alerts", "test"])
    assert answer.exit_code == 1 and "OUTMAIL_ALERT_WEBHOOK_URL" in answer.output


def test_mail_that_waits_without_a_worker_is_503_with_its_age(watched: Site) -> None:
    with engine_of(watched.app).database.session() as session:
        since = utc_now() - timedelta(minutes=20)
        row = {"message_id": "<1@x.example>", "recipients": ["ann@customers.example"], "subject": "Order 17"}
        session.add(Delivery(state=QUEUED, queued_at=since, **row))
        session.commit()
    answer = ask(watched)
    assert (answer.status_code, answer.json["status"]) == (503, "failing")
    assert 1190 <= answer.json["oldest_waiting_seconds"] <= 1300
    assert answer.json["workers"] == {"count": 0, "last_heartbeat_at": None}
    assert [issue["code"] for issue in answer.json["issues"]] == ["worker_missing"]
    assert answer.json["counts"] == {"queued": 1}
    assert "Order 17" not in answer.text and "@" not in answer.text
