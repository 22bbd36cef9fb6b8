"""What somebody copied from Entra, or from the output of a command, sorted into the fields it belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GUID = re.compile(r"(?<![\w-])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w-])", re.IGNORECASE)
# Entra writes a tilde into every secret it makes, and nothing else that is copied with it has one.
_SECRET = re.compile(r"(?<![\w.~-])(?=[\w.-]*~)[\w.~-]{16,200}")
_NAMED_SECRET = re.compile(
    r"(?:client_?secret|password|value|wert|valeur)[\"']?[ \t]*[:=\t][ \t]*[\"']?([^\s\"',;]{8,200})", re.IGNORECASE
)
_TENANT_DOMAIN = re.compile(r"(?<![\w.@-])[a-z0-9-]+\.onmicrosoft\.com(?![\w.-])", re.IGNORECASE)
#: What stands before an ID says which it is, in the languages that Entra is read in here; the nearest name counts.
_NAMES = re.compile(
    r"(?P<tenant>tenant|mandant|locataire|verzeichnis|annuaire|directory)"
    r"|(?P<secret>secret|geheim|key_?id)"
    r"|(?P<object>obje[ck]?t)"
    r"|(?P<client_id>client|app_?id|application|anwendung)",
    re.IGNORECASE,
)
_NEAR_CHARS = 60


@dataclass(frozen=True, slots=True)
class Pasted:
    """What was found; "" where nothing was. `problem` says why something was left out."""

    tenant: str = ""
    client_id: str = ""
    client_secret: str = ""
    problem: str = ""


def sort(text: str) -> Pasted:
    """Sorts IDs by the names beside them. One whose name was not copied is not guessed: a wrong guess looks right."""
    secret = _SECRET.search(text)
    named = None if secret else _NAMED_SECRET.search(text)
    value = secret[0] if secret else named[1] if named else ""
    found: dict[str, str] = {}
    unnamed = []
    after = 0
    for match in _GUID.finditer(text):
        before = text[max(after, match.start() - _NEAR_CHARS) : match.start()]
        after = match.end()
        names = list(_NAMES.finditer(before.replace(value, " ") if value else before))
        kind = names[-1].lastgroup if names else None
        if kind is None and secret and _same_line(text, secret.start(), match.start()):
            kind = "secret"  # the row of the table of secrets ends with the secret's own ID
        if kind is None:
            unnamed.append(match[0])
        else:
            found.setdefault(kind, match[0])
    if "tenant" not in found and (domain := _TENANT_DOMAIN.search(text)):
        found["tenant"] = domain[0]
    if _GUID.fullmatch(value):
        value = ""
    return Pasted(found.get("tenant", ""), found.get("client_id", ""), value, _problem(found, unnamed, value))


def _same_line(text: str, one: int, other: int) -> bool:
    return "\n" not in text[min(one, other) : max(one, other)]


def _problem(found: dict[str, str], unnamed: list[str], value: str) -> str:
    if unnamed and not (found.get("client_id") and found.get("tenant")):
        return (
            "There is an ID without its name, and it cannot be told which one it is. Copy the name beside it too, or"
            " enter the ID in its field below."
        )
    if "secret" in found and not value:
        return "This is a Secret ID. Copy the column Value; it is shown only once, right after the secret was made."
    if "object" in found and not (found.get("client_id") or found.get("tenant")):
        return "This is an Object ID, which is not needed here. Copy Application (client) ID and Directory (tenant) ID."
    if not (found or value):
        return "Neither an ID nor a secret was found in it."
    return ""
