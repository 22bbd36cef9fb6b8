"""Outside production: every way out keeps the rules, whatever the transport."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from flask_outmail import ConfigurationError, Message
from flask_outmail.models import Delivery

from ..conftest import MakeApp, engine_of, graph_setup, make_message, smtp_setup

ANN, BOB, EVE, DEV = "ann@x.example", "bob@x.example", "eve@y.example", "dev@contoso.example"


@pytest.fixture(params=["graph", "smtp"])
def setup(request: pytest.FixtureRequest, simulator: Any) -> dict[str, Any]:
    return graph_setup(simulator) if request.param == "graph" else smtp_setup(simulator)


def people(simulator: Any, count: int) -> list[str]:
    return sorted(mail.recipient for mail in simulator.wait_for(count))


def test_everything_goes_to_one_place_and_says_whom_it_was_for(make_app: MakeApp, setup: Any, simulator: Any) -> None:
    _, mail = make_app(setup, OUTMAIL_REDIRECT_TO=DEV)
    message = make_message(recipients=[f"Ann <{ANN}>"], cc=[BOB], bcc=[EVE])
    assert mail.send(message).accepted
    [received] = simulator.wait_for(1)
    assert received.recipient == DEV
    head = received.raw.partition(b"\r\n\r\n")[0]
    assert f"X-Original-To: {ANN}, {BOB}".encode() in head
    assert b"\r\nTo: dev@contoso.example\r\n" in b"\r\n" + head + b"\r\n"
    assert b"Cc:" not in head and EVE.encode() not in received.raw
    # The application's own object is as it was.
    assert message.cc == [BOB]


def test_only_the_allowed_receive_and_the_headers_say_the_same(make_app: MakeApp, setup: Any, simulator: Any) -> None:
    _, mail = make_app(setup, OUTMAIL_ALLOWED_RECIPIENTS=["@X.example"])
    receipt = mail.send(make_message(recipients=[ANN, EVE], cc=[EVE], bcc=[BOB]))
    assert receipt.accepted and receipt.suppressed == (EVE,)
    assert people(simulator, 2) == [ANN, BOB]
    assert all(EVE.encode() not in one.raw and BOB.encode() not in one.raw for one in simulator.delivered)


def test_a_message_that_nobody_may_receive_is_suppressed_and_no_failure(
    make_app: MakeApp, setup: Any, simulator: Any
) -> None:
    app, mail = make_app(setup, db=True, OUTMAIL_ALLOWED_RECIPIENTS=[ANN])
    receipt = mail.send(make_message(recipients=[EVE]))
    assert bool(receipt) and not receipt.accepted and receipt.is_suppressed
    with engine_of(app).database.session() as session:
        [row] = session.scalars(select(Delivery)).all()
        assert (row.state, EVE in row.reason) == ("suppressed", True)
    assert simulator.delivered == []


def test_bulk_sending_keeps_the_rules_and_the_order(make_app: MakeApp, setup: Any, simulator: Any) -> None:
    _, mail = make_app(setup, OUTMAIL_ALLOWED_RECIPIENTS=[ANN, BOB])
    wanted = [EVE, ANN, EVE, EVE, BOB, EVE]
    receipts = mail.send_many(make_message(recipients=[one]) for one in wanted)
    assert [receipt.accepted for receipt in receipts] == [one != EVE for one in wanted]
    assert people(simulator, 2) == [ANN, BOB]


def test_a_large_message_in_pieces_is_redirected_too(
    make_app: MakeApp, setup: Any, simulator: Any, tmp_path: Any
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(5_000_000))
    _, mail = make_app(setup, OUTMAIL_REDIRECT_TO=[DEV])
    message = Message("Big", [ANN], "x")
    message.attach("big.bin", "application/octet-stream", big)
    mail.send(message)
    [received] = simulator.wait_for(1)
    assert received.recipient == DEV and received.raw.count(b"A" * 76) > 80_000


def test_what_was_queued_before_leaves_by_the_rules_of_the_day(make_app: MakeApp, setup: Any, simulator: Any) -> None:
    app, mail = make_app(setup, db=True, OUTMAIL_DELIVERY="outbox", OUTMAIL_ALLOWED_RECIPIENTS=[ANN])
    mail.send(make_message(recipients=[ANN, EVE]))
    mail.send(make_message(recipients=[EVE]))
    result = app.test_cli_runner().invoke(args=["outmail", "worker", "--drain"])
    assert result.exit_code == 0, result.output
    assert people(simulator, 1) == [ANN]
    with engine_of(app).database.session() as session:
        assert [row.state for row in session.scalars(select(Delivery).order_by(Delivery.id))] == [
            "accepted",
            "suppressed",
        ]


def test_the_test_message_keeps_the_rules_and_says_so(make_app: MakeApp, setup: Any, simulator: Any) -> None:
    _, mail = make_app(setup, OUTMAIL_ALLOWED_RECIPIENTS=[ANN])
    *_, last = mail.diagnose(test_message_to=EVE)
    assert (last.state, last.code) == ("warning", "recipients_held_back")
    assert simulator.delivered == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OUTMAIL_REDIRECT_TO", "nobody"),
        ("OUTMAIL_REDIRECT_TO", ["a@x.example", "b"]),
        ("OUTMAIL_ALLOWED_RECIPIENTS", []),
        ("OUTMAIL_ALLOWED_RECIPIENTS", "a@x.example"),
        ("OUTMAIL_ALLOWED_RECIPIENTS", ["x.example"]),
        ("OUTMAIL_ALLOWED_RECIPIENTS", ["@"]),
    ],
)
def test_a_rule_that_could_mean_two_things_is_refused_at_the_start(make_app: MakeApp, key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=key):
        make_app(**{key: value})
