"""Several connections: which message takes which."""

from __future__ import annotations

from typing import Any

import pytest

from flask_outmail import ConfigurationError, Message
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, graph_setup, make_message, smtp_setup


@pytest.fixture
def two(simulator: Simulator) -> dict[str, Any]:
    """Graph as primary, SMTP as billing, each with a From of its own."""
    return {
        "OUTMAIL_SETUP": graph_setup(simulator),
        "OUTMAIL_CONNECTIONS": {"billing": smtp_setup(simulator, from_name="Billing")},
    }


def test_the_caller_names_the_connection(make_app: MakeApp, two: dict[str, Any], simulator: Simulator) -> None:
    _, mail = make_app(**two)
    receipts = [mail.send(make_message()), mail.send(make_message(), via="billing")]
    assert [(one.connection, one.transport) for one in receipts] == [
        ("primary", "microsoft365_graph"),
        ("billing", "smtp"),
    ]
    assert b"From: Billing <" in simulator.wait_for(2)[1].raw


def test_rules_choose_by_sender_and_tag_and_the_first_counts(
    make_app: MakeApp, two: dict[str, Any], simulator: Simulator
) -> None:
    routes = [
        {"tag": "invoice", "via": "billing"},
        {"from": "@Contoso.example", "tag": "news", "via": "billing"},
        {"from": simulator.mailbox, "via": "primary"},
    ]
    _, mail = make_app(**two, OUTMAIL_ROUTES=routes)
    assert mail.send(make_message(tag="invoice")).connection == "billing"
    assert mail.send(make_message(tag="news", sender=f"X <{simulator.mailbox.upper()}>")).connection == "billing"
    assert mail.send(make_message(tag="news")).connection == "primary"
    assert mail.send(make_message(tag="invoice"), via="primary").connection == "primary"


def test_the_applications_function_comes_before_the_rules(make_app: MakeApp, two: dict[str, Any]) -> None:
    _, mail = make_app(**two, OUTMAIL_ROUTES=[{"tag": "x", "via": "primary"}])

    @mail.choose_connection
    def by_tenant(message: Message) -> str | None:
        return "billing" if message.subject == "Tenant 2" else None

    assert mail.send(make_message(subject="Tenant 2", tag="x")).connection == "billing"
    assert mail.send(make_message(subject="Tenant 1", tag="x")).connection == "primary"


def test_a_function_that_fails_lets_nothing_out_over_another_connection(
    make_app: MakeApp, two: dict[str, Any], simulator: Simulator
) -> None:
    _, mail = make_app(**two)

    @mail.choose_connection
    def by_tenant(message: Message) -> str | None:
        raise LookupError("no such tenant")

    with pytest.raises(LookupError):
        mail.send(make_message())
    assert simulator.delivered == []


def test_bulk_keeps_the_order_over_several_connections(make_app: MakeApp, two: dict[str, Any]) -> None:
    _, mail = make_app(**two, OUTMAIL_ROUTES=[{"tag": "b", "via": "billing"}])
    tags = ["a", "b", "b", "a", "b"]
    receipts = mail.send_many(make_message(tag=tag, subject=str(number)) for number, tag in enumerate(tags))
    assert [one.connection for one in receipts] == ["billing" if tag == "b" else "primary" for tag in tags]


def test_what_is_queued_takes_the_same_way(make_app: MakeApp, two: dict[str, Any], simulator: Simulator) -> None:
    app, mail = make_app(**two, db=True, OUTMAIL_DELIVERY="outbox", OUTMAIL_ROUTES=[{"tag": "b", "via": "billing"}])
    assert mail.send(make_message(tag="b")).connection == "billing"
    assert app.test_cli_runner().invoke(args=["outmail", "worker", "--drain"]).exit_code == 0
    assert b"From: Billing <" in simulator.wait_for(1)[0].raw


def test_a_configured_backup_takes_over_without_a_database(make_app: MakeApp, simulator: Simulator) -> None:
    broken = graph_setup(simulator, client_secret="wrong~secret.0000000000000000000000000000")
    _, mail = make_app(OUTMAIL_SETUP=broken, OUTMAIL_CONNECTIONS={"backup": smtp_setup(simulator)})
    receipt = mail.send(make_message())
    assert (receipt.connection, receipt.tried[0][0]) == ("backup", "primary")


def test_the_tag_does_not_leave(make_app: MakeApp, two: dict[str, Any], simulator: Simulator) -> None:
    _, mail = make_app(**two)
    mail.send(make_message(tag="very-own-word"))
    assert b"very-own-word" not in simulator.wait_for(1)[0].raw


def test_a_connection_that_is_not_there_is_named(make_app: MakeApp, two: dict[str, Any]) -> None:
    _, mail = make_app(**two, OUTMAIL_ROUTES=[{"tag": "b", "via": "nowhere"}])
    with pytest.raises(ConfigurationError, match="nowhere"):
        mail.send(make_message(tag="b"))


@pytest.mark.parametrize(
    "config",
    [
        {"OUTMAIL_CONNECTIONS": {"primary": "smtp://h?from=a@x.example"}},
        {"OUTMAIL_CONNECTIONS": {"A b": "smtp://h?from=a@x.example"}},
        {"OUTMAIL_CONNECTIONS": {"b": "smtp://h"}},
        {"OUTMAIL_CONNECTIONS": "b"},
        {"OUTMAIL_ROUTES": [{"via": "b"}]},
        {"OUTMAIL_ROUTES": [{"tag": "x"}]},
        {"OUTMAIL_ROUTES": [{"tag": "x", "via": "b", "form": "y"}]},
        {"OUTMAIL_ROUTES": [{"from": "x.example", "via": "b"}]},
        {"OUTMAIL_ROUTES": "x"},
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(make_app: MakeApp, config: dict[str, Any]) -> None:
    [key] = config
    with pytest.raises(ConfigurationError, match=key):
        make_app(**config)
