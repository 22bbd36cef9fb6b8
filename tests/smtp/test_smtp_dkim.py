"""Signatures that another library finds good, for messages of every shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flask_outmail import Attachment, ConfigurationError, Message
from flask_outmail.content import Content
from flask_outmail.envelope import Envelope
from flask_outmail.settings import DkimKey, Settings
from flask_outmail.transports.dkim import DkimSigner

from .scripted import Server, envelope, transport_to

_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY = _PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
).decode()
_PUBLIC = _PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def dns(name: bytes, timeout: int = 5) -> bytes | None:
    if name.rstrip(b".") != b"s1._domainkey.customers.example":
        return None
    return b"v=DKIM1; k=rsa; p=" + b"".join(_PUBLIC.splitlines()[1:-1])


def signer() -> DkimSigner:
    return DkimSigner(DkimKey("customers.example", "s1", KEY))


def good(content: Content) -> bool:
    return bool(dkim.verify(bytes(content), dnsfunc=dns))


MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"body": "Hello\n"},
    "html and text": {"body": "Grüße\n" * 20, "html": "<p>Grüße</p>"},
    "long subject": {"subject": "Ihre Bestellung – vielen Dank " * 8, "body": "x"},
    "empty lines at the end": {"body": "x\n\n\n\n"},
    "many recipients": {"body": "x", "recipients": [f"reader{number}@customers.example" for number in range(60)]},
    "list headers": {"body": "x", "extra_headers": {"List-Unsubscribe": "<https://x.example/u>"}},
}


@pytest.mark.parametrize("fields", MESSAGES.values(), ids=MESSAGES)
def test_a_signed_message_verifies(fields: dict[str, Any]) -> None:
    defaults: dict[str, Any] = {"subject": "x", "recipients": ["ann@y.example"], "sender": "shop@customers.example"}
    content = Envelope.for_message(Message(**{**defaults, **fields})).content
    signed = signer().signed(content)
    assert good(signed)
    assert bytes(signed).endswith(bytes(content))


@pytest.mark.parametrize("body", [b"", b"\r\n", b"x", b"x\r\n\r\n\r\n", b"\r\n\r\nx\r\n", b" \r\n", b"x \t \r\n"])
@pytest.mark.parametrize("cut", [3, 20, 41, 44, 46])
def test_the_hash_of_a_body_does_not_depend_on_where_it_was_cut(body: bytes, cut: int) -> None:
    whole = b"From: <shop@customers.example>\r\nSubject: x\r\n\r\n" + body
    signed = signer().signed(Content((whole[:cut], whole[cut:])))
    # On the wire a message ends with a line end.
    raw = bytes(signed)
    assert dkim.verify(raw if raw.endswith(b"\r\n") else raw + b"\r\n", dnsfunc=dns)


def test_a_large_attachment_is_signed_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 8000)
    message = Message("x", ["ann@y.example"], "x", sender="shop@customers.example")
    message.attachments = [Attachment("big.bin", "application/octet-stream", path)]
    content = Envelope.for_message(message).content
    signed = signer().signed(content)
    assert signed.files == content.files
    assert good(signed)


@pytest.mark.parametrize("change", [(b"Hello", b"Hallo"), (b"Subject: x", b"Subject: y"), (b"From: ", b"From: M ")])
def test_a_changed_message_does_not_verify(change: tuple[bytes, bytes]) -> None:
    message = Message("x", ["ann@y.example"], "Hello\n", sender="shop@customers.example")
    raw = bytes(signer().signed(Envelope.for_message(message).content))
    assert not dkim.verify(raw.replace(*change), dnsfunc=dns)


def test_a_second_from_header_breaks_the_signature() -> None:
    message = Message("x", ["ann@y.example"], "Hello\n", sender="shop@customers.example")
    raw = bytes(signer().signed(Envelope.for_message(message).content))
    assert not dkim.verify(b"From: <evil@x.example>\r\n" + raw, dnsfunc=dns)


def test_what_is_signed_is_what_leaves() -> None:
    content = b"From: <shop@customers.example>\r\nSubject: 1\r\n\r\n.\r\n..x\r\n"
    with Server() as server, transport_to(server, dkim=DkimKey("customers.example", "s1", KEY)) as transport:
        assert transport.deliver(envelope(content=content)).accepted
        assert dkim.verify(server.accepted[0].content, dnsfunc=dns)


def test_the_keys_of_the_configuration_are_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "dkim.pem"
    file.write_text(KEY)
    keys = {"OUTMAIL_DKIM_DOMAIN": "customers.example", "OUTMAIL_DKIM_SELECTOR": "s1"}
    settings = Settings.from_config({**keys, "OUTMAIL_DKIM_KEY_FILE": str(file)})
    assert settings.dkim == DkimKey("customers.example", "s1", KEY)
    assert "PRIVATE" not in repr(settings)
    for wrong in ({}, {"OUTMAIL_DKIM_KEY_FILE": str(tmp_path / "none.pem")}):
        with pytest.raises(ConfigurationError, match="OUTMAIL_DKIM_KEY_FILE"):
            Settings.from_config({**keys, **wrong})


def test_a_key_that_cannot_sign_is_named_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="OUTMAIL_DKIM_KEY_FILE") as caught:
        DkimSigner(DkimKey("customers.example", "s1", "-----BEGIN RSA PRIVATE KEY-----\nsecret\n"))
    assert "secret" not in repr(caught.value)
