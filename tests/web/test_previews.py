"""Previews: the application's mails with sample data, in debug only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader

from flask_outmail import ConfigurationError, Mailable, Message

from .conftest import Site, engine_of


@dataclass
class Welcome(Mailable):
    template = "welcome"
    subject = "Welcome, {{ name }}"

    name: str


def with_previews(site: Site) -> Site:
    site.app.debug = True
    environment = site.app.jinja_env
    own = DictLoader({"mail/welcome.html": "<script>alert(1)</script><p>Hello {{ name }}</p>"})
    environment.loader = ChoiceLoader([own, environment.loader])  # type: ignore[list-item]

    @site.mail.preview("welcome")
    def welcome() -> Welcome:
        """What new customers get"""
        return Welcome(name="Ann")

    @site.mail.preview("logo")
    def logo() -> Message:
        html = '<img src="cid:logo"><img src="cid:terms"><img src="https://tracker.example/x.png">'
        message = Message("Logo", html=html)
        message.attach("terms.html", "text/html", b"<p>Terms", "inline", {"Content-ID": "<terms>"})
        message.attach("logo.png", "image/png", b"picture", "inline", {"Content-ID": "<logo>"})
        return message

    return site


@pytest.fixture
def site(make_site: Callable[..., Site], simulator: Any) -> Site:
    from ..conftest import graph_setup

    return with_previews(make_site(OUTMAIL_SETUP=graph_setup(simulator)))


def test_a_preview_shows_the_mail_at_two_widths_as_text_and_as_source(site: Site) -> None:
    assert "What new customers get" in site.get("/previews/").text
    page = site.get("/previews/welcome")
    assert page.text.count("<iframe") == 2
    assert "Welcome, Ann" in page.text and "Hello Ann" in page.text
    assert "<script>alert" not in page.text
    assert "frame-src 'self'" in page.headers["Content-Security-Policy"]


def test_the_frame_runs_nothing_and_asks_no_other_host(site: Site) -> None:
    framed = site.get("/previews/logo/html")
    assert "data:image/png;base64," in framed.text
    assert "data:text" not in framed.text and "cid:terms" in framed.text, "only a picture is put in"
    policy = framed.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "img-src data:" in policy and policy.endswith("sandbox")
    assert framed.headers["X-Frame-Options"] == "SAMEORIGIN"


def test_send_it_to_me_sends_it_and_to_nobody_else(site: Site) -> None:
    page = site.post("/previews/welcome/send", token_from="/previews/welcome", to="me@x.example")
    assert "Accepted for me@x.example" in page.text
    assert [mail.recipient for mail in site.simulator.wait_for(1)] == ["me@x.example"]


@pytest.mark.parametrize("to", ["", "nobody", "a@x.example\r\nBcc: eve@x.example"])
def test_an_address_that_is_none_is_told_and_nothing_leaves(site: Site, to: str) -> None:
    page = site.post("/previews/welcome/send", token_from="/previews/welcome", to=to)
    assert "not accepted" in page.text
    assert not site.simulator.delivered


def test_sending_needs_the_token(site: Site) -> None:
    assert site.client.post("/outmail/previews/welcome/send", data={"to": "me@x.example"}).status_code == 400


@pytest.mark.parametrize("path", ["/previews/", "/previews/welcome", "/previews/welcome/html"])
def test_outside_debug_there_are_no_previews(site: Site, path: str) -> None:
    site.app.debug = False
    assert site.get(path).status_code == 404
    assert "Previews" not in site.get("/").text


def test_previews_are_as_closed_as_every_page(site: Site) -> None:
    engine_of(site.app).access.access_control(lambda: False)
    assert site.get("/previews/welcome/html").status_code == 403


def test_a_preview_that_is_not_there_is_no_page(site: Site) -> None:
    assert site.get("/previews/none").status_code == 404


def test_a_name_that_cannot_stand_in_an_address_is_refused(site: Site) -> None:
    with pytest.raises(ConfigurationError):
        site.mail.preview("a/b")
