"""The Microsoft 365 clouds by name, and those that an application adds (`OUTMAIL_CLOUDS`).

Authority, Graph root and scope belong together: a token of one cloud is worthless in another (Graph: national cloud
deployments). So a cloud is chosen by its name, never field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigurationError

SMTP_PORT = 587


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where one Microsoft 365 lives. `authority` and `graph` are https URLs, without the tenant and without `/v1.0`.

    `uploads` says whether its Graph has upload sessions for attachments of 3 MB and more.
    """

    name: str
    label: str
    authority: str
    graph: str
    scope: str
    smtp_host: str
    smtp_scope: str
    smtp_port: int = SMTP_PORT
    uploads: bool = True

    @property
    def graph_host(self) -> str:
        return urlsplit(self.graph).hostname or ""

    @property
    def graph_port(self) -> int:
        return urlsplit(self.graph).port or 443

    @property
    def authority_host(self) -> str:
        return urlsplit(self.authority).hostname or ""


def _official(name: str, label: str, authority: str, graph: str, smtp_host: str, smtp_scope_host: str) -> Cloud:
    graph = f"https://{graph}"
    return Cloud(
        name,
        label,
        f"https://{authority}",
        graph,
        f"{graph}/.default",
        smtp_host,
        f"https://{smtp_scope_host}/.default",
        # Graph: attachment-createuploadsession, national cloud availability.
        uploads=not name.startswith("usgov"),
    )


# Graph and authority hosts: Graph "National cloud deployments". The SMTP hosts and scopes of the government and
# China clouds are not on any page we could confirm; a wrong one is refused by the server, and OUTMAIL_CLOUDS mends it.
_OFFICIAL = (
    _official("global", "Microsoft 365 (worldwide, and GCC)", "login.microsoftonline.com", "graph.microsoft.com",
              "smtp.office365.com", "outlook.office365.com"),
    _official("usgov", "US Government L4 (GCC High)", "login.microsoftonline.us", "graph.microsoft.us",
              "smtp.office365.us", "outlook.office365.us"),
    _official("usgov_dod", "US Government L5 (DoD)", "login.microsoftonline.us", "dod-graph.microsoft.us",
              "smtp.office365.us", "outlook-dod.office365.us"),
    _official("china", "China (operated by 21Vianet)", "login.partner.microsoftonline.cn",
              "microsoftgraph.chinacloudapi.cn", "smtp.partner.outlook.cn", "partner.outlook.cn"),
)  # fmt: skip
_REQUIRED = ("authority", "graph")


def clouds(extra: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Cloud]:
    """All clouds by name: Microsoft's own first, then `extra` in the form of `OUTMAIL_CLOUDS`.

    A custom cloud needs `authority` and `graph`; the rest is derived. `smtp_host` may be `host:port`.

    Raises:
        ConfigurationError: a key is missing, unknown, or not an https URL (tokens never travel in the clear).
    """
    known = {cloud.name: cloud for cloud in _OFFICIAL}
    for name, entry in (extra or {}).items():
        try:
            known[str(name)] = _custom(str(name), entry)
        except (ValueError, TypeError) as exc:
            raise ConfigurationError(
                f"OUTMAIL_CLOUDS[{name!r}]: a value is of the wrong form ({exc})", code="config_invalid"
            ) from exc
    return known


def _custom(name: str, entry: Mapping[str, Any]) -> Cloud:
    where = f"OUTMAIL_CLOUDS[{name!r}]"
    allowed = set(Cloud.__slots__) - {"name"}
    if unknown := sorted(set(entry) - allowed):
        raise ConfigurationError(f"{where}: unknown entry {', '.join(map(repr, unknown))}", code="config_unknown")
    for key in _REQUIRED:
        url = urlsplit(str(entry.get(key, "")))
        odd = url.query or url.fragment or url.username or url.port == 0
        if url.scheme != "https" or not url.hostname or odd:
            raise ConfigurationError(
                f"{where}: {key!r} must be an https URL without log-in and query", code="config_invalid"
            )
    if not isinstance(entry.get("uploads", True), bool):
        raise ConfigurationError(f"{where}: 'uploads' must be True or False", code="config_invalid")
    graph = str(entry["graph"]).rstrip("/").removesuffix("/v1.0")
    smtp_host, _, smtp_port = str(entry.get("smtp_host") or "").partition(":")
    return Cloud(
        name=name,
        label=str(entry.get("label") or name),
        authority=str(entry["authority"]).rstrip("/"),
        graph=graph,
        scope=str(entry.get("scope") or f"{graph}/.default"),
        smtp_host=smtp_host,
        smtp_scope=str(entry.get("smtp_scope") or ""),
        smtp_port=int(entry.get("smtp_port") or smtp_port or SMTP_PORT),
        uploads=entry.get("uploads", True),
    )
