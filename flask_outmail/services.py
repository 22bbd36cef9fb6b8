"""Mail services: the kinds of transport a person can choose, and the registry of them.

Everything that differs between them stands here or below: no other file asks "is this Graph?". Another service is one
class and one `register` call, or an entry point of the group `flask_outmail.services`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Protocol

from . import network, providers
from .clouds import Cloud, clouds
from .diagnosis.domain import MICROSOFT_SELECTORS, MICROSOFT_SPF
from .diagnosis.gate import Gate
from .diagnosis.graph import GraphProof
from .diagnosis.microsoft import TokenProof, addresses
from .diagnosis.smtp import SmtpProof
from .diagnosis.steps import Check, Observer
from .errors import ConfigurationError, InvalidMessage
from .message import Address
from .settings import Settings
from .setup_values import Credential, SetupValues
from .tokens import EntraTokens, TokenStore
from .transports.base import Transport
from .transports.graph import GraphTransport
from .transports.graph_calls import GraphSettings
from .transports.guarded import Safety, guarded
from .transports.smtp import EXCHANGE_CONNECTIONS, EXCHANGE_IDLE_S, SmtpSettings, SmtpTransport


@dataclass(frozen=True)
class Environment:
    """What a service may need beside its values: the application's settings, the clouds by name, shared tokens."""

    settings: Settings
    clouds: Mapping[str, Cloud]
    token_store: TokenStore | None = None
    #: For a test that somebody starts on a page: where it may connect to.
    gate: Gate | None = None
    #: For any test: who is told what is said, and a mailbox that must be refused.
    observe: Observer | None = None
    foreign_mailbox: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Environment:
        return cls(settings, clouds(settings.clouds))

    def tokens(self, credential: Credential, cloud: Cloud, scope: str) -> EntraTokens:
        """A source of tokens that shares them with the application's other processes."""
        settings = self.settings
        return EntraTokens(
            credential,
            cloud,
            scope,
            timeout_s=settings.token_timeout_s,
            ca_file=settings.ca_file,
            store=self.token_store,
        )

    def connect(self, host: str, port: int) -> socket.socket:
        """An open TCP connection, for a check of `plan`; to an address that whoever started the test may reach.

        Raises:
            ConfigurationError: the host is in a private network, and the test was started on a page.
            TransportUnavailable: the host cannot be found or reached.
        """
        address = self.gate.choose(host, port, addresses(host, port)) if self.gate else ""
        return network.connect(host, port, timeout_s=self.settings.connect_timeout_s, address=address)

    def cloud(self, credential: Credential | None) -> Cloud:
        name = credential.cloud if credential else "global"
        try:
            return self.clouds[name]
        except KeyError as exc:
            raise ConfigurationError(f"there is no cloud named {name!r}", code="cloud_unknown") from exc


@dataclass
class Plan:
    """The checks that prove a setup, and how to give back what they opened."""

    checks: Sequence[Check]
    session: SmtpProof | None = None

    def close(self) -> None:
        if self.session is not None:
            self.session.close()


class MailService(Protocol):
    """One kind of mail service.

    `locked` names the fields that the service fills itself (a page shows them but does not let them be changed).
    Two more attributes may be there, for the check of the From domain: `spf_includes`, names of which its SPF record
    should include one, and `dkim_selectors`, the names of the keys that the service signs with. A service that others
    should move to may have `replaces(values, environment)`: another service's values as its own, or None.
    """

    name: str
    label: str
    summary: str
    recommended: bool
    needs_auth_object: bool
    locked: frozenset[str]

    def complete(self, values: SetupValues, environment: Environment) -> SetupValues:
        """The values with everything filled in that the service knows itself."""
        ...

    def problems(self, values: SetupValues, environment: Environment) -> dict[str, str]:
        """What is plainly wrong or missing: field → sentence. Touches no network."""
        ...

    def mailbox(self, values: SetupValues) -> str:
        """The mailbox that really sends, for the header Sender; "" when the service has none."""
        ...

    def transport(self, values: SetupValues, environment: Environment) -> Transport:
        """A transport for these values. Touches no network yet."""
        ...

    def plan(self, values: SetupValues, environment: Environment) -> Plan:
        """How to prove these values without sending anything."""
        ...


