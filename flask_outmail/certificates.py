"""Client certificates: reading what an administrator pasted, and when it ends."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12PrivateKeyTypes


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A private key with its certificate. `not_after` is aware UTC; `thumbprint` is the SHA-1 that Entra shows."""

    private_key_pem: str = field(repr=False)
    certificate_pem: str
    subject: str
    thumbprint: str
    not_after: datetime


def load(text: str, password: str = "") -> ClientCertificate:
    """Reads PEM (private key and certificate in one text) or the base64 of a PFX file.

    Raises:
        ConfigurationError: says what is missing or wrong; never shows the content.
    """
    from cryptography.hazmat.primitives import hashes, serialization

    key, certificate = _pem(text, password) if "-----BEGIN" in text else _pfx(text, password)
    if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
        raise _fault("the private key does not belong to the certificate")
    return ClientCertificate(
        private_key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        subject=certificate.subject.rfc4514_string(),
        # Entra lists certificates by this SHA-1; nothing is signed with it.
        thumbprint=certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303
        not_after=certificate.not_valid_after_utc,
    )


def _fault(words: str) -> ConfigurationError:
    return ConfigurationError(f"certificate: {words}", code="certificate_unreadable")


def _pem(text: str, password: str) -> tuple[PKCS12PrivateKeyTypes, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = text.encode("utf-8", "replace")
    if b"PRIVATE KEY-----" not in data:
        raise _fault("the private key is missing; paste key and certificate together")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise _fault("the certificate is missing; paste key and certificate together")
    try:
        key = load_pem_private_key(data, password.encode() or None)
        certificate = x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERTIFICATE-----") :])
    except TypeError as exc:  # the library's way to say that a password is missing, or was given for nothing
        raise _fault("the password is missing, or there is none to give") from exc
    except ValueError as exc:
        raise _fault("it cannot be read; is the password right?") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _fault("only RSA keys can sign in to Microsoft Entra")
    return key, certificate


def _pfx(text: str, password: str) -> tuple[PKCS12PrivateKeyTypes, x509.Certificate]:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _fault("it is neither PEM nor the base64 of a PFX file") from exc
    try:
        key, certificate, _ = load_key_and_certificates(data, password.encode() or None)
    except ValueError as exc:
        raise _fault("it cannot be read; is the password right?") from exc
    if not isinstance(key, rsa.RSAPrivateKey) or certificate is None:
        raise _fault("the file must hold an RSA private key and its certificate")
    return key, certificate


def _public_bytes(key: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
