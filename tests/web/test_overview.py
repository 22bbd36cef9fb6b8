"""The overview: one sentence of truth, what needs a person, and facts that agree with the database."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from flask_outmail import SetupNotVerified
from flask_outmail.checking import check_due
from flask_outmail.models import Backlog, Delivery, Lane, Setup, Worker, utc_now
from flask_outmail.outbox import backlog, statistics
from flask_outmail.outbox.conditions import next_step

from ..alerts.conftest import refuse_log_in
from ..conftest import engine_of, graph_setup, make_message, smtp_setup
from ..integration.test_holding import activate, smtp_values
from .conftest import Site, titles
from .test_alerts_page import fail
from .test_charts import numbers_of_the_picture, numbers_of_the_table

MakeSite = Callable[..., Site]
HOUR = timedelta(hours=1)


def add(app: Flask, count: int = 1, **values: Any) -> None:
    """Lines of the log, as they were left by what happened some time ago."""
    with engine_of(app).database.session() as session:
        for _ in range(count):
            session.add(Delivery(**{"message_id": "m", "recipients": ["ann@customers.example"], **values}))
        session.commit()


def section(text: str, id: str) -> str:
    """The words of a card."""
    found = text[text.index(f'aria-labelledby="{id}"') :].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", found.partition(">")[2]).split())


@pytest.fixture
def working(site: Site) -> Site:
    activate(site.app, smtp_values(site.simulator), verified=True)
    return site


# -- the sentence ----------------------------------------------------------------------------------------------------


def test_without_a_setup_it_says_that_mail_is_held_and_has_the_request_for_the_it_department(site: Site) -> None:
    with pytest.raises(SetupNotVerified):
        site.mail.send(make_message(sender="shop@contoso.example"))
    text = site.get("/").text
    assert titles(site.get("/")) == ["! No mail service yet."]
    assert "<strong>held</strong> (1 waiting), not lost" in text
    assert "Copy the request to send to your IT department" in text
    assert "Exchange Online PowerShell" in text


def test_with_everything_well_it_says_so_and_nothing_else(working: Site) -> None:
    text = working.get("/").text
    assert titles(working.get("/")) == ["✔ Mail is working."]
    assert "Needs attention" not in text


def test_what_configuration_sets_is_not_called_working_before_anything_has_been_tried(make_site: MakeSite) -> None:
    untried = ["! Mail is set up, and nothing has been tried yet."]
    site = make_site()
    keys = {"MAIL_SERVER": site.simulator.smtp_host, "MAIL_PORT": site.simulator.smtp_port}
    keys |= {"MAIL_DEFAULT_SENDER": site.simulator.mailbox, "MAIL_USE_TLS": True}
    keys |= {"MAIL_USERNAME": site.simulator.mailbox, "MAIL_PASSWORD": site.simulator.smtp_password}
    site = make_site(**keys)
    assert titles(site.get("/")) == untried
    assert site.get("/health.json").status_code == 200
    site.save({}, action="import")
    assert titles(site.get("/")) == untried
    told = "taken over from the configuration"
    assert told in section(site.get("/").text, "om-proof") and told.capitalize() in site.get("/history").text
    check_due(engine_of(site.app))
    assert titles(site.get("/")) == ["✔ Mail is working."]


def test_what_needs_attention_is_counted_in_the_heading_and_listed_with_remedy_and_link(
    make_site: MakeSite,
) -> None:
    site = make_site()
    site.post("/auth-objects/new", **site.object_fields(expires_on=(date.today() + timedelta(days=9)).isoformat()))
    site.save_tested(site.graph_fields())
    text = site.get("/").text
    assert titles(site.get("/")) == ["! Mail works, but needs attention: 1 item."]
    assert "Credential “Contoso mailer” expires in 9 days." in text
    assert 'href="/outmail/auth-objects/1">See the credential' in text
    assert "Make a new client secret or certificate" in text


def test_failing_mail_names_since_when_and_how_much_waits(working: Site) -> None:
    fail(working)
    add(working.app, 3, state="waiting", due_at=utc_now() + HOUR)
    [title] = titles(working.get("/"))
    assert re.fullmatch(r"✘ Mail has been failing since \d\d \w{3} \d{4}, \d\d:\d\d UTC, 3 waiting\.", title)
    assert 'href="/outmail/alerts#om-incident-1">See the alert' in working.get("/").text


# -- the last 24 hours -----------------------------------------------------------------------------------------------


@pytest.fixture
def busy(working: Site) -> Site:
    now = utc_now()
    add(working.app, 7, state="accepted", created_at=now)
    add(working.app, 2, state="refused", code="550 5.1.1", created_at=now - 3 * HOUR)
    add(working.app, 1, state="failed", code="timeout", created_at=now - 3 * HOUR)
    add(working.app, 4, state="accepted", created_at=now - 22 * HOUR)
    add(working.app, 1, state="unknown", code="answer_lost", created_at=now - 22 * HOUR)
    add(working.app, 5, state="suppressed", created_at=now - 5 * HOUR)
    add(working.app, 9, state="accepted", created_at=now - 30 * HOUR)
    return working


def test_the_picture_and_the_table_say_the_same_and_both_what_the_database_holds(busy: Site) -> None:
    text = busy.get("/").text
    table = numbers_of_the_table(text)
    total = table.pop("all")
    # accepted, under way, unknown, not accepted, not handed over
    assert total == [11, 0, 1, 3, 5]
    assert [sum(column) for column in zip(*table.values(), strict=True)] == total
    assert numbers_of_the_picture(text) == {hour: [n for n in counts if n] for hour, counts in table.items()}
    now = utc_now()
    assert table[f"{now - 3 * HOUR:%H}:00"] == [0, 0, 0, 3, 0]


def test_the_causes_stand_with_their_counts_and_lead_to_the_log(busy: Site) -> None:
    text = busy.get("/").text
    causes = re.findall(r'<li><strong>(\d+)</strong>.*?href="([^"]+)"', text[text.index("om-causes") :])
    assert causes == [
        ("2", "/outmail/deliveries/?code=550+5.1.1&amp;period=day"),
        ("1", "/outmail/deliveries/?code=answer_lost&amp;period=day"),
        ("1", "/outmail/deliveries/?code=timeout&amp;period=day"),
    ]


def test_hours_begin_and_end_where_they_say(working: Site) -> None:
    now = datetime(2026, 11, 25, 12, 30, tzinfo=timezone.utc)
    for at in ("11:00:00", "11:59:59", "12:00:00"):
        hour, minute, second = map(int, at.split(":"))
        add(working.app, state="accepted", created_at=now.replace(hour=hour, minute=minute, second=second))
    add(working.app, state="accepted", created_at=now + HOUR)  # by a clock that goes ahead
    with engine_of(working.app).database.session() as session:
        found = {f"{one.start:%H}": one.total for one in statistics.last_hours(session, now=now) if one.total}
        assert len(statistics.last_hours(session, now=now)) == 24
    assert found == {"11": 2, "12": 2}


def test_the_numbers_are_read_from_indexes_alone(working: Site) -> None:
    asked: list[tuple[str, Any]] = []
    database = engine_of(working.app).database
    with database.session() as session:
        bind = session.connection().engine
        event.listen(bind, "before_cursor_execute", lambda *args: asked.append((args[2], args[3])))
        statistics.last_hours(session, now=utc_now())
        statistics.last_accepted_at(session)
        statistics.next_try_at(session)
        backlog.last_day(session, now=utc_now())
        plans = [
            str(row[-1])
            for statement, values in list(asked)
            for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert any("USING COVERING INDEX ix_outmail_deliveries_state_created_at_id" in plan for plan in plans)
    assert not [plan for plan in plans if plan.startswith("SCAN") and "outmail_deliveries" in plan]


def test_how_much_waited_is_drawn_and_listed_and_where_nobody_looked_is_said(working: Site) -> None:
    now = utc_now()
    assert "Nothing waited in the last 24 hours" in section(working.get("/").text, "om-queue")
    with engine_of(working.app).database.session() as session:
        for hours, counts in ((2, (7, 1, 0)), (5, (0, 0, 3))):
            start = (now - hours * HOUR).replace(minute=0, second=0, microsecond=0)
            session.add(Backlog(start=start, ready=counts[0], later=counts[1], held=counts[2]))
        session.commit()
    text = working.get("/").text
    text = text[text.index('aria-labelledby="om-backlog"') :]
    table = numbers_of_the_table(text)
    assert table == {
        f"{now - 5 * HOUR:%H}:00": [0, 0, 3], f"{now - 2 * HOUR:%H}:00": [7, 1, 0], "at most": [7, 1, 3]
    }  # fmt: skip
    del table["at most"]
    assert numbers_of_the_picture(text) == {label: [n for n in counts if n] for label, counts in table.items()}
    assert f"{now - 5 * HOUR:%H}:30 – {now - 2 * HOUR:%H}:00" in text[text.index("Nobody looked:") :]


def test_the_watch_keeps_how_much_waits(working: Site) -> None:
    add(working.app, 3, state="held")
    engine_of(working.app).alerting.watch()
    with engine_of(working.app).database.session() as session:
        assert [(row.ready, row.later, row.held) for row in session.query(Backlog)] == [(0, 0, 3)]


# -- the cards -------------------------------------------------------------------------------------------------------


def test_the_last_proof_says_who_verified_what_was_accepted_and_what_the_check_met(working: Site) -> None:
    app = working.app
    assert "none yet" in section(working.get("/").text, "om-proof")
    working.mail.send(make_message())
    refuse_log_in(working.simulator)
    check_due(engine_of(app))
    card = section(working.get("/").text, "om-proof")
    assert re.search(r"Last message accepted \d\d \w{3} \d{4}", card)
    assert "Scheduled check did not pass" in card
    assert "; next " in card


def test_a_check_that_is_switched_off_names_the_key(make_site: MakeSite) -> None:
    site = make_site(OUTMAIL_CHECK_SECONDS=0)
    activate(site.app, smtp_values(site.simulator), verified=True)
    assert "OUTMAIL_CHECK_SECONDS" in section(site.get("/").text, "om-proof")


@pytest.mark.parametrize(("left", "step"), [(143, 60), (60, 30), (31, 30), (30, 14), (1, 0), (0, -1), (-1, None)])
def test_the_next_reminder_is_the_next_step(left: int, step: int | None) -> None:
    assert next_step(left) == step


def test_the_credential_shows_days_left_and_the_next_reminder(site: Site) -> None:
    ends = datetime.now(timezone.utc).date() + timedelta(days=143)
    site.post("/auth-objects/new", **site.object_fields(expires_on=ends.isoformat()))
    site.save_tested(site.graph_fields())
    card = section(site.get("/").text, "om-credentials")
    assert "143 days left" in card
    assert f"Next reminder {ends - timedelta(days=60):%d %b %Y}" in card


@pytest.mark.parametrize(
    ("left", "words", "listed"), [(0, "expires today", "today"), (-2, "has expired", "2 days ago")]
)
def test_a_credential_at_its_end_needs_attention(site: Site, left: int, words: str, listed: str) -> None:
    ends = datetime.now(timezone.utc).date() + timedelta(days=left)
    site.post("/auth-objects/new", **site.object_fields(expires_on=ends.isoformat()))
    site.save_tested(site.graph_fields())
    assert f"Credential “Contoso mailer” {words}." in site.get("/").text
    assert listed in site.get("/auth-objects/").text


def test_the_queue_is_what_the_outbox_holds(working: Site) -> None:
    due_at = utc_now() + HOUR
    for count, state in ((2, "queued"), (4, "held"), (1, "unknown")):
        add(working.app, count, state=state)
    add(working.app, 3, state="waiting", due_at=due_at)
    card = section(working.get("/").text, "om-queue")
    assert "Ready to leave 2 Waiting for a later try 3 Held 4 Outcome unknown 1" in card
    assert f"Next try {due_at:%d %b %Y, %H:%M} UTC" in card


def test_a_connection_that_pauses_says_until_when_and_why(working: Site) -> None:
    now = utc_now()
    with engine_of(working.app).database.session() as session:
        facts = {"paused_at": now, "fault_count": 1, "code": "AADSTS7000222"}
        session.add(Lane(connection="primary", paused_until=now + HOUR, **facts))
        session.add(Lane(connection="backup", paused_until=now, **facts))
        session.commit()
    add(working.app, state="queued")
    for path in ("/", "/deliveries/1"):
        text = re.sub(r"<[^>]+>", "", working.get(path).text)
        told = re.findall(r"pauses until (.*): The client secret has expired\.", text)
        assert told == [f"{now + HOUR:%d %b %Y, %H:%M} UTC"], path


def test_released_messages_that_stay_held_are_told_with_what_keeps_them(site: Site) -> None:
    activate(site.app, smtp_values(site.simulator))
    site.mail.send_many([make_message(recipients=["full@x.example"]), make_message()])
    activate(site.app, smtp_values(site.simulator), verified=True)
    site.simulator.faults.preset("smtp-rcpt-451", recipient="full@x.example")
    text = site.post("/release", token_from="/").text
    assert re.search(r"1 message that had been held: accepted\. Still held: 1 message\. [^<]+; see Deliveries\.", text)
    page = site.get("/deliveries/1").text
    assert "it stays held for the reason below" in page and "had not passed a test" not in page
    site.post("/release", token_from="/")
    assert [one.recipient for one in site.simulator.delivered] == ["ann@customers.example", "full@x.example"]


def test_a_release_with_nothing_to_release_says_so(working: Site) -> None:
    assert "Nothing is held any more." in working.post("/release", token_from="/").text


def test_a_release_while_no_connection_is_verified_says_so(site: Site) -> None:
    activate(site.app, smtp_values(site.simulator))
    add(site.app, state="held")
    assert "Nothing was handed over: no connection is verified." in site.post("/release", token_from="/").text


# -- configuration and workers ---------------------------------------------------------------------------------------


def test_every_value_of_a_saved_setup_names_its_revision_and_no_secret_is_shown(working: Site) -> None:
    text = working.get("/").text
    sources = section(text, "om-line-1")
    assert "Host 127.0.0.1 revision 1" in sources or f"Host {working.simulator.smtp_host} revision 1" in sources
    assert "Password set revision 1" in sources
    assert working.simulator.smtp_password not in text


def test_values_from_the_configuration_name_their_key(make_site: MakeSite) -> None:
    site = make_site()
    site.app.config["MAIL_DEBUG"] = False
    other = make_site(OUTMAIL_SETUP=graph_setup(site.simulator))
    sources = section(other.get("/").text, "om-line-1")
    assert f"Username {site.simulator.mailbox} OUTMAIL_SETUP" in sources
    assert "TLS on, from the start the mail service" in sources
    assert site.simulator.client_secret not in other.get("/").text


def test_flask_mails_keys_are_named_one_by_one(make_site: MakeSite) -> None:
    site = make_site(MAIL_SERVER="mail.contoso.example", MAIL_USE_TLS=True)
    sources = section(site.get("/").text, "om-line-1")
    assert "Host mail.contoso.example MAIL_SERVER" in sources
    assert "TLS on, by STARTTLS MAIL_USE_TLS" in sources
    assert "Port 25 default" in sources


def worker(app: Flask, number: int, setup_id: int | None, **values: Any) -> None:
    fields = {"host": f"web-{number}", "pid": 100 + number, "version": "0.1", "setups": {"primary": setup_id}}
    with engine_of(app).database.session() as session:
        session.add(Worker(id=str(number), **{**fields, **values}))
        session.commit()


def test_workers_that_use_what_is_in_force_agree(working: Site) -> None:
    worker(working.app, 1, 1)
    card = section(working.get("/").text, "om-workers")
    assert "agree Web and 1 worker use the same settings" in card
    assert "web-1 101 just now primary: revision 1 0.1" in card
    # One that has not come to this connection yet disagrees with nobody.
    worker(working.app, 2, None, setups={})
    with engine_of(working.app).database.session() as session:
        session.get_one(Setup, 1).activated_at = utc_now() - HOUR
        session.commit()
    assert "agree Web and 2 workers use the same settings" in section(working.get("/").text, "om-workers")


def test_a_connection_that_has_only_drafts_is_not_in_use_and_no_worker_is_behind_on_it(working: Site) -> None:
    worker(working.app, 1, 1)
    working.save(working.smtp_fields(), action="save_draft", query="?connection=backup")
    text = working.get("/").text
    assert titles(working.get("/")) == ["✔ Mail is working."]
    assert "agree Web" in section(text, "om-workers") and "backup" in text


def test_a_worker_with_another_revision_is_told_here_and_to_monitors(working: Site) -> None:
    worker(working.app, 1, None)
    with engine_of(working.app).database.session() as session:
        session.get_one(Setup, 1).activated_at = utc_now() - HOUR
        session.commit()
    text = working.get("/").text
    assert "disagree" in section(text, "om-workers")
    assert "primary: configuration not in force" in section(text, "om-workers")
    assert titles(working.get("/")) == ["! Mail works, but needs attention: 1 item."]
    assert [one["code"] for one in working.get("/health.json").get_json()["issues"]] == ["worker_behind"]


def test_a_worker_has_a_moment_to_notice_what_was_just_saved(working: Site) -> None:
    worker(working.app, 1, None)
    assert "agree Web" in section(working.get("/").text, "om-workers")


def test_a_worker_that_is_gone_is_shown_as_missing_and_disagrees_with_nobody(working: Site) -> None:
    worker(working.app, 1, None, seen_at=utc_now() - HOUR)
    card = section(working.get("/").text, "om-workers")
    assert "1 hour ago missing" in card
    assert titles(working.get("/")) == ["✔ Mail is working."]


def test_without_a_database_it_shows_what_it_can(simulator: Any) -> None:
    from flask_outmail import Mail

    from ..conftest import world

    app = Flask("shop")
    app.config.update(world(simulator), OUTMAIL_SETUP=smtp_setup(simulator))
    mail = Mail(app)
    mail.access_control(lambda: True)
    text = app.test_client().get("/outmail/").text
    assert "Mail is working." in text
    assert "OUTMAIL_SETUP" in text


# -- the domain ------------------------------------------------------------------------------------------------------


def test_without_database_and_configuration_the_remedy_is_shown() -> None:
    from flask_outmail import Mail

    app = Flask("shop")
    app.config["SECRET_KEY"] = "tests"
    mail = Mail(app)
    mail.access_control(lambda: True)
    answer = app.test_client().get("/outmail/")
    assert answer.status_code == 503 and "this needs a database" in answer.text


def test_the_domain_check_shows_its_steps(make_site: MakeSite) -> None:
    # Nothing listens there, so DNS does not answer: the step says so, with its remedy.
    site = make_site(OUTMAIL_DNS_SERVERS=["127.0.0.1:9"])
    activate(site.app, smtp_values(site.simulator), verified=True)
    page = site.post("/domain", token_from="/")
    assert "Answers to" in page.text
    assert "did not pass" in page.text
    assert "Step 2 of 5" in page.text


def test_the_domain_check_is_limited_as_tests_are(make_site: MakeSite) -> None:
    site = make_site(OUTMAIL_TESTS_PER_MINUTE=1, OUTMAIL_DNS_SERVERS=["127.0.0.1:9"])
    activate(site.app, smtp_values(site.simulator), verified=True)
    site.post("/domain", token_from="/")
    assert "Step 1 of 5 did not pass" in site.post("/domain", token_from="/").text


def test_without_the_extra_the_page_says_what_to_install(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dns", "dns.resolver"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    site = make_site()
    activate(site.app, smtp_values(site.simulator), verified=True)
    page = site.post("/domain", token_from="/")
    assert page.status_code == 200
    assert "flask-outmail[dns]" in page.text
    assert "<code>extra_missing</code>" in page.text


def test_the_domain_check_needs_a_token_and_a_domain(site: Site) -> None:
    assert site.client.post("/outmail/domain").status_code == 400
    assert site.client.post("/outmail/domain/test").status_code == 400
    assert "no domain to check" in site.get("/domain").text
    assert "no domain to check" in site.post("/domain", token_from="/alerts").text
    streamed = site.post("/domain/test", token_from="/alerts")
    assert streamed.status_code == 422 and "no domain to check" in streamed.text


def test_who_may_only_look_is_offered_no_button(working: Site) -> None:
    working.mail.access_control(lambda action: action == "see")
    add(working.app, 2, state="held")
    assert "<form" not in working.get("/").text
    assert "<form" not in working.get("/domain").text
    assert working.post("/domain", token_from="/alerts").status_code in (400, 403)
