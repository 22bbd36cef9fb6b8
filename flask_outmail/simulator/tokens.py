"""Access tokens: made by the token endpoint, judged by Graph and SMTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from typing import Any

from flask_outmail.simulator.world import MAIL_READ, MAIL_READ_WRITE, MAIL_SEND, SMTP_SEND_AS_APP, App

GRAPH, SMTP = "graph", "smtp"
ROLES_OF = {GRAPH: (MAIL_SEND, MAIL_READ_WRITE, MAIL_READ), SMTP: (SMTP_SEND_AS_APP,)}
SMTP_RESOURCE = "https://outlook.simulator.example"
# A tenant of the global cloud knows these names, and some clients cannot be told another scope.
GLOBAL_RESOURCES = {
    "https://graph.microsoft.com": GRAPH,
    "https://outlook.office365.com": SMTP,
    "https://outlook.office.com": SMTP,
    SMTP_RESOURCE: SMTP,
}


class TokenRefused(Exception):
    """The text says why, in Graph's words."""


class Tokens:
    """Makes and reads the tokens of one tenant. `key` signs them; a restart with the same key knows them again."""

    def __init__(self, key: str, tenant: str) -> None:
        self._key = key.encode()
        self._tenant = tenant
        self._opaque: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._revoked_before = 0.0
        self.resources: dict[str, str] = dict(GLOBAL_RESOURCES)

    def make(self, app: App, audience: str, *, issuer: str, lifetime_s: int, style: str) -> str:
        """A token for one resource. `style`: jwt, no-roles, or opaque (tells a client nothing)."""
        service = self.resources[audience]
        issued = time.time()
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": issuer,
            "iat": int(issued),
            "nbf": int(issued),
            "exp": int(issued) + lifetime_s,
            "appid": app.client_id,
            "app_displayname": app.name,
            "idtyp": "app",
            "tid": self._tenant,
            "ver": "1.0",
            "uti": secrets.token_urlsafe(16),
            # Real tokens have 1.5 to 2.5 kB, which is more than an ordinary SMTP line may hold.
            "xms_ftd": secrets.token_urlsafe(450),
            "made": issued,
        }
        roles = [role for role in ROLES_OF[service] if role in app.roles]
        # Exchange, not Entra, holds the grants under RBAC for Applications: the token does not show them.
        if roles and app.scoped_to is None and style != "no-roles":
            claims["roles"] = roles
        if style == "opaque":
            token = secrets.token_urlsafe(900)
            with self._lock:
                self._opaque[hashlib.sha256(token.encode()).hexdigest()] = claims
            return token
        # Says RS256 like the original, but nobody outside can verify it: clients have to treat it as opaque.
        head = {"typ": "JWT", "alg": "RS256", "kid": hashlib.sha256(self._key).hexdigest()[:27]}
        signed = f"{_encode(head)}.{_encode(claims)}"
        return f"{signed}.{self._signature(signed)}"

    def read(self, token: str, service: str) -> dict[str, Any]:
        """The claims of a token that is good for `service` now.

        Raises:
            TokenRefused: it is not.
        """
        if not token:
            raise TokenRefused("Access token is empty.")
        with self._lock:
            claims = self._opaque.get(hashlib.sha256(token.encode()).hexdigest())
        claims = claims or self._verified(token)
        if claims["exp"] <= time.time() or claims["made"] < self._revoked_before:
            raise TokenRefused("Lifetime validation failed, the token is expired.")
        if self.resources.get(claims["aud"]) != service:
            raise TokenRefused("Access token validation failure. Invalid audience.")
        return claims

    def expire_all(self) -> None:
        """Every token made until now is refused as expired."""
        self._revoked_before = time.time()

    def _verified(self, token: str) -> dict[str, Any]:
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenRefused("CompactToken parsing failed with error code: 80049217")
        if not hmac.compare_digest(self._signature(f"{parts[0]}.{parts[1]}").encode(), parts[2].encode()):
            raise TokenRefused("CompactToken validation failed with reason code: 80049228.")
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        return claims

    def _signature(self, signed: str) -> str:
        # As long as a real RS256 signature, because the length of a token matters to SMTP clients.
        digest = b"".join(
            hmac.new(self._key, bytes([block]) + signed.encode(), hashlib.sha256).digest() for block in range(8)
        )
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
