"""Many messages over one connection: given to the transport together, each with its outcome, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator

from .envelope import Envelope, Receipt
from .errors import OutmailError
from .message import Message
from .outbox import hands
from .transports.base import Transport, deliver_many


class Bulk:
    """One bulk. `envelope_of` makes what the transport is given, or says what is wrong with a message.

    `outcomes` is run through once. Whoever stops in the middle finds in `left` what nobody has heard of.
    """

    def __init__(
        self, transport: Transport, messages: Iterator[Message], envelope_of: Callable[[Message], Envelope]
    ) -> None:
        self._transport = transport
        self._messages = messages
        self._envelope_of = envelope_of
        # What was pulled and has no outcome yet: with its envelope, or with what is wrong with it.
        self._pulled: deque[tuple[Message, Envelope | OutmailError]] = deque()
        self._broken: Exception | None = None

    def outcomes(self) -> Generator[tuple[Message, Envelope | None, Receipt | OutmailError], None, None]:
        """Each message with its envelope and what came of it; without an envelope, with what is wrong with it.

        Raises:
            Exception: what the caller's own iterator of messages raised, once those before have their outcomes.
        """
        given = deliver_many(self._transport, self._envelopes())
        is_over = False
        try:
            while not is_over:
                outcome, is_over = self._next(given)
                # At the end, and after a fault of the transport's own, it holds for all that was under way.
                count = len(self._pulled) if is_over else 1
                while self._pulled and (count or isinstance(self._pulled[0][1], OutmailError)):
                    message, envelope = self._pulled.popleft()
                    if isinstance(envelope, OutmailError):
                        yield message, None, envelope
                    else:
                        yield message, envelope, outcome
                        count -= 1
        finally:
            # What was handed over by now stays so; the transport gives back what it has opened.
            getattr(given, "close", lambda: None)()
        if self._broken is not None:
            raise self._broken

    def left(self) -> list[tuple[Message, Envelope]]:
        """What was pulled and has no outcome: nobody heard whether it left."""
        return [(message, envelope) for message, envelope in self._pulled if isinstance(envelope, Envelope)]

    def _envelopes(self) -> Iterator[Envelope]:
        while True:
            try:
                message = next(self._messages, None)
            except Exception as exc:  # the caller's own trouble: told to the caller, after what came before
                self._broken = exc
                return
            if message is None:
                return
            try:
                envelope = self._envelope_of(message)
            except OutmailError as exc:
                self._pulled.append((message, exc))
            else:
                self._pulled.append((message, envelope))
                yield envelope

    def _next(self, given: Iterator[Receipt | OutmailError]) -> tuple[Receipt | OutmailError, bool]:
        """The next outcome, and whether it is the last one."""
        try:
            return next(given), False
        except StopIteration as exc:
            # Only for a transport that gave fewer outcomes than it took envelopes; else nothing is under way.
            return hands.transport_fault(exc, self._transport), True
        except OutmailError as exc:
            return exc, True
        except Exception as exc:  # a third party's transport may raise anything, before or after a message left
            return hands.transport_fault(exc, self._transport), True
