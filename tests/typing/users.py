"""Code as users write it, read by the type checkers and never run: what it says must keep its meaning for them.

`assert_type` fails when a public name begins to give something else, or nothing that a checker knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from celery import Celery
from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy
from typing_extensions import assert_type

from flask_outmail import (
    Attachment,
    DeliveryError,
    DeliveryUnknown,
    Mail,
    Mailable,
    Message,
    Receipt,
    RecipientsRefused,
    SetupNotVerified,
    Throttled,
    message_accepted,
    message_from_template,
)
from flask_outmail.celery import register
from flask_outmail.diagnosis.steps import Step
from flask_outmail.envelope import Envelope
from flask_outmail.errors import OutmailError
from flask_outmail.outbox.store import Queued
from flask_outmail.testing_outbox import Outbox
from flask_outmail.transports.base import BulkTransport, Transport

db = SQLAlchemy()
mail = Mail()


def create_app() -> Flask:
    app = Flask(__name__)
    db.init_app(app)
    mail.init_app(app, db)
    register(Celery(), app)
    return app


@mail.access_control
def may_administer() -> bool | Response:
    response: bool | Response = Response("Log in first", 401)
    return response


assert_type(may_administer(), bool | Response)


@mail.actor
def who() -> str:
    return "ann"


@mail.choose_connection
def connection_of(message: Message) -> str | None:
    return "billing" if message.subject.startswith("Invoice") else None


@mail.preview("welcome")
def welcome() -> Message:
    return message_from_template("welcome", {"name": "Ann"}, recipients=["ann@example.com"])


def messages() -> None:
    message = Message(
        "Hello", ["ann@example.com", ("Bob", "bob@example.com")], "Hi", sender=("Shop", "shop@example.com")
    )
    message.attach("invoice.pdf", "application/pdf", b"%PDF")
    message.attach(data=Path("report.csv"))
    message.attachments.append(Attachment("logo.png", "image/png", b"", content_id="logo"))
    assert_type(message.as_bytes(), bytes)
    assert_type(message.subject, str)


def sending(message: Message) -> str:
    try:
        receipt = mail.send(message, via="billing")
    except RecipientsRefused as exc:
        return ", ".join(exc.recipients)
    except Throttled as exc:
        assert_type(exc.retry_after_s, float | None)
        return exc.code
    except DeliveryUnknown:
        return "may have arrived"
    except SetupNotVerified as exc:
        assert_type(exc.held, bool)
        return exc.advice
    except DeliveryError as exc:
        assert_type(exc.retryable, bool)
        return exc.detail
    assert_type(receipt, Receipt)
    assert_type(receipt.accepted_at, datetime | None)
    assert_type(mail.send(subject="Hi", recipients=["ann@example.com"], body="Hi"), Receipt)
    assert_type(mail.send_many([message]), list[Receipt])
    assert_type(mail.enqueue(message, at=datetime.now(timezone.utc), key="order-17"), Queued)
    return receipt.message_id


async def in_an_async_view(message: Message) -> None:
    assert_type(await mail.asend(message), Receipt)


def as_flask_mail_users_do(message: Message) -> None:
    with mail.connect() as connection, mail.record_messages() as outbox:
        connection.send(message)
    assert_type(outbox[0].subject, str)


def diagnosing() -> None:
    assert_type(mail.diagnose(test_message_to="ann@example.com"), Iterator[Step])


@message_accepted.connect
def count(app: Flask, message: Message, receipt: Receipt) -> None: ...


@dataclass
class Welcome(Mailable):
    template = "welcome"
    name: str


def by_class() -> None:
    assert_type(mail.send(Welcome("Ann"), recipients=["ann@example.com"]), Receipt)
    assert_type(Welcome("Ann").message(recipients=["ann@example.com"]), Message)


def test_of_an_application(outbox: Outbox) -> None:
    outbox.none(subject="Goodbye")


class Postbox:
    name = "postbox"

    def deliver(self, envelope: Envelope) -> Receipt:
        return Receipt(accepted=True, transport=self.name, message_id=envelope.message_id)

    def close(self) -> None: ...


class FastPostbox(Postbox):
    def deliver_many(self, envelopes: Iterable[Envelope]) -> Iterator[Receipt | OutmailError]:
        for one in envelopes:
            yield self.deliver(one)


transport: Transport = Postbox()
bulk: BulkTransport = FastPostbox()
