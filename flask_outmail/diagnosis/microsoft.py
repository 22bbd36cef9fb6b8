"""Checks that both Microsoft services begin with: the name, the certificate, the token, and what the token says."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from time import monotonic
from typing import Any

from .. import certificates, entra, masking, network
from ..clouds import Cloud
from ..entra import REFUSED_ITSELF
from ..errors import ConfigurationError, OutmailError, TransportUnavailable
from ..setup_values import FEDERATED, MANAGED_IDENTITY, Credential
from ..tokens import EntraTokens, Renewing, TokenStore
from .remedies import Remedy, remedy_for
from .steps import Check, Observer, Seen


@dataclass
class TokenProof:
    """The checks that end with a token in hand. Nothing is taken from a cache: a repair shows at once.

    `observe` is told of the request for the token and of its end, without secret and token.
    """

    credential: Credential
    cloud: Cloud
    scope: str
    wanted_role: str
    timeout_s: float
    ca_file: str = ""
    store: TokenStore | None = None
    token: str = ""
    observe: Observer | None = None

    def __post_init__(self) -> None:
        self.tokens = EntraTokens(
            self.credential,
            self.cloud,
            self.scope,
            timeout_s=self.timeout_s,
            ca_file=self.ca_file,
            store=Renewing(self.store) if self.store is not None else None,
        )

    def checks(self) -> list[Check]:
        host = self.cloud.authority_host
        if self.credential.provider == MANAGED_IDENTITY:
            # Azure's endpoint on this very machine gives the token; Entra is not spoken to from here.
            return [
                Check("secret", "Credential readable", self._secret),
                Check("token", "Token obtained from this machine", self._token),
                Check("role", f"Permission {self.wanted_role} in the token", self._role),
            ]
        return [
            Check("secret", "Credential readable", self._secret),
            Check("sign_in_name", f"Name found: {host}", lambda: resolve(host, self._port)),
            Check("sign_in_tls", f"Secure connection to {host}", self._tls),
            Check("token", "Token obtained", self._token),
            Check("role", f"Permission {self.wanted_role} in the token", self._role),
        ]

    @property
    def _port(self) -> int:
        from urllib.parse import urlsplit

        return urlsplit(self.cloud.authority).port or 443

    def _secret(self) -> Seen:
        newest = self.credential.newest
        try:
            return Seen(readable(newest))
        except ConfigurationError as exc:
            earlier = self.credential.earlier
            if earlier is None or exc.code not in REFUSED_ITSELF:
                raise
            return Seen(f"{exc}; the one before it: {readable(earlier)}", _fallback(exc))

    def _tls(self) -> Seen:
        return secure(self.cloud.authority_host, self._port, timeout_s=self.timeout_s, ca_file=self.ca_file)

    def _token(self) -> Seen:
        self.token = self._asked()
        expires = claims(self.token).get("exp")
        told = "received"
        if isinstance(expires, (int, float)):
            told = f"valid for {(expires - datetime.now(timezone.utc).timestamp()) / 60:.0f} minutes"
        refused, earlier = self.tokens.refused, self.credential.earlier
        if refused is None or earlier is None:
            return Seen(told)
        return Seen(f"{told}, by the one before ({readable(earlier)}); the newest: {refused}", _fallback(refused))

    def _asked(self) -> str:
        credential, observe = self.credential, self.observe or _nobody
        if credential.provider == MANAGED_IDENTITY:
            observe("client", f"token request to this machine's identity endpoint, scope {self.scope}")
        else:
            where = f"{self.cloud.authority_host}, tenant {credential.tenant}"
            observe("client", f"token request to {where}, client {credential.client_id}, scope {self.scope}")
        started = monotonic()
        try:
            token = self.tokens.token()
        except OutmailError as exc:
            trace = getattr(exc, "request_id", "")
            told = f"{exc.code or type(exc).__name__}{f' (trace id {trace})' if trace else ''}"
            observe("server", f"no token: {told}, {(monotonic() - started) * 1000:.0f} ms")
            raise
        observe("server", f"a token (not shown), {(monotonic() - started) * 1000:.0f} ms")
        return token

    def _role(self) -> Seen:
        read = claims(self.token)
        if not read:
            # Tokens are opaque to clients by contract; that one cannot be read says nothing about sending.
            return Seen("this token cannot be read, which is allowed; the next steps decide")
        roles = [masking.readable(str(role)) for role in read.get("roles") or []]
        if self.wanted_role in roles:
            return Seen(", ".join(roles))
        # Never a verdict: with RBAC for Applications the permission is kept in Exchange and the token has no role.
        warning = remedy_for(OutmailError(f"{self.wanted_role} is not in the token", code="token_without_role"))
        return Seen(f"roles in the token: {', '.join(roles) or 'none'}", warning)


def _nobody(who: str, line: str) -> None:
    """Stands for an observer where there is none."""


def readable(credential: Credential) -> str:
    """Which credential it is and how long it lasts, in a few words, after a look at all that can be seen from here.

    Raises:
        ConfigurationError: it is missing, damaged or past its end.
    """
    if credential.provider == MANAGED_IDENTITY:
        own = credential.client_id
        return f"user-assigned managed identity {own}" if own else "the machine's own managed identity"
    if credential.provider == FEDERATED:
        return _outside(credential)
    if credential.certificate:
        certificate = certificates.load(credential.certificate, credential.certificate_password)
        days = (certificate.not_after - datetime.now(timezone.utc)).days
        if days < 0:
            raise ConfigurationError(
                f"the certificate ended on {certificate.not_after:%Y-%m-%d}", code="certificate_expired"
            )
        return f"certificate {certificate.thumbprint[:8]}…, {_days(days)}"
    if not credential.client_secret:
        raise ConfigurationError("there is neither a secret nor a certificate", code="credential_incomplete")
    told = f"client secret, {len(credential.client_secret)} characters"
    if credential.expires_on is None:
        return told
    # Never a verdict: a person typed the date, and Entra decides.
    return f"{told}, {_days((credential.expires_on - datetime.now(timezone.utc).date()).days)}"


def _days(count: int) -> str:
    if count < 0:
        return "past the date noted for it"
    return "1 day left" if count == 1 else f"{count} days left"


def _outside(credential: Credential) -> str:
    """A federated credential's token in words. Issuer, subject and audience are what an administrator compares."""
    said = claims(entra.outside_token(credential))
    where = f"function {credential.token_function}" if credential.token_function else entra.token_file(credential)
    named = {"issuer": said.get("iss"), "subject": said.get("sub"), "audience": said.get("aud")}
    shown = {name: value[0] if isinstance(value, list) and value else value for name, value in named.items()}
    told = [f"{name} {masking.readable(str(value))[:200]}" for name, value in shown.items() if value]
    ends = said.get("exp")
    if isinstance(ends, (int, float)):
        told.append(f"{(ends - datetime.now(timezone.utc).timestamp()) / 60:.0f} minutes left")
    return ", ".join([f"token from {where}", *told])


