"""Access tokens from Microsoft Entra, by client credentials.

MSAL asks for the tokens. Around it stands what a mail sender needs: one request at a time however many threads want
a token, finite waits, and errors that say what Entra really said. MSAL is imported when the first token is needed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol
from urllib.parse import quote, urlsplit

from . import certificates, network
from .clouds import Cloud
from .errors import AuthenticationFailed, ConfigurationError, OutmailError, Throttled, TransportUnavailable
from .settings import Credential

# Entra's own words for "not now" (Entra: AADSTS error codes). Everything else needs a person.
_TEMPORARY = {50196, 90006, 90012, 90024, 90033, 90055, 90090, 50033, 50087}


class TokenSource(Protocol):
    """Gives access tokens for one scope."""

    def token(self, *, renew: bool = False) -> str:
        """A token that is valid now. `renew` drops a cached one first. May touch the network."""
        ...


class EntraTokens:
    """Tokens for one authentication object and one scope. Safe to use from several threads.

    A token is kept in memory until five minutes before it ends, so nearly every call answers without the network.
    """

    def __init__(
        self, credential: Credential, cloud: Cloud, scope: str, *, timeout_s: float = 20.0, ca_file: str = ""
    ) -> None:
        self._credential = credential
        self._cloud = cloud
        self._scope = scope
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        # MSAL does not join requests: without this lock, every thread that misses the cache asks Entra, which
        # answers floods of equal requests with AADSTS50196.
        self._lock = threading.Lock()
        self._client: Any = None

    def token(self, *, renew: bool = False) -> str:
        """A token that is valid now.

        Raises:
            ConfigurationError: tenant, client id, or secret and certificate are missing or cannot be read.
            AuthenticationFailed: Entra refused; `code` is its AADSTS number.
            Throttled, TransportUnavailable: Entra is busy, or cannot be reached.
        """
        with self._lock:
            if renew:
                self._client = None
            try:
                if self._client is None:
                    self._client = self._build()
                result: Mapping[str, Any] = self._client.acquire_token_for_client([self._scope])
                if "access_token" not in result:
                    _refuse(result)
                return _plausible(str(result["access_token"]))
            except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as exc:
                self._client = None
                if isinstance(exc, OutmailError):
                    raise
                # What MSAL does with an answer that is not of the agreed form.
                raise TransportUnavailable(
                    f"{self._cloud.authority_host} gave an answer of the wrong form ({type(exc).__name__})",
                    code="not_entra",
                    retryable=False,
                ) from None
            except Exception:
                # MSAL would answer from memory for a minute after a 400, so that a repair seems not to help.
                self._client = None
                raise

    def _build(self) -> Any:
        from msal import ConfidentialClientApplication

        credential = self._credential
        if not credential.tenant or not credential.client_id:
            raise ConfigurationError("the tenant or the client id is missing", code="credential_incomplete")
        return ConfidentialClientApplication(
            credential.client_id,
            client_credential=_client_credential(credential),
            authority=f"{self._cloud.authority}/{quote(credential.tenant, safe='')}",
            # Asked for nothing but Microsoft's public clouds, and a failing answer would replace the real error.
            instance_discovery=False,
            http_client=_HttpClient(self._timeout_s, self._ca_file),
        )


def _plausible(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token is visible ASCII")
    return token


def _client_credential(credential: Credential) -> Any:
    if credential.certificate:
        certificate = certificates.load(credential.certificate, credential.certificate_password)
        return {"private_key": certificate.private_key_pem, "public_certificate": certificate.certificate_pem}
    if not credential.client_secret:
        raise ConfigurationError("there is neither a client secret nor a certificate", code="credential_incomplete")
    return credential.client_secret


class _HttpClient:
    """The network as MSAL wants it, with our time-outs and our errors.

    Errors are raised from here, below MSAL: it would otherwise replay a 429 or 5xx from memory, lose `Retry-After`,
    and turn a wrong tenant into a bare `ValueError`.
    """

    def __init__(self, timeout_s: float, ca_file: str) -> None:
        self._timeout_s = timeout_s
        self._session = network.http_session(ca_file)

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> Any:
        response = self._ask("GET", url, params=params, headers=headers)
        if response.status_code >= 400:
            _refuse(_json(response))
        return response

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> Any:
        return self._ask("POST", url, params=params, data=data, headers=headers)

    def close(self) -> None:
        self._session.close()

    def _ask(self, method: str, url: str, **arguments: Any) -> Any:
        import requests

        where = urlsplit(url)
        host, port = where.hostname or "", where.port or 443
        try:
            # auth is given, as nothing, so that requests does not put a password from ~/.netrc into the header.
            response = self._session.request(
                method, url, timeout=self._timeout_s, allow_redirects=False, auth=lambda request: request, **arguments
            )
        except requests.RequestException as exc:
            # A token request can be repeated at will, so even a lost answer is no more than "not reached".
            raise network.unavailable(exc, host, port) from exc
        if response.status_code == 429:
            raise Throttled(
                "Microsoft Entra asks to wait", code="entra_busy", retry_after_s=retry_after_s(response.headers)
            )
        if response.status_code >= 500:
            raise TransportUnavailable(
                f"Microsoft Entra answered {response.status_code}",
                code="entra_unavailable",
                retry_after_s=retry_after_s(response.headers),
            )
        _json(response)
        return response


def _json(response: Any) -> Mapping[str, Any]:
    try:
        body = json.loads(response.text)
    except ValueError:
        body = None
    if not isinstance(body, Mapping):
        raise TransportUnavailable(
            f"the answer from {urlsplit(response.url).hostname} is not from Microsoft Entra"
            f" (status {response.status_code}, {response.headers.get('Content-Type', 'no content type')})",
            code="not_entra",
            retryable=False,
        )
    return body


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The `Retry-After` header in seconds, from either of its forms (RFC 9110 10.2.3); None without one."""
    from datetime import datetime, timezone
    from email.utils import parsedate_to_datetime

    value = (headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _refuse(answer: Mapping[str, Any]) -> NoReturn:
    """Raises what an error answer of Entra means. Its description quotes ids and times, never a secret."""
    description = str(answer.get("error_description") or answer.get("error") or "no reason given")
    listed = answer.get("error_codes")
    numbers = [one for one in listed if isinstance(one, int)] if isinstance(listed, list) else []
    numbers += [int(number) for number in re.findall(r"AADSTS(\d+)", description)]
    code = f"AADSTS{numbers[0]}" if numbers else str(answer.get("error") or "entra_error")
    facts: dict[str, Any] = {
        "code": code,
        "detail": description.splitlines()[0][:300],
        "request_id": str(answer.get("trace_id") or answer.get("correlation_id") or ""),
    }
    if answer.get("error") == "temporarily_unavailable" or (numbers and numbers[0] in _TEMPORARY):
        raise Throttled(f"Microsoft Entra asks to try again later ({code})", **facts)
    raise AuthenticationFailed(f"Microsoft Entra refused the credential ({code})", **facts)
