"""The questions every transport must answer, ready to be put to one that you wrote.

    class TestPostbox(TransportContract):
        @pytest.fixture
        def transport(self): ...          # your transport, pointed at a server of the test's own

        def received(self): ...           # recipient → the bytes that this person's copy holds

`NetworkTransportContract` asks further what happens when the server is away, asks to wait, or loses an answer: that is
where mail is lost or sent twice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from .envelope import Envelope, Receipt
from .errors import DeliveryUnknown, OutmailError, Throttled, TransportUnavailable
from .message import Message
from .transports.base import Transport

ANN, BOB, CY = "ann@customers.example", "bob@customers.example", "cy@customers.example"


class TransportContract:
    """For any transport. Override `transport` and `received`, and `sender` if the server demands one."""

    #: The From address of the messages.
    sender = "shop@example.com"

    @pytest.fixture
    def transport(self) -> Any:
        """The transport to ask; close it after the test."""
        raise TypeError("override the fixture `transport`")

    def received(self) -> Mapping[str, bytes]:
        """What each recipient has got so far."""
        raise TypeError("override `received`")

    # -- what the questions are asked with ---------------------------------------------------------------------------

    def envelope(self, **fields: Any) -> Envelope:
        given = {"subject": "Order 17", "recipients": [ANN], "body": "Thank you.\n", "sender": self.sender}
        return Envelope.for_message(Message(**{**given, "date": 1_780_000_000.0, **fields}))

    def deliver(self, transport: Transport, **fields: Any) -> Receipt:
        return transport.deliver(self.envelope(**fields))

    def read(self, recipient: str = ANN) -> Any:
        """One person's copy, read by the standard library's parser."""
        return message_from_bytes(self.received()[recipient], policy=policy.default)

    # -- the questions -----------------------------------------------------------------------------------------------

    def test_it_has_a_name_and_can_be_closed_twice_and_used_again(self, transport: Transport) -> None:
        assert isinstance(transport, Transport)
        assert transport.name
        transport.close()
        transport.close()
        assert self.deliver(transport).accepted

    def test_an_accepted_message_has_a_receipt_that_names_it(self, transport: Transport) -> None:
        envelope = self.envelope()
        receipt = transport.deliver(envelope)
        assert receipt.accepted and bool(receipt) and str(receipt) == ""
        assert (receipt.message_id, receipt.transport) == (envelope.message_id, transport.name)
        assert receipt.accepted_at is not None and receipt.accepted_at.tzinfo is not None
        assert receipt.refused == {}

    def test_text_html_and_headers_arrive_as_they_were_written(self, transport: Transport) -> None:
        self.deliver(
            transport,
            subject="Ihre Bestellung – 17 € ✓",
            body="Grüße\r\n.\r\n..\r\nEnde\r\n",
            html="<p>Grüße</p>",
            extra_headers={"List-Unsubscribe": "<https://shop.example/u/1>", "In-Reply-To": "<1@shop.example>"},
        )
        mail = self.read()
        assert mail["Subject"] == "Ihre Bestellung – 17 € ✓"
        assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n") == "Grüße\n.\n..\nEnde\n"
        assert mail.get_body(("html",)).get_content().strip() == "<p>Grüße</p>"
        assert mail["List-Unsubscribe"] == "<https://shop.example/u/1>"
        assert mail["In-Reply-To"] == "<1@shop.example>"

    def test_bcc_is_delivered_but_not_shown(self, transport: Transport) -> None:
        self.deliver(transport, recipients=[ANN], cc=[CY], bcc=[BOB])
        copies = self.received()
        assert set(copies) == {ANN, BOB, CY}
        assert not any(BOB.encode() in copy for copy in copies.values())

    def test_a_message_to_hidden_recipients_alone_is_delivered(self, transport: Transport) -> None:
        self.deliver(transport, recipients=[], bcc=[BOB])
        assert list(self.received()) == [BOB]

    def test_attachments_arrive_byte_for_byte_with_their_names(self, transport: Transport, tmp_path: Path) -> None:
        on_disk = tmp_path / "on disk.bin"
        on_disk.write_bytes(bytes(range(256)) * 1000)
        message = Message("Invoice", [ANN], "See below", sender=self.sender)
        message.attach("Rechnung für Ännchen.pdf", "application/pdf", bytes(range(256)) * 40)
        message.attach("leer.bin", "application/octet-stream", b"")
        message.attach("disk.bin", "application/octet-stream", on_disk)
        transport.deliver(Envelope.for_message(message))
        first, second, third = self.read().iter_attachments()
        assert (first.get_filename(), first.get_content()) == ("Rechnung für Ännchen.pdf", bytes(range(256)) * 40)
        assert second.get_content() == b""
        assert third.get_content() == on_disk.read_bytes()

    def test_display_names_in_every_script_arrive(self, transport: Transport) -> None:
        self.deliver(transport, recipients=[f"Ёлка, Ивановна <{ANN}>", ("山田", BOB)])
        assert [one.display_name for one in self.read()["To"].addresses] == ["Ёлка, Ивановна", "山田"]

    def test_several_threads_may_use_it_at_once(self, transport: Transport) -> None:
        people = [f"reader{number}@customers.example" for number in range(3)]
        threads = [
            threading.Thread(target=self.deliver, args=(transport,), kwargs={"recipients": [one]}) for one in people
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert set(self.received()) == set(people)


class NetworkTransportContract(TransportContract):
    """For a transport that reaches its server over a network. Override the three hooks too."""

    def unreachable(self) -> Transport:
        """A transport like the one under test, pointed at a port where nothing listens."""
        raise TypeError("override `unreachable`")

    def lose_next_answer(self) -> None:
        """Makes the server take the next message and hang up without an answer."""
        raise TypeError("override `lose_next_answer`")

    def ask_to_wait(self) -> None:
        """Makes the server refuse the next message with a request to try again later."""
        raise TypeError("override `ask_to_wait`")

    def test_a_server_that_is_away_leaves_nothing_and_may_be_tried_again(self) -> None:
        with pytest.raises(TransportUnavailable) as caught:
            self.deliver(self.unreachable())
        assert caught.value.retryable

    def test_an_answer_lost_after_the_message_is_unknown_and_never_repeated(self, transport: Transport) -> None:
        self.lose_next_answer()
        with pytest.raises(DeliveryUnknown) as caught:
            self.deliver(transport)
        assert not caught.value.retryable
        assert list(self.received()) == [ANN]

    def test_a_request_to_wait_is_no_acceptance_and_may_be_repeated(self, transport: Transport) -> None:
        self.ask_to_wait()
        with pytest.raises(Throttled) as caught:
            self.deliver(transport)
        assert caught.value.retryable
        assert self.received() == {}
        assert self.deliver(transport).accepted

    def test_no_error_shows_the_message(self, transport: Transport) -> None:
        self.ask_to_wait()
        with pytest.raises(OutmailError) as caught:
            self.deliver(transport, subject="A private subject", body="A private word")
        assert "private" not in repr(caught.value) + str(caught.value) + caught.value.detail
