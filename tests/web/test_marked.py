"""In a language where every text of the catalogue stands in ⟦brackets⟧, nothing but data may stand outside them."""

from __future__ import annotations

import gettext
import html
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from babel.messages.pofile import read_po
from flask import Response, request

from flask_outmail import Message, words
from flask_outmail.models import Delivery, utc_now
from flask_outmail.words import DOMAIN, FOLDER

from ..alerts.conftest import refuse_log_in
from ..conftest import engine_of, make_message
from ..outbox.conftest import work
from .conftest import Site
from .test_overview import add, worker

#: What people or machines have named, and what is written the same in every language. An id comes before a run of
#: capitals and digits, which would else take a first part that happens to hold no letter.
DATA = re.compile(
    r"Service ready at .*|\b[0-9a-f]{8}-[0-9a-f-]+|(?-i:\b[A-Z0-9]{3,}\b)|(?<![\w.])/[\w/-]+|[\w.+*-]*@[\w.-]+|https?://\S+|\b[\w-]+(\.[\w-]+)+\b|(?-i:\b[A-Z]+(_[A-Z…]+)+\b)"
    r"|\b(anna|boss|primary|backup|draft-only|app|shop|Order|CA|LOGIN|OK|Sender|Flask|Outmail|ESMTP|XOAUTH2|localhost|Contoso|mailer|Spare|web-\d|welcome|Hello|default|simulator)\b"
    r"|\b(SMTP|TLS|STARTTLS|MX|SPF|DKIM|DMARC|UTC|CSV|PEM|PFX|Message-ID|ms|s|h|min|test_marked)\b",
    re.IGNORECASE,
)
_SKIPPED = re.compile(r"<(script|style|pre|code|q|svg|textarea)\b.*?</\1>|<(\w+)[^>]* lang=\"en\".*?</\2>", re.DOTALL)
_SHOWN = re.compile(r"""\b(?:title|aria-label|placeholder|alt|data-label)=(?:"([^"]*)"|'([^']*)')""")


class Bracketed(gettext.NullTranslations):
    """A catalogue in which each text that a translator is given stands in brackets, its values outside of them."""

    def __init__(self) -> None:
        super().__init__()
        with (FOLDER / f"{DOMAIN}.pot").open("rb") as file:
            forms = ((one.id,) if isinstance(one.id, str) else one.id for one in read_po(file) if one.id)
            self._known = {form for both in forms for form in both}

    def gettext(self, message: str) -> str:
        if message not in self._known:
            return message
        parts = re.split(r"(%\(\w+\)[sd])", message)
        return "".join(part if number % 2 or not part else f"⟦{part}⟧" for number, part in enumerate(parts))

    def ngettext(self, one: str, many: str, n: int) -> str:
        return self.gettext(one if n == 1 else many)


def outside(page: str) -> Iterator[str]:
    """The texts of a page that stand in no brackets, without what is data."""
    body = _SKIPPED.sub(" ", re.sub(r"<!--.*?-->|<link[^>]*>|<meta[^>]*>", " ", page, flags=re.DOTALL))
    texts = [one or two for one, two in _SHOWN.findall(body)]
    for text in [*texts, re.sub(r"<[^>]*>", "\n", body)]:
        depth, shown = 0, ""
        for char in html.unescape(text):
            depth += (char == "⟦") - (char == "⟧")
            shown += " " if depth or char == "⟧" else char
        for line in shown.split("\n"):
            left = DATA.sub(" ", line)
            if re.search(r"[^\W\d_]{2,}", left):
                yield " ".join(left.split())


