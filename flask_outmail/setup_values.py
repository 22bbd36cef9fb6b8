"""The values that a setup is made of, decrypted: what a mail service and its credential need to know."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from .dsn import setup_of
from .errors import ConfigurationError
from .message import Address
from .reading import invalid, port

#: What a connection may be called.
CONNECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

Tls = Literal["starttls", "tls", "none"]
TLS_CHOICES: tuple[Tls, ...] = ("starttls", "tls", "none")


#: The kinds of credential, by the names that are stored and configured. `providers.PROVIDERS` says what each needs.
CLIENT_CREDENTIALS = "microsoft_client_credentials"
FEDERATED = "microsoft_federated"
MANAGED_IDENTITY = "microsoft_managed_identity"


@dataclass(frozen=True, slots=True)
class Credential:
    """The values of one authentication object, decrypted. Secrets never show in `repr`.

    `provider` decides which of them count. Client credentials: exactly one of `client_secret` and `certificate` is
    set; `certificate` is PEM text (key and certificate), or the base64 of a PFX file. Federated: a token of another
    issuer is read from `token_file` ("" means the file that AZURE_FEDERATED_TOKEN_FILE names), or had from the
    function registered as `token_function`. Managed identity: nothing, or the `client_id` of a user-assigned one.

    The `previous_…` values are those that were in use before, kept while two overlap: they serve when Entra does not
    take the newest. `expires_on` is what a person noted; a certificate says itself when it ends.
    """

    tenant: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    certificate_password: str = field(default="", repr=False)
    cloud: str = "global"
    provider: str = CLIENT_CREDENTIALS
    token_file: str = ""
    token_function: str = ""
    previous_client_secret: str = field(default="", repr=False)
    previous_certificate: str = field(default="", repr=False)
    previous_certificate_password: str = field(default="", repr=False)
    expires_on: date | None = None

    @property
    def newest(self) -> Credential:
        """This credential without the one before it."""
        return replace(self, previous_client_secret="", previous_certificate="", previous_certificate_password="")

    @property
    def earlier(self) -> Credential | None:
        """The one before it, by itself; None when none is kept."""
        if not (self.previous_client_secret or self.previous_certificate):
            return None
        return replace(
            self.newest,
            client_secret=self.previous_client_secret,
            certificate=self.previous_certificate,
            certificate_password=self.previous_certificate_password,
            expires_on=None,
        )


# Not part of what a passed test proves: a fallback that comes or goes changes nothing about the newest, and a date
# is only a note.
_NOT_PROVEN = ("previous_client_secret", "previous_certificate", "previous_certificate_password", "expires_on")
# Came after the first version. Left out while empty, so that what was proven before stays proven.
_ADDED_LATER = ("token_file", "token_function")


@dataclass(frozen=True, slots=True)
class SetupValues:
    """All that a mail service needs to know to send: one revision of the outbound mail settings, decrypted.

    `username` is the mailbox for the Microsoft services and the log-in name for SMTP. `auth_object` is the name of
    the stored credential ("" when it came from configuration).
    """

    service: str = ""
    host: str = ""
    port: int = 0
    tls: Tls = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    from_address: str = ""
    from_name: str = ""
    failure_alerts_to: str = ""
    auth_object: str = ""
    credential: Credential | None = None

    def canonical(self) -> str:
        """The same text for the same values, SECRETS INCLUDED: what a passed test is a proof of.

        Only ever stored as a keyed hash of it (`Vault.fingerprints`): beside values that stand in the clear, a plain
        hash would let anybody with a copy of the database try passwords. Who sends and who is alerted under which
        name does not change whether mail flows, so `from_name` and `failure_alerts_to` stay out: mending a typo
        there does not stop the mail.
        """
        values = asdict(self)
        for name in ("from_name", "failure_alerts_to", "auth_object"):
            values.pop(name)
        credential = values["credential"] or {}
        for name in credential and (*_NOT_PROVEN, *(one for one in _ADDED_LATER if not credential[one])):
            credential.pop(name)
        return json.dumps(values, sort_keys=True)

    @property
    def sender(self) -> str:
        """The setup's own From, as a message's sender; "" when it has none."""
        name, address = self.from_name, self.from_address
        return f"{name} <{address}>" if name and address else address

    def filled(self, **values: Any) -> SetupValues:
        """A copy with `values` where this one has none."""
        return replace(self, **{name: value for name, value in values.items() if not getattr(self, name)})


_SETUP_FIELDS = {one.name for one in fields(SetupValues)} - {"credential", "auth_object"}
_CREDENTIAL_FIELDS = {one.name for one in fields(Credential)}
_CERTIFICATE_FIELDS = {"certificate", "previous_certificate"}


def setup_from_mapping(setup: Any, key: str) -> SetupValues:
    """Reads a setup written as one flat mapping, as in `OUTMAIL_SETUP`, or as one string (`dsn`).

    A certificate may be the path of a PEM or PFX file. Which fields a service needs is that service's own affair.

    Raises:
        ConfigurationError: names `key` and the entry.
    """
    if isinstance(setup, str):
        setup = setup_of(setup, key)
    if not isinstance(setup, Mapping):
        raise invalid(f"{key} must be a dict or a string")
    unknown = sorted(str(name) for name in set(setup) - _SETUP_FIELDS - _CREDENTIAL_FIELDS)
    if unknown:
        raise ConfigurationError(f"{key}: unknown entry {', '.join(map(repr, unknown))}", code="config_unknown")
    if not setup.get("service"):
        raise invalid(f"{key}: 'service' is missing")
    for name, value in setup.items():
        if name not in _CERTIFICATE_FIELDS and isinstance(value, str) and not value.isprintable():
            raise invalid(f"{key}: {name!r} holds a line break or control character")
    values: dict[str, Any] = {
        name: setup[name] if name == "port" else str(setup[name])
        for name in _SETUP_FIELDS & set(setup)
        if setup[name] is not None
    }
    if values.get("tls", "starttls") not in TLS_CHOICES:
        raise invalid(f"{key}: 'tls' must be one of {', '.join(TLS_CHOICES)}")
    if "port" in values:
        values["port"] = port(values["port"], f"{key}: 'port'")
    credential = _credential_from(setup, key)
    named = {name: Address.parse(values[name]) for name in ("from_address",) if values.get(name)}
    if "from_address" in named:
        values["from_address"] = named["from_address"].address
        values.setdefault("from_name", named["from_address"].name)
    return SetupValues(**values, credential=credential)


def _credential_from(setup: Mapping[str, Any], key: str) -> Credential | None:
    values: dict[str, Any] = {name: str(setup[name]) for name in _CREDENTIAL_FIELDS & set(setup) if setup[name]}
    if not values:
        return None
    for name in _CERTIFICATE_FIELDS & set(values):
        values[name] = _certificate_text(values[name], f"{key}: {name!r}")
    if "expires_on" in values:
        try:
            values["expires_on"] = date.fromisoformat(values["expires_on"])
        except ValueError:
            raise invalid(f"{key}: 'expires_on' must be a date like 2027-04-15") from None
    if "token_file" in values or "token_function" in values:
        values.setdefault("provider", FEDERATED)
    return Credential(**values)


def _certificate_text(value: str, where: str) -> str:
    if "-----BEGIN" in value:
        return value
    try:
        data = Path(value).read_bytes()
    except (OSError, ValueError):
        if len(value) > 300 and re.fullmatch(r"[A-Za-z0-9+/=\s]+", value):
            return value  # a PFX file in base64
        # Never the value: it may be the key itself.
        raise invalid(f"{where} is neither PEM, nor base64 of a PFX file, nor a file that can be read") from None
    if data.lstrip().startswith(b"-----BEGIN"):
        return data.decode("ascii", "replace")
    return base64.b64encode(data).decode()
