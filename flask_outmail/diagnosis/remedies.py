"""The catalogue of remedies: from what went wrong to what a person can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import OutmailError

Who = Literal["you", "developer", "entra_admin", "exchange_admin", "network", "mail_admin", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """The answer to one failure: a title in everyday words, one sentence of meaning, numbered steps, who can do them.

    `code` is the key it is found by.
    """

    code: str
    title: str
    meaning: str
    steps: tuple[str, ...]
    who: Who


def remedy_for(error: OutmailError) -> Remedy:
    """The remedy for an error; for a code that is not listed, one that shows what is known."""
    return Remedy(code=error.code, title=str(error), meaning=error.detail, steps=(error.advice,), who="you")
