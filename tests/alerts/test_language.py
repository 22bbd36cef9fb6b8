"""In which language and zone an alert goes out: decided by the configuration, whoever's request or process tells it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from flask import Flask

from flask_outmail import AuthenticationFailed, Mail
from flask_outmail.models import Incident
from flask_outmail.outbox import alerts
from flask_outmail.outbox.notices import Notice, duration
from flask_outmail.outbox.webhook import payload
from flask_outmail.simulator import Simulator
from flask_outmail.words import Words, languages

from ..conftest import MakeApp, engine_of
from ..integration.test_holding import activate, smtp_values
from .conftest import alerting_of
from .test_channels import notice

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)


def fail(app: Flask) -> None:
    """Two connections, of which one fails: the other carries the alert."""
    current = engine_of(app).current()
    assert current is not None
    alerting_of(app).tell(AuthenticationFailed("no", code="535 5.7.3", request_id="req-1"), current, now=NOW)


@pytest.fixture
def make_shop(make_app: MakeApp, simulator: Simulator) -> Callable[..., tuple[Flask, Mail]]:
    def make(**config: Any) -> tuple[Flask, Mail]:
        app, mail = make_app(db=True, **config)
        for connection in ("primary", "other"):
            activate(app, smtp_values(simulator), connection=connection, verified=True)
        return app, mail

    return make


MakeShop = Callable[..., tuple[Flask, Mail]]


def test_an_alert_with_its_remedy_goes_out_in_the_language_of_the_configuration(
    make_shop: MakeShop, simulator: Simulator
) -> None:
    app, _ = make_shop(OUTMAIL_ALERT_LOCALE="fr", OUTMAIL_LOCALE="de", OUTMAIL_TIMEZONE="Europe/Paris")
    fail(app)
    [arrived] = simulator.delivered
    subject, text = str(arrived.parsed["Subject"]), arrived.parsed.get_body().get_content()
    assert (
        subject == "[shop] Le courrier par «\xa0primary\xa0» n’est pas accepté\xa0: " + subject.partition("\xa0: ")[2]
    )
    # On the way it is ASCII (RFC 2047), in lines of a length that every server takes.
    header = arrived.raw.partition(b"\r\n\r\n")[0]
    assert header.isascii() and b"=?utf-8?" in header.lower()
    assert arrived.parsed["Content-Language"] == "fr"
    assert "Que faire\xa0:" in text and "Qui peut le faire\xa0: " in text
    assert "Depuis\xa0: 25/11/2026, 13:00 CET" in text
    assert "What to do" not in text and "Since" not in text


def test_without_a_key_of_its_own_it_follows_what_the_pages_are_fixed_to(make_shop: MakeShop) -> None:
    from flask_babel import Babel

    assert engine_of(make_shop()[0]).alert_words() == Words("en", "UTC")
    app, _ = make_shop(OUTMAIL_LOCALE="de_AT")
    assert engine_of(app).alert_words().language == "de"
    app, _ = make_shop(BABEL_DEFAULT_LOCALE="fr")
    Babel(app, locale_selector=lambda: "de")
    # Not the language of the request in which something failed: its reader is another one.
    with app.test_request_context(headers={"Accept-Language": "de"}):
        assert engine_of(app).alert_words().language == "fr"
    app, _ = make_shop(OUTMAIL_ALERT_LOCALE="xx")
    assert engine_of(app).alert_words().language == "en"


def test_what_machines_read_is_the_same_in_every_language() -> None:
    incident = Incident(
        id=7, kind=alerts.FAILING, connection="primary", about="", code="535 5.7.3", reason="no", request_id="req-1",
        opened_at=NOW, count=3, alert="",
    )  # fmt: skip
    english, german = (
        Notice.of("opened", incident, application="shop", at=NOW, words=Words(language)).to_dict()
        for language in ("en", "de")
    )
    assert {key for key in english if english[key] != german[key]} == {
        "headline", "language", "title", "meaning", "steps", "who",
    }  # fmt: skip
    assert (german["kind"], german["event"], german["code"], german["language"]) == (
        "failing", "opened", "535 5.7.3", "de",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["slack", "teams"])
@pytest.mark.parametrize("event", ["opened", "reminder", "recovered", "test"])
def test_no_english_is_left_in_what_people_read(kind: str, event: Any) -> None:
    for about in alerts.KINDS:
        fields = {"title": "Titel", "meaning": "Sinn.", "steps": ("Schritt",), "who": "Sie", "days_left": 3}
        said = notice(
            event=event, kind=about, words=Words("de"), accepted_count=1, waiting_count=2, was_told=False, **fields
        )
        text = str(payload(kind, said)) + str(said.mail("ops@elsewhere.example").body)
        for word in (
            "Mail over",
            "Recovered",
            "Still",
            "Since",
            "Open the",
            "Who can",
            "What ",
            "Nobody",
            "Details",
            "expires",
        ):
            assert word not in text, (word, text)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (-1, "Die Anmeldeinformationen „a“ sind abgelaufen"),
        (0, "Die Anmeldeinformationen „a“ laufen heute ab"),
        (1, "Die Anmeldeinformationen „a“ laufen in 1 Tag ab"),
        (7, "Die Anmeldeinformationen „a“ laufen in 7 Tagen ab"),
    ],
)
def test_the_end_of_a_credential_is_said_in_its_form_for_one_and_many(days: int, words: str) -> None:
    assert notice(kind=alerts.CREDENTIAL, about="a", days_left=days, words=Words("de")).headline == words


def test_numbers_sizes_lengths_and_moments_are_written_as_each_language_does() -> None:
    at = datetime(2026, 5, 1, 22, 30, tzinfo=timezone.utc)
    assert set(languages()) == {"en", "de", "fr"}
    said = {
        language: (
            Words(language).size(1), Words(language).size(12_345), Words(language).size(2_500_000),
            Words(language).tn("%(count)d message", "%(count)d messages", 0), duration(90061, Words(language)),
            Words(language, "Europe/Berlin").clock(at), Words(language, "America/Sao_Paulo").clock(at),
        )
        for language in languages()
    }  # fmt: skip
    assert said["en"] == ("1 byte", "12.3 kB", "2.5 MB", "0 messages", "1 d 1 h", "02 May 2026, 00:30 CEST",
                          "01 May 2026, 19:30 UTC-03")  # fmt: skip
    assert said["de"] == ("1 Byte", "12,3 kB", "2,5 MB", "0 Nachrichten", "1 d 1 h", "02.05.2026, 00:30 CEST",
                          "01.05.2026, 19:30 UTC-03")  # fmt: skip
    assert said["fr"] == ("1 octet", "12,3 ko", "2,5 Mo", "0 message", "1 j 1 h", "02/05/2026, 00:30 CEST",
                          "01/05/2026, 19:30 UTC-03")  # fmt: skip


def test_a_notice_made_by_hand_is_english() -> None:
    assert isinstance(notice(), Notice) and notice().words.language == "en"
