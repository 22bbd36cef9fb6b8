"""Ways in that were tried once, and stay closed."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from typing import Any

import pytest

from flask_outmail import mime, network
from flask_outmail.envelope import Envelope
from flask_outmail.errors import BadHeaderError, ConfigurationError, DeliveryError, InvalidMessage
from flask_outmail.message import Address, Attachment, Message
from flask_outmail.network import retry_after_s
from flask_outmail.settings import Settings
from flask_outmail.transports.smtp import SmtpSettings, SmtpTransport


def message(**changes: Any) -> Message:
    fields: dict[str, Any] = {"recipients": ["ann@x.example"], "sender": "shop@x.example", "body": "Hi"}
    return Message(**{**fields, **changes})


@pytest.mark.parametrize(
    "address",
    [
        '"a"@evil.example,"b"@good.example',
        '"a"@evil.example> X="b"@good.example',
        "a@b.example,evil",
        "a@b.example(evil",
        "a@b.example:x",
        "a@b..example",
        "a@.example",
        "a@b.example> SIZE=1",
        "x" * 400 + "@b.example",
    ],
)
def test_one_address_is_never_two_nor_a_parameter(address: str) -> None:
    with pytest.raises(InvalidMessage):
        message(recipients=[address]).check()
    with pytest.raises(InvalidMessage):
        Envelope.for_message(message(), sender=address)


@pytest.mark.parametrize(
    "address", ['"a b"@x.example', "a@[192.0.2.1]", "a@xn--bcher-kva.example", "a@bücher.example", "o'neil+x@x.example"]
)
def test_unusual_addresses_that_are_right_still_pass(address: str) -> None:
    message(recipients=[address]).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"alts": {"html\r\nX-Injected: yes": "x"}},
        {"extra_headers": {"X-Foo\n": "v"}},
        {"extra_headers": {"bcc\n": "spy@x.example"}},
        {"attachments": [Attachment("a", "text/plain", b"", 'inline; filename="other.exe"; x')]},
        {"attachments": [Attachment("a", "text/plain", b"", headers={"Content-Type": "text/html"})]},
    ],
)
def test_no_field_carries_a_header_of_its_own(changes: dict[str, Any]) -> None:
    with pytest.raises(BadHeaderError):
        message(**changes).check()


def test_a_message_id_that_was_assigned_is_checked() -> None:
    poisoned = message()
    poisoned.msgId = "<x@y>\r\nBcc: spy@evil.example"
    with pytest.raises(BadHeaderError):
        poisoned.check()


def test_a_field_of_blanks_is_read_at_once() -> None:
    assert Address.parse(" " * 200_000 + "x").address == "x"
    assert Address.parse("<" * 100_000 + ">").address == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b"bytes"},
        {"date": "yesterday"},
        {"charset": "a\0b"},
        {"recipients": [("a", "b", "c")]},
        {"body": "x", "charset": "utf-16"},
    ],
)
def test_a_field_of_the_wrong_kind_is_an_error_of_ours_or_is_mended(changes: dict[str, Any]) -> None:
    with suppress(InvalidMessage):
        Envelope.for_message(message(**changes))


def test_a_long_name_makes_no_line_that_is_too_long() -> None:
    name = "Ё" * 400
    data = bytes(mime.build(message(sender=(name, "shop@x.example"), recipients=[(name, "ann@x.example")], date=0.0)))
    assert max(map(len, data.split(b"\r\n"))) <= mime.MAX_LINE_BYTES
    # Not by the newer parser, which puts blanks between encoded words of addresses (Python issue 79728).
    assert name in str(make_header(decode_header(message_from_bytes(data)["To"])))
    with pytest.raises(InvalidMessage):
        message(sender=("Ё" * 501, "shop@x.example")).check()


def test_a_line_separator_in_a_subject_loses_no_letter() -> None:
    data = bytes(mime.build(message(subject="a\u2028bé", date=0.0)))
    assert message_from_bytes(data, policy=policy.default)["Subject"] == "a bé"


@contextmanager
def scripted(*replies: bytes) -> Iterator[int]:
    """A mail server that answers line after line with these, whatever is said."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        with client, client.makefile("rb") as lines:
            client.sendall(replies[0])
            rest, in_data = list(replies[1:]), False
            for line in lines:
                if in_data and line != b".\r\n":
                    continue
                if not rest:
                    break
                reply = rest.pop(0)
                client.sendall(reply)
                in_data = reply.startswith(b"354") and not in_data

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.close()
    thread.join(5)


DIALOGUE = (b"220 hi\r\n", b"250 hello\r\n", b"250 sender ok\r\n", b"250 recipient ok\r\n")


@pytest.mark.parametrize(
    "ending",
    [
        (b"354 go\r\n354 go\r\n", b"554 rejected\r\n"),
        (b"354 go\r\n250 fine\r\n", b"554 rejected\r\n"),
        (b"354 go\r\n", b"354 what\r\n"),
        (b"354 go\r\n", b"220 hello again\r\n"),
    ],
)
def test_only_250_after_the_final_dot_is_an_acceptance(ending: tuple[bytes, ...]) -> None:
    with scripted(*DIALOGUE, *ending) as port:
        transport = SmtpTransport(SmtpSettings("127.0.0.1", port, tls="none", timeout_s=2, connect_timeout_s=2))
        with pytest.raises(DeliveryError):
            transport.deliver(Envelope.for_message(message()))


@pytest.mark.parametrize(
    "value",
    [
        *("²", "", "soon", "-1", "9" * 400, "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 GMT"),
        *("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", "Fri, 31 Dec 2026 23:59:59 +9999999999999"),
    ],
)
def test_a_strange_retry_after_is_no_error(value: str) -> None:
    assert (retry_after_s({"Retry-After": value}) or 0) >= 0


def test_mail_servers_are_not_offered_http() -> None:
    assert network.tls_context("") is not network._https_context("")
    assert isinstance(network.tls_context(""), ssl.SSLContext)


def test_a_certificate_in_the_configuration_is_never_in_an_error() -> None:
    setup = {"service": "microsoft365_graph", "certificate": "not/a/path\0" + "MIIKcQIBAzCC"}
    for value in (setup["certificate"], "MIIKcQIBAzCC-secret"):
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_config({"OUTMAIL_SETUP": {**setup, "certificate": value}})
        assert "MIIKcQ" not in str(caught.value)


def test_a_file_of_authorities_that_holds_none_is_refused_at_the_start(tmp_path: Any) -> None:
    rubbish = tmp_path / "ca.pem"
    rubbish.write_text("rubbish")
    with pytest.raises(ConfigurationError, match="OUTMAIL_CA_FILE"):
        Settings.from_config({"OUTMAIL_CA_FILE": str(rubbish)})
