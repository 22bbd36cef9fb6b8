"""What a worker is given by the application that it works for, and how it is told to behave."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.orm import Session

from ..envelope import Receipt
from ..errors import OutmailError
from ..transports.failover import Board
from ..vault import Vault
from .claims import Begun
from .hands import InForce
from .retry import Policy


class Surroundings(Protocol):
    """What the worker is given by the application that it works for. All may be called from any of its threads."""

    def session(self) -> AbstractContextManager[Session]: ...
    def connections(self) -> list[str]: ...
    def in_force(self, connection: str) -> InForce | None: ...
    def vault(self) -> Vault: ...
    def move_spool(self) -> int: ...
    def board(self) -> Board: ...
    def settled(self, connection: str, begun: Begun, outcome: Receipt | OutmailError, state: str) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker behaves; times are seconds."""

    policy: Policy = field(default_factory=Policy)
    poll_s: float = 1.0
    lease_s: float = 30.0
    rate_per_minute: dict[str, int] = field(default_factory=dict)
    release_per_minute: int = 600
    concurrency: int = 0
    version: str = ""
