"""The seam: one verb, and everything above it is ignorant of everything below it.

A third-party mail service is a class with these three members and one line in the registry (`services`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..envelope import Envelope, Receipt


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
