"""Mails made from the application's own templates."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from flask import Flask
from jinja2 import DictLoader, TemplateNotFound

from flask_outmail import Attachment, ConfigurationError
from flask_outmail.compat import Message
from flask_outmail.mailables import Mailable
from flask_outmail.templating import message_from_template

from ..conftest import MakeApp, graph_setup

WELCOME = {
    "mail/layout.html": "<html><body>{% block body %}{% endblock %}<p>Bye</p></body></html>",
    "mail/welcome.html": "{% extends 'mail/layout.html' %}{% block body %}<p>Hello {{ name }}</p>{% endblock %}",
    "mail/welcome.txt": "Hello {{ name }}\n",
    "mail/welcome.subject.txt": "Welcome,\n {{ name }}\n",
}


@pytest.fixture
def templates(make_app: MakeApp) -> Callable[..., Flask]:
    def make(files: dict[str, str], **config: Any) -> Flask:
        app, _ = make_app(**config)
        app.jinja_loader = DictLoader(files)  # type: ignore[assignment]
        app.jinja_env.loader = DictLoader(files)
        return app

    return make


def parsed(message: Message) -> EmailMessage:
    message.sender = message.sender or "shop@x.example"
    message.recipients = message.recipients or ["ann@x.example"]
    message.check()
    read: Any = message_from_bytes(message.as_bytes(), policy=policy.default)
    return read  # type: ignore[no-any-return]


def text(message: Message, kind: str = "plain") -> str:
    part: Any = parsed(message).get_body((kind,))
    return "" if part is None else str(part.get_content())


def test_text_html_and_subject_come_from_files_of_one_name(templates: Any) -> None:
    templates(WELCOME)
    message = message_from_template("welcome", {"name": "Ann & Bob"}, recipients=["ann@x.example"])
    assert message.subject == "Welcome, Ann & Bob"
    assert message.body == "Hello Ann & Bob"
    assert "<p>Hello Ann &amp; Bob</p><p>Bye</p>" in text(message, "html")


def test_text_is_made_from_the_html_where_it_is_missing(templates: Any) -> None:
    templates({"mail/welcome.html": "<p>Hello <b>{{ name }}</b></p>"})
    message = message_from_template("welcome", {"name": "Ann"}, subject="Hi")
    assert text(message).strip() == "Hello Ann"


def test_text_alone_is_enough(templates: Any) -> None:
    templates({"mail/welcome.txt": "Hello"})
    assert message_from_template("welcome", subject="Hi").html is None


def test_a_field_given_wins_over_the_template(templates: Any) -> None:
    templates(WELCOME)
    message = message_from_template("welcome", {"name": "Ann"}, subject="Other", body="Text")
    assert (message.subject, message.body) == ("Other", "Text")


@pytest.mark.parametrize(
    ("locale", "word"), [("de_AT", "Servus"), ("de-AT", "Servus"), ("de", "Hallo"), ("de_CH", "Hallo"), ("fr", "Hello")]
)
def test_a_locale_chooses_the_nearest_translation(templates: Any, locale: str, word: str) -> None:
    templates({"mail/a.de_AT.txt": "Servus", "mail/a.de.txt": "Hallo", "mail/a.txt": "Hello"})
    assert message_from_template("a", locale=locale, subject="Hi").body == word


def test_flask_babel_speaks_the_locale_of_the_reader(templates: Any) -> None:
    flask_babel = pytest.importorskip("flask_babel")
    app = templates({"mail/a.txt": "{{ when | dateformat }}"})
    flask_babel.Babel(app, default_locale="en")
    app.jinja_env.filters["dateformat"] = flask_babel.format_date
    import datetime

    message = message_from_template("a", {"when": datetime.date(2026, 3, 1)}, locale="de", subject="Hi")
    assert "01.03.2026" in str(message.body)


def test_a_locale_cannot_leave_the_folder(templates: Any) -> None:
    templates(WELCOME)
    with pytest.raises(ConfigurationError, match="is no locale"):
        message_from_template("welcome", locale="../de", subject="Hi")


@pytest.mark.parametrize("name", ["../secret", "a/../b", "", "a b", "/etc/passwd", "a.txt", "a\nb"])
def test_a_name_cannot_leave_the_folder(templates: Any, name: str) -> None:
    templates(WELCOME)
    with pytest.raises(ConfigurationError) as caught:
        message_from_template(name, subject="Hi")
    assert caught.value.code == "template_missing"


def test_what_is_missing_is_named(templates: Any) -> None:
    templates({"mail/a.txt": "x", "mail/b.html": "{% extends 'mail/none.html' %}"})
    with pytest.raises(ConfigurationError, match=r"mail/none\.txt"):
        message_from_template("none", subject="Hi")
    with pytest.raises(ConfigurationError, match=r"mail/a\.subject\.txt"):
        message_from_template("a")
    with pytest.raises(TemplateNotFound, match=r"mail/none\.html"):
        message_from_template("b", subject="Hi")


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_travels_with_the_message_once(templates: Any, tmp_path: Any) -> None:
    app = templates({"mail/a.html": "<img src=\"{{ image('logo.png') }}\"><img src=\"{{ image('logo.png') }}\">"})
    app.static_folder = str(tmp_path)
    (tmp_path / "logo.png").write_bytes(b"\x89PNG picture")
    message = message_from_template("a", subject="Hi", recipients=["ann@x.example"], date=1.0)
    read = parsed(message)
    [image] = [part for part in read.walk() if part.get_content_type() == "image/png"]
    assert image.get_content() == b"\x89PNG picture"  # type: ignore[attr-defined]
    assert text(message, "html").count(f"cid:{image['Content-ID'].strip('<>')}") == 2
    assert next(iter(read.walk())).get_content_type() == "multipart/alternative"


@pytest.mark.parametrize("name", ["none.png", "../secret.png", "/etc/hostname", ""])
def test_an_image_that_is_not_there_is_told(templates: Any, tmp_path: Any, name: str) -> None:
    app = templates({"mail/a.html": '<img src="{{ image(name) }}">'})
    app.static_folder = str(tmp_path / "static")
    (tmp_path / "static").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    with pytest.raises(ConfigurationError) as caught:
        message_from_template("a", {"name": name}, subject="Hi")
    assert caught.value.code == "template_image"


# -- addresses ---------------------------------------------------------------------------------------------------------

LINK = {"mail/a.txt": "{{ url_for('order', number=7) }}"}


def order_route(app: Flask) -> None:
    app.add_url_rule("/orders/<int:number>", "order", lambda number: "")


def test_links_are_absolute_outside_a_request(templates: Any) -> None:
    order_route(templates(LINK, OUTMAIL_BASE_URL="https://shop.example.com/app"))
    assert message_from_template("a", subject="Hi").body == "https://shop.example.com/app/orders/7"


def test_the_base_url_wins_over_the_host_that_a_request_names(templates: Any) -> None:
    app = templates(LINK, OUTMAIL_BASE_URL="https://shop.example.com")
    order_route(app)
    with app.test_request_context(base_url="https://evil.example"):
        assert message_from_template("a", subject="Hi").body == "https://shop.example.com/orders/7"


def test_inside_a_request_its_host_is_used_where_no_base_url_is_set(templates: Any) -> None:
    app = templates(LINK)
    order_route(app)
    with app.test_request_context(base_url="https://shop.example"):
        assert message_from_template("a", subject="Hi").body == "https://shop.example/orders/7"


def test_outside_a_request_the_missing_key_is_named(templates: Any) -> None:
    order_route(templates(LINK))
    with pytest.raises(ConfigurationError, match="OUTMAIL_BASE_URL"):
        message_from_template("a", subject="Hi")


@pytest.mark.parametrize(
    "value", ["shop.example.com", "ftp://x.example", "https://u:p@x.example", "https://x.example?a"]
)
def test_a_base_url_that_is_none_is_refused_at_the_start(make_app: MakeApp, value: str) -> None:
    with pytest.raises(ConfigurationError, match="OUTMAIL_BASE_URL"):
        make_app(OUTMAIL_BASE_URL=value)


# -- styles ------------------------------------------------------------------------------------------------------------


def test_styles_are_written_into_the_elements_and_media_rules_stay(templates: Any) -> None:
    pytest.importorskip("css_inline")
    style = "<style>p { color: teal } @media print { p { color: black } }</style>"
    templates({"mail/a.html": f"<html><head>{style}</head><body><p>Hello</p></body></html>"})
    html = text(message_from_template("a", subject="Hi"), "html")
    assert '<p style="color: teal;">' in html and "@media print" in html


def test_without_the_extra_the_style_sheet_stays_as_it_is(templates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "css_inline", None)  # as if it were not installed
    templates({"mail/a.html": "<style>p { color: teal }</style><p>Hello</p>"})
    html = text(message_from_template("a", subject="Hi"), "html")
    assert "<style>p { color: teal }</style><p>Hello</p>" in html


# -- mail classes ------------------------------------------------------------------------------------------------------


@dataclass
class OrderConfirmation(Mailable):
    template = "order"
    subject = "Order {{ number }} from {{ shop }}"

    number: int
    shop: str

    def attachments(self) -> list[Attachment]:
        return [Attachment("receipt.txt", "text/plain", f"Order {self.number}")]


def test_a_mail_class_declares_its_subject_and_templates_and_types_its_fields(templates: Any) -> None:
    templates({"mail/order.html": "<p>{{ number }} at {{ shop }}</p>"})
    message = OrderConfirmation(7, "Bell & Son").message(recipients=["ann@x.example"])
    assert message.subject == "Order 7 from Bell & Son"
    assert "7 at Bell &amp; Son" in text(message, "html")
    assert [one.filename for one in message.attachments] == ["receipt.txt"]


def test_a_mail_class_takes_the_subject_file_where_it_declares_none(templates: Any) -> None:
    class Plain(Mailable):
        template = "welcome"

        def __init__(self, name: str) -> None:
            self.name = name

    templates(WELCOME)
    assert Plain("Ann").message().subject == "Welcome, Ann"


# -- sending -----------------------------------------------------------------------------------------------------------


def test_send_takes_a_template_or_a_mail_class(make_app: MakeApp, simulator: Any) -> None:
    app, mail = make_app(graph_setup(simulator))
    app.jinja_env.loader = DictLoader({**WELCOME, "mail/order.html": "<p>{{ number }}</p>"})
    mail.send(template="welcome", context={"name": "Ann"}, recipients=["ann@x.example"])
    mail.send(OrderConfirmation(7, "Shop"), recipients=["bob@x.example"])
    subjects = {one.recipient: one.subject for one in simulator.wait_for(2)}
    assert subjects == {"ann@x.example": "Welcome, Ann", "bob@x.example": "Order 7 from Shop"}


def test_a_page_survives_a_mail_template_that_is_missing(make_app: MakeApp, simulator: Any) -> None:
    app, _ = make_app(graph_setup(simulator))
    page = app.jinja_env.from_string(
        "{% set r = mail.send(template='none', subject='Hi', recipients=['ann@x.example']) %}"
        "{{ r }}[{{ r.accepted }} {{ r.error.code }}]"
    )
    assert page.render() == "[False template_missing]"
