"""OpenTelemetry spans (extra `[otel]`): one for each message handed over, below whatever span the request has.

    from flask_outmail.tracing import register
    register(app)

Attributes hold the connection, the mail service, the outcome, counts and codes; no address, no subject, no body.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flask import Flask

from .envelope import Receipt
from .errors import ConfigurationError, OutmailError
from .signals import delivery_settled, message_accepted, message_failed

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

_NS = 1_000_000_000


def register(app: Flask, provider: TracerProvider | None = None) -> None:
    """From now on records a span named "outmail send" for each message this application hands over in this process.

    The spans of a worker stand by themselves: the request that queued the message is over.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind, Status, StatusCode
    except ImportError:
        raise ConfigurationError("tracing needs `pip install flask-outmail[otel]`", code="extra_missing") from None
    tracer = trace.get_tracer("flask_outmail", tracer_provider=provider)

    def record(outcome: str, connection: str, elapsed_s: float, error: OutmailError | None, **facts: Any) -> None:
        # After the fact, with the times it really had: a message's fate must not hang on a tracer.
        ended_ns = time.time_ns()
        attributes = {"outmail.outcome": outcome, "outmail.connection": connection}
        attributes |= {f"outmail.{name}": value for name, value in facts.items() if value not in (None, "")}
        if error is not None:
            attributes["error.type"] = type(error).__name__
            attributes["outmail.code"] = error.code
        span = tracer.start_span(
            "outmail send",
            kind=SpanKind.CLIENT,
            start_time=ended_ns - int(elapsed_s * _NS),
            attributes=attributes,
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    def accepted(_: Any, receipt: Receipt, **__: Any) -> None:
        refused = len(receipt.refused) or None
        record("accepted", receipt.connection, receipt.elapsed_s, None, transport=receipt.transport,
               request_id=receipt.request_id, refused_count=refused)  # fmt: skip

    def failed(_: Any, error: OutmailError, connection: str, elapsed_s: float = 0.0, **__: Any) -> None:
        record("failed", connection, elapsed_s, error, transport=getattr(error, "transport", ""),
               request_id=getattr(error, "request_id", ""))  # fmt: skip

    def settled(
        _: Any,
        connection: str,
        state: str,
        receipt: Receipt | None = None,
        error: OutmailError | None = None,
        **__: Any,
    ) -> None:
        elapsed_s = receipt.elapsed_s if receipt else 0.0
        transport = receipt.transport if receipt else getattr(error, "transport", "")
        record(state, connection, elapsed_s, error, transport=transport)

    for signal, receiver in ((message_accepted, accepted), (message_failed, failed), (delivery_settled, settled)):
        signal.connect(receiver, app, weak=False)
