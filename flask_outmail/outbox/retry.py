"""What follows from an outcome: pure data in, pure data out. The clock and the dice are handed in.

A message that may have left is never tried again by itself, and neither is one that was refused for good: Exchange
blocks mailboxes whose programs repeat what was denied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..errors import (
    ConfigurationError,
    DeliveryError,
    DeliveryUnknown,
    OutmailError,
    SecretUnreadable,
    SenderRefused,
    Throttled,
)
from .states import FAILED, QUEUED, REFUSED, UNKNOWN, WAITING

#: Shortest pause of a connection that a person must mend: trying sooner cannot help, and annoys its server.
MEND_PAUSE_S = 300.0
#: A longer wait than this is not asked for: it is a server's mistake, or its clock's, and would outlast the message.
MAX_HINT_S = 86400.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How long and how often to try. Times are seconds."""

    first_s: float = 30.0
    cap_s: float = 3600.0
    max_age_s: float = 3 * 86400.0
    max_attempts: int = 20
    breaker_faults: int = 3
    at_least_once: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """What the policy must know of a delivery: which attempt this was (from 1), since when it could leave."""

    attempt: int
    queued_at: datetime
    not_after_at: datetime | None = None
    #: Whether From is the setup's own: then a refusal of it concerns all messages alike.
    sender_is_setups: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The state that follows, and when the next attempt is due (None: as soon as its connection allows, or never)."""

    state: str
    due_at: datetime | None = None
    gave_up: str = ""


def delay_s(policy: Policy, attempt: int, *, spread: float) -> float:
    """Seconds to wait after `attempt` failures (from 1): doubled each time, capped, and spread by a draw in 0..1."""
    # The inner min keeps the power small: an unbounded one overflows long before the cap is applied.
    ceiling = min(policy.cap_s, policy.first_s * 2.0 ** min(attempt - 1, 30))
    return ceiling * (0.5 + spread / 2)


def decide(error: OutmailError, tried: Try, policy: Policy, *, now: datetime, spread: float) -> Decision:
    """What becomes of a delivery whose attempt ended with `error`."""
    if isinstance(error, DeliveryUnknown):
        if not policy.at_least_once:
            return Decision(UNKNOWN)
    elif is_connections_fault(error, tried):
        if not is_retryable(error):
            # It waits for a person, not for a time: the connection pauses, and goes on once it is mended.
            return _unless_too_old(Decision(QUEUED), tried, policy, now)
    elif not is_retryable(error):
        refused = isinstance(error, DeliveryError) and error.fault == "message"
        return Decision(REFUSED if refused else FAILED)
    elif tried.attempt >= policy.max_attempts and not isinstance(error, Throttled):
        return Decision(FAILED, gave_up=f"gave up after {tried.attempt} attempts")
    wait_s = max(delay_s(policy, tried.attempt, spread=spread), retry_after_s(error))
    return _unless_too_old(Decision(WAITING, now + timedelta(seconds=wait_s)), tried, policy, now)


def _unless_too_old(decision: Decision, tried: Try, policy: Policy, now: datetime) -> Decision:
    next_at = decision.due_at or now
    if tried.not_after_at is not None and next_at > tried.not_after_at:
        return Decision(FAILED, gave_up="it would have left after the moment it may not leave after")
    if next_at - tried.queued_at > timedelta(seconds=policy.max_age_s):
        return Decision(FAILED, gave_up=f"gave up after {tried.attempt} attempts")
    return decision


def is_retryable(error: OutmailError) -> bool:
    return (isinstance(error, DeliveryError) and error.retryable) or isinstance(error, DeliveryUnknown)


def is_connections_fault(error: OutmailError, tried: Try | None = None) -> bool:
    """Whether the next message would fail in the same way."""
    if isinstance(error, SecretUnreadable):
        return False  # of this message; a setup that cannot be read raises before there is a message
    if isinstance(error, SenderRefused):
        return tried is not None and tried.sender_is_setups
    if isinstance(error, DeliveryError):
        return error.fault == "connection"
    return isinstance(error, ConfigurationError)


def retry_after_s(error: OutmailError) -> float:
    """How long the server asked to wait, in seconds, up to `MAX_HINT_S`; 0 when it did not."""
    return min(MAX_HINT_S, max(0.0, getattr(error, "retry_after_s", None) or 0.0))


def pause_s(error: OutmailError, fault_count: int, policy: Policy, *, spread: float) -> float:
    """How long a connection pauses after `error`, its `fault_count`th fault in a row (from 1). 0: not at all."""
    if isinstance(error, Throttled):
        return retry_after_s(error) or delay_s(policy, 1, spread=spread)
    if not is_retryable(error):
        return max(MEND_PAUSE_S, delay_s(policy, fault_count, spread=spread))
    if fault_count < policy.breaker_faults:
        return 0.0
    return max(retry_after_s(error), delay_s(policy, fault_count - policy.breaker_faults + 1, spread=spread))
