"""A bulk over a transport of a third party: each message has one outcome, whatever the transport does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from flask_outmail import Message
from flask_outmail.bulk import Bulk
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import BadHeaderError, DeliveryUnknown, MissingRecipients, OutmailError
from flask_outmail.transports.memory import MemoryTransport

from ..conftest import make_message

Outcomes = Iterator[Receipt | OutmailError]


class Odd(MemoryTransport):
    """Takes envelopes three at a time, and ends after that in the way it is told."""

    def __init__(self, end: Callable[[list[Receipt]], Outcomes]) -> None:
        super().__init__()
        self._end = end

    def deliver_many(self, envelopes: Iterable[Envelope]) -> Outcomes:
        taken = [self.deliver(envelope) for _, envelope in zip(range(3), envelopes, strict=False)]
        yield from self._end(taken)


def envelope_of(message: Message) -> Envelope:
    return Envelope.for_message(message)


def run(end: Callable[[list[Receipt]], Outcomes], messages: list[Message]) -> list[tuple[str, str]]:
    bulk = Bulk(Odd(end), iter(messages), envelope_of)
    found = [(str(message.subject), type(outcome).__name__) for message, _, outcome in bulk.outcomes()]
    assert bulk.left() == []
    return found


def three() -> list[Message]:
    return [make_message(subject=f"Order {number}", sender="shop@contoso.example") for number in range(3)]


def ends_early(taken: list[Receipt]) -> Outcomes:
    yield taken[0]


def breaks(taken: list[Receipt]) -> Outcomes:
    yield taken[0]
    raise LookupError("its own trouble")


@pytest.mark.parametrize("end", [ends_early, breaks])
def test_what_a_transport_took_and_said_nothing_of_is_unknown(end: Callable[[list[Receipt]], Outcomes]) -> None:
    assert run(end, three()) == [
        ("Order 0", "Receipt"),
        ("Order 1", "DeliveryUnknown"),
        ("Order 2", "DeliveryUnknown"),
    ]


def test_outcomes_keep_the_order_of_the_messages_when_some_cannot_be_sent() -> None:
    nobody = Message(subject="Nobody", sender="shop@contoso.example", body="x")
    first, second, third = three()
    bulk = Bulk(MemoryTransport(), iter([nobody, first, second, nobody, third, nobody]), envelope_of)
    found = [(str(message.subject), type(outcome)) for message, _, outcome in bulk.outcomes()]
    bad = ("Nobody", MissingRecipients)
    assert found == [bad, ("Order 0", Receipt), ("Order 1", Receipt), bad, ("Order 2", Receipt), bad]


def test_trouble_of_the_callers_own_comes_after_the_outcomes_of_what_was_given_before() -> None:
    def messages() -> Iterator[Message]:
        yield from three()
        raise LookupError("no fourth row")

    seen: list[Receipt | OutmailError] = []
    outcomes = Bulk(MemoryTransport(), messages(), envelope_of).outcomes()
    with pytest.raises(LookupError, match="no fourth row"):
        seen.extend(outcome for _, _, outcome in outcomes)
    assert [type(one) for one in seen] == [Receipt] * 3


def test_whoever_stops_in_the_middle_can_learn_what_nobody_heard_of() -> None:
    bulk = Bulk(Odd(breaks), iter(three()), envelope_of)
    outcomes = bulk.outcomes()
    next(outcomes)
    next(outcomes)
    outcomes.close()
    assert [str(message.subject) for message, _ in bulk.left()] == ["Order 2"]


def test_errors_of_a_message_are_those_that_send_would_raise() -> None:
    message = three()[0]
    message.subject = "two\r\nlines"
    [(_, envelope, outcome)] = Bulk(MemoryTransport(), iter([message]), envelope_of).outcomes()
    assert envelope is None
    assert isinstance(outcome, BadHeaderError)
    assert not isinstance(outcome, DeliveryUnknown)
