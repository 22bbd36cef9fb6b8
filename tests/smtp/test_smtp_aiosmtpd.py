"""Against aiosmtpd, which somebody else wrote: what it parsed is what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from flask_outmail import Message
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import RecipientsRefused
from flask_outmail.transports.smtp import SmtpSettings, SmtpTransport


class Handler:
    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler()
    controller = Controller(handler, hostname="127.0.0.1", port=0, enable_SMTPUTF8=True)
    # Port 0: aiosmtpd would look for itself there, so its own start is told where it listens.
    controller.port = _free_port()
    controller.start()
    handler.port = controller.port  # type: ignore[attr-defined]
    yield handler
    controller.stop()


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def mail(number: int, **fields: Any) -> Envelope:
    defaults: dict[str, Any] = {
        "subject": f"Nr {number}",
        "recipients": [f"reader{number}@y.example"],
        "body": "Grüße\n.\n..\n.x\n",
        "sender": "shop@x.example",
    }
    return Envelope.for_message(Message(**{**defaults, **fields}))


def test_a_bulk_is_parsed_as_it_was_meant(handler: Any) -> None:
    transport = SmtpTransport(SmtpSettings("127.0.0.1", handler.port, tls="none", timeout_s=5, connections=1))
    envelopes = [mail(number) for number in range(20)]
    envelopes[3] = mail(3, recipients=["nobody@y.example"])
    envelopes[5] = mail(5, recipients=["ann@y.example", "nobody@y.example", "jörg@y.example"])
    outcomes = list(transport.deliver_many(envelopes))
    transport.close()

    assert isinstance(outcomes[3], RecipientsRefused)
    assert isinstance(outcomes[5], Receipt) and list(outcomes[5].refused) == ["nobody@y.example"]
    assert sum(isinstance(one, Receipt) for one in outcomes) == 19
    sent = [one for number, one in enumerate(envelopes) if number != 3]
    # With DATA a message ends with a line end, whether it had one or not.
    assert [one.content for one in handler.envelopes] == [bytes(one.content).rstrip() + b"\r\n" for one in sent]
    assert handler.envelopes[4].rcpt_tos == ["ann@y.example", "jörg@y.example"]
    assert {one.mail_from for one in handler.envelopes} == {"shop@x.example"}
