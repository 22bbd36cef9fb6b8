"""Ours, as an application uses it; certificates verified, every header checked."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask

from flask_outmail import Attachment, Mail, Message, Receipt, services
from flask_outmail.envelope import Envelope
from flask_outmail.setup_values import SetupValues
from flask_outmail.transports.memory import MemoryTransport

from ..job import FILE_NAME, FILE_TYPE, SENDER, Job, order

DISTRIBUTION = "flask-outmail"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    app = Flask("bench")
    app.config.update(_config(job))
    mail = Mail(app)
    data: Any = job.path if job.attachment_path else job.attachment()

    def message() -> Message:
        attachments = [Attachment(FILE_NAME, FILE_TYPE, data)] if data else None
        one = order()
        to = [(one.name, one.address)]
        return Message(one.subject, to, one.text, one.html, sender=SENDER, attachments=attachments)

    def build() -> None:
        for _ in range(job.count):
            # In the pieces in which it leaves; small messages are one.
            deque(Envelope.for_message(message()).content.chunks(), maxlen=0)

    def send_many() -> None:
        receipts = mail.send_many(message() for _ in range(job.count))
        if failed := [receipt.error for receipt in receipts if not receipt]:
            raise failed[0] or RuntimeError("not accepted")

    def into_memory() -> None:
        for _ in range(job.count):
            mail.send(message())

    def one_after_another() -> None:
        for _ in range(job.count):
            with app.app_context():
                mail.send(message())

    def connect() -> None:
        with mail.connect() as connection:
            for _ in range(job.count):
                connection.send(message())

    ways = {
        "build": build,
        "bulk": connect if job.way == "connect" else send_many,
        "web": one_after_another,
        "own-layers": into_memory,
        "graph": one_after_another if job.way == "one by one" else send_many,
        "memory": one_after_another,
    }
    try:
        if job.kind == "web":
            yield ways[job.kind]
        else:
            with app.app_context():
                if job.kind == "memory":
                    # What is loaded when it is first needed is not the attachment's doing.
                    mail.send(Message("first", [order().address], "first", sender=SENDER))
                yield ways[job.kind]
    finally:
        app.extensions["outmail"].connections.look_again()


def _config(job: Job) -> dict[str, Any]:
    if job.kind == "own-layers":
        services.register(_Memory())
        return {"OUTMAIL_SETUP": {"service": "memory", "from_address": SENDER}}
    if job.graph:
        world = json.loads(job.graph)
        setup = {"service": "microsoft365_graph", "cloud": "bench", "username": SENDER, "from_address": SENDER}
        setup |= {name: world[name] for name in ("tenant", "client_id", "client_secret")}
        return {"OUTMAIL_CLOUDS": {"bench": world["cloud"]}, "OUTMAIL_SETUP": setup, "OUTMAIL_CA_FILE": job.ca_file}
    config: dict[str, Any] = {"MAIL_SERVER": job.host, "MAIL_PORT": job.port}
    config |= {"OUTMAIL_SMTP_CONNECTIONS": job.connections, "OUTMAIL_SMTP_WINDOW": job.window}
    if job.security == "starttls":
        config |= {"MAIL_USE_TLS": True, "MAIL_USERNAME": job.username, "MAIL_PASSWORD": job.password}
        config["OUTMAIL_CA_FILE"] = job.ca_file
    return config


class _Memory:
    """A mail service that only remembers, so that what is measured is everything of ours above it."""

    name = "memory"
    label = "Memory"
    summary = "Sends nothing."
    recommended = False
    needs_auth_object = False
    locked: frozenset[str] = frozenset()

    def complete(self, values: SetupValues, environment: services.Environment) -> SetupValues:
        return values

    def problems(self, values: SetupValues, environment: services.Environment) -> dict[str, str]:
        return {}

    def mailbox(self, values: SetupValues) -> str:
        return ""

    def transport(self, values: SetupValues, environment: services.Environment) -> MemoryTransport:
        return _Remembers()

    def plan(self, values: SetupValues, environment: services.Environment) -> services.Plan:
        return services.Plan([])


class _Remembers(MemoryTransport):
    def deliver(self, envelope: Envelope) -> Receipt:
        deque(envelope.content.chunks(), maxlen=0)
        return super().deliver(envelope)
