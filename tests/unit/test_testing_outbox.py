"""The outbox that users' tests get, and what it says when a message is not as wanted."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from flask_outmail import Mail, Message
from flask_outmail.testing_outbox import Outbox


def filled() -> Outbox:
    first = Message("Welcome", ["Ann <ann@x.example>"], "Hello Ann", sender="shop@x.example", bcc=["log@x.example"])
    second = Message("Invoice 7", ["bob@x.example", "eve@x.example"], html="<p>Pay</p>", sender="shop@x.example")
    second.attach("invoice.pdf", "application/pdf", b"x")
    return Outbox([first, second])


@pytest.mark.parametrize(
    "wanted",
    [
        {"subject": "Welcome"},
        {"to": "ann@x.example"},
        {"to": ["ann@x.example"], "bcc": "log@x.example"},
        {"body": "Hello"},
        {"subject": re.compile("^Wel")},
        {"sender": "shop@x.example", "body": lambda text: text.endswith("Ann")},
    ],
)
def test_the_message_that_fits_is_found(wanted: dict[str, object]) -> None:
    outbox = filled()
    assert outbox.one(**wanted) is outbox[0]


@pytest.mark.parametrize(
    "wanted", [{"html": "Pay"}, {"attachments": "invoice.pdf"}, {"to": ["eve@x.example", "bob@x.example"]}]
)
def test_lists_and_parts_are_compared_as_people_mean_them(wanted: dict[str, object]) -> None:
    outbox = filled()
    assert outbox.one(**wanted) is outbox[1]


def test_what_differs_is_said_for_each_message() -> None:
    with pytest.raises(AssertionError) as caught:
        filled().one(subject="Welcome", to="bob@x.example")
    said = str(caught.value)
    assert "0 messages fit" in said
    assert "1. 'Welcome' to ann@x.example\n     to is ['ann@x.example']" in said
    assert "2. 'Invoice 7' to bob@x.example, eve@x.example\n     subject is 'Invoice 7'" in said


def test_several_that_fit_are_not_one_and_an_empty_outbox_says_so() -> None:
    with pytest.raises(AssertionError, match="2 messages fit"):
        filled().one(sender="shop@x.example")
    with pytest.raises(AssertionError, match="empty"):
        Outbox().one()


def test_none_refuses_what_fits() -> None:
    filled().none(to="nobody@x.example")
    with pytest.raises(AssertionError, match="none should"):
        filled().none(subject="Welcome")


def test_a_misspelt_name_is_no_match_for_everything() -> None:
    with pytest.raises(TypeError, match="recipients"):
        filled().none(recipients="x")


def test_the_fixture_records_while_sending_is_suppressed(outbox: Outbox) -> None:
    app = Flask("users")
    app.config.update(TESTING=True, SECRET_KEY="x")
    mail = Mail(app)
    with app.app_context():
        mail.send(subject="Hi", recipients=["ann@x.example"], body="x", sender="shop@x.example")
    assert outbox.one(to="ann@x.example").subject == "Hi"
