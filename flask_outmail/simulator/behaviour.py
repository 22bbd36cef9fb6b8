"""Standing properties of the simulated Microsoft 365. A `Fault`, in contrast, happens some times and is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MIB = 1024 * 1024

CHOICES: dict[str, tuple[str, ...]] = {
    "token_style": ("jwt", "no-roles", "opaque"),
    "oversize": ("413", "413-bare", "200"),
    "immutable_ids": ("kept", "changed"),
    "message_ids": ("kept", "replaced"),
    "send_as_wording": ("554-5.2.252", "550-5.7.60"),
    "xoauth2_failure": ("direct", "challenge"),
    "https_certificate": ("good", "expired", "wrong-name", "untrusted"),
    "smtp_certificate": ("good", "expired", "wrong-name", "untrusted"),
}


def _setting(default: Any, says: str) -> Any:
    return field(default=default, metadata={"says": says})


@dataclass(slots=True)
class Behaviour:
    """Each attribute may be assigned at any time and counts from the next request on."""

    token_lifetime_s: int = _setting(3599, "expires_in of new tokens; MSAL never caches one of 300 or less")
    token_refresh_in_s: int | None = _setting(None, "refresh_in of new tokens; empty leaves it out")
    token_style: str = _setting("jwt", "what new access tokens look like")

    gov: bool = _setting(False, "a US Government cloud: no upload sessions")
    oversize: str = _setting("413", "answer to a request above 4 MiB; 200 is MIME accepted without effect")
    message_limit_bytes: int = _setting(35 * MIB, "the mailbox's send limit for the finished message")
    recipient_limit: int = _setting(500, "most recipients of one message (To, Cc and Bcc together)")
    concurrency_limit: int = _setting(4, "requests in progress per application and mailbox before a 429")
    delivery_delay_s: float = _setting(0.0, "from the 202 (or 250) to delivery and to Sent Items")
    visibility_delay_s: float = _setting(0.0, "until GET and $filter find a new or moved message")
    immutable_ids: str = _setting("kept", "whether an immutable id survives the sending of a draft")
    message_ids: str = _setting("kept", "whether a Message-ID written by the client is kept")
    send_from_alias: bool = _setting(False, "Graph leaves an alias in From instead of writing the primary address")
    strict_uploads: bool = _setting(True, "a PUT to an upload URL with an Authorization header is refused")
    upload_expiry_s: float = _setting(3600.0, "lifetime of an upload session")
    expired_upload_status: int = _setting(404, "answer to an expired upload session: 404 or 410")

    basic_auth: bool = _setting(True, "user name and password are good for SMTP")
    plain_auth: bool = _setting(False, "SMTP offers AUTH PLAIN as well; Microsoft does not")
    xoauth2_failure: str = _setting("direct", "535 at once, or a 334 challenge with JSON first")
    smtp_utf8: bool = _setting(True, "SMTP offers SMTPUTF8")
    smtp_chunking: bool = _setting(True, "SMTP offers CHUNKING (BDAT)")
    hidden_capabilities: tuple[str, ...] = _setting((), "words left out of the answer to EHLO, such as STARTTLS")
    smtp_connection_limit: int = _setting(3, "SMTP connections per mailbox before a 432")
    smtp_idle_timeout_s: float = _setting(300.0, "silence after which SMTP says 421 and hangs up")
    smtp_size_limit_bytes: int = _setting(150 * MIB, "SIZE that SMTP announces and enforces")
    smtp_recipient_limit: int = _setting(500, "recipients per SMTP transaction; the next gets a 452")
    send_as_wording: str = _setting("554-5.2.252", "the refusal of a foreign From over SMTP")
    send_as_denials: int = _setting(3, "refusals of that kind after which the mailbox is blocked for SMTP")

    https_certificate: str = _setting("good", "shown to new HTTPS connections")
    smtp_certificate: str = _setting("good", "shown to new SMTP connections")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}")
        object.__setattr__(self, name, value)

    def update(self, values: Mapping[str, Any]) -> None:
        """Sets several at once, all or none; strings from a form are converted.

        Raises:
            ValueError: an unknown name, or a value that does not fit.
        """
        known = {item.name: item for item in fields(self)}
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"there is no behaviour called {name!r}")
            checked[name] = _converted(name, str(known[name].type), value)
        for name, value in checked.items():
            setattr(self, name, value)

    def reset(self) -> None:
        """Everything as a new simulator has it."""
        for item in fields(self):
            setattr(self, item.name, item.default)

    def describe(self) -> list[tuple[str, Any, str, tuple[str, ...]]]:
        """For a page: name, value, meaning, and the choices where only certain words are allowed."""
        return [
            (item.name, getattr(self, item.name), item.metadata["says"], CHOICES.get(item.name, ()))
            for item in fields(self)
        ]


def _converted(name: str, kind: str, value: Any) -> Any:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}")
        return value
    if kind == "bool":
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "on", "1", "yes"):
            return True
        if str(value).lower() in ("false", "off", "0", "no", ""):
            return False
        raise ValueError(f"{name} is either true or false")
    if kind.startswith("tuple"):
        words = value.replace(",", " ").split() if isinstance(value, str) else value
        return tuple(str(word) for word in words)
    if "None" in kind and value in (None, ""):
        return None
    try:
        number = float(value) if "float" in kind else int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is a number") from None
    if not 0 <= number < 10**12:
        raise ValueError(f"{name} is too small or too large")
    return number