def _fallback(refused: OutmailError) -> Remedy:
    return replace(
        remedy_for(OutmailError(str(refused), code="credential_fallback")), code=refused.code or "credential_fallback"
    )


def resolve(host: str, port: int) -> Seen:
    """Looks a name up; says which addresses it has."""
    return Seen(", ".join(addresses(host, port)))


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a name, each once, in the order in which they are to be tried."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise network.unavailable(exc, host, port) from exc
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def secure(host: str, port: int, *, timeout_s: float, ca_file: str) -> Seen:
    """A verified TLS connection, opened and closed; says who vouches for the server and for how long."""
    sock = network.connect(host, port, timeout_s=timeout_s)
    try:
        with network.tls_context(ca_file).wrap_socket(sock, server_hostname=host) as secured:
            return certificate_seen(dict(secured.getpeercert() or {}), str(secured.version() or ""))
    except (OSError, ValueError) as exc:
        raise network.unavailable(exc, host, port) from exc
    finally:
        sock.close()


def certificate_seen(certificate: Mapping[str, Any], version: str = "") -> Seen:
    """A server's certificate in a sentence."""
    import ssl

    if not certificate:
        raise TransportUnavailable("the connection is not encrypted", code="tls_failed")
    issuer = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = int((ends - datetime.now(timezone.utc).timestamp()) // 86400)
    who = masking.readable(issuer.get("organizationName") or issuer.get("commonName") or "unknown")
    return Seen(f"{version}, certificate from {who}, {_days(days)}".lstrip(", "))


def claims(token: str) -> Mapping[str, Any]:
    """What a token says, unverified, for a report only; empty when it cannot be read. Never decides anything."""
    try:
        payload = token.split(".")[1]
        read = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
