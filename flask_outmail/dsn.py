"""A whole setup in one string, for environments that configure by one variable.

    smtp+starttls://USER:PASSWORD@HOST:587?from=shop@example.com
    smtps://USER:PASSWORD@HOST?from=shop@example.com
    smtp://HOST:25?from=shop@example.com                           (in the clear, for a relay of one's own)
    graph://CLIENT_ID:SECRET@TENANT/MAILBOX
    microsoft365+smtp://CLIENT_ID:SECRET@TENANT/MAILBOX

Whatever is not a letter, digit or one of `-._~` is percent-encoded (RFC 3986 2.1). Further values follow as a query:
`from`, `from_name`, `alerts`, and for the Microsoft services `cloud`, `certificate` (a path, in place of the secret),
`certificate_password`, `provider`, `token_file`, `token_function` and `expires_on`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .errors import ConfigurationError

_SMTP = {"smtp": "none", "smtp+starttls": "starttls", "smtps": "tls"}
_MICROSOFT = {"graph": "microsoft365_graph", "microsoft365+smtp": "microsoft365_smtp"}
#: Names in the query, and what a setup calls them.
_QUERY = {"from": "from_address", "from_name": "from_name", "alerts": "failure_alerts_to"}
_CREDENTIAL = ("cloud", "certificate", "certificate_password", "provider", "token_file", "token_function", "expires_on")
_MICROSOFT_QUERY = {**_QUERY, **{name: name for name in _CREDENTIAL}}


def setup_of(dsn: str, key: str) -> dict[str, Any]:
    """The setup as the mapping that `OUTMAIL_SETUP` may also be.

    Raises:
        ConfigurationError: names `key` and the part in error; never shows the string, which holds a secret.
    """
    try:
        url = urlsplit(dsn.strip())
        port = url.port
    except ValueError:
        raise _fault(key, "it is not of the form scheme://user:password@host:port") from None
    if url.scheme not in _SMTP and url.scheme not in _MICROSOFT:
        raise _fault(key, f"it must begin with one of {', '.join(f'{one}://' for one in (*_SMTP, *_MICROSOFT))}")
    if not url.hostname:
        raise _fault(key, "the host (or the tenant) is missing")
    if url.fragment:
        raise _fault(key, "a # must be written as %23")
    setup = _smtp(url, port, key) if url.scheme in _SMTP else _microsoft(url, key)
    known = _QUERY if url.scheme in _SMTP else _MICROSOFT_QUERY
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in known:
            raise _fault(key, f"{name!r} is not known there; known are {', '.join(known)}")
        setup[known[name]] = value
    return setup


def _smtp(url: SplitResult, port: int | None, key: str) -> dict[str, Any]:
    if url.path.strip("/"):
        raise _fault(key, "a path has no meaning for SMTP; is a / in the password not written as %2F?")
    setup: dict[str, Any] = {"service": "smtp", "host": url.hostname, "tls": _SMTP[url.scheme]}
    if port is None and url.scheme == "smtp":
        port = 25
    return {**setup, **_given(port=port, username=unquote(url.username or ""), password=unquote(url.password or ""))}


def _microsoft(url: SplitResult, key: str) -> dict[str, Any]:
    mailbox = unquote(url.path.strip("/"))
    if not mailbox:
        raise _fault(key, "the mailbox is missing: it stands behind the tenant, as a path")
    return {
        "service": _MICROSOFT[url.scheme],
        "tenant": url.hostname,
        "username": mailbox,
        "from_address": mailbox,
        **_given(client_id=unquote(url.username or ""), client_secret=unquote(url.password or "")),
    }


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}


def _fault(key: str, words: str) -> ConfigurationError:
    return ConfigurationError(f"{key}: {words}", code="config_invalid")