class Microsoft365Graph:
    """Exchange Online through Microsoft Graph, with an application's own credential."""

    name = "microsoft365_graph"
    label = "Microsoft Office 365 Exchange (Graph) with OAuth 2.0"
    summary = "No mailbox password. Works where SMTP is switched off."
    recommended = True
    needs_auth_object = True
    locked = frozenset({"host", "port", "tls"})
    spf_includes = MICROSOFT_SPF
    dkim_selectors = MICROSOFT_SELECTORS

    def complete(self, values: SetupValues, environment: Environment) -> SetupValues:
        cloud = environment.cloud(values.credential)
        return replace(values, host=cloud.graph_host, port=cloud.graph_port, tls="tls", password="")

    def problems(self, values: SetupValues, environment: Environment) -> dict[str, str]:
        return _microsoft_problems(values, environment)

    def mailbox(self, values: SetupValues) -> str:
        return values.username

    def replaces(self, values: SetupValues, environment: Environment) -> SetupValues | None:
        """The same sender over Graph, for a log-in by password at a server of Microsoft 365; otherwise None."""
        hosts = {cloud.smtp_host.lower() for cloud in environment.clouds.values() if cloud.smtp_host}
        if values.service != SmtpServer.name or values.host.lower().rstrip(".") not in hosts:
            return None
        mailbox = values.username if "@" in values.username else values.from_address
        return replace(values, service=self.name, host="", port=0, tls="tls", password="", username=mailbox)

    def transport(self, values: SetupValues, environment: Environment) -> Transport:
        credential, cloud = _credential(values), environment.cloud(values.credential)
        tokens = environment.tokens(credential, cloud, cloud.scope)
        return GraphTransport(self._settings(values, environment, tokens), name=self.name)

    def plan(self, values: SetupValues, environment: Environment) -> Plan:
        proof = _token_proof(values, environment, smtp=False)
        settings = self._settings(values, environment, proof.tokens)
        return Plan(GraphProof(proof, settings, values.from_address, environment.foreign_mailbox).checks())

    def _settings(self, values: SetupValues, environment: Environment, tokens: EntraTokens) -> GraphSettings:
        settings = environment.settings
        return GraphSettings(
            cloud=environment.cloud(values.credential),
            mailbox=values.username,
            tokens=tokens,
            ca_file=settings.ca_file,
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.graph_timeout_s,
            app=values.credential.client_id if values.credential else "",
            large_messages=settings.graph_large_messages,
            check=settings.graph_check,
            observe=environment.observe,
        )


class Microsoft365Smtp:
    """Exchange Online through SMTP submission, logged in by token."""

    name = "microsoft365_smtp"
    label = "Microsoft 365 SMTP with OAuth 2.0"
    summary = "Only if a rule requires SMTP. The tenant must allow SMTP AUTH for the mailbox."
    recommended = False
    needs_auth_object = True
    locked = frozenset({"host", "tls"})
    spf_includes = MICROSOFT_SPF
    dkim_selectors = MICROSOFT_SELECTORS

    def complete(self, values: SetupValues, environment: Environment) -> SetupValues:
        cloud = environment.cloud(values.credential)
        # A token goes to the cloud's own mail host and to no other, whatever was typed or configured.
        filled = replace(values, host=cloud.smtp_host, tls="starttls", password="")
        return filled.filled(port=cloud.smtp_port)

    def problems(self, values: SetupValues, environment: Environment) -> dict[str, str]:
        found = _microsoft_problems(values, environment)
        if not found and not (values.host and environment.cloud(values.credential).smtp_scope):
            found["service"] = "This cloud has no SMTP; add smtp_host and smtp_scope to OUTMAIL_CLOUDS."
        if not 1 <= values.port <= 65535:
            found["port"] = "Enter a port from 1 to 65535; Microsoft 365 uses 587."
        return found

    def mailbox(self, values: SetupValues) -> str:
        return values.username

    def transport(self, values: SetupValues, environment: Environment) -> Transport:
        credential, cloud = _credential(values), environment.cloud(values.credential)
        tokens = environment.tokens(credential, cloud, cloud.smtp_scope)
        return SmtpTransport(_smtp_settings(values, environment, tokens), name=self.name)

    def plan(self, values: SetupValues, environment: Environment) -> Plan:
        proof = _token_proof(values, environment, smtp=True)
        return _smtp_plan(values, environment, proof.tokens, self.name, proof)


