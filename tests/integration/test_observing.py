"""Metrics and spans: what is counted, and that nothing private or unbounded is among it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from flask_outmail import ConfigurationError, OutmailError, SetupNotVerified, metrics, tracing
from flask_outmail.models import Base
from flask_outmail.simulator import Fault, Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message
from .test_holding import activate, smtp_values


def outcomes(mail: Any, simulator: Simulator) -> None:
    """One message of each kind."""
    mail.send(make_message())
    for fault in (
        Fault(endpoint="sendMail", status=403, code="ErrorAccessDenied"),
        Fault(endpoint="sendMail", status=504, code="GatewayTimeout"),
        Fault(endpoint="sendMail", status=400, code="ErrorInvalidRecipients"),
    ):
        simulator.faults.add(fault)
        with pytest.raises(OutmailError):
            mail.send(make_message(subject="A private subject"))


def test_messages_are_counted_by_connection_and_outcome(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator), db=True)
    registry = CollectorRegistry()
    metrics.register(app, registry)
    outcomes(mail, simulator)
    text = generate_latest(registry).decode()
    for outcome in ("accepted", "failed", "unknown", "refused"):
        assert f'outmail_messages_total{{connection="primary",outcome="{outcome}"}} 1.0' in text
    assert 'outmail_handover_seconds_count{connection="primary",transport="microsoft365_graph"} 1.0' in text
    assert 'outmail_deliveries{state="accepted"} 1.0' in text
    assert "customers.example" not in text and "private" not in text


def test_the_queue_is_read_when_it_is_scraped(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator), db=True, OUTMAIL_DELIVERY="outbox")
    registry = CollectorRegistry()
    metrics.register(app, registry)
    mail.send(make_message())
    before = generate_latest(registry).decode()
    assert 'outmail_deliveries{state="queued"} 1.0' in before
    assert 'outmail_messages_total{connection="primary",outcome="queued"} 1.0' in before
    assert app.test_cli_runner().invoke(args=["outmail", "worker", "--drain"]).exit_code == 0
    after = generate_latest(registry).decode()
    assert 'outmail_deliveries{state="accepted"} 1.0' in after
    assert "outmail_oldest_waiting_seconds 0.0" in after
    assert 'outmail_messages_total{connection="primary",outcome="accepted"} 1.0' in after


@pytest.mark.parametrize("db", [True, False])
def test_a_database_that_does_not_answer_leaves_its_series_out(
    make_app: MakeApp, simulator: Simulator, db: bool
) -> None:
    app, mail = make_app(graph_setup(simulator), db=db)
    registry = CollectorRegistry()
    metrics.register(app, registry)
    mail.send(make_message())
    if db:
        Base.metadata.drop_all(app.extensions["sqlalchemy"].engine)
    text = generate_latest(registry).decode()
    assert "outmail_deliveries" not in text
    assert 'outmail_messages_total{connection="primary",outcome="accepted"} 1.0' in text


def test_what_is_held_and_what_becomes_of_it_are_counted_and_traced(
    make_app: MakeApp, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    app, mail = make_app(db=True)
    registry, memory = CollectorRegistry(), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    metrics.register(app, registry)
    tracing.register(app, provider)
    activate(app, smtp_values(simulator))
    for recipient in ("ann@customers.example", "gone@customers.example"):
        with pytest.raises(SetupNotVerified):
            mail.send(make_message(recipients=[recipient]))
    memory.clear()
    activate(app, smtp_values(simulator), verified=True)
    simulator.faults.preset("smtp-rcpt-550", recipient="gone@customers.example")
    assert engine_of(app).releasing.release("primary") == (1, 1)
    text = generate_latest(registry).decode()
    for outcome, count in (("held", 2), ("refused", 1), ("accepted", 1)):
        assert f'outmail_messages_total{{connection="primary",outcome="{outcome}"}} {count}.0' in text
    assert 'outmail_handover_seconds_count{connection="primary",transport="smtp"} 1.0' in text
    spans = {span.attributes["outmail.outcome"]: dict(span.attributes) for span in memory.get_finished_spans()}
    assert set(spans) == {"refused", "accepted"}
    assert spans["accepted"]["outmail.transport"] == "smtp" and spans["refused"]["outmail.code"]
    assert "a receiver of a signal raised" not in caplog.text
    provider.shutdown()


@pytest.mark.parametrize(
    ("register", "module", "extra"),
    [(metrics.register, "prometheus_client", "prometheus"), (tracing.register, "opentelemetry", "otel")],
)
def test_a_missing_extra_is_named(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, register: Any, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=rf"flask-outmail\[{extra}\]"):
        register(make_app()[0])


def test_one_application_is_not_counted_as_another(make_app: MakeApp, simulator: Simulator) -> None:
    first, _ = make_app(graph_setup(simulator))
    registry = CollectorRegistry()
    metrics.register(first, registry)
    _, other = make_app(graph_setup(simulator))
    other.send(make_message())
    assert "outcome=" not in generate_latest(registry).decode()


def test_each_message_is_a_span_below_that_of_the_request(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator))
    provider, memory = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracing.register(app, provider)
    with provider.get_tracer("test").start_as_current_span("request") as request:
        outcomes(mail, simulator)
    spans = [span for span in memory.get_finished_spans() if span.name == "outmail send"]
    assert [span.attributes["outmail.outcome"] for span in spans] == ["accepted", "failed", "failed", "failed"]
    assert all(span.parent.span_id == request.get_span_context().span_id for span in spans)
    assert spans[0].end_time > spans[0].start_time and spans[0].attributes["outmail.request_id"]
    assert spans[1].status.status_code is StatusCode.ERROR
    assert spans[1].attributes["outmail.code"] == "ErrorAccessDenied"
    assert "private" not in str([dict(span.attributes) for span in spans])
    provider.shutdown()
