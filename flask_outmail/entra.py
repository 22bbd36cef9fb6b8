"""Asking Microsoft for one access token: each kind of credential, and the map from the answers to our errors.

MSAL makes the requests. It is imported when the first token is needed, and made anew for each request: kept, it would
answer from memory for a minute after a 400, and replay a 429 or 5xx, so that a repair seems not to help. Nothing here
remembers anything; `tokens` does.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from . import certificates, network
from .clouds import Cloud
from .errors import (
    AuthenticationFailed,
    ConfigurationError,
    OutmailError,
    Throttled,
    TransportUnavailable,
)
from .masking import Secrets, readable
from .setup_values import FEDERATED, MANAGED_IDENTITY, Credential

#: Set by Azure's workload identity (Kubernetes, App Service) to the file that holds the token to show to Entra.
TOKEN_FILE_VARIABLE = "AZURE_FEDERATED_TOKEN_FILE"  # noqa: S105 -- a name, not a token
TOKEN_FILE_MAX_BYTES = 65_536
#: How much of an answer is read: a token has some thousand characters, the description of a tenant not many more.
MAX_ANSWER_BYTES = 1_000_000

# Entra's own words for "not now" (Entra: AADSTS error codes). Everything else needs a person.
_TEMPORARY = {50196, 90006, 90012, 90024, 90033, 90055, 90090, 50033, 50087}
#: What says that this very secret or certificate is not taken, so that another one of the same application may be.
REFUSED_ITSELF = frozenset(
    f"AADSTS{number}" for number in (7000215, 7000222, 7000216, 7000218, 700027, 700024, 700030, 50012, 50013, 50027)
) | {"certificate_unreadable", "certificate_expired", "credential_incomplete"}
# Three parts in URL-safe base64 (RFC 7515 7.1). Whatever else a file holds is never sent to anybody.
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

_functions: dict[str, Callable[[], str]] = {}


def register_token_function(name: str, function: Callable[[], str]) -> None:
    """Makes `function` choosable as the source of a federated credential's token, by name.

    It is called whenever Entra is asked (about once an hour) and returns a fresh token of the outside issuer. A
    second one of the same name replaces the first.
    """
    _functions[name] = function


def token_functions() -> list[str]:
    """The names of the functions registered in this process."""
    return sorted(_functions)


@dataclass(frozen=True, slots=True)
class Issued:
    """A token as Microsoft gave it. Seconds count from when it was asked for.

    `refused` is set when the newest credential was not taken and the one before it was used: why it was not.
    """

    text: str = field(repr=False)
    lifetime_s: float
    refresh_in_s: float | None = None
    refused: OutmailError | None = None


def issue(credential: Credential, cloud: Cloud, scope: str, *, timeout_s: float, ca_file: str = "") -> Issued:
    """Asks for one token, with the newest secret or certificate, and with the one before it if that is not taken.

    Raises:
        ConfigurationError: something needed is missing or cannot be read.
        AuthenticationFailed: Microsoft refused; `code` is its AADSTS number.
        Throttled, TransportUnavailable: Microsoft is busy, or cannot be reached.
    """
    request = _Request(cloud, scope, timeout_s, ca_file)
    earlier = credential.earlier
    if earlier is None:
        return request.issue(credential)
    try:
        return request.issue(credential.newest)
    except (AuthenticationFailed, ConfigurationError) as refused:
        if refused.code not in REFUSED_ITSELF:
            raise
        try:
            return replace(request.issue(earlier), refused=refused)
        except (AuthenticationFailed, ConfigurationError):
            # It is the newest that somebody has to mend.
            raise refused from None


@dataclass(frozen=True, slots=True)
class _Request:
    cloud: Cloud
    scope: str
    timeout_s: float
    ca_file: str

    def issue(self, credential: Credential) -> Issued:
        managed = credential.provider == MANAGED_IDENTITY
        http = _HttpClient(self.timeout_s, self.ca_file, on_this_machine=managed)
        try:
            return _issued(self._managed(credential, http) if managed else self._confidential(credential, http))
        except OutmailError as exc:
            exc._quote(Secrets(credential.client_secret, credential.certificate_password).mask(exc.detail))
            if managed and isinstance(exc, TransportUnavailable) and exc.code != "entra_unavailable":
                raise _no_identity_endpoint(exc) from exc
            raise
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as exc:
            # What MSAL does with an answer that is not of the agreed form.
            raise TransportUnavailable(
                f"{self.cloud.authority_host} gave an answer of the wrong form ({type(exc).__name__})",
                code="not_entra",
                retryable=False,
            ) from None
        finally:
            http.close()

    def _confidential(self, credential: Credential, http: _HttpClient) -> Mapping[str, Any]:
        if not credential.tenant or not credential.client_id:
            raise ConfigurationError("the tenant or the client id is missing", code="credential_incomplete")
        proof = _proof(credential)
        from msal import ConfidentialClientApplication

        client = ConfidentialClientApplication(
            credential.client_id,
            client_credential=proof,
            authority=f"{self.cloud.authority}/{quote(credential.tenant, safe='')}",
            # Asked for nothing but Microsoft's public clouds, and a failing answer would replace the real error.
            instance_discovery=False,
            http_client=http,
        )
        answer: Mapping[str, Any] = client.acquire_token_for_client([self.scope])
        return answer

    def _managed(self, credential: Credential, http: _HttpClient) -> Mapping[str, Any]:
        from msal import ManagedIdentityClient, ManagedIdentityError, SystemAssignedManagedIdentity
        from msal import UserAssignedManagedIdentity as UserAssigned

        own = credential.client_id
        identity = UserAssigned(client_id=own) if own else SystemAssignedManagedIdentity()
        client = ManagedIdentityClient(identity, http_client=http)
        try:
            # The endpoint wants the resource, which is the scope without its ending.
            answer: Mapping[str, Any] = client.acquire_token_for_client(resource=self.scope.removesuffix("/.default"))
        except ManagedIdentityError as exc:
            raise AuthenticationFailed(
                "this machine's managed identity gave no token", code="managed_identity_refused", detail=str(exc)[:300]
            ) from None
        # The endpoint has words of its own, mostly without a number of Entra's.
        if "access_token" not in answer and "AADSTS" not in str(answer.get("error_description")):
            answer = {**answer, "error": "managed_identity_refused"}
        return answer


def _issued(answer: Mapping[str, Any]) -> Issued:
    if "access_token" not in answer:
        _refuse(answer)
    text = str(answer["access_token"])
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is visible ASCII")
    # MSAL turns Entra's refresh_in into a moment, by the clock of this machine.
    lifetime_s, refresh_in_s = float(answer.get("expires_in") or 0), float(answer.get("refresh_on") or 0) - time.time()
    # Without a time, or with one that has passed (a wrong clock): used for a minute, or until a server refuses it.
    return Issued(text, lifetime_s if lifetime_s > 0 else 60.0, refresh_in_s if 0 < refresh_in_s < lifetime_s else None)


# -- what shows who we are -------------------------------------------------------------------------------------------


def _proof(credential: Credential) -> Any:
    """What MSAL takes as `client_credential`."""
    if credential.provider == FEDERATED:
        assertion = outside_token(credential)
        # As a function, because MSAL keeps a text for ever and warns about it.
        return {"client_assertion": lambda: assertion}
    if credential.certificate:
        certificate = certificates.load(credential.certificate, credential.certificate_password)
        return {"private_key": certificate.private_key_pem, "public_certificate": certificate.certificate_pem}
    if not credential.client_secret:
        raise ConfigurationError("there is neither a client secret nor a certificate", code="credential_incomplete")
    return credential.client_secret


def token_file(credential: Credential) -> str:
    """The path of the file that a federated credential is read from, "" when there is none."""
    return credential.token_file or os.environ.get(TOKEN_FILE_VARIABLE, "")


def outside_token(credential: Credential) -> str:
    """A federated credential's own token, fresh from its file or function.

    Raises:
        ConfigurationError: there is none, or what is there is no token. Nothing of it is shown.
    """
    if credential.token_function:
        return _checked(_called(credential.token_function), f"what the function {credential.token_function!r} returned")
    path = token_file(credential)
    if not path:
        raise ConfigurationError(
            f"no token file is named, and {TOKEN_FILE_VARIABLE} is not set", code="token_file_missing"
        )
    try:
        # Only an ordinary file: a pipe or a device could be read without an end.
        if not Path(path).is_file():
            raise FileNotFoundError
        with open(path, "rb") as file:
            data = file.read(TOKEN_FILE_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"the token file {path} cannot be read ({type(exc).__name__})", code="token_file_missing"
        ) from None
    return _checked(data.decode("ascii", "replace"), f"what is in {path}")


def _called(name: str) -> str:
    try:
        function = _functions[name]
    except KeyError:
        raise ConfigurationError(
            f"no function is registered as {name!r} in this process", code="token_function_unknown"
        ) from None
    try:
        return str(function())
    except Exception as exc:
        # From None, and without its text: the application's own code may quote anything in its errors.
        raise ConfigurationError(
            f"the function {name!r} failed ({type(exc).__name__})", code="token_function_failed"
        ) from None


def _checked(text: str, where: str) -> str:
    text = text.strip()
    if len(text) > TOKEN_FILE_MAX_BYTES or not _JWT.fullmatch(text):
        raise ConfigurationError(f"{where} is not a token", code="token_file_unreadable")
    return text


# -- the network -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Response:
    """An answer as MSAL reads it."""

    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str]
    host: str
    secrets: Secrets = field(repr=False)

    def raise_for_status(self) -> None:
        """Those that are errors were raised before."""


class _HttpClient:
    """The network as MSAL wants it, with our time-outs and our errors.

    Errors are raised from here, below MSAL: it would otherwise lose `Retry-After`, and turn a wrong tenant into a bare
    `ValueError`.
    """

    def __init__(self, timeout_s: float, ca_file: str, *, on_this_machine: bool) -> None:
        self._timeout_s = timeout_s
        self._session = network.http_session(ca_file, plain=on_this_machine)
        self._on_this_machine = on_this_machine
        if on_this_machine:
            # A proxy must never see a request for this machine's own identity.
            self._session.trust_env = False

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> Any:
        response = self._ask("GET", url, params=params, headers=headers)
        if response.status_code >= 400 and not self._on_this_machine:
            _refuse(_json(response))
        return response

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> Any:
        return self._ask("POST", url, params=params, data=data, headers=headers)

    def close(self) -> None:
        self._session.close()

    def _ask(self, method: str, url: str, **arguments: Any) -> Any:
        import requests
        from urllib3.exceptions import HTTPError

        where = urlsplit(url)
        host, port = where.hostname or "", where.port or (80 if where.scheme == "http" else 443)
        who = "The managed identity endpoint" if self._on_this_machine else "Microsoft Entra"
        try:
            # auth is given, as nothing, so that requests does not put a password from ~/.netrc into the header.
            answer = self._session.request(
                method,
                url,
                timeout=self._timeout_s,
                allow_redirects=False,
                auth=lambda request: request,
                stream=True,
                **arguments,
            )
            content = answer.raw.read(MAX_ANSWER_BYTES, decode_content=False)
            answer.close()
        except (requests.RequestException, HTTPError, OSError) as exc:
            # A token request can be repeated at will, so even a lost answer is no more than "not reached".
            # From None: the request in the cause carries the secret.
            raise network.unavailable(exc, host, port) from None
        text, secrets = content.decode("utf-8", "replace"), Secrets(*_shown(**arguments))
        if answer.status_code >= 400:
            text = _without(text, secrets)
        response = _Response(answer.status_code, text, answer.headers, host, secrets)
        # Azure: how-to-use-vm-token, error handling: 410 is an update of the endpoint, 404 one that is not ready.
        resting = (404, 410) if self._on_this_machine else ()
        if response.status_code == 429:
            raise Throttled(
                f"{who} asks to wait", code="entra_busy", retry_after_s=network.retry_after_s(response.headers)
            )
        if response.status_code >= 500 or response.status_code in resting:
            raise TransportUnavailable(
                f"{who} answered {response.status_code}",
                code="entra_unavailable",
                retry_after_s=network.retry_after_s(response.headers),
            )
        if 300 <= response.status_code < 400:
            # Never followed: it would lead the secret to another place.
            raise _not_entra(response)
        if not (self._on_this_machine and response.status_code == 401):
            # Azure Arc's first answer is a challenge without a body.
            _json(response)
        return response


def _shown(*, data: Any = None, headers: Any = None, **_: Any) -> list[str]:
    """What a request shows that nobody else may see."""
    said = [*(data or {}).items(), *(headers or {}).items()]
    return [str(value) for name, value in said if re.search("secret|assertion$|identity|authorization", name.lower())]


def _without(text: str, secrets: Secrets) -> str:
    """The text of an error, which may quote what it was shown, without that."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return ""  # what is no JSON is not Entra's, and not read
    if isinstance(body, Mapping):
        # Cut first: of the rest nothing is shown.
        body = {
            key: secrets.mask(str(said)[:4000]) if isinstance(said, (str, Mapping)) else said
            for key, said in body.items()
        }
    return json.dumps(body)


