"""Between the set-up form and a setup: what is known of a connection, what was typed, and what that means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from flask import abort, request
from sqlalchemy.orm import Session

from .. import auth_objects, services, setups
from ..engine import Engine
from ..errors import ConfigurationError, OutmailError, SecretUnreadable
from ..models import PRIMARY, AuthObject, Proof, Setup
from ..services import MailService
from ..setup_values import CONNECTION_NAME, TLS_CHOICES, Credential, SetupValues, Tls
from .forms import SetupForm, number, told_by

# What a browser sends back need not be what it was given, and some databases refuse to look for just any text.
_PROOF = re.compile(r"[0-9a-f]{32}")
_HOST_AND_PORT = re.compile(r"(?P<host>[^:\s]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
#: What a stored password is bound to. The first that differs is told.
_CHANGED = {
    "host": "You changed the host.",
    "port": "You changed the port.",
    "username": "You changed the user name.",
    "tls": "You switched TLS off.",
}
_AGAIN = "Enter the password again: the stored one goes only where it was stored for."
#: What the set-up form and a setup share by name and type.
_TEXTS = ("username", "from_address", "from_name", "failure_alerts_to")


def wanted_connection() -> str:
    """The connection that the address names; 404 when it cannot be a name."""
    name = request.args.get("connection") or PRIMARY
    if not CONNECTION_NAME.fullmatch(name):
        abort(404)
    return name


@dataclass
class Known:
    """What is known of a connection before anything is typed.

    `stored` are the values that fill the form, and whose password an empty field stands for; `unreadable` says why
    there are none although a revision exists. `configured_by` names the configuration that is in force, if it is.
    """

    connection: str
    newest: Setup | None = None
    active: Setup | None = None
    stored: SetupValues | None = None
    configured_by: str = ""
    unreadable: SecretUnreadable | None = None
    in_use_verified: bool = False
    objects: Sequence[AuthObject] = ()
    connections: Sequence[str] = (PRIMARY,)

    @property
    def locked_by(self) -> str:
        """The key that fixes every field; "" when the page may be edited."""
        return self.configured_by if self.configured_by.startswith("OUTMAIL_") else ""

    @property
    def in_use_first(self) -> str:
        """`in_use` where a sentence begins."""
        return self.in_use[:1].upper() + self.in_use[1:]

    @property
    def newest_revision(self) -> int:
        return self.newest.revision if self.newest else 0

    @property
    def in_use(self) -> str:
        """What carries mail now, in words; "" when nothing does."""
        if self.configured_by:
            return "the MAIL_… configuration" if self.configured_by.startswith("MAIL_") else self.configured_by
        return f"revision {self.active.revision}" if self.active else ""


def known_of(engine: Engine, session: Session | None, connection: str) -> Known:
    """Reads what is known. Without a session only what the configuration says."""
    known = Known(connection)
    if session is not None:
        known.newest, known.active = setups.latest(session, connection), setups.active(session, connection)
        known.objects = auth_objects.by_expiry(session)
        names = {PRIMARY, connection, *engine.settings.configured, *setups.connections(session)}
        known.connections = sorted(names, key=lambda name: (name != PRIMARY, name))
        if known.newest is not None:
            try:
                known.stored = setups.values_of(known.newest, engine.vault)
            except SecretUnreadable as exc:
                known.unreadable = exc
    if connection in engine.settings.configured:
        known.stored, known.configured_by = engine.settings.configured[connection]
        known.unreadable = None
    elif connection == PRIMARY and known.active is None and engine.settings.fallback is not None:
        known.configured_by = "MAIL_SERVER"
        known.stored = known.stored or engine.settings.fallback
    known.in_use_verified = _works(engine, known)
    return known


def _works(engine: Engine, known: Known) -> bool:
    """Whether something verified carries mail on this connection, so that it must not be replaced by accident."""
    try:
        current = engine.current(known.connection, fresh=True)
    except OutmailError:
        return False
    return current is not None and current.verified


@dataclass
class Entered:
    """What a form says. `problems` stop it from being tested or saved, `warnings` do not."""

    values: SetupValues
    auth_object: AuthObject | None = None
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


def service_named(name: str | None) -> MailService | None:
    try:
        return services.service(name or "")
    except ConfigurationError:
        return None


def read(form: SetupForm, known: Known, engine: Engine, session: Session) -> Entered:
    """The form as values, with everything filled in that need not be typed."""
    entered = Entered(_typed(form), problems=told_by(form))
    service = service_named(form.service.data)
    if service is None:
        entered.problems["service"] = "Choose the kind of mail service."
        return entered
    row = session.get(AuthObject, number(form.auth_object.data))
    _drop_what_the_former_service_showed(form, service, row, entered, engine)
    credential = _credential(row, service, entered, engine)
    values = replace(entered.values, credential=credential)
    if not values.from_address and "@" in values.username:
        values = replace(values, from_address=values.username)
    values = _complete(service, values, entered, engine)
    if not service.needs_auth_object:
        values = _with_password(form, values, known, entered, engine, session)
    entered.values = values
    for name, sentence in service.problems(values, engine.environment).items():
        entered.problems.setdefault(name if name in form else "service", sentence)
    if values.tls == "none" and values.password and not form.tls_none_confirmed.data and "tls" not in service.locked:
        entered.problems.setdefault(
            "tls", "Without TLS the password can be read by everyone on the way. Choose TLS, or tick the box below."
        )
    entered.warnings = warnings(values)
    return entered


def _typed(form: SetupForm) -> SetupValues:
    host, port = form.host.data or "", form.port.data or ""
    if match := _HOST_AND_PORT.fullmatch(host):
        # "smtp.example.com:587" is how providers write it, and how it is pasted.
        host, port = match["host"], match["port"]
    tls = form.tls.data if form.tls.data in TLS_CHOICES else "starttls"
    values = SetupValues(service=form.service.data or "", host=host, port=_port(port), tls=cast(Tls, tls))
    texts: dict[str, Any] = {name: form[name].data or "" for name in _TEXTS}
    return replace(values, **texts)


def _port(text: str) -> int:
    """0 for none, -1 for what is no number: the services then say what they expect."""
    if not text:
        return 0
    return number(text) if number(text) else -1


def _drop_what_the_former_service_showed(
    form: SetupForm, service: MailService, row: AuthObject | None, entered: Entered, engine: Engine
) -> None:
    shown = service_named(form.shown_service.data)
    if shown is None or shown.name == service.name:
        return
    filled = filled_by(shown, row, engine)
    changes: dict[str, Any] = {name: {"host": "", "port": 0, "tls": "starttls"}[name] for name in shown.locked}
    if entered.values.port == filled["port"]:
        changes["port"] = 0
    entered.values = replace(entered.values, **changes)


def _credential(row: AuthObject | None, service: MailService, entered: Entered, engine: Engine) -> Credential | None:
    if row is None or not service.needs_auth_object:
        return None
    entered.auth_object = row
    entered.values = replace(entered.values, auth_object=row.name)
    try:
        return auth_objects.credential_of(row, engine.vault)
    except SecretUnreadable:
        entered.problems["auth_object"] = "Its secret cannot be read with the present keys. Enter it there again."
        return Credential(tenant=row.tenant, client_id=row.client_id, cloud=row.cloud)


def _complete(service: MailService, values: SetupValues, entered: Entered, engine: Engine) -> SetupValues:
    try:
        return service.complete(values, engine.environment)
    except OutmailError as exc:
        entered.problems.setdefault("auth_object", str(exc))
        return values


def _with_password(
    form: SetupForm, values: SetupValues, known: Known, entered: Entered, engine: Engine, session: Session
) -> SetupValues:
    """The password that was typed, or the one just tested, or the stored one where it belongs to this server."""
    typed = form.password.data or ""
    if typed or not values.username:
        return replace(values, password=typed)
    proof_id = form.proof.data if _PROOF.fullmatch(form.proof.data or "") else ""
    proof = session.get(Proof, proof_id) if proof_id else None
    tested = setups.tested_password(session, values, proof_id, engine.vault, valid_s=engine.settings.test_valid_s)
    if tested:
        return replace(values, password=tested)
    values = setups.with_stored_password(values, known.stored)
    had_one = bool(known.stored and known.stored.password)
    if not values.password and (had_one or (proof is not None and proof.password_sealed)):
        entered.problems["password"] = f"{_why_again(values, known.stored)} {_AGAIN}"
    return values


def _why_again(values: SetupValues, stored: SetupValues | None) -> str:
    """Why a stored password cannot stand in for an empty field; see `setups.with_stored_password`."""
    if stored is not None and stored.password:
        for name, sentence in _CHANGED.items():
            if getattr(values, name) != getattr(stored, name):
                return sentence
    return "You changed the server or the user name, or the test was long ago."


def warnings(values: SetupValues) -> dict[str, str]:
    """What is allowed and yet worth a second look: field → sentence."""
    found: dict[str, str] = {}
    alerts_to, sender = values.failure_alerts_to.lower(), values.from_address.lower()
    if not alerts_to:
        found["failure_alerts_to"] = "Nobody will be told when mail fails. The pages here will still show it."
    elif alerts_to in (sender, values.username.lower()) or _domain(alerts_to) == _domain(sender):
        found["failure_alerts_to"] = (
            "This address is served by the same mail service as the sender: an alert could not arrive while this"
            " setup is broken. An address elsewhere is safer."
        )
    if values.port == 465 and values.tls == "starttls":
        found["port"] = "Port 465 usually speaks TLS from the start."
    elif values.port == 587 and values.tls == "tls":
        found["port"] = "Port 587 usually speaks STARTTLS."
    if not values.credential and values.service and values.username and not values.password:
        found["password"] = "There is no password, so no log-in will be tried."  # noqa: S105 -- a sentence
    return found


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def plain_values_of(row: Setup) -> SetupValues:
    """A revision whose secrets cannot be read, as far as it can."""
    return SetupValues(
        service=row.service, host=row.host, port=row.port, tls=cast(Tls, row.tls), from_name=row.from_name,
        username=row.username, from_address=row.from_address, failure_alerts_to=row.failure_alerts_to,
    )  # fmt: skip


def filled_by(service: MailService, row: AuthObject | None, engine: Engine) -> Mapping[str, Any]:
    """What a service fills in itself, given an authentication object: host, port and TLS."""
    credential = Credential(cloud=row.cloud) if row is not None else Credential()
    try:
        values = service.complete(SetupValues(service=service.name, credential=credential), engine.environment)
    except OutmailError:
        values = SetupValues(service=service.name)
    return {"host": values.host, "port": values.port, "tls": values.tls}


def show(form: SetupForm, values: SetupValues, auth_object_id: int | None) -> None:
    """Puts values into a form, secrets left out."""
    form.service.data = values.service
    form.auth_object.data = str(auth_object_id or "")
    form.host.data, form.tls.data = values.host, values.tls
    if values.port >= 0:
        form.port.data = str(values.port or "")
    for name in _TEXTS:
        form[name].data = getattr(values, name)
    form.shown_service.data = values.service
