"""What travels between a transport and its connections: messages on their way, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..content import Content
from ..envelope import Envelope, Receipt
from ..errors import OutmailError
from .smtp_session import Transaction


@dataclass(slots=True)
class Job:
    """One message on its way through a transport.

    `content` is the one that leaves (signed, if it shall be); `tries` counts connections that were lost; `plain` asks
    for one command at a time; `outcome` is the final one.
    """

    envelope: Envelope
    content: Content | None = None
    started: float = 0.0
    tries: int = 0
    plain: bool = False
    outcome: Receipt | OutmailError | None = None


@dataclass(slots=True)
class Lost:
    """Certain: nothing of this message was accepted, and the connection is gone; it may be tried on another.

    `error` is what to tell when it shall not be. `in_group` says that replies to a pipelined group were missing or
    wrong, which is how servers fail that cannot do it; `is_untouched`, that not a word of it was said.
    """

    error: OutmailError
    in_group: bool = False
    out_of_step: bool = False
    is_untouched: bool = False


Outcome = Receipt | OutmailError | Lost
#: The next message: `take(True)` may wait for one, `take(False)` must not; None when there is none (any more, or now).
Take = Callable[[bool], Job | None]


@dataclass(slots=True)
class Unit:
    """A message under way in a window. `mark` is the count of bytes at which all of it has left."""

    job: Job
    content: Content
    transaction: Transaction | None
    mark: int = 0
    has_reset: bool = False
    outcome: Outcome | None = None
