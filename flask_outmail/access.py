"""Who may open the pages and do what on them, and under which name they act. Deny by default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

#: What a person may be allowed: to look at pages, to change something, to delete and erase, to read what messages
#: say, and to take lists and messages away as files.
SEE, CHANGE, DELETE, READ_BODIES, EXPORT = "see", "change", "delete", "read_bodies", "export"
ACTIONS = (SEE, CHANGE, DELETE, READ_BODIES, EXPORT)

MayAdminister = Callable[..., Any]
CurrentActor = Callable[[], str]
F = TypeVar("F", bound=Callable[..., Any])


class Access:
    """What the application has said about people. Until it has, nobody may enter."""

    def __init__(self) -> None:
        self._may_administer: MayAdminister | None = None
        self._knows_actions = False
        self._actor: CurrentActor | None = None

    def access_control(self, function: F) -> F:
        """Decorator: the function returns True to let the current person in, False for 403, or a response.

        One that has a parameter `action` is asked for each of `ACTIONS` by itself; any other decides them all.
        """
        self._may_administer = function
        self._knows_actions = _takes_action(function)
        return function

    def actor(self, function: F) -> F:
        """Decorator: the function returns the name that is written into the history."""
        self._actor = function
        return function

    @property
    def is_named(self) -> bool:
        """Whether the application has said who may enter."""
        return self._may_administer is not None

    def judge(self, action: str = SEE) -> Any:
        """True, or a falsy value, or a response to give instead of the page."""
        if self._may_administer is None:
            return False
        return self._may_administer(action=action) if self._knows_actions else self._may_administer()

    def actor_name(self) -> str:
        return str(self._actor() or "")[:200] if self._actor is not None else ""


def _takes_action(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables written in C have no signature
        return False
    named = parameters.get("action")
    if named is not None:
        return named.kind is not named.POSITIONAL_ONLY
    return any(one.kind is one.VAR_KEYWORD for one in parameters.values())
