"""Safety outside production: a transport round every other one, so that no way out is forgotten.

Redirecting sends every message to one place; the allow-list lets only some recipients through. Both change the envelope
*and* the headers To and Cc, because Graph reads from the headers who receives a message. Whatever hands messages over
(the application, the outbox's workers, alerts, the test message) meets the same rules.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..content import Content
from ..envelope import Envelope, Receipt
from ..errors import OutmailError
from ..headers import plain_line
from .base import BulkTransport, Transport, concurrency, deliver_many

logger = logging.getLogger(__name__)

_TO = re.compile(rb"(?im)^(to|cc):[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")
#: Says on a redirected message whom it was for. Only those whom To and Cc showed: Bcc stays undisclosed.
_ORIGINALLY = "X-Original-To"


@dataclass(frozen=True, slots=True)
class Safety:
    """The rules. `redirect_to` are addresses that receive everything; `allowed` are addresses, or domains as
    "@example.com", outside of which nobody receives anything. Both empty: no rule.
    """

    redirect_to: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.redirect_to or self.allowed)

    def allows(self, address: str) -> bool:
        if not self.allowed:
            return True
        address = address.lower()
        domain = "@" + address.rpartition("@")[2]
        return any(rule.lower() in (address, domain) for rule in self.allowed)


def guarded(transport: Transport, safety: Safety) -> Transport:
    """`transport` with the rules before it; itself when there are none."""
    return GuardedTransport(transport, safety) if safety else transport


class GuardedTransport:
    """Keeps the rules and hands on. A message with no recipient left is suppressed: it never reaches the transport."""

    def __init__(self, transport: Transport, safety: Safety) -> None:
        self._transport = transport
        self._safety = safety
        self.name = transport.name
        self.concurrency = concurrency(transport)
        if callable(getattr(transport, "check", None)):
            self.check = transport.check  # type: ignore[attr-defined]
        if isinstance(transport, BulkTransport):
            self.deliver_many = self._deliver_many

    def deliver(self, envelope: Envelope) -> Receipt:
        """As the transport's own; a receipt whose `suppressed` names those who were held back."""
        safe, held_back = self._safe(envelope)
        if safe is None:
            return self._suppressed(envelope, held_back)
        return _told(self._transport.deliver(safe), held_back)

    def close(self) -> None:
        self._transport.close()

    def _deliver_many(self, envelopes: Iterable[Envelope]) -> Iterator[Receipt | OutmailError]:
        # What was taken from `envelopes`, in order: held back from whom, and the receipt where all of them were.
        taken: deque[tuple[tuple[str, ...], Receipt | None]] = deque()

        def safe_ones() -> Iterator[Envelope]:
            for envelope in envelopes:
                safe, held_back = self._safe(envelope)
                taken.append((held_back, None if safe else self._suppressed(envelope, held_back)))
                if safe is not None:
                    yield safe

        outcomes: Any = deliver_many(self._transport, safe_ones())
        try:
            for outcome in outcomes:
                while taken[0][1] is not None:
                    yield taken.popleft()[1]  # type: ignore[misc]
                held_back, _ = taken.popleft()
                yield outcome if isinstance(outcome, OutmailError) else _told(outcome, held_back)
            while taken:
                yield taken.popleft()[1]  # type: ignore[misc]
        finally:
            outcomes.close()

    def _safe(self, envelope: Envelope) -> tuple[Envelope | None, tuple[str, ...]]:
        safety = self._safety
        if safety.redirect_to:
            return addressed(envelope, safety.redirect_to, redirected=True), ()
        kept = tuple(one for one in envelope.recipients if safety.allows(one))
        held_back = tuple(one for one in envelope.recipients if one not in kept)
        if not held_back:
            return envelope, ()
        return (addressed(envelope, kept, redirected=False) if kept else None), held_back

    def _suppressed(self, envelope: Envelope, held_back: tuple[str, ...]) -> Receipt:
        logger.info("message held back", extra={"message_id": envelope.message_id, "recipient_count": len(held_back)})
        return Receipt(accepted=False, transport=self.name, message_id=envelope.message_id, suppressed=held_back)


def _told(receipt: Receipt, held_back: tuple[str, ...]) -> Receipt:
    return replace(receipt, suppressed=held_back) if held_back else receipt


def addressed(envelope: Envelope, recipients: tuple[str, ...], *, redirected: bool) -> Envelope:
    """The envelope for other recipients, with To and Cc saying the same."""
    shown = recipients if redirected else tuple(one for one in envelope.visible if one in recipients)
    lines = [_line("To", shown)] if shown else []
    if redirected and envelope.visible:
        lines.append(_line(_ORIGINALLY, envelope.visible))
    return replace(
        envelope,
        recipients=recipients,
        visible=shown,
        content=_with_lines(envelope.content, lines),
        smtputf8=not all(one.isascii() for one in (envelope.sender, envelope.from_address, *recipients, *shown)),
    )


def _line(name: str, addresses: tuple[str, ...]) -> bytes:
    return plain_line(name, addresses).encode() + b"\r\n"


def _with_lines(content: Content, lines: list[bytes]) -> Content:
    """`content` with other lines in place of To and Cc."""
    pieces = list(content.pieces)
    head = b""
    while b"\r\n\r\n" not in head:
        # What was added to the message later stands before it as a piece of its own.
        piece = pieces.pop(0)
        assert isinstance(piece, bytes)  # noqa: S101 -- headers end before the first file
        head += piece
    headers, separator, body = head.partition(b"\r\n\r\n")
    headers = _TO.sub(b"", headers + b"\r\n")
    return Content((b"".join(lines) + headers + separator[2:] + body, *pieces))
