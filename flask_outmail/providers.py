"""The kinds of credential, and the mistakes in one that are caught before any network is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from . import certificates
from .errors import ConfigurationError
from .setup_values import CLIENT_CREDENTIALS, FEDERATED, MANAGED_IDENTITY, Credential

_DOMAIN = re.compile(r"^(?=.{4,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$")
# Tenants that mean "any"; a client-credentials request needs a certain one (Entra: AADSTS9001023, 50194).
_SHARED_TENANTS = {"common", "organizations", "consumers"}


@dataclass(frozen=True, slots=True)
class Provider:
    """One kind of credential. `needs` are the fields without which it is none, `fields` all that count for it."""

    label: str
    summary: str
    needs: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def has_secret(self) -> bool:
        """Whether a secret or certificate is stored for it, which ends some day and is replaced."""
        return "client_secret" in self.fields


#: Which kinds of credential there are, by the name that is stored; how each is shown to Microsoft stands in `entra`.
PROVIDERS: Mapping[str, Provider] = {
    CLIENT_CREDENTIALS: Provider(
        "Microsoft client credentials",
        "A client secret or a certificate.",
        ("tenant", "client_id"),
        ("tenant", "client_id", "client_secret", "certificate", "certificate_password"),
    ),
    FEDERATED: Provider(
        "Microsoft federated credential",
        "No secret: a token of a cluster or another issuer that the application in Entra trusts.",
        ("tenant", "client_id"),
        ("tenant", "client_id", "token_file", "token_function"),
    ),
    MANAGED_IDENTITY: Provider(
        "Microsoft managed identity",
        "No secret and no registration: the identity that Azure gives the machine.",
        (),
        ("client_id",),
    ),
}


def cleaned(credential: Credential) -> Credential:
    """The credential without what pasting adds: blanks and line ends around and, where none can belong, inside.

    Nor does it keep what does not count for its kind.
    """
    provider = PROVIDERS.get(credential.provider)
    values = {
        "tenant": _one_word(credential.tenant),
        "client_id": _one_word(credential.client_id),
        "client_secret": _one_word(credential.client_secret),
        "certificate": credential.certificate.replace("\r\n", "\n").strip(),
        "certificate_password": credential.certificate_password,
        "token_file": credential.token_file.strip(),
        "token_function": credential.token_function.strip(),
    }
    kept: dict[str, Any] = {
        name: value if not provider or name in provider.fields else "" for name, value in values.items()
    }
    return replace(credential, **kept)


def _one_word(text: str) -> str:
    # Also zero-width and no-break blanks, which browsers and mail programs put into copied text.
    return re.sub(r"[\s\u200b\u200c\u200d\u2060\ufeff\u00ad]+", "", text)


def problems(credential: Credential, *, stored: bool = False) -> dict[str, tuple[str, str]]:
    """What is plainly wrong with a credential: field → (code, sentence). Touches nothing.

    `stored` says that a secret or certificate is stored already, so that none need be given.
    """
    provider = PROVIDERS.get(credential.provider)
    if provider is None:
        known = ", ".join(PROVIDERS)
        return {"provider": ("provider_unknown", f"“{credential.provider}” is not one of {known}.")}
    found = _id_problems(credential, provider)
    if provider.has_secret:
        found |= _secret_problems(credential, stored)
    elif credential.token_file and credential.token_function:
        found["token_function"] = ("credential_incomplete", "Give a file or a function, not both.")
    return found


def _id_problems(credential: Credential, provider: Provider) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    tenant, client_id = credential.tenant, credential.client_id
    if "tenant" in provider.needs:
        if not tenant:
            found["tenant"] = ("credential_incomplete", "Enter the Directory (tenant) ID.")
        elif tenant.lower() in _SHARED_TENANTS:
            found["tenant"] = ("tenant_shared", f"“{tenant}” is no certain tenant. Enter the tenant's own ID.")
        elif not is_guid(tenant) and not _DOMAIN.match(tenant):
            found["tenant"] = ("tenant_invalid", "This is neither an ID (8-4-4-4-12 characters) nor a domain.")
    if not client_id:
        if "client_id" in provider.needs:
            found["client_id"] = ("credential_incomplete", "Enter the Application (client) ID.")
    elif not is_guid(client_id):
        found["client_id"] = ("client_id_invalid", "An Application (client) ID has the form 8-4-4-4-12 characters.")
    elif client_id.lower() == tenant.lower():
        found["client_id"] = (
            "tenant_is_client_id",
            "This is the tenant ID again. The Application (client) ID stands beside it on the app's Overview page.",
        )
    return found


def _secret_problems(credential: Credential, stored: bool) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    if credential.client_secret and credential.certificate:
        found["client_secret"] = ("credential_incomplete", "Give a secret or a certificate, not both.")
    elif is_guid(credential.client_secret):
        found["client_secret"] = (
            "secret_is_id",
            "This looks like the secret's ID, not its value. Copy the column Value; it is shown only once.",
        )
    elif not (credential.client_secret or credential.certificate or stored):
        found["client_secret"] = ("credential_incomplete", "Give a client secret or a certificate.")
    if credential.certificate:
        try:
            certificates.load(credential.certificate, credential.certificate_password)
        except ConfigurationError as exc:
            found["certificate"] = (exc.code, str(exc))
    return found


def is_guid(text: str) -> bool:
    try:
        return len(text) == 36 and str(UUID(text)) == text.lower()
    except ValueError:
        return False
