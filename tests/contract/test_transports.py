"""The same questions, put to every transport. A new transport joins by one more entry in `TRANSPORTS`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any

import pytest

from flask_outmail import services, testing_contract
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import (
    AuthenticationFailed,
    DeliveryUnknown,
    MessageRejected,
    SenderRefused,
    Throttled,
    TransportUnavailable,
    UnsupportedFeature,
)
from flask_outmail.message import Message
from flask_outmail.settings import Settings
from flask_outmail.setup_values import setup_from_mapping
from flask_outmail.simulator import Fault, Simulator
from flask_outmail.transports.base import Transport
from flask_outmail.transports.memory import MemoryTransport

from ..conftest import graph_setup, smtp_setup, world


@dataclass
class Ready:
    """A transport with what a test needs to know about it."""

    transport: Transport
    simulator: Simulator
    kind: str

    def deliver(self, **fields: Any) -> Receipt:
        return self.transport.deliver(self.envelope(**fields))

    def envelope(self, **fields: Any) -> Envelope:
        defaults: dict[str, Any] = {
            "subject": "Order 17",
            "recipients": ["ann@customers.example"],
            "body": "Thank you.\n",
            "sender": self.simulator.mailbox,
            "date": 1_780_000_000.0,
        }
        return Envelope.for_message(Message(**{**defaults, **fields}))

    def received(self) -> dict[str, Any]:
        """recipient → the message as that person sees it, read by the standard parser."""
        if isinstance(self.transport, MemoryTransport):
            copies = [
                (one, bytes(envelope.content)) for envelope in self.transport.envelopes for one in envelope.recipients
            ]
        else:
            copies = [(mail.recipient, mail.raw) for mail in self.simulator.delivered]
        return {recipient: message_from_bytes(raw, policy=policy.default) for recipient, raw in copies}

    def fault(self, **faults: Fault) -> None:
        self.simulator.faults.add(faults["graph" if self.kind == "graph" else "smtp"])


def _service_transport(simulator: Simulator, setup: dict[str, Any]) -> Transport:
    environment = services.Environment.of(Settings.from_config(world(simulator)))
    values = setup_from_mapping(setup, "test")
    service = services.service(values.service)
    values = service.complete(values, environment)
    assert service.problems(values, environment) == {}
    return service.transport(values, environment)


TRANSPORTS: dict[str, Callable[[Simulator], Transport]] = {
    "graph": lambda sim: _service_transport(sim, graph_setup(sim)),
    "microsoft365_smtp": lambda sim: _service_transport(sim, graph_setup(sim, service="microsoft365_smtp")),
    "smtp_starttls": lambda sim: _service_transport(sim, smtp_setup(sim)),
    "smtp_tls": lambda sim: _service_transport(sim, smtp_setup(sim, port=sim.smtps_port, tls="tls")),
    "memory": lambda sim: MemoryTransport(),
}
ON_A_NETWORK = [name for name in TRANSPORTS if name != "memory"]


@pytest.fixture
def ready(simulator: Simulator, request: pytest.FixtureRequest) -> Iterator[Ready]:
    transport = TRANSPORTS[request.param](simulator)
    yield Ready(transport, simulator, request.param)
    transport.close()


everywhere = pytest.mark.parametrize("ready", TRANSPORTS, indirect=True)
on_a_network = pytest.mark.parametrize("ready", ON_A_NETWORK, indirect=True)
over_smtp = pytest.mark.parametrize("ready", [name for name in ON_A_NETWORK if name != "graph"], indirect=True)


@everywhere
def test_a_transport_has_a_name_and_can_be_closed_twice(ready: Ready) -> None:
    assert isinstance(ready.transport, Transport)
    assert ready.transport.name
    ready.transport.close()
    ready.transport.close()
    assert ready.deliver().accepted


@everywhere
def test_an_accepted_message_has_a_receipt_that_names_it(ready: Ready) -> None:
    envelope = ready.envelope()
    receipt = ready.transport.deliver(envelope)

    assert receipt.accepted and bool(receipt) and str(receipt) == ""
    assert receipt.message_id == envelope.message_id
    assert receipt.accepted_at is not None and receipt.accepted_at.tzinfo is not None
    assert receipt.transport == ready.transport.name
    assert receipt.refused == {}


@everywhere
def test_text_and_html_and_headers_arrive_as_they_were_written(ready: Ready) -> None:
    ready.deliver(
        subject="Ihre Bestellung – 17 € ✓",
        body="Grüße\r\n.\r\n..\r\nEnde\r\n",
        html="<p>Grüße</p>",
        extra_headers={"List-Unsubscribe": "<https://shop.example/u/1>", "In-Reply-To": "<1@shop.example>"},
    )

    mail = ready.received()["ann@customers.example"]
    assert mail["Subject"] == "Ihre Bestellung – 17 € ✓"
    assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n") == "Grüße\n.\n..\nEnde\n"
    assert mail.get_body(("html",)).get_content().strip() == "<p>Grüße</p>"
    assert mail["List-Unsubscribe"] == "<https://shop.example/u/1>"
    assert mail["In-Reply-To"] == "<1@shop.example>"


@everywhere
def test_bcc_is_delivered_but_not_shown(ready: Ready) -> None:
    ready.deliver(recipients=["ann@customers.example"], cc=["cy@customers.example"], bcc=["bob@customers.example"])

    received = ready.received()
    assert set(received) == {"ann@customers.example", "cy@customers.example", "bob@customers.example"}
    for mail in received.values():
        assert "bob@customers.example" not in mail.as_string()


@everywhere
def test_a_message_to_hidden_recipients_alone_is_delivered(ready: Ready) -> None:
    ready.deliver(recipients=[], bcc=["bob@customers.example"])
    assert list(ready.received()) == ["bob@customers.example"]


@everywhere
def test_attachments_arrive_byte_for_byte_with_their_names(ready: Ready) -> None:
    message = Message("Invoice", ["ann@customers.example"], "See below", sender=ready.simulator.mailbox)
    message.attach("Rechnung für Ännchen.pdf", "application/pdf", bytes(range(256)) * 40)
    message.attach("leer.bin", "application/octet-stream", b"")
    ready.transport.deliver(Envelope.for_message(message))

    first, second = ready.received()["ann@customers.example"].iter_attachments()
    assert first.get_filename() == "Rechnung für Ännchen.pdf"
    assert first.get_content() == bytes(range(256)) * 40
    assert second.get_content() == b""


@everywhere
def test_display_names_in_every_script_arrive(ready: Ready) -> None:
    ready.deliver(recipients=["Ёлка, Ивановна <ann@customers.example>", ("山田", "ken@customers.example")])

    mail = ready.received()["ann@customers.example"]
    assert [one.display_name for one in mail["To"].addresses] == ["Ёлка, Ивановна", "山田"]


@everywhere
def test_the_same_transport_serves_several_threads_at_once(ready: Ready) -> None:
    def send(number: int) -> None:
        ready.deliver(recipients=[f"reader{number}@customers.example"])

    # Three: the number of connections that Microsoft allows to one mailbox.
    threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(ready.received()) == 3


@on_a_network
def test_an_answer_lost_after_the_message_is_unknown_and_never_repeated(ready: Ready) -> None:
    ready.fault(
        graph=Fault(endpoint="sendMail", happens=True, drop=True),
        smtp=Fault(endpoint="smtp.dot", happens=True, drop=True),
    )
    with pytest.raises(DeliveryUnknown) as caught:
        ready.deliver()
    assert not caught.value.retryable
    # It did arrive, once: sending it again would have made two.
    assert len(ready.simulator.delivered) == 1


@on_a_network
def test_a_time_out_after_the_message_is_unknown(ready: Ready) -> None:
    ready.fault(graph=Fault(endpoint="sendMail", delay_s=3), smtp=Fault(endpoint="smtp.dot", delay_s=3))
    with pytest.raises(DeliveryUnknown):
        ready.deliver()
    # It arrives all the same, later.
    assert len(ready.simulator.wait_for(1)) == 1


@on_a_network
def test_a_request_to_wait_is_no_acceptance_and_may_be_repeated(ready: Ready) -> None:
    ready.fault(
        graph=Fault(endpoint="sendMail", status=429, code="ApplicationThrottled", retry_after=1),
        smtp=Fault(endpoint="smtp.mail", status=451, code="4.7.0", message="Temporary server error"),
    )
    with pytest.raises(Throttled) as caught:
        ready.deliver()
    assert caught.value.retryable
    assert ready.simulator.delivered == []
    assert ready.deliver().accepted


@on_a_network
def test_a_from_that_is_not_allowed_is_refused_for_good(ready: Ready) -> None:
    with pytest.raises(SenderRefused) as caught:
        ready.deliver(sender="anna@contoso.example")
    assert not caught.value.retryable
    assert caught.value.sender == "anna@contoso.example"
    assert caught.value.fault == "message"
    assert ready.simulator.delivered == []


@on_a_network
def test_a_credential_that_is_refused_is_the_connections_fault(simulator: Simulator, ready: Ready) -> None:
    wrong = {"client_secret": "wrong~secret.0000000000000000000000000000"}
    setups = {
        "graph": graph_setup(simulator, **wrong),
        "microsoft365_smtp": graph_setup(simulator, service="microsoft365_smtp", **wrong),
        "smtp_starttls": smtp_setup(simulator, password="wrong"),
        "smtp_tls": smtp_setup(simulator, password="wrong", port=simulator.smtps_port, tls="tls"),
    }
    transport = _service_transport(simulator, setups[ready.kind])
    with pytest.raises(AuthenticationFailed) as caught:
        transport.deliver(ready.envelope())
    assert caught.value.fault == "connection"
    assert not caught.value.retryable
    assert "wrong" not in repr(caught.value) + str(caught.value) + caught.value.detail


@on_a_network
def test_a_server_that_is_not_there_leaves_nothing_and_may_be_tried_again(simulator: Simulator, ready: Ready) -> None:
    nowhere = {
        "authority": "https://localhost:9",
        "graph": "https://localhost:9",
        "smtp_host": "localhost:9",
        "smtp_scope": "x",
    }
    config = world(simulator) | {"OUTMAIL_CLOUDS": {"simulator": nowhere}}
    environment = services.Environment.of(Settings.from_config(config))
    setup = graph_setup(simulator) if ready.kind == "graph" else smtp_setup(simulator, port=9)
    values = setup_from_mapping(setup, "test")
    service = services.service(values.service)
    transport = service.transport(service.complete(values, environment), environment)
    with pytest.raises(TransportUnavailable) as caught:
        transport.deliver(ready.envelope())
    assert caught.value.retryable
    assert isinstance(caught.value, ConnectionRefusedError)


@over_smtp
def test_a_message_above_the_servers_limit_is_refused_before_it_leaves(ready: Ready) -> None:
    ready.simulator.behaviour.smtp_size_limit_bytes = 100_000
    message = Message("Big", ["ann@customers.example"], "x", sender=ready.simulator.mailbox)
    message.attach("big.bin", "application/octet-stream", bytes(3_500_000))
    with pytest.raises(MessageRejected) as caught:
        ready.transport.deliver(Envelope.for_message(message))
    assert caught.value.code == "message_too_large"
    assert ready.simulator.delivered == []


@over_smtp
def test_a_refused_recipient_does_not_stop_the_others(ready: Ready) -> None:
    ready.simulator.faults.add(
        Fault(
            endpoint="smtp.rcpt", status=550, code="5.1.1", message="User unknown", recipient="nobody@customers.example"
        )
    )
    receipt = ready.deliver(recipients=["ann@customers.example", "nobody@customers.example"])

    assert receipt.accepted
    assert list(receipt.refused) == ["nobody@customers.example"]
    assert receipt.refused["nobody@customers.example"].code == 550
    assert list(ready.received()) == ["ann@customers.example"]


@over_smtp
def test_a_connection_cut_before_the_final_dot_left_nothing(ready: Ready) -> None:
    # Twice: after the first cut the message is tried once more, because it is certain that nothing left.
    ready.simulator.faults.add(Fault(endpoint="smtp.rcpt", drop=True, times=2))
    with pytest.raises(TransportUnavailable):
        ready.deliver()
    assert ready.simulator.delivered == []
    assert ready.deliver().accepted


@over_smtp
def test_an_address_outside_ascii_is_sent_where_the_server_agrees_and_refused_where_not(ready: Ready) -> None:
    assert ready.deliver(recipients=["jörg@customers.example"]).accepted
    ready.simulator.behaviour.smtp_utf8 = False
    ready.transport.close()  # what a server offers is asked once for each connection
    with pytest.raises(UnsupportedFeature):
        ready.deliver(recipients=["jörg@customers.example"])


@pytest.mark.parametrize("hook", ["received", "unreachable", "lose_next_answer", "ask_to_wait"])
def test_a_hook_that_was_not_overridden_is_named(hook: str) -> None:
    with pytest.raises(TypeError, match=f"override `{hook}`"):
        getattr(testing_contract.NetworkTransportContract(), hook)()
