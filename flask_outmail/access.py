"""Who may open the pages, and under which name they act. Deny by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

MayAdminister = Callable[[], Any]
CurrentActor = Callable[[], str]
F = TypeVar("F", bound=Callable[..., Any])


class Access:
    """What the application has said about people. Until it has, nobody may enter."""

    def __init__(self) -> None:
        self._may_administer: MayAdminister | None = None
        self._actor: CurrentActor | None = None

    def access_control(self, function: F) -> F:
        """Decorator: the function returns True to let the current person in, False for 403, or a response."""
        self._may_administer = function
        return function

    def actor(self, function: F) -> F:
        """Decorator: the function returns the name that is written into the history."""
        self._actor = function
        return function

    @property
    def is_named(self) -> bool:
        """Whether the application has said who may enter."""
        return self._may_administer is not None

    def judge(self) -> Any:
        """True, or a falsy value, or a response to give instead of the page."""
        return self._may_administer() if self._may_administer is not None else False

    def actor_name(self) -> str:
        return str(self._actor() or "")[:200] if self._actor is not None else ""
