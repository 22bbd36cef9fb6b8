"""What goes wrong leaves a trace for its developer, and nobody's words."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from flask_outmail import OutmailError
from flask_outmail.frames import frames
from flask_outmail.signals import message_accepted, notify
from flask_outmail.simulator import Simulator
from flask_outmail.simulator.faults import Fault
from flask_outmail.web.trials import Run

from ..conftest import MakeApp, graph_setup, make_message

SECRET = "hunter2 of ann@customers.example"


def breaks() -> Any:
    password = SECRET
    try:
        raise KeyError(password)
    except KeyError as exc:
        raise ValueError(f"log-in with {password} refused\nERROR:root:forged line") from exc


def tell_a_receiver() -> None:
    def receiver(app: Any) -> None:
        breaks()

    with message_accepted.connected_to(receiver):
        notify(message_accepted, object())


def run_a_test() -> None:
    Run((), breaks, lambda run: None).finish()


@pytest.mark.parametrize("doing", [tell_a_receiver, run_a_test])
def test_a_trace_names_files_and_kinds_and_quotes_nothing(
    doing: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        doing()
    assert "test_logs.py" in caplog.text
    assert "in breaks" in caplog.text
    assert "ValueError" in caplog.text
    assert "KeyError" in caplog.text
    assert "hunter2" not in caplog.text
    assert "forged line" not in caplog.text
    # A tool that keeps the variables of every frame would keep the secret as well.
    assert not any(record.exc_info for record in caplog.records)


def test_a_chain_that_goes_round_has_an_end() -> None:
    one, other = ValueError(SECRET), KeyError(SECRET)
    one.__cause__, other.__cause__ = other, one
    assert frames(one).count("ValueError") == 1
    assert "hunter2" not in frames(one)


def test_no_part_of_the_package_logs_an_exception_with_its_words() -> None:
    from pathlib import Path

    import flask_outmail

    for path in Path(flask_outmail.__file__).parent.rglob("*.py"):
        if "simulator" in path.parts:
            continue  # it holds nobody's secrets but its own
        text = path.read_text()
        assert "logger.exception" not in text, path.name
        assert "exc_info=" not in text, path.name


def test_a_refusal_of_entra_is_one_line_in_the_log(
    simulator: Simulator, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"error": "bad\n\x1b[2JERROR:root:forged", "error_description": "no\nERROR:root:forged"})
    simulator.faults.add(Fault(endpoint="token", status=400, body=body, content_type="application/json", times=None))
    app, mail = make_app(graph_setup(simulator))
    with app.app_context(), caplog.at_level(logging.INFO), pytest.raises(OutmailError) as caught:
        mail.send(make_message())
    assert "\n" not in f"{caught.value} {caught.value.code} {caught.value.detail}"
    for record in caplog.records:
        assert "\x1b" not in f"{record.getMessage()} {vars(record)}"
        assert not any(
            "\n" in str(value) for name, value in vars(record).items() if name in ("code", "error", "message")
        )
