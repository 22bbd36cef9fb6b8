"""Checks the signed JWT with which an application shows that it holds its certificate's key.

Rules: Microsoft's "certificate-credentials" page, and RFC 7523.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLOCK_SKEW_S = 300


class AssertionRefused(Exception):
    """`number` is the AADSTS number, the text its explanation."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def check(assertion: str, certificates: list[bytes], client_id: str, audiences: list[str]) -> None:
    """Returns when the assertion was made by a holder of one of `certificates` (PEM), for us, and now.

    Raises:
        AssertionRefused: it was not.
    """
    header, claims, signed, signature = _read(assertion)
    certificate = _signer(header, certificates)
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise AssertionRefused(700027, "The certificate does not hold an RSA key.")
    try:
        if header.get("alg") == "PS256":
            pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256().digest_size)
            key.verify(signature, signed, pss, hashes.SHA256())
        elif header.get("alg") == "RS256":
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise AssertionRefused(50027, "The assertion's algorithm is neither PS256 nor RS256.")
    except InvalidSignature:
        raise AssertionRefused(700027, "The assertion's signature does not verify with the key.") from None
    if claims.get("aud") not in audiences:
        raise AssertionRefused(700023, "The assertion's audience is not this token endpoint.")
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise AssertionRefused(700021, "The assertion's issuer and subject are not the client id.")
    now = time.time()
    start, end = claims.get("nbf", claims.get("iat", 0)), claims.get("exp", 0)
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)):
        raise AssertionRefused(50027, "The assertion's times are not numbers.")
    if start > now + CLOCK_SKEW_S or end < now - CLOCK_SKEW_S:
        raise AssertionRefused(700024, "The assertion is not within its valid time range. Check the clock.")


def _read(assertion: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    parts = assertion.split(".")
    try:
        header, claims = json.loads(_decode(parts[0])), json.loads(_decode(parts[1]))
        signature = _decode(parts[2])
    except (IndexError, ValueError, binascii.Error):
        raise AssertionRefused(50027, "The assertion is not a JWT.") from None
    if not isinstance(header, dict) or not isinstance(claims, dict) or len(parts) != 3:
        raise AssertionRefused(50027, "The assertion is not a JWT.")
    return header, claims, f"{parts[0]}.{parts[1]}".encode(), signature


def _signer(header: dict[str, Any], certificates: list[bytes]) -> x509.Certificate:
    """The registered certificate that the header names by thumbprint."""
    for pem in certificates:
        certificate = x509.load_pem_x509_certificate(pem)
        for name, algorithm in (("x5t#S256", hashes.SHA256()), ("x5t", hashes.SHA1())):  # noqa: S303 - a name
            if _thumbprint(header.get(name)) == certificate.fingerprint(algorithm):
                return certificate
    raise AssertionRefused(700027, "The certificate with that thumbprint is not registered for the application.")


def _thumbprint(value: object) -> bytes | None:
    try:
        return _decode(value) if isinstance(value, str) else None
    except (ValueError, binascii.Error):
        return None


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