class SmtpServer:
    """Any SMTP server: with a user name and password, or without on a trusted network."""

    name = "smtp"
    label = "SMTP server"
    summary = "Any provider: user name and password, or none on a trusted network."
    recommended = False
    needs_auth_object = False
    locked: frozenset[str] = frozenset()

    def complete(self, values: SetupValues, environment: Environment) -> SetupValues:
        return replace(values, credential=None, auth_object="").filled(port=465 if values.tls == "tls" else 587)

    def problems(self, values: SetupValues, environment: Environment) -> dict[str, str]:
        found = _sender_problems(values)
        host = values.host
        if not host:
            found["host"] = "Enter the name of the mail server, for example smtp.example.com."
        elif "://" in host or "/" in host or "@" in host or any(one.isspace() for one in host) or len(host) > 253:
            found["host"] = "Enter the name alone, without http:// and without a path."
        if not 1 <= values.port <= 65535:
            found["port"] = "Enter a port from 1 to 65535; 587 is usual."
        if values.password and not values.username:
            found["username"] = "There is a password but no user name."
        return found

    def mailbox(self, values: SetupValues) -> str:
        return ""

    def transport(self, values: SetupValues, environment: Environment) -> Transport:
        return SmtpTransport(_smtp_settings(values, environment, None), name=self.name)

    def plan(self, values: SetupValues, environment: Environment) -> Plan:
        return _smtp_plan(values, environment, None, self.name, None)


_registry: dict[str, MailService] = {}


def register(service: MailService) -> None:
    """Makes a mail service choosable. A second one of the same name replaces the first."""
    _registry[service.name] = service


def services() -> list[MailService]:
    """All mail services in the order of the set-up page: the recommended one first."""
    _load_entry_points()
    return sorted(_registry.values(), key=lambda service: not service.recommended)


def successor(values: SetupValues, environment: Environment) -> tuple[MailService, SetupValues] | None:
    """The service that these values should move to, and the values there; None when they may stay."""
    for one in services():
        moved = getattr(one, "replaces", lambda *_: None)(values, environment)
        if moved is not None:
            return one, moved
    return None


def service(name: str) -> MailService:
    """The mail service of this name.

    Raises:
        ConfigurationError: there is none.
    """
    _load_entry_points()
    try:
        return _registry[name]
    except KeyError as exc:
        known = ", ".join(_registry)
        raise ConfigurationError(
            f"there is no mail service named {name!r} (known: {known})", code="service_unknown"
        ) from exc


for _one in (Microsoft365Graph(), Microsoft365Smtp(), SmtpServer()):
    register(_one)
_entry_points_loaded = False


def _load_entry_points() -> None:
    global _entry_points_loaded
    if not _entry_points_loaded:
        _entry_points_loaded = True
        for entry in entry_points(group="flask_outmail.services"):
            register(entry.load()())


def transport_of(values: SetupValues, environment: Environment) -> Transport:
    """A transport for these values, with the rules that hold outside production before it. Touches no network."""
    made = service(values.service).transport(values, environment)
    settings = environment.settings
    return guarded(made, Safety(settings.redirect_to, settings.allowed_recipients))


