"""The form of the catalogue: what a remedy holds, who can do it, and when an entry answers an error.

The entries themselves stand beside this file, one module for each side that may speak: this application
(`catalogue_local`, `catalogue_credential`, `catalogue_hints`, `catalogue_message`, `catalogue_outbox`),
`catalogue_network`, `catalogue_entra`, `catalogue_graph`, and SMTP servers (`catalogue_smtp_login`,
`catalogue_smtp_sender`, `catalogue_smtp_message`). `remedies` looks them up.

Steps are plain text. A command, a setting or a server's own name for something stands in `backticks`; a page may
show that as code. Words in capitals inside a command are to be replaced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import OutmailError

Who = Literal["you", "developer", "entra_admin", "exchange_admin", "network", "mail_admin", "nobody"]

#: What a page shows for each `Who`.
WHO_LABELS: dict[Who, str] = {
    "you": "You, here",
    "developer": "A developer of this application",
    "entra_admin": "A Microsoft Entra administrator",
    "exchange_admin": "An Exchange administrator",
    "network": "Whoever runs the network",
    "mail_admin": "Whoever runs the mail server",
    "nobody": "Nobody needs to do anything",
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A remedy, and the conditions under which it is the right one. All that are given must hold.

    `signals` are codes, compared without regard to case; one that ends in `*` stands for every code that begins so.
    `detail` is searched in what the other side said; `kinds` are types of error; `transport` is the name of the
    mail service that met the error.
    """

    signals: tuple[str, ...]
    remedy: Remedy
    detail: re.Pattern[str] | None = None
    kinds: tuple[type[OutmailError], ...] = ()
    transport: str = ""

    def answers(self, error: OutmailError) -> bool:
        return (
            any(_is(error.code, signal) for signal in self.signals)
            and (not self.kinds or isinstance(error, self.kinds))
            and (not self.transport or getattr(error, "transport", "") == self.transport)
            and (self.detail is None or self.detail.search(error.detail) is not None)
        )


def entry(
    *signals: str,
    title: str,
    meaning: str,
    steps: tuple[str, ...],
    who: Who,
    detail: str = "",
    kinds: tuple[type[OutmailError], ...] = (),
    transport: str = "",
) -> Entry:
    """An `Entry` as the catalogue's modules write it. `detail` is a regular expression; case does not matter."""
    return Entry(
        signals=signals,
        remedy=Remedy(code=signals[0], title=title, meaning=meaning, steps=steps, who=who),
        detail=re.compile(detail, re.IGNORECASE) if detail else None,
        kinds=kinds,
        transport=transport,
    )


def _is(code: str, signal: str) -> bool:
    code, signal = code.lower(), signal.lower()
    return code.startswith(signal[:-1]) if signal.endswith("*") else code == signal
