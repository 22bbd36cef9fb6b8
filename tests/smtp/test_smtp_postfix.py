"""Against a Postfix that was not written for us, with log-ins by Dovecot."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_outmail import Attachment, Message
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import AuthenticationFailed, MessageRejected, RecipientsRefused, UnsupportedFeature
from flask_outmail.settings import DkimKey
from flask_outmail.transports.smtp import SmtpSession, SmtpSettings, SmtpTransport

from ..servers.postfix import PASSWORD, USERNAME, Postfix
from .test_smtp_dkim import KEY, dns

Connect = Callable[..., SmtpTransport]
PORTS = ["smtp_port", "submission_port", "smtps_port", "plain_port"]


class Tokens:
    """Gives a token that was good once, and a new one when that is refused."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    def token(self, *, refused: str = "") -> str:
        if refused and self.tokens[0] == refused and len(self.tokens) > 1:
            self.tokens.pop(0)
        return self.tokens[0]


def settings_for(postfix: Postfix, port: str, **changes: Any) -> SmtpSettings:
    facts: dict[str, Any] = {"tls": "none"}
    if port in ("submission_port", "smtps_port"):
        facts = {"tls": "tls" if port == "smtps_port" else "starttls", "username": USERNAME, "password": PASSWORD}
    facts |= {"ca_file": str(postfix.ca_file), "timeout_s": 20.0} | changes
    return SmtpSettings("localhost", getattr(postfix, port), **facts)


@pytest.fixture
def connect(postfix: Postfix) -> Iterator[Connect]:
    transports: list[SmtpTransport] = []

    def make(port: str = "smtp_port", **changes: Any) -> SmtpTransport:
        transports.append(SmtpTransport(settings_for(postfix, port, **changes)))
        return transports[-1]

    yield make
    for one in transports:
        one.close()


def mail(number: int = 0, **fields: Any) -> Envelope:
    defaults: dict[str, Any] = {
        "subject": f"Nr {number}",
        "recipients": [f"reader{number}@customers.example"],
        "body": "Grüße\n.\n..\nEnde\n",
        "html": "<p>Grüße</p>",
        "sender": USERNAME,
    }
    return Envelope.for_message(Message(**{**defaults, **fields}))


def to(postfix: Postfix, count: int) -> Counter[str]:
    return Counter(str(one["X-Original-To"]) for one in postfix.wait_for(count))


@pytest.mark.parametrize("port", PORTS)
def test_messages_arrive_once_and_whole(postfix: Postfix, connect: Connect, port: str) -> None:
    transport = connect(port)
    for number in range(3):
        receipt = transport.deliver(mail(number))
        assert receipt.accepted and receipt.request_id
    assert to(postfix, 3) == Counter(f"reader{number}@customers.example" for number in range(3))
    text = postfix.received()[0].get_body(("plain",))
    assert text is not None and text.get_content().replace("\r\n", "\n") == "Grüße\n.\n..\nEnde\n"


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("changes", [{"connections": 1}, {"connections": 4, "window": 3}, {"chunking": False}], ids=str)
def test_a_bulk_arrives_once_each_in_order(
    postfix: Postfix, connect: Connect, port: str, changes: dict[str, Any]
) -> None:
    envelopes = [mail(number) for number in range(40)]
    outcomes = list(connect(port, **changes).deliver_many(envelopes))
    assert all(isinstance(one, Receipt) for one in outcomes), [one for one in outcomes if not isinstance(one, Receipt)]
    assert [one.message_id for one in outcomes if isinstance(one, Receipt)] == [one.message_id for one in envelopes]
    assert to(postfix, 40) == Counter(f"reader{number}@customers.example" for number in range(40))


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("window", [1, 3])
def test_refused_and_busy_recipients_are_told_apart_from_the_others(
    postfix: Postfix, connect: Connect, port: str, window: int
) -> None:
    transport = connect(port, window=window, connections=1)
    mixed = ["ann@customers.example", "nobody@customers.example", "busy@customers.example", "bob@customers.example"]
    envelopes = [
        mail(1),
        mail(2, recipients=mixed),
        mail(3, recipients=["nobody@customers.example"]),
        mail(4, recipients=["busy@customers.example"]),
        mail(5),
    ]
    outcomes = list(transport.deliver_many(envelopes))
    assert [type(one).__name__ for one in outcomes] == ["Receipt", "Receipt", *["RecipientsRefused"] * 2, "Receipt"]
    partial, never, later = outcomes[1:4]
    assert isinstance(partial, Receipt)
    assert {address: one.code for address, one in partial.refused.items()} == {mixed[1]: 550, mixed[2]: 450}
    assert isinstance(never, RecipientsRefused) and not never.retryable
    assert isinstance(later, RecipientsRefused) and later.retryable
    expected = ["reader1@customers.example", mixed[0], mixed[3], "reader5@customers.example"]
    assert to(postfix, 4) == Counter(expected)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_every_way_to_log_in_with_a_password_works(postfix: Postfix, mechanism: str) -> None:
    session = SmtpSession(settings_for(postfix, "submission_port"))
    try:
        session.connect()
        session.greet()
        assert session.client.auth_mechanisms == ()  # nothing to log in with before TLS
        session.secure()
        session.client.features["AUTH"] = mechanism
        assert session.log_in() == mechanism
    finally:
        session.close()


