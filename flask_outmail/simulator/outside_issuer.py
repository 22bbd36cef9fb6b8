"""An issuer that is not Microsoft, such as a Kubernetes cluster: its tokens serve as federated credentials.

Rules: Microsoft's page "workload-identity-federation"; issuer, subject and audience must all match a trust of the app.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from flask_outmail.simulator.assertions import CLOCK_SKEW_S, AssertionRefused

#: What Microsoft recommends as the audience of a federated credential.
AUDIENCE = "api://AzureADTokenExchange"
SUBJECT = "system:serviceaccount:shop:mailer"


@dataclass(frozen=True, slots=True)
class Trust:
    """A federated identity credential of an app registration."""

    issuer: str
    subject: str = SUBJECT
    audience: str = AUDIENCE


class OutsideIssuer:
    """Signs tokens, and knows its own again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())

    def token(self, subject: str = SUBJECT, audience: str = AUDIENCE, lifetime_s: float = 3600.0) -> str:
        now = time.time()
        claims = {
            "iss": self.name,
            "sub": subject,
            "aud": [audience],
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + lifetime_s),
            "jti": str(uuid.uuid4()),
        }
        signed = f"{_encode({'alg': 'ES256', 'typ': 'JWT', 'kid': 'simulator'})}.{_encode(claims)}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def check(self, assertion: str, trusts: list[Trust]) -> None:
        """Returns when the app trusts this token.

        Raises:
            AssertionRefused: it does not.
        """
        claims, signed, signature = _read(assertion)
        matching = [trust for trust in trusts if trust.issuer == claims.get("iss")]
        if not matching or claims.get("iss") != self.name:
            raise AssertionRefused(
                700211, "No matching federated identity record found for the presented assertion's issuer."
            )
        try:
            encoded = utils.encode_dss_signature(
                int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            )
            self._key.public_key().verify(encoded, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise AssertionRefused(50013, "The assertion's signature does not verify with the issuer's key.") from None
        matching = [trust for trust in matching if trust.subject == claims.get("sub")]
        if not matching:
            raise AssertionRefused(
                700213, "No matching federated identity record found for the presented assertion's subject."
            )
        audiences = claims.get("aud")
        named = audiences if isinstance(audiences, list) else [audiences]
        if not any(trust.audience in named for trust in matching):
            raise AssertionRefused(
                700212, "No matching federated identity record found for the presented assertion's audience."
            )
        now = time.time()
        if claims.get("nbf", 0) > now + CLOCK_SKEW_S or claims.get("exp", 0) < now - CLOCK_SKEW_S:
            raise AssertionRefused(700024, "The assertion is not within its valid time range.")


def is_from_outside(assertion: str, client_id: str) -> bool:
    """Whether somebody other than the application itself issued this assertion."""
    try:
        return bool(_read(assertion)[0].get("iss") != client_id)
    except AssertionRefused:
        return False


def _read(assertion: str) -> tuple[dict[str, Any], bytes, bytes]:
    parts = assertion.split(".")
    try:
        claims, signature = json.loads(_decode(parts[1])), _decode(parts[2])
    except (IndexError, ValueError, binascii.Error):
        raise AssertionRefused(50027, "The assertion is not a JWT.") from None
    if not isinstance(claims, dict) or len(parts) != 3:
        raise AssertionRefused(50027, "The assertion is not a JWT.")
    return claims, f"{parts[0]}.{parts[1]}".encode(), signature


def _encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
