"""Least privilege, proven: a mailbox that is none of the application's is tried, and has to be refused.

Permissions of Entra and Exchange add up (Exchange: application-rbac), so one consent too many in Entra opens every
mailbox, whatever the scope in Exchange says. Nobody notices, because all mail goes on; only a refusal shows it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import OutmailError
from .remedies import remedy_for
from .steps import Check, Seen


class NotSettled(Exception):
    """The answer is neither a refusal nor an acceptance; the text says which it is."""

    def __init__(self, told: str, code: str) -> None:
        super().__init__(told)
        self.code = code


def closed_to(mailbox: str, is_refused: Callable[[], bool], *, but: str = "") -> Check:
    """The check that this application may not send as `mailbox`. It never fails a test: mail flows either way.

    `is_refused` tries, and sends nothing; it may raise `NotSettled` or an `OutmailError`. `but` is what a refusal does
    not settle.
    """

    def run() -> Seen:
        try:
            refused = is_refused()
        except NotSettled as exc:
            return Seen(str(exc), remedy_for(OutmailError(str(exc), code=exc.code)))
        except OutmailError as exc:
            return Seen(f"could not be tried: {exc}", remedy_for(exc))
        if refused:
            return Seen(f"refused, as it should be: this application may not send as {mailbox}{but}")
        told = f"this application may send as {mailbox}"
        return Seen(f"{told}; nothing was sent", remedy_for(OutmailError(told, code="foreign_mailbox_open")))

    return Check("least_privilege", f"Mailbox {mailbox} is closed to this application", run)