@pytest.fixture
def watched(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> tuple[Site, set[tuple[str, str]]]:
    """A site in that language, and the set that fills with what its pages show outside of brackets."""
    bracketed = Bracketed()
    monkeypatch.setattr(words, "catalogue", lambda language: bracketed)
    site = make_site(
        OUTMAIL_LOCALE="de", OUTMAIL_DELIVERY="outbox", OUTMAIL_WORKER_POLL_SECONDS=0.02,
        OUTMAIL_KEEP_BODIES_DAYS=1, OUTMAIL_ALERT_REPEATS=1, DEBUG=True, OUTMAIL_WORKER_IN_DEBUG=False,
        OUTMAIL_BASE_URL="https://shop.example",
    )  # fmt: skip
    found: set[tuple[str, str]] = set()

    @site.app.after_request
    def look(response: Response) -> Response:
        if response.mimetype == "text/html" and response.status_code not in (302, 303):
            page = response.get_data(as_text=True)
            found.update((request.path, text) for text in outside(page))
        return response

    return site, found


def test_pages_show_no_text_that_cannot_be_translated(watched: tuple[Site, set[tuple[str, str]]]) -> None:
    site, found = watched
    for path in (
        "/",
        "/setup",
        "/auth-objects/",
        "/auth-objects/new",
        "/deliveries/",
        "/alerts",
        "/history",
        "/domain",
    ):
        site.get(path)
    for provider in ("microsoft_federated", "microsoft_managed_identity"):
        site.get(f"/auth-objects/new?provider={provider}")
    site.post("/auth-objects/new", **site.object_fields(tenant="", client_id="x", client_secret=""), action="save")
    site.post("/auth-objects/new", **site.object_fields(), action="test")
    site.post("/auth-objects/new", **site.object_fields(), action="save")
    site.post("/auth-objects/new", **site.object_fields(name="Spare"), action="save")
    for path in ("/auth-objects/1", "/auth-objects/1/secret", "/auth-objects/1/delete", "/auth-objects/2/delete"):
        site.get(path)
    site.save(site.graph_fields(username="", failure_alerts_to="x"))
    site.save(site.graph_fields())
    site.mail.send(make_message())
    site.get("/")
    site.save_tested(site.graph_fields(test_message_to="ann@customers.example"))
    site.save(site.smtp_fields(password="wrong"), action="test")
    site.save(site.smtp_fields(password="wrong"), action="draft")
    site.save(site.smtp_fields(tls="none", port="465"), action="test", query="?connection=backup")
    site.save_tested(site.smtp_fields(), query="?connection=backup")
    site.get("/history?connection=primary")
    site.get("/history/compare?before=1&after=2")
    site.post("/history/1/restore", token_from="/history")
    site.get("/setup?connection=backup")
    site.post("/alerts/test", token_from="/alerts")
    work(site.app)
    assert sorted(found) == []


def test_pages_about_messages_show_no_text_that_cannot_be_translated(
    watched: tuple[Site, set[tuple[str, str]]],
) -> None:
    site, found = watched

    @site.mail.preview("welcome")
    def welcome() -> Message:
        return Message("Hello", ["ann@customers.example"], body="Hello", html="<p>Hello</p>")

    site.save_tested(site.smtp_fields())
    now = utc_now()
    for state in ("accepted", "refused", "failed", "unknown", "suppressed", "cancelled", "queued", "held", "waiting"):
        add(
            site.app,
            2,
            state=state,
            code="550 5.1.1",
            created_at=now - timedelta(hours=2),
            due_at=now,
            size_bytes=12345,
        )
    worker(site.app, 1, 1)
    for number, age in enumerate((timedelta(minutes=5), timedelta(hours=3), timedelta(days=1))):
        worker(site.app, 2 + number, 7, seen_at=now - age)
    site.simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    site.mail.send(make_message(html="<p>Hello</p>"))
    site.simulator.faults.lose_answer("smtp.dot")
    site.mail.send(make_message())
    refuse_log_in(site.simulator)
    site.mail.send(make_message())
    work(site.app)
    with engine_of(site.app).database.session() as session:
        numbers = [row.id for row in session.query(Delivery)]
    for path in ("/", "/deliveries/", "/alerts", "/history", "/deliveries/again", "/deliveries/erase", "/previews/",
                 "/previews/welcome", "/deliveries/9999"):  # fmt: skip
        site.get(path)
    for number in numbers:
        page = f"/deliveries/{number}"
        site.get(page)
        site.get(f"{page}/message")
        site.post(f"{page}/message", token_from=page)
        site.post(f"{page}/resend", token_from=page)
    site.post("/deliveries/again", states="refused", **{"from": "2020-01-01"})
    site.post("/deliveries/erase", address="bob@customers.example")
    site.post("/alerts/1/acknowledge", token_from="/alerts")
    site.post("/alerts/1/dismiss", token_from="/alerts")
    for path in ("/", "/alerts", "/history"):
        site.get(path)
    assert sorted(found) == []
