"""Prometheus metrics (extra `[prometheus]`): few series, and no address, subject or server's text in any label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask

from .envelope import Receipt
from .errors import ConfigurationError, DeliveryUnknown, OutmailError, RecipientsRefused
from .signals import delivery_settled, message_accepted, message_failed, message_held, message_queued

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Seconds; from a kept SMTP connection on the same machine to an upload of 150 MB.
_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


def register(app: Flask, registry: CollectorRegistry | None = None) -> None:
    """Counts from now on what this application sends, in this process.

    In prometheus_client's own registry, or the one given:

    `outmail_messages_total{connection,outcome}`: accepted, refused, failed, unknown, held, queued.
    `outmail_handover_seconds{connection,transport}`: how long servers took for what they accepted.
    `outmail_deliveries{state}` and `outmail_oldest_waiting_seconds`: the outbox, read from the database when scraped.

    Raises:
        ConfigurationError: prometheus_client is not installed.
    """
    try:
        from prometheus_client import REGISTRY, Counter, Histogram
    except ImportError:
        raise ConfigurationError("metrics need `pip install flask-outmail[prometheus]`", code="extra_missing") from None
    registry = registry or REGISTRY
    messages = Counter("outmail_messages", "Messages by outcome", ["connection", "outcome"], registry=registry)
    seconds = Histogram(
        "outmail_handover_seconds",
        "Time a server took to accept a message",
        ["connection", "transport"],
        registry=registry,
        buckets=_BUCKETS,
    )

    def accepted(_: Any, receipt: Receipt, **__: Any) -> None:
        messages.labels(receipt.connection, "accepted").inc()
        seconds.labels(receipt.connection, receipt.transport).observe(receipt.elapsed_s)

    def failed(_: Any, error: OutmailError, connection: str, **__: Any) -> None:
        messages.labels(connection, _outcome(error)).inc()

    def held(_: Any, connection: str, **__: Any) -> None:
        messages.labels(connection, "held").inc()

    def queued(_: Any, receipt: Receipt, **__: Any) -> None:
        messages.labels(receipt.connection, "queued").inc()

    def settled(_: Any, connection: str, state: str, receipt: Receipt | None = None, **__: Any) -> None:
        messages.labels(connection, state).inc()
        if receipt is not None:
            seconds.labels(connection, receipt.transport).observe(receipt.elapsed_s)

    for signal, receiver in (
        (message_accepted, accepted),
        (message_failed, failed),
        (message_held, held),
        (message_queued, queued),
        (delivery_settled, settled),
    ):
        # Kept alive by the registration, for as long as the application is.
        signal.connect(receiver, app, weak=False)
    registry.register(_Outbox(app))


def _outcome(error: OutmailError) -> str:
    if isinstance(error, DeliveryUnknown):
        return "unknown"
    return "refused" if isinstance(error, RecipientsRefused) or getattr(error, "fault", "") == "message" else "failed"


class _Outbox:
    """Asks the database when it is scraped; a database that does not answer leaves its series out."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def describe(self) -> list[Any]:
        return []  # so that registering asks no database

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        from .models import utc_now
        from .outbox import store

        engine = self._app.extensions["outmail"]
        if not engine.database:
            return
        try:
            with engine.database.session() as session:
                now = utc_now()
                found = store.counts(session)
                oldest_at = engine.alerting.look(session, now).oldest_at
        except OutmailError:
            return
        oldest_s = (now - oldest_at).total_seconds() if oldest_at else 0.0
        deliveries = GaugeMetricFamily("outmail_deliveries", "Deliveries by state", labels=["state"])
        for state, count in found.items():
            deliveries.add_metric([state], count)
        yield deliveries
        yield GaugeMetricFamily(
            "outmail_oldest_waiting_seconds", "Age of the oldest message that waits", value=oldest_s
        )
