"""`flask outmail deliveries …`: looked at and acted on from the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from flask_outmail import Mail
from flask_outmail.simulator import Simulator

from ..conftest import make_message
from .conftest import OutboxApp, states, work


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def shop(outbox_app: OutboxApp) -> tuple[Flask, Mail]:
    return outbox_app()


def run(app: Flask, *words: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["outmail", "deliveries", *words])
    return result.exit_code, result.output


def told(app: Flask, *words: str) -> Any:
    code, output = run(app, *words, "--json")
    assert code == 0, output
    return json.loads(output)


def test_the_newest_comes_first_and_a_state_can_be_asked_for(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    assert "no delivery yet" in run(app, "list")[1]
    mail.send(make_message(subject="first"))
    work(app)
    mail.send(make_message(subject="second"))
    assert [row["subject"] for row in told(app, "list")] == ["second", "first"]
    assert [row["subject"] for row in told(app, "list", "--state", "accepted")] == ["first"]
    assert "second" in run(app, "list")[1]
    assert "Who:" not in run(app, "show", "1")[1], "of what was accepted there is nothing to mend"


def test_one_is_shown_with_its_attempts_and_with_what_to_do(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    receipt = mail.send(make_message())
    work(app)
    shown = told(app, "show", receipt.delivery_id)
    assert (shown["state"], [one["state"] for one in shown["attempts"]]) == ("refused", ["refused"])
    code, output = run(app, "show", str(shown["id"]))
    assert code == 0 and "Who:" in output and "refused" in output


def test_what_was_refused_can_be_tried_again(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    receipt = mail.send(make_message())
    work(app)
    assert told(app, "retry", receipt.delivery_id)["state"] == "queued"
    assert work(app) == 1
    code, output = run(app, "retry", receipt.delivery_id)
    assert code == 1 and "not stored" in output


def test_an_unknown_one_is_tried_again_only_when_that_is_said(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    simulator.faults.lose_answer("smtp.dot")
    receipt = mail.send(make_message())
    work(app)
    code, output = run(app, "retry", receipt.delivery_id)
    assert code == 1 and "twice" in output
    assert run(app, "retry", receipt.delivery_id, "--may-arrive-twice")[0] == 0


def test_what_is_cancelled_does_not_leave(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    receipt = mail.send(make_message())
    assert run(app, "cancel", receipt.delivery_id)[0] == 0
    assert work(app) == 0 and states(app) == ["cancelled"]
    assert run(app, "cancel", receipt.delivery_id)[0] == 1
    assert run(app, "show", "17000")[0] == 1


def test_the_log_is_pruned_and_a_person_erased_for_machines_too(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    mail.send(make_message())
    assert work(app) == 1
    mail.send(make_message())
    nothing = {"messages": 0, "contents": 0, "activity": 0}
    assert told(app, "prune") == {"dry_run": False, **nothing}
    assert told(app, "prune", "--dry-run") == {"dry_run": True, **nothing}
    assert "Still to leave, and left as they are: 1." in run(app, "erase", "ann@customers.example")[1]
    assert told(app, "erase", "ann@customers.example") == {"anonymised": 0, "still_to_leave": 1}