@pytest.mark.parametrize("port", ["submission_port", "smtps_port"])
def test_a_wrong_password_is_the_connections_fault_and_not_shown(connect: Connect, port: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        connect(port, password="wrong-password-17").deliver(mail())
    assert "wrong-password" not in repr(caught.value) + caught.value.detail


@pytest.mark.parametrize("port", ["submission_port", "smtps_port"])
def test_a_token_logs_in_however_long_it_is(postfix: Postfix, connect: Connect, port: str) -> None:
    token = "eyJ0eXAi." + "Ab1_-" * 380
    postfix.accept_token(token)
    transport = connect(port, password="", tokens=Tokens(token))
    assert transport.deliver(mail()).accepted


def test_a_token_that_is_refused_is_renewed_once(postfix: Postfix, connect: Connect) -> None:
    old, new = "old-token-" + "x" * 900, "new-token-" + "y" * 900
    postfix.refuse_token(old)
    postfix.accept_token(new)
    assert connect("submission_port", password="", tokens=Tokens(old, new)).deliver(mail()).accepted


def test_a_token_that_stays_refused_is_told_and_not_shown(connect: Connect) -> None:
    bad = "bad-token-" + "z1" * 400
    with pytest.raises(AuthenticationFailed) as caught:
        connect("submission_port", password="", tokens=Tokens(bad)).deliver(mail())
    assert "bad-token" not in repr(caught.value) + caught.value.detail


def test_a_large_attachment_streams_from_disk(postfix: Postfix, connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 20_000)
    for port in ("smtp_port", "plain_port", "submission_port"):
        postfix.empty()
        attachment = Attachment("big.bin", "application/octet-stream", path)
        connect(port).deliver(mail(attachments=[attachment]))
        [received] = postfix.wait_for(1)
        [part] = received.iter_attachments()
        assert part.get_content() == path.read_bytes()


def test_what_is_above_the_servers_limit_does_not_leave(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(25_000_000))
    with pytest.raises(MessageRejected) as caught:
        connect().deliver(mail(attachments=[Attachment("big.bin", "application/octet-stream", path)]))
    assert caught.value.code == "message_too_large"


def test_delivery_notices_are_asked_for_where_they_are_offered(postfix: Postfix, connect: Connect) -> None:
    options = {"mail_options": ["RET=HDRS", "ENVID=order17"], "rcpt_options": ["NOTIFY=FAILURE,DELAY"]}
    assert connect().deliver(mail(**options)).accepted
    with pytest.raises(UnsupportedFeature) as caught:
        connect("plain_port").deliver(mail(**options))
    assert caught.value.feature == "DSN"


def test_addresses_outside_ascii_arrive(postfix: Postfix, connect: Connect) -> None:
    connect().deliver(mail(recipients=["jörg@customers.example"]))
    assert to(postfix, 1) == Counter(["jörg@customers.example"])


def test_bounces_go_where_the_envelope_says(postfix: Postfix, connect: Connect) -> None:
    message = Message("x", ["ann@customers.example"], "x", sender=USERNAME)
    connect().deliver(Envelope.for_message(message, sender="bounces+17@customers.example"))
    [received] = postfix.wait_for(1)
    assert received["Return-Path"] == "<bounces+17@customers.example>"
    assert received["From"] == USERNAME


def test_a_signature_survives_a_real_server(postfix: Postfix, connect: Connect, tmp_path: Path) -> None:
    import dkim

    path = tmp_path / "some.bin"
    path.write_bytes(bytes(range(256)) * 2000)
    transport = connect(dkim=DkimKey("customers.example", "s1", KEY))
    transport.deliver(mail(1))
    transport.deliver(mail(2, attachments=[Attachment("some.bin", "application/octet-stream", path)]))
    postfix.wait_for(2)
    for file in postfix.mailbox.glob("new/*"):
        # The mailbox has lines that end in LF, and headers of the delivery before the message.
        raw = file.read_bytes().replace(b"\n", b"\r\n")
        assert dkim.verify(raw[raw.index(b"DKIM-Signature") :], dnsfunc=dns)


def test_after_postfix_was_restarted_the_next_message_goes_without_a_word(postfix: Postfix, connect: Connect) -> None:
    transport = connect()
    transport.deliver(mail(1))
    # Postfix repeats what it was in the middle of delivering when it was stopped.
    postfix.wait_until_delivered()
    postfix.stop()
    postfix.start()
    transport.deliver(mail(2))
    assert to(postfix, 2) == Counter(["reader1@customers.example", "reader2@customers.example"])


def test_many_threads_share_a_few_connections(postfix: Postfix, connect: Connect) -> None:
    transport = connect("submission_port", connections=3)
    failed: list[Exception] = []

    def send(number: int) -> None:
        try:
            transport.deliver(mail(number))
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(to(postfix, 24)) == 24
