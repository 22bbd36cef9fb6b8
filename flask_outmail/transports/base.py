"""The seam: one verb, and everything above it is ignorant of everything below it.

A third-party mail service is a class with these three members and one line in the registry (`services`). A transport
that is faster with many messages at once says so by being a `BulkTransport` as well; nothing asks which one it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from ..envelope import Envelope, Receipt
from ..errors import OutmailError


@runtime_checkable
class Transport(Protocol):
    """Hands messages to a server. Safe to use from several threads.

    `name` is short, without secrets, and stands on receipts ("smtp", "microsoft365_graph").
    """

    name: str

    def deliver(self, envelope: Envelope) -> Receipt:
        """Hands one message over and returns what the server answered. Touches the network.

        A receipt from here always has `accepted=True`; some recipients may stand in `refused`.

        Raises:
            UnsupportedFeature: this transport cannot express the message; nothing left.
            TransportUnavailable: nothing left this machine.
            Throttled, AuthenticationFailed, RecipientsRefused, MessageRejected: refused; nothing was accepted.
            DeliveryUnknown: it left, and no clear answer came.
        """
        ...

    def close(self) -> None:
        """Gives back connections. May be called twice; a later `deliver` opens new ones."""
        ...


@runtime_checkable
class BulkTransport(Transport, Protocol):
    """A transport that hands several messages over in less time than one after the other."""

    def deliver_many(self, envelopes: Iterable[Envelope]) -> Iterator[Receipt | OutmailError]:
        """Hands messages over; yields one outcome for each envelope, in order. Touches the network.

        An outcome is what `deliver` would have returned or raised for that envelope; one failure does not stop the
        rest. Envelopes are pulled lazily, a bounded number ahead of the outcomes, so there may be any number of
        them. Whoever stops early must close the iterator: what was handed over by then stays handed over.
        """
        ...


def deliver_many(transport: Transport, envelopes: Iterable[Envelope]) -> Iterator[Receipt | OutmailError]:
    """One outcome for each envelope, in order, over any transport: its own `deliver_many`, or one by one."""
    if isinstance(transport, BulkTransport):
        yield from transport.deliver_many(envelopes)
        return
    for envelope in envelopes:
        try:
            outcome: Receipt | OutmailError = transport.deliver(envelope)
        except OutmailError as exc:
            outcome = exc
        yield outcome


def concurrency(transport: Transport) -> int:
    """How many deliveries the transport serves at a time; 1 when it does not say."""
    return max(1, int(getattr(transport, "concurrency", 1)))
