"""Previews: mails with sample data, registered by the application and shown at `<prefix>/previews/` in debug.

@mail.preview("welcome")
def welcome():
    return Welcome(name="Ann").message(recipients=["ann@example.com"])
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from .errors import ConfigurationError
from .mailables import Mailable
from .message import Message as MessageValue

Maker = Callable[[], "MessageValue | Mailable"]
F = TypeVar("F", bound=Maker)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
#: Where a preview names nobody: an address that is nobody's (RFC 2606).
NOBODY = "ann@example.com"


class Previews:
    """The previews of one `Mail`, by name."""

    def __init__(self) -> None:
        self._makers: dict[str, Maker] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator for a function that takes nothing and returns a message with sample data."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r}: a preview's name is letters, digits, - and _", code="config_invalid")

        def add(maker: F) -> F:
            self._makers[name] = maker
            return maker

        return add

    def names(self) -> list[str]:
        return sorted(self._makers)

    def title(self, name: str) -> str:
        """The first line of what the function says of itself, or its name in words."""
        said = (self._makers[name].__doc__ or "").strip().splitlines()
        return said[0] if said else name.replace("_", " ").replace("-", " ").capitalize()

    def make(self, name: str) -> MessageValue | None:
        """The message, with a sender and a recipient so that it can be built; None when there is no such preview."""
        maker = self._makers.get(name)
        if maker is None:
            return None
        made = maker()
        message: MessageValue = made.message() if isinstance(made, Mailable) else made
        if not message.send_to:
            message.add_recipient(NOBODY)
        return message
