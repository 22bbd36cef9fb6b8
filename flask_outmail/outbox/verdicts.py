"""What became of one attempt, as plain data: it can be written into the database, or into a file until that answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..envelope import Receipt
from ..errors import DeliveryError, DeliveryUnknown, OutmailError, Refusal
from . import retry
from .retry import Policy, Try
from .states import ACCEPTED, FAILED, REFUSED, SUPPRESSED, UNKNOWN

#: Control characters (PostgreSQL stores no NUL), and halves of characters, which no driver can encode.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state that one attempt (`delivery_id`, `number`) led to. Holds addresses, and no body and no secret.

    `again` are recipients who were refused for now while the message is settled for the others: they are tried
    again alone, from `due_at`.
    """

    delivery_id: int
    number: int
    state: str
    #: What the attempt itself came to: "accepted", "refused", "failed" or "unknown".
    attempt_state: str
    connection: str = ""
    transport: str = ""
    code: str = ""
    reason: str = ""
    request_id: str = ""
    elapsed_s: float = 0.0
    refused: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    due_at: datetime | None = None
    again: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        facts["due_at"] = self.due_at.isoformat() if self.due_at else None
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Verdict:
        due_at = datetime.fromisoformat(facts["due_at"]) if facts["due_at"] else None
        refused = {address: (int(code), text) for address, (code, text) in facts["refused"].items()}
        return cls(**{**facts, "due_at": due_at, "refused": refused, "again": tuple(facts["again"])})


def of_receipt(receipt: Receipt, tried: Try, policy: Policy, *, now: datetime, spread: float, **ids: Any) -> Verdict:
    """An accepted message. Recipients whose server asked to come again later (4xx) are tried again, alone."""
    again = _busy(receipt.refused) if tried.attempt < policy.max_attempts else ()
    state = _state(receipt)
    return Verdict(
        state=state,
        attempt_state=state,
        transport=receipt.transport,
        code=_code(receipt),
        reason=_told(receipt),
        request_id=words(receipt.request_id, 255),
        elapsed_s=receipt.elapsed_s,
        refused=_plain(receipt.refused),
        again=again,
        due_at=_later(again, tried, policy, now, spread),
        **ids,
    )


def of_error(
    error: OutmailError, tried: Try, policy: Policy, *, now: datetime, spread: float, elapsed_s: float, **ids: Any
) -> Verdict:
    """A message that was not accepted, or of which nobody knows."""
    decision = retry.decide(error, tried, policy, now=now, spread=spread)
    refused: Mapping[str, Refusal] = getattr(error, "recipients", {})
    again: tuple[str, ...] = ()
    if decision.state == REFUSED and tried.attempt < policy.max_attempts:
        again = _busy(refused)
    reason = f"{decision.gave_up}: {error}" if decision.gave_up else str(error)
    return Verdict(
        state=decision.state,
        attempt_state=_attempt_state(error),
        transport=str(getattr(error, "transport", ""))[:64],
        code=words(error.code or type(error).__name__, 64),
        reason=words(reason, 500),
        request_id=words(str(getattr(error, "request_id", "")), 255),
        elapsed_s=elapsed_s,
        refused=_plain(refused),
        again=again,
        due_at=decision.due_at if not again else _later(again, tried, policy, now, spread),
        **ids,
    )


def settled(outcome: Receipt | OutmailError, *, connection: str, elapsed_s: float = 0.0) -> Verdict:
    """For a message of which nothing more is tried by itself: the caller was told, or a person watches."""
    if isinstance(outcome, Receipt):
        state = _state(outcome)
        return Verdict(
            delivery_id=0,
            number=1,
            state=state,
            attempt_state=state,
            connection=outcome.connection or connection,
            transport=outcome.transport,
            code=_code(outcome),
            reason=_told(outcome),
            request_id=words(outcome.request_id, 255),
            elapsed_s=outcome.elapsed_s,
            refused=_plain(outcome.refused),
        )
    state = _attempt_state(outcome)
    return Verdict(
        delivery_id=0,
        number=1,
        state=state,
        attempt_state=state,
        connection=connection,
        transport=str(getattr(outcome, "transport", ""))[:64],
        code=words(outcome.code or type(outcome).__name__, 64),
        reason=words(str(outcome), 500),
        request_id=words(str(getattr(outcome, "request_id", "")), 255),
        elapsed_s=elapsed_s,
        refused=_plain(getattr(outcome, "recipients", {})),
    )


def words(text: str, most: int) -> str:
    """At most so many characters of what a server said, without those that a database or a terminal cannot take."""
    return _UNFIT.sub("\ufffd", text[:most])


def _attempt_state(error: OutmailError) -> str:
    if isinstance(error, DeliveryUnknown):
        return UNKNOWN
    return REFUSED if isinstance(error, DeliveryError) and error.fault == "message" else FAILED


def _busy(refused: Mapping[str, Refusal]) -> tuple[str, ...]:
    return tuple(address for address, (code, _) in refused.items() if 400 <= code < 500)


def _later(again: tuple[str, ...], tried: Try, policy: Policy, now: datetime, spread: float) -> datetime | None:
    return now + timedelta(seconds=retry.delay_s(policy, tried.attempt, spread=spread)) if again else None


def _plain(refused: Mapping[str, Refusal]) -> dict[str, tuple[int, str]]:
    return {address: (code, words(text, 300)) for address, (code, text) in refused.items()}


def _state(receipt: Receipt) -> str:
    return SUPPRESSED if receipt.is_suppressed else ACCEPTED


def _code(receipt: Receipt) -> str:
    return "recipients_refused" if receipt.refused else "recipients_held_back" if receipt.suppressed else ""


def _told(receipt: Receipt) -> str:
    told = [f"{address}: {code} {text}" for address, (code, text) in receipt.refused.items()]
    if receipt.suppressed:
        told.append(f"held back by OUTMAIL_ALLOWED_RECIPIENTS: {', '.join(receipt.suppressed)}")
    return words("; ".join(told), 500)