def _no_identity_endpoint(exc: TransportUnavailable) -> OutmailError:
    return TransportUnavailable(
        f"this machine has no managed identity that answers ({exc})",
        code="managed_identity_missing",
        detail=exc.detail,
        retryable=exc.retryable,
        retry_after_s=exc.retry_after_s,
    )


def _json(response: _Response) -> Mapping[str, Any]:
    try:
        body = json.loads(response.text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, Mapping):
        raise _not_entra(response)
    return body


def _not_entra(response: _Response) -> TransportUnavailable:
    kind = readable(response.secrets.mask(response.headers.get("Content-Type", "no content type")))[:60]
    return TransportUnavailable(
        f"the answer from {response.host} is not from Microsoft Entra (status {response.status_code}, {kind})",
        code="not_entra",
        retryable=False,
    )


def _refuse(answer: Mapping[str, Any]) -> NoReturn:
    """Raises what an error answer means. Its description quotes ids and times, never a secret."""
    description = str(answer.get("error_description") or answer.get("error") or "no reason given")
    listed = answer.get("error_codes")
    numbers = [one for one in listed if isinstance(one, int)] if isinstance(listed, list) else []
    numbers += [int(number) for number in re.findall(r"AADSTS(\d{1,9})", description)]
    code = f"AADSTS{numbers[0]}" if numbers else readable(str(answer.get("error") or "entra_error"))[:64]
    facts: dict[str, Any] = {
        "code": code,
        "detail": readable(description.splitlines()[0])[:300],
        "request_id": readable(str(answer.get("trace_id") or answer.get("correlation_id") or ""))[:100],
    }
    if answer.get("error") == "temporarily_unavailable" or (numbers and numbers[0] in _TEMPORARY):
        raise Throttled(f"Microsoft Entra asks to try again later ({code})", **facts)
    raise AuthenticationFailed(f"Microsoft Entra refused the credential ({code})", **facts)
