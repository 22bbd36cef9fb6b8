"""The channels that are not mail, on a real web server; and that no channel ever carries what must stay here."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from datetime import datetime, timezone
from typing import Any

import pytest
from flask import Flask

from flask_outmail import AuthenticationFailed, ConfigurationError, Mail, OutmailError, TransportUnavailable
from flask_outmail.errors import RecipientsRefused, Refusal
from flask_outmail.outbox import alerts, telling
from flask_outmail.outbox.notices import Notice, duration
from flask_outmail.outbox.webhook import Webhook, WebhookRefused, payload
from flask_outmail.settings import Settings
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message
from ..integration.test_holding import activate, smtp_values
from .conftest import Receiver, alerting_of, incidents, refuse_log_in

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)


def notice(**changes: Any) -> Notice:
    fields: dict[str, Any] = {
        "id": "7-opened-20261125T120000", "event": "opened", "kind": "failing", "application": "shop",
        "connection": "primary", "about": "primary", "code": "535 5.7.3", "title": "The log-in was refused",
        "meaning": "The server did not take the password.", "steps": ("Look at <it> & mend it.",), "who": "You, here",
        "opened_at": NOW, "at": NOW, "count": 12, "request_id": "req-1", "page": "https://shop.example/outmail/alerts",
    }  # fmt: skip
    return Notice(**{**fields, **changes})


def webhook(receiver: Receiver, simulator: Simulator, **changes: Any) -> Webhook:
    fields = {"ca_file": str(simulator.ca_file), "timeout_s": 2.0, "wait": lambda seconds: None, **changes}
    return Webhook(receiver.url, **fields)


# -- what is posted --------------------------------------------------------------------------------------------------


def test_a_post_is_signed_and_the_signature_covers_moment_and_body(receiver: Receiver, simulator: Simulator) -> None:
    webhook(receiver, simulator, secret="s3cret").post(notice())
    [post] = receiver.posts
    parts = dict(part.split("=", 1) for part in post.headers["outmail-signature"].split(","))
    expected = hmac.new(b"s3cret", parts["t"].encode() + b"." + post.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)
    assert abs(int(parts["t"]) - datetime.now(timezone.utc).timestamp()) < 60
    assert post.headers["outmail-notice-id"] == post.json["id"] == "7-opened-20261125T120000"
    assert post.json["affected_count"] == 12 and post.json["event"] == "opened" and post.json["version"] == 1


def test_without_a_secret_nothing_pretends_to_be_signed(receiver: Receiver, simulator: Simulator) -> None:
    webhook(receiver, simulator).post(notice())
    assert "outmail-signature" not in receiver.posts[0].headers


def test_slack_gets_blocks_with_its_three_characters_escaped() -> None:
    sent = payload("slack", notice())
    assert sent["text"].startswith("[shop] Mail over “primary” is not being accepted")
    kinds = [block["type"] for block in sent["blocks"]]
    assert kinds == ["header", "section", "section", "section"]
    assert "1. Look at &lt;it&gt; &amp; mend it." in sent["blocks"][1]["text"]["text"]
    assert len(sent["blocks"][0]["text"]["text"]) <= 150 and len(sent["blocks"][2]["fields"]) <= 10
    assert "<https://shop.example/outmail/alerts|" in sent["blocks"][3]["text"]["text"]


def test_slack_takes_very_long_words(receiver: Receiver) -> None:
    sent = payload("slack", notice(title="x" * 500, meaning="y" * 5000))
    assert len(sent["blocks"][0]["text"]["text"]) <= 150 and len(sent["blocks"][1]["text"]["text"]) <= 3000


def test_teams_gets_a_message_with_one_adaptive_card() -> None:
    sent = payload("teams", notice())
    [attachment] = sent["attachments"]
    assert (sent["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert {fact["title"] for fact in card["body"][-1]["facts"]} >= {"Connection", "Code", "Request id"}
    assert card["actions"][0]["url"] == "https://shop.example/outmail/alerts"


@pytest.mark.parametrize("kind", ["json", "slack", "teams"])
@pytest.mark.parametrize("event", ["opened", "reminder", "recovered", "test"])
@pytest.mark.parametrize("about", list(alerts.KINDS))
def test_every_notice_can_be_said_in_every_form(kind: str, event: Any, about: str) -> None:
    said = notice(event=event, kind=about, days_left=3)
    assert json.dumps(payload(kind, said))
    message = said.mail("ops@elsewhere.example")
    assert message.subject and "\n" not in message.subject and said.headline in message.body


# -- how it is posted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_webhook_is_tried_three_times_with_the_same_id(
    receiver: Receiver, simulator: Simulator, status: int
) -> None:
    receiver.answers = [status, status]
    assert webhook(receiver, simulator).post(notice()) == "HTTP 200"
    assert len({post.json["id"] for post in receiver.posts}) == 1 and len(receiver.posts) == 3


def test_it_gives_up_after_the_third_time(receiver: Receiver, simulator: Simulator) -> None:
    receiver.status = 503
    with pytest.raises(WebhookRefused, match="503"):
        webhook(receiver, simulator).post(notice())
    assert len(receiver.posts) == 3


def test_nobody_is_kept_waiting_for_a_repeat(receiver: Receiver, simulator: Simulator) -> None:
    receiver.status = 503
    with pytest.raises(WebhookRefused):
        webhook(receiver, simulator).post(notice(), is_patient=False)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 403, 404, 410])
def test_a_refusal_and_a_redirect_are_final_and_not_followed(
    receiver: Receiver, simulator: Simulator, status: int
) -> None:
    receiver.status = status
    with pytest.raises(WebhookRefused, match=str(status)) as caught:
        webhook(receiver, simulator).post(notice())
    assert len(receiver.posts) == 1
    assert "hook-secret" not in repr(caught.value) + str(caught.value)


def test_a_certificate_that_nobody_vouches_for_ends_it_before_anything_is_told(
    untrusted_receiver: Receiver, simulator: Simulator
) -> None:
    with pytest.raises(TransportUnavailable) as caught:
        webhook(untrusted_receiver, simulator).post(notice())
    assert caught.value.code == "tls_untrusted"
    assert untrusted_receiver.posts == []


def test_a_webhook_that_does_not_answer_ends_in_time_and_shows_no_address(
    receiver: Receiver, simulator: Simulator
) -> None:
    receiver.stall_s = 30
    with pytest.raises(TransportUnavailable) as caught:
        webhook(receiver, simulator, timeout_s=0.3).post(notice(), is_patient=False)
    assert caught.value.code == "no_answer"
    assert "hook-secret" not in str(caught.value) and caught.value.__cause__ is None


def test_its_repr_shows_neither_address_nor_secret(receiver: Receiver, simulator: Simulator) -> None:
    text = repr(webhook(receiver, simulator, secret="s3cret"))
    assert "hook-secret" not in text and "s3cret" not in text


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OUTMAIL_ALERT_WEBHOOK_URL", "http://hooks.slack.com/services/hook-secret"),
        ("OUTMAIL_ALERT_WEBHOOK_URL", "hooks.slack.com/hook-secret"),
        ("OUTMAIL_ALERT_WEBHOOK_URL", "https://hooks.slack.com/a hook-secret"),
        ("OUTMAIL_ALERT_WEBHOOK_URL", "https://hooks.slack.com/\nhook-secret"),
        ("OUTMAIL_ALERT_WEBHOOK_KIND", "pigeon"),
        ("OUTMAIL_ALERT_WEBHOOK_SECRET", "hook-secret\nx"),
        ("OUTMAIL_HEALTH_TOKEN", "hook-secret"),
        ("OUTMAIL_ALERT_QUEUE_MINUTES", 0),
    ],
)
def test_a_wrong_key_is_named_and_its_value_never_shown(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=key) as caught:
        Settings.from_config({key: value})
    assert "hook-secret" not in str(caught.value)


def test_settings_show_none_of_it() -> None:
    settings = Settings.from_config(
        {
            "OUTMAIL_ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/hook-secret",
            "OUTMAIL_ALERT_WEBHOOK_SECRET": "hook-secret",
            "OUTMAIL_HEALTH_TOKEN": "hook-secret-hook-secret",
        }
    )
    assert "hook-secret" not in repr(settings)


# -- together --------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(make_app: MakeApp, simulator: Simulator, receiver: Receiver) -> tuple[Flask, Mail]:
    app, mail = make_app(db=True, OUTMAIL_ALERT_WEBHOOK_URL=receiver.url, OUTMAIL_ALERT_WEBHOOK_SECRET="s3cret")
    activate(app, smtp_values(simulator), verified=True)
    return app, mail


def test_a_webhook_tells_what_mail_cannot_and_the_mail_follows(
    shop: tuple[Flask, Mail], simulator: Simulator, receiver: Receiver
) -> None:
    app, mail = shop
    refuse_log_in(simulator)
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert [post.json["event"] for post in receiver.posts] == ["opened"]
    [incident] = incidents(app)
    assert incident.alert == alerts.PARTLY
    assert incident.channels["mail"]["code"] == "no_alert_path"
    activate(app, smtp_values(simulator), connection="other", verified=True)
    assert incident.alerted_at is not None
    alerting_of(app).watch(incident.alerted_at + telling.RETRY)
    assert incidents(app)[0].alert == alerts.MAILED
    assert len(simulator.delivered) == 1 == len(receiver.posts), "what was told already is not told again"
    mail.send(make_message())
    assert [post.json["event"] for post in receiver.posts] == ["opened", "recovered"]


def test_a_function_of_the_application_is_a_channel_and_its_errors_are_its_own(
    make_app: MakeApp, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator, failure_alerts_to=""), verified=True)
    told: list[Notice] = []

    @mail.on_alert
    def page_somebody(notice: Notice) -> None:
        told.append(notice)

    @mail.on_alert
    def breaks(notice: Notice) -> None:
        raise RuntimeError("s3cret in an error of the application")

    refuse_log_in(simulator)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert [one.code for one in told] == ["535 5.7.3"]
    [incident] = incidents(app)
    assert incident.alert == alerts.KEPT
    assert incident.channels["callback"]["words"] == "Raised, or returned False: breaks."
    assert "s3cret" not in caplog.text


def test_the_test_alert_says_of_each_channel_what_happened_and_opens_no_incident(
    shop: tuple[Flask, Mail], simulator: Simulator, receiver: Receiver
) -> None:
    app, mail = shop
    mail.on_alert(lambda notice: False)
    receiver.status = 404
    told = {one.channel: one for one in alerting_of(app).send_test()}
    assert {name: one.outcome for name, one in told.items()} == {
        "mail": "accepted", "webhook": "failed", "callback": "failed",
    }  # fmt: skip
    assert "404" in told["webhook"].words and "hook-secret" not in told["webhook"].words
    assert "Test alert" in str(simulator.delivered[0].parsed["Subject"])
    assert incidents(app) == []


def test_nothing_leaves_while_sending_is_suppressed(
    make_app: MakeApp, simulator: Simulator, receiver: Receiver
) -> None:
    app, _ = make_app(db=True, TESTING=True, OUTMAIL_ALERT_WEBHOOK_URL=receiver.url)
    activate(app, smtp_values(simulator), verified=True)
    current = engine_of(app).current()
    assert current is not None
    alerting_of(app).tell(AuthenticationFailed("no", code="535 5.7.3"), current)
    alerting_of(app).watch()
    assert [one.outcome for one in alerting_of(app).send_test()] == ["suppressed"]
    assert receiver.posts == [] == simulator.delivered


# -- what must not be told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["550 5.1.1", "999 9.9.9", "ErrorNobodyHasHeardOf", ""])
def test_no_channel_no_row_and_no_log_line_holds_what_belongs_to_the_message(
    make_app: MakeApp, simulator: Simulator, receiver: Receiver, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """The server's words quote the recipient, the subject and the body; none of it goes further than the row's text."""
    app, mail = make_app(
        db=True, OUTMAIL_ALERT_WEBHOOK_URL=receiver.url, OUTMAIL_ALERT_WEBHOOK_SECRET="s3cret", OUTMAIL_ALERT_REPEATS=1
    )
    activate(app, smtp_values(simulator), verified=True)
    activate(app, smtp_values(simulator), connection="other", verified=True)
    called: list[Notice] = []
    mail.on_alert(called.append)
    words = "<ann@customers.example> refused “Order 17”: Thank you ann@customers.example"
    current = engine_of(app).current()
    assert current is not None
    errors: list[OutmailError] = [
        RecipientsRefused(words, recipients={"ann@customers.example": Refusal(550, words)}, code=code, detail=words),
        AuthenticationFailed(words, code=code, detail=words, request_id="req-1"),
    ]
    with caplog.at_level(logging.DEBUG):
        for error in errors:
            alerting_of(app).tell(error, current, now=NOW)
        alerting_of(app).recovered("primary", now=NOW)
    assert len(called) == 3 == len(receiver.posts)
    everything = [repr(called), *(post.body.decode() for post in receiver.posts)]
    everything += [one.text + str(one.parsed["Subject"]) for one in simulator.delivered]
    everything += [str({**record.__dict__, "msg": record.getMessage()}) for record in caplog.records]
    for text in everything:
        for secret in ("Order 17", "ann@", "Thank you", "s3cret", "hook-secret", simulator.smtp_password):
            assert secret not in text
    assert all("ann@" not in one.reason for one in incidents(app))


def test_a_name_with_line_ends_does_not_stop_the_alert_that_names_it() -> None:
    said = notice(application="shop\r\nBcc: x@x.example", about="a\nb")
    cleaned = Notice.test(alerts.remedy_for(OutmailError("", code="alert_test")), application="a\r\nb", at=NOW)
    assert cleaned.application == "a b"
    assert said.mail("ops@elsewhere.example").subject


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (45, "45 s"), (60, "1 min"), (8040, "2 h 14 min"), (7200, "2 h"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_a_length_of_time_is_read_in_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words
