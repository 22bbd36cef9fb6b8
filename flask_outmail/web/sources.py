"""Where each value of a setup comes from: a revision, a configuration key, the mail service itself, or a default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import services
from ..current import Current
from ..models import Setup
from ..settings import KEYS

_LABELS = {
    "service": "Mail service",
    "credential": "Credential",
    "host": "Host",
    "port": "Port",
    "tls": "TLS",
    "username": "Username",
    "password": "Password",
    "from_address": "From address",
    "from_name": "From name",
    "failure_alerts_to": "Failure alerts to",
}
_TLS = {"starttls": "on, by STARTTLS", "tls": "on, from the start", "none": "off"}
#: Which of Flask-Mail's keys gives which value.
_FLASK_MAIL = {
    "host": ("MAIL_SERVER",),
    "port": ("MAIL_PORT",),
    "tls": ("MAIL_USE_SSL", "MAIL_USE_TLS"),
    "username": ("MAIL_USERNAME",),
    "password": ("MAIL_PASSWORD",),
    "from_address": ("MAIL_DEFAULT_SENDER",),
    "from_name": ("MAIL_DEFAULT_SENDER",),
}


@dataclass(frozen=True)
class Source:
    """One value and where it comes from. A secret is "set" or "not set". `is_key` tells a key from other words."""

    label: str
    value: str
    origin: str
    is_key: bool


def sources_of(current: Current, row: Setup | None, config: Mapping[str, Any]) -> list[Source]:
    """Every value of the setup in force, in the order of the set-up page."""
    service = services.service(current.values.service)
    found = []
    for name, label in _LABELS.items():
        if name == "credential" and current.values.credential is None:
            continue
        origin, is_key = _origin(name, current, row, config)
        if name in service.locked:
            origin, is_key = "the mail service", False
        found.append(Source(label, _shown(name, current), origin, is_key))
    return found


def _origin(name: str, current: Current, row: Setup | None, config: Mapping[str, Any]) -> tuple[str, bool]:
    if row is not None and current.source == "database":
        return f"revision {row.revision}", False
    if current.source != "MAIL_SERVER":
        return current.source, True
    keys = [key for key in _FLASK_MAIL.get(name, ()) if config.get(key) not in (None, "", False)]
    return (keys[0], True) if keys else ("default", False)


def _shown(name: str, current: Current) -> str:
    values = current.values
    if name == "service":
        return services.service(values.service).label
    if name == "credential":
        return values.auth_object or "set"
    if name == "password":
        return "set" if values.password else "not set"
    if name == "tls":
        return _TLS.get(values.tls, values.tls)
    return str(getattr(values, name) or "")


def keys_set(config: Mapping[str, Any]) -> list[str]:
    """The names of our keys that the application's configuration sets. Never their values: some are secret."""
    return sorted(key.name for key in KEYS if config.get(key.name) not in (None, "", key.default))
