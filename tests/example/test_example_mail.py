"""The shop's mails, read in the simulator's mailboxes."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from example_app.extensions import db
from example_app.mails import confirm, outcome_now
from example_app.models import Order
from flask_outmail.simulator import Fault, Simulator

CLARA = "clara@reader.example"
SERVICES = ["microsoft365_graph", "microsoft365_smtp", "smtp"]


def only_order(app: Flask) -> Order:
    order: Order = db.session.scalars(db.select(Order)).one()
    return order


@pytest.mark.parametrize("service", SERVICES)
def test_an_order_is_confirmed_with_all_its_parts(
    make_shop: Any, visit: Any, setups: Any, simulator: Simulator, service: str
) -> None:
    page = visit(make_shop(setups[service]), "clara").order()
    assert "has taken over the confirmation" in page.text
    [mail] = simulator.wait_for(1)
    assert mail.recipient == CLARA
    assert mail.subject == "Your order QP-00001 at Quill & Page"
    assert "2 × The Lighthouse Ledger" in mail.text
    assert "€ 37.80" in mail.text
    assert 'src="cid:logo"' in mail.html
    logo, receipt = mail.attachments
    assert (logo.content_type, logo.content_id.strip("<>"), logo.inline) == ("image/png", "logo", True)
    assert logo.content.startswith(b"\x89PNG")
    assert (receipt.content_type, receipt.filename, receipt.inline) == (
        "application/pdf",
        "receipt-QP-00001.pdf",
        False,
    )
    assert receipt.content.startswith(b"%PDF-")


def test_a_mail_that_fails_does_not_lose_the_order(
    make_shop: Any, visit: Any, setups: Any, simulator: Simulator
) -> None:
    app = make_shop({**setups["microsoft365_graph"], "client_secret": "wrong"})
    clara = visit(app, "clara")
    page = clara.order()
    assert page.status_code == 200
    assert "✘ not accepted" in page.text
    with app.app_context():
        order = only_order(app)
        assert (order.quantity, order.mail_state) == (2, "failed")
        assert order.mail_reason
    assert simulator.delivered == []


def test_an_answer_that_was_lost_is_told_as_such(make_shop: Any, visit: Any, setups: Any, simulator: Simulator) -> None:
    app = make_shop(setups["smtp"])
    simulator.faults.add(Fault(endpoint="smtp.dot", drop=True, happens=True))
    page = visit(app, "clara").order()
    assert "It may" in page.text
    assert "? unknown" in page.text


def test_a_confirmation_can_be_asked_for_again(make_shop: Any, visit: Any, setups: Any, simulator: Simulator) -> None:
    clara = visit(make_shop(setups["smtp"]), "clara")
    clara.order()
    clara.submit("/orders/1/confirmation", page="/orders/1")
    assert [mail.recipient for mail in simulator.wait_for(2)] == [CLARA, CLARA]


def test_a_confirmation_waits_until_mail_is_set_up_and_is_not_written_twice(make_shop: Any, visit: Any) -> None:
    clara = visit(make_shop(), "clara")
    page = clara.order()
    assert "is written and waits" in page.text
    assert "Send the confirmation again" not in page.text
    clara.submit("/orders/1/confirmation", page="/")
    assert clara.open("/orders").text.count("… held") == 1


def test_a_held_confirmation_is_told_to_have_left(
    make_shop: Any, visit: Any, setups: Any, simulator: Simulator
) -> None:
    clara = visit(make_shop(), "clara")
    clara.order()
    # Given in configuration, a setup counts as verified: as if an administrator had passed a test in between.
    app = make_shop(setups["microsoft365_graph"])
    with app.app_context():
        assert app.extensions["outmail"].releasing.release() == (1, 0)
        assert outcome_now(only_order(app)).state == "accepted"
    assert "has taken over the confirmation" in clara.open("/orders/1").text
    [mail] = simulator.wait_for(1)
    assert mail.recipient == CLARA


def test_a_mail_from_inside_a_template(make_shop: Any, visit: Any, setups: Any, simulator: Simulator) -> None:
    page = visit(make_shop(setups["microsoft365_graph"]), "clara").submit(
        "/books/bread-for-five-doors/remind", page="/books/bread-for-five-doors"
    )
    assert "were handed over" in page.text
    [mail] = simulator.wait_for(1)
    assert (mail.recipient, mail.subject) == (CLARA, "We will tell you about Bread for Five Doors")
    assert "“Bread for Five Doors” is back" in mail.text


@pytest.mark.parametrize(("secret", "words"), [("wrong", "could not confirm it by email"), (None, "They leave by")])
def test_a_template_is_not_broken_by_its_mail(
    make_shop: Any, visit: Any, setups: Any, simulator: Simulator, secret: str | None, words: str
) -> None:
    setup = {**setups["microsoft365_graph"], "client_secret": secret} if secret else None
    page = visit(make_shop(setup), "clara").submit(
        "/books/bread-for-five-doors/remind", page="/books/bread-for-five-doors"
    )
    assert page.status_code == 200
    assert words in page.text
    assert simulator.delivered == []


def test_a_question_can_be_answered_by_replying(make_shop: Any, visit: Any, setups: Any, simulator: Simulator) -> None:
    visitor = visit(make_shop(setups["smtp"]))
    answer = visitor.submit("/contact", name="Ana, of Sines", email="ana@reader.example", text="Do you gift-wrap?")
    assert answer.status_code == 302
    assert "is on its way" in visitor.open("/contact").text
    [mail] = simulator.wait_for(1)
    assert mail.recipient == "hello@quill-and-page.example"
    [reply_to] = mail.parsed["reply-to"].addresses
    assert (reply_to.display_name, reply_to.addr_spec) == ("Ana, of Sines", "ana@reader.example")
    assert mail.parsed["from"].addresses[0].addr_spec == simulator.mailbox
    assert "Do you gift-wrap?" in mail.text


BREAK = "\r\nBcc: everybody@victims.example"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": f"Ana{BREAK}"},
        {"name": "Ana\nX: y"},
        {"name": "Ana\rX: y"},
        {"email": f"ana@reader.example{BREAK}"},
        {"email": "ana@reader.example\n"},
        {"email": '"Ana\r\n"@reader.example'},
        {"email": "ana@reader.example, bob@reader.example"},
        {"name": ""},
        {"text": ""},
    ],
)
def test_a_question_that_would_write_headers_is_refused_politely(
    make_shop: Any, visit: Any, setups: Any, simulator: Simulator, changes: dict[str, str]
) -> None:
    fields = {"name": "Ana", "email": "ana@reader.example", "text": "Do you gift-wrap?", **changes}
    answer = visit(make_shop(setups["smtp"])).submit("/contact", **fields)
    assert answer.status_code == 200
    assert "aria-invalid" in answer.text
    assert simulator.delivered == []


def test_a_question_that_nobody_takes_is_not_lost(make_shop: Any, visit: Any, setups: Any) -> None:
    visitor = visit(make_shop({**setups["smtp"], "password": "wrong"}))
    answer = visitor.submit("/contact", name="Ana", email="ana@reader.example", text="Do you gift-wrap?")
    assert answer.status_code == 200
    assert "We could not take your question just now" in answer.text
    assert "Do you gift-wrap?" in answer.text


def test_a_second_confirmation_is_a_message_of_its_own(make_shop: Any, visit: Any, setups: Any) -> None:
    app = make_shop(setups["smtp"])
    visit(app, "clara").order()
    with app.test_request_context():
        order = only_order(app)
        before = order.message_id
        confirm(order)
        assert order.message_id != before