def _credential(values: SetupValues) -> Credential:
    if values.credential is None:
        raise ConfigurationError("no authentication object is chosen", code="credential_incomplete")
    return values.credential


def _sender_problems(values: SetupValues) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, needed in (("from_address", True), ("failure_alerts_to", False)):
        text = getattr(values, name)
        if text or needed:
            message = address_problem(text)
            if message:
                found[name] = message
    for name in ("username", "from_name"):
        if not getattr(values, name).isprintable():
            found[name] = "Line breaks and control characters cannot stand here."
    return found


def address_problem(text: str) -> str:
    """What is wrong with the text as one email address, in a sentence; "" when nothing is."""
    if not text:
        return "Enter an email address."
    try:
        Address("", text).check("address")
    except InvalidMessage:
        if text.count("@") > 1:
            return "One address can stand here; for several people enter that of a group."
        return "This is not an email address. It has the form name@example.com."
    return ""


def _microsoft_problems(values: SetupValues, environment: Environment) -> dict[str, str]:
    found = _sender_problems(values)
    if not values.username:
        found["username"] = "Enter the mailbox to send as, for example noreply@example.com."
    elif address_problem(values.username):
        found["username"] = "The user name is the mailbox's address; it has the form name@example.com."
    if values.credential is None:
        found["auth_object"] = "Choose an authentication object."
        return found
    if values.credential.cloud not in environment.clouds:
        found["auth_object"] = f"It belongs to the cloud “{values.credential.cloud}”, which is not configured."
    for name, (_, sentence) in providers.problems(values.credential).items():
        found.setdefault("auth_object", f"{name.replace('_', ' ')}: {sentence}")
    return found


def _token_proof(values: SetupValues, environment: Environment, *, smtp: bool) -> TokenProof:
    cloud = environment.cloud(values.credential)
    return TokenProof(
        credential=_credential(values),
        cloud=cloud,
        scope=cloud.smtp_scope if smtp else cloud.scope,
        wanted_role="SMTP.SendAsApp" if smtp else "Mail.Send",
        timeout_s=environment.settings.token_timeout_s,
        ca_file=environment.settings.ca_file,
        store=environment.token_store,
        observe=environment.observe,
    )


def _smtp_settings(values: SetupValues, environment: Environment, tokens: EntraTokens | None) -> SmtpSettings:
    settings = environment.settings
    is_exchange = values.host.lower() in {cloud.smtp_host for cloud in environment.clouds.values()}
    return SmtpSettings(
        host=values.host,
        port=values.port,
        tls=values.tls,
        address=environment.gate.pins.get(values.host.lower(), "") if environment.gate else "",
        username=values.username,
        password=values.password,
        tokens=tokens,
        ca_file=settings.ca_file,
        connect_timeout_s=settings.connect_timeout_s,
        timeout_s=settings.smtp_timeout_s,
        connections=min(settings.smtp_connections, EXCHANGE_CONNECTIONS) if is_exchange else settings.smtp_connections,
        idle_s=min(settings.smtp_idle_s, EXCHANGE_IDLE_S) if is_exchange else settings.smtp_idle_s,
        age_s=settings.smtp_age_s,
        pipelining=settings.smtp_pipelining,
        chunking=settings.smtp_chunking,
        window=settings.smtp_window,
        dkim=settings.dkim,
    )


def _smtp_plan(
    values: SetupValues, environment: Environment, tokens: EntraTokens | None, name: str, proof: TokenProof | None
) -> Plan:
    # The alert address is the one recipient we know; the sender itself takes its place when there is none.
    recipient = values.failure_alerts_to or values.from_address
    settings = _smtp_settings(values, environment, tokens)
    session = SmtpProof(
        settings,
        values.from_address,
        recipient,
        name=name,
        proof=proof,
        gate=environment.gate,
        observe=environment.observe,
        foreign_mailbox=environment.foreign_mailbox,
    )
    return Plan(session.checks(), session)
