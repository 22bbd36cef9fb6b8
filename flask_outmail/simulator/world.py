"""Who exists in the simulated tenant: applications with their credentials, and mailboxes. Kept across restarts."""

from __future__ import annotations

import json
import re
import secrets
import string
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flask_outmail.simulator.certificates import write_private
from flask_outmail.simulator.outside_issuer import Trust

DOMAIN = "contoso.example"
MAIL_SEND = "Mail.Send"
MAIL_READ_WRITE = "Mail.ReadWrite"
MAIL_READ = "Mail.Read"
SMTP_SEND_AS_APP = "SMTP.SendAsApp"
ALL_ROLES = (MAIL_SEND, MAIL_READ_WRITE, SMTP_SEND_AS_APP)

_PEM = re.compile(rb"-----BEGIN .+?-----END CERTIFICATE-----\n", re.DOTALL)
_SECRET_LETTERS = string.ascii_letters + string.digits + "_-~."


@dataclass
class App:
    """An app registration. `scoped_to` means Exchange's RBAC for Applications: tokens then carry no roles.

    `more_secrets` are good beside `secret`, even when that has expired. `trusts` are federated credentials. One that
    `is_managed` is no registration but the identity of a machine.
    """

    name: str
    client_id: str
    secret: str = field(repr=False)
    secret_id: str
    secret_expired: bool = False
    more_secrets: list[str] = field(default_factory=list, repr=False)
    certificates: list[bytes] = field(default_factory=list, repr=False)
    trusts: list[Trust] = field(default_factory=list)
    is_managed: bool = False
    roles: frozenset[str] = frozenset(ALL_ROLES)
    scoped_to: frozenset[str] | None = None
    enabled: bool = True
    says: str = ""


@dataclass
class Mailbox:
    """A user of the tenant. `send_as`: the foreign addresses that this mailbox may put into From."""

    address: str
    id: str
    password: str = field(repr=False)
    enabled: bool = True
    on_premises: bool = False
    send_as: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()
    says: str = ""

    @property
    def reachable(self) -> bool:
        """Whether Exchange Online holds a mailbox for the user."""
        return self.enabled and not self.on_premises

    def may_send_as(self, address: str) -> bool:
        return address.lower() in {self.address, *self.aliases, *self.send_as}


class Keepsake:
    """Values made up once and remembered in `simulator.json`, which only its owner can read."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "simulator.json"
        self._values: dict[str, str] = {}
        if self._path.exists():
            self._values = json.loads(self._path.read_text(encoding="utf-8"))

    def guid(self, key: str, given: str | None = None) -> str:
        return self._keep(key, given, lambda: str(uuid.uuid4()))

    def secret(self, key: str, given: str | None = None) -> str:
        return self._keep(key, given, new_secret)

    def password(self, key: str, given: str | None = None) -> str:
        return self._keep(key, given, lambda: secrets.token_urlsafe(12))

    def certificates(self, client_id: str) -> list[bytes]:
        """The public parts, as PEM, that were uploaded for an application."""
        return _PEM.findall(self._values.get(f"certificates {client_id}", "").encode("ascii"))

    def add_certificate(self, client_id: str, pem: bytes) -> None:
        self._values[f"certificates {client_id}"] = b"".join([*self.certificates(client_id), pem]).decode("ascii")
        self.save()

    def _keep(self, key: str, given: str | None, make: Callable[[], str]) -> str:
        if given is not None:
            self._values[key] = given
        elif key not in self._values:
            self._values[key] = make()
        return self._values[key]

    def save(self) -> None:
        text = json.dumps(self._values, indent=1, sort_keys=True)
        write_private(self._path, text.encode("utf-8"))


def new_secret() -> str:
    """Looks like one of Entra's: forty characters, with a tilde and a full stop somewhere."""
    body = [secrets.choice(_SECRET_LETTERS) for _ in range(32)]
    for sign in "~.":
        body.insert(secrets.randbelow(len(body)), sign)
    start = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(3))
    return f"{start}8Q~{''.join(body)}"


def lowered(items: Iterable[str]) -> frozenset[str]:
    return frozenset(item.lower() for item in items)


def default_apps(keep: Keepsake, client_id: str | None, client_secret: str | None) -> list[App]:
    """The first is the one to use; the others each have one thing wrong, or right in another way."""

    def app(key: str, name: str, says: str, given_id: str | None = None, given_secret: str | None = None) -> App:
        return App(
            name=name,
            client_id=keep.guid(f"{key}.client_id", given_id),
            secret=keep.secret(f"{key}.client_secret", given_secret),
            secret_id=keep.guid(f"{key}.secret_id"),
            says=says,
        )

    main = app("app", "Outmail", "everything is granted", client_id, client_secret)
    expired = app("app-expired", "Outmail, expired secret", "its secret has expired")
    expired.secret_expired = True
    bare = app("app-bare", "Outmail, nothing granted", "no permission: tokens without roles, then 403")
    bare.roles = frozenset()
    scoped = app("app-scoped", "Outmail, scoped", f"RBAC for Applications: only noreply@{DOMAIN}, no roles in tokens")
    scoped.scoped_to = frozenset({f"noreply@{DOMAIN}"})
    machine = app("app-managed", "Outmail, managed identity", "the identity of this machine; has no secret")
    machine.is_managed, machine.secret = True, ""
    return [main, expired, bare, scoped, machine]


def default_mailboxes(keep: Keepsake) -> list[Mailbox]:
    def mailbox(name: str, says: str) -> Mailbox:
        return Mailbox(
            address=f"{name}@{DOMAIN}",
            id=keep.guid(f"mailbox-{name}.id"),
            password=keep.password(f"mailbox-{name}.password"),
            says=says,
        )

    noreply = mailbox("noreply", f"the one to send from; has Send As on news@{DOMAIN}")
    noreply.send_as = frozenset({f"news@{DOMAIN}"})
    news = mailbox("news", "noreply may send as this one")
    anna = mailbox("anna", "somebody else; noreply may not send as her")
    retired = mailbox("retired", "a user without a mailbox")
    retired.enabled = False
    return [noreply, news, anna, retired]
