"""Which connection a message takes when the caller names none: what the application's function says, or the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .address import Address
from .message import Message
from .settings import PRIMARY, Route

Chooser = Callable[[Message], "str | None"]


class Routing:
    """The ways of one application. `choose` is a function of the application's, such as one that knows the tenant."""

    def __init__(self, choosers: Sequence[Chooser], routes: Sequence[Route]) -> None:
        self._choosers = choosers
        self._routes = routes

    def of(self, message: Message) -> str:
        """The name of a connection; `primary` when nothing speaks for another.

        What the application's function raises is raised: a tenant's mail must not leave over another's connection.
        """
        for choose in self._choosers:
            if name := choose(message):
                return name
        if self._routes:
            sender = Address.parse(message.sender).address.lower() if message.sender else ""
            tag = str(getattr(message, "tag", "") or "")
            for route in self._routes:
                if route.fits(sender, tag):
                    return route.via
        return PRIMARY
