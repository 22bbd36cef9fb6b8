"""What an application sent while a test ran, with questions whose answers can be read when a test fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .message import Address, Message
from .signals import email_dispatched

#: What a question may ask of a message, and where the answer stands.
_FIELDS: dict[str, Callable[[Message], Any]] = {
    "subject": lambda message: str(message.subject or ""),
    "sender": lambda message: Address.parse(message.sender).address if message.sender else "",
    "to": lambda message: _addresses(message.recipients),
    "cc": lambda message: _addresses(message.cc),
    "bcc": lambda message: _addresses(message.bcc),
    "body": lambda message: str(message.body or ""),
    "html": lambda message: str(message.html or ""),
    "attachments": lambda message: [attachment.filename for attachment in message.attachments],
}
#: Texts in which a part is looked for; the others must be equal.
_LONG = frozenset({"body", "html"})


class Outbox(list[Message]):
    """The messages, oldest first.

    Questions take `subject`, `sender`, `to`, `cc`, `bcc`, `body`, `html` and `attachments`. A text must be equal, or
    occur in `body` and `html`; for `to`, `cc`, `bcc` and `attachments` one text must be among them, and a list must
    be all of them. A compiled pattern is searched; a function is asked.
    """

    def find(self, **wanted: Any) -> list[Message]:
        """All messages that fit.

        Raises:
            TypeError: a name that no message has.
        """
        if unknown := sorted(set(wanted) - set(_FIELDS)):
            raise TypeError(f"no message has {', '.join(unknown)}; known are {', '.join(_FIELDS)}")
        return [message for message in self if not any(True for _ in _differences(message, wanted))]

    def one(self, **wanted: Any) -> Message:
        """The only message that fits.

        Raises:
            AssertionError: none fits, or several do; says how each message differs from what was wanted.
        """
        found = self.find(**wanted)
        if len(found) == 1:
            return found[0]
        raise AssertionError(f"{len(found)} messages fit instead of one.\n{self._report(wanted)}")

    def none(self, **wanted: Any) -> None:
        """Raises `AssertionError` when a message fits."""
        if found := self.find(**wanted):
            raise AssertionError(f"{len(found)} messages fit, and none should.\n{self._report(wanted)}")

    def _report(self, wanted: dict[str, Any]) -> str:
        lines = ["wanted: " + (", ".join(f"{name}={_shown(value)}" for name, value in wanted.items()) or "any message")]
        if not self:
            lines.append("the outbox is empty")
        for number, message in enumerate(self, 1):
            lines.append(f"{number}. {_FIELDS['subject'](message)!r} to {', '.join(_FIELDS['to'](message)) or '-'}")
            differences = list(_differences(message, wanted))
            lines += [f"     {name} is {_shown(value)}" for name, value in differences] or ["     fits"]
        return "\n".join(lines)


@contextmanager
def recording() -> Iterator[Outbox]:
    """An outbox that fills while the block runs, with what every application of this process sends."""
    messages = Outbox()

    def record(app: Any, message: Message, **_: Any) -> None:
        messages.append(message)

    with email_dispatched.connected_to(record):
        yield messages


def _differences(message: Message, wanted: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in wanted.items():
        found = _FIELDS[name](message)
        if not _fits(found, value, name):
            yield name, found


def _fits(found: Any, wanted: Any, name: str) -> bool:
    if callable(wanted):
        return bool(wanted(found))
    if isinstance(wanted, re.Pattern):
        return any(wanted.search(one) for one in (found if isinstance(found, list) else [found]))
    if isinstance(found, list):
        return wanted in found if isinstance(wanted, str) else sorted(found) == sorted(wanted)
    return wanted in found if name in _LONG else bool(found == wanted)


def _addresses(addresses: Any) -> list[str]:
    return [Address.parse(one).address for one in addresses]


def _shown(value: Any) -> str:
    text = value.pattern if isinstance(value, re.Pattern) else value
    shown = repr(text)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"
