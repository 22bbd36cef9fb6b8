"""Addresses as people write them, and what can be one mailbox."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .errors import BadHeaderError, InvalidMessage

AddressLike = str | tuple[str | None, str]

#: Longer than any real one; folding and parsing must not be fed without end (RFC 5321 4.5.3.1 allows 64 and 255).
MAX_ADDRESS_CHARS = 320
MAX_NAME_CHARS = 500
#: How many addresses are remembered as read: each is asked for several times on the way to its message.
REMEMBERED = 1024

#: RFC 5322 3.2.1: control characters have no place in a header value (tab is white space).
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
LINE_BREAKS = re.compile(r"[\r\n]+")

# Most addresses; the rules below (as text: compiled when they are first needed) decide about the rest.
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+")
# RFC 5321 4.1.2: a quoted local part, and a domain of labels (letters outside ASCII become labels later) or a literal.
_QUOTED_LOCAL = r'"(?:[^"\\\r\n]|\\[^\r\n])*"'
_NOT_LOCAL = r'[\s<>()\[\]\\,;:@"\x00-\x1f\x7f]'
_LABEL = r"[^\s\x00-\x2c\x2f\x3a-\x40\x5b-\x60\x7b-\x7f.]+"
_DOMAIN = rf"(?:{_LABEL}\.)*{_LABEL}"
_LITERAL = r"\[[A-Za-z0-9:.]+\]"


class Address(NamedTuple):
    """A display name (may be empty) and an address as typed: `Address("Ann", "ann@example.com")`."""

    name: str
    address: str

    @classmethod
    def parse(cls, value: AddressLike) -> Address:
        """Reads `"Ann <ann@example.com>"`, `"ann@example.com"` or `("Ann", "ann@example.com")`.

        Line breaks are dropped here, so that printing a message never makes a second header of them; `check`
        refuses them before anything is sent.
        """
        if value.__class__ is str and len(value) <= MAX_ADDRESS_CHARS:
            return _read(value)
        if isinstance(value, (tuple, list)):
            name, address = value
            return _pair(str(name or ""), str(address))
        return _read.__wrapped__(str(value))

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def check(self, field: str) -> None:
        """Raises `InvalidMessage` naming `field` unless this can be one mailbox (RFC 5321 4.1.2, loosely)."""
        name, address = self
        if len(address) > MAX_ADDRESS_CHARS or len(name) > MAX_NAME_CHARS:
            raise InvalidMessage(f"{field}: this is too long for an address", code="address_invalid")
        if not (address.isascii() and _PLAIN.fullmatch(address)):
            local, at, domain = address.rpartition("@")
            if not (at and local and (re.fullmatch(_DOMAIN, domain) or re.fullmatch(_LITERAL, domain))):
                raise InvalidMessage(f"{field}: {address!r} is not an address", code="address_invalid")
            if not re.fullmatch(_QUOTED_LOCAL, local) and re.search(_NOT_LOCAL, local):
                raise InvalidMessage(f"{field}: {address!r} is not one address", code="address_invalid")
        if not name.isprintable() and CONTROL.search(name):
            raise BadHeaderError(f"{field} holds a control character", code="header_control")


def check_addresses(given: Iterable[tuple[str, AddressLike]]) -> None:
    """Raises `InvalidMessage` or `BadHeaderError` unless each of (field, value), as given, is one address."""
    for field, value in given:
        if value.__class__ is not str or not value.isprintable():
            refuse_line_break(field, value)
        Address.parse(value).check(field)


def refuse_line_break(field: str, value: AddressLike) -> None:
    """Raises `BadHeaderError` if the address, as given, holds CR or LF."""
    for part in value if isinstance(value, (tuple, list)) else (value,):
        text = str(part)
        if not text.isprintable() and LINE_BREAKS.search(text):
            raise BadHeaderError(f"{field} holds a line break", code="header_line_break")


@lru_cache(REMEMBERED)
def _pair(name: str, address: str) -> Address:
    return Address(one_line(name).strip(), one_line(address).strip().strip("<>").strip())


@lru_cache(REMEMBERED)
def _read(text: str) -> Address:
    text = one_line(text).strip()
    if text.endswith(">") and "<" in text:
        # The last <...> is the address; whatever stands before it is the display name. Reading from the right
        # keeps names with an unquoted comma whole. A doubled ">" is a common typing slip.
        name, _, address = text.rstrip("> ").rpartition("<")
        return Address(_unquote(name), address.strip())
    return Address("", text)


def one_line(text: str) -> str:
    """`text` without line breaks: printing a message that nobody checked must not make a second header either."""
    return text if text.isprintable() else LINE_BREAKS.sub("", text)


def _unquote(name: str) -> str:
    name = name.strip()
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name
