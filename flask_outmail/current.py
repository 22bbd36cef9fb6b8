"""The setup in force for one connection, with the transport made from it."""

from __future__ import annotations

from dataclasses import dataclass

from . import services
from .setup_values import SetupValues
from .transports.base import Transport


@dataclass(frozen=True)
class Current:
    """The setup in force for one connection, and the transport made from it.

    `source` is "database", or the configuration key it comes from. `setup_id` is the row's id, if it has one.
    `stamp` is another text whenever the setup is another.
    """

    connection: str
    values: SetupValues
    transport: Transport
    verified: bool
    source: str
    setup_id: int | None = None
    stamp: str = ""
    has_incident: bool = False
    has_held: bool = False

    @property
    def sender(self) -> str:
        """The setup's own From, as a message's sender."""
        return self.values.sender

    @property
    def mailbox(self) -> str:
        return services.service(self.values.service).mailbox(self.values)
