"""Client certificates: made here, or read from what an administrator pasted; and when they end."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12PrivateKeyTypes


#: Bits of a key made here. 2048 still suffice to Entra; a key that lives for two years should not be at the edge.
KEY_BITS = 3072
NAME_MAX_CHARS = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A private key with its certificate. `not_after` is aware UTC; `thumbprint` is the SHA-1 that Entra shows."""

    private_key_pem: str = field(repr=False)
    certificate_pem: str
    subject: str
    thumbprint: str
    not_after: datetime

    @property
    def certificate_der(self) -> bytes:
        """The public part alone, as a `.cer` file holds it."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        return x509.load_pem_x509_certificate(self.certificate_pem.encode()).public_bytes(Encoding.DER)


def make(name: str, days: int, *, now: datetime | None = None) -> str:
    """A new RSA key with a certificate that it signed itself: one PEM text, as `load` reads it.

    `name` becomes the certificate's subject. Takes about a second. Entra does not ask who signed a certificate; it
    knows it by its thumbprint once the public part is uploaded (Entra: certificate-credentials).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    plain = "".join(one for one in name if one.isprintable()).strip()[:NAME_MAX_CHARS] or "Outbound mail"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, plain)])
    start = now or datetime.now(timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A little in the past: the clock of whoever reads it may be behind ours.
        .not_valid_before(start - timedelta(minutes=10))
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


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
