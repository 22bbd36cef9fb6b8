"""Many messages in few round trips: every reply belongs to its command, whatever a server does."""

from __future__ import annotations

from typing import Any

import pytest

from flask_outmail.content import Content
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import (
    DeliveryUnknown,
    MessageRejected,
    OutmailError,
    RecipientsRefused,
    SenderRefused,
)
from flask_outmail.transports.base import BulkTransport
from flask_outmail.transports.smtp import SmtpTransport

from .scripted import (
    Server,
    Talk,
    drops_what_came_along,
    envelope,
    hang_up,
    reset,
    transport_to,
)

PLAIN: tuple[str, ...] = ("8BITMIME",)
PIPELINING = ("PIPELINING", "8BITMIME")
CHUNKING = ("PIPELINING", "CHUNKING", "8BITMIME")
every_way = pytest.mark.parametrize("offers", [PLAIN, PIPELINING, CHUNKING], ids=["plain", "pipelining", "chunking"])
Outcomes = list[Receipt | OutmailError]


def send_all(transport: SmtpTransport, envelopes: list[Envelope]) -> Outcomes:
    return list(transport.deliver_many(envelopes))


def kinds(outcomes: Outcomes) -> list[str]:
    return [type(one).__name__ for one in outcomes]


def content_of(number: int) -> str:
    return bytes(envelope(number).content).decode()


# -- the good case ---------------------------------------------------------------------------------------------------


@every_way
def test_a_bulk_goes_over_one_connection_and_its_outcomes_keep_their_order(offers: tuple[str, ...]) -> None:
    with Server(offers=offers) as server, transport_to(server, window=3, connections=1) as transport:
        assert isinstance(transport, BulkTransport)
        envelopes = [envelope(number) for number in range(25)]
        outcomes = send_all(transport, envelopes)
        assert [one.message_id for one in outcomes if isinstance(one, Receipt)] == [one.message_id for one in envelopes]
        assert server.once_each(envelopes)
        assert [one.recipients for one in server.accepted] == [list(one.recipients) for one in envelopes]
        assert len(server.talks) == 1


@every_way
def test_a_message_in_pieces_arrives_whole_with_its_dots(offers: tuple[str, ...]) -> None:
    # Dots at the beginnings of lines, on both sides of every border between pieces.
    lines = [b"." * (number % 5) + b"y" * (number * 7 % 60) for number in range(12_000)]
    big = b"Subject: big\r\n\r\n" + b"\r\n".join(lines) + b"\r\n"
    for cut in (100_000, 131_071, 131_072, 200_003):
        content = Content((big[:cut], big[cut:]))
        with Server(offers=offers) as server, transport_to(server, timeout_s=10) as transport:
            envelopes = [envelope(1), envelope(2, content=content), envelope(3)]
            send_all(transport, envelopes)
            transport.deliver(envelopes[1])
            assert server.once_each([*envelopes, envelopes[1]])


@pytest.mark.parametrize("end", [b"", b".", b"\r", b"..", b"\r\n.", b"x\r\n", b"\r\n\r\n"])
@every_way
def test_whatever_a_message_ends_with_its_end_is_found(offers: tuple[str, ...], end: bytes) -> None:
    with Server(offers=offers) as server, transport_to(server) as transport:
        text = b"Subject: x\r\n\r\nbody" + end
        for _ in range(2):
            transport.deliver(envelope(1, content=text))
            transport.deliver(envelope(2))
        assert [one.content for one in server.accepted[::2]] == [text if end.endswith(b"\r\n") else text + b"\r\n"] * 2
        assert len(server.accepted) == 4


def test_a_bare_newline_before_a_dot_does_not_end_the_message() -> None:
    # "SMTP smuggling": what follows would be commands to a server that takes a bare LF for a line end.
    seen: list[bytes] = []

    def keep_raw(talk: Talk, argument: str) -> bool:
        talk.say("354 go on")
        while b"\r\n.\r\n" not in talk.buffer:
            talk.receive()
        seen.append(talk.buffer)
        talk.buffer = b""
        talk.say("250 ok")
        return True

    with Server(hooks={"DATA": keep_raw}) as server, transport_to(server) as transport:
        transport.deliver(envelope(content=b"Subject: x\r\n\r\nbody\n.\r\nMAIL FROM:<evil@x.example>\r\n"))
        assert b"\n.\r\nMAIL" not in seen[0].replace(b"\n..", b"")


def test_a_server_without_pipelining_gets_one_command_at_a_time() -> None:
    with Server(offers=PLAIN, strict=True) as server, transport_to(server) as transport:
        envelopes = [envelope(number, recipients=("a@y.example", "b@y.example")) for number in range(3)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 3
        assert server.once_each(envelopes)


def test_pipelining_can_be_switched_off() -> None:
    with Server(offers=PIPELINING, strict=True) as server, transport_to(server, pipelining=False) as transport:
        assert transport.deliver(envelope()).accepted


def test_a_message_of_a_bulk_costs_one_round_trip() -> None:
    """The server reads once for each message: content, dot and the next group came together."""
    with Server() as server, transport_to(server, connections=1) as transport:
        transport.deliver(envelope())
        before = server.talks[0].reads
        send_all(transport, [envelope(number) for number in range(20)])
        assert server.talks[0].reads - before <= 21


def test_a_message_with_chunking_is_one_write_once_the_server_has_shown_that_it_can() -> None:
    with Server(offers=CHUNKING) as server, transport_to(server) as transport:
        transport.deliver(envelope())
        before = server.talks[0].reads
        transport.deliver(envelope(1))
        assert server.talks[0].reads - before == 1


# -- refusals in a group ---------------------------------------------------------------------------------------------


def refuse(*addresses: str, code: str = "550 5.1.1 no such user") -> Any:
    def rcpt(talk: Talk, argument: str) -> bool:
        refused = any(address in argument for address in addresses)
        if refused:
            talk.say(code)
        return refused

    return rcpt


@every_way
def test_each_refusal_stands_with_its_recipient(offers: tuple[str, ...]) -> None:
    hooks = {"RCPT": refuse("b@", "d@")}
    with Server(offers=offers, hooks=hooks) as server, transport_to(server, window=2) as transport:
        everybody = tuple(f"{letter}@y.example" for letter in "abcde")
        outcomes = send_all(transport, [envelope(number, recipients=everybody) for number in range(3)])
        for outcome in outcomes:
            assert isinstance(outcome, Receipt)
            assert list(outcome.refused) == ["b@y.example", "d@y.example"]
            assert outcome.refused["b@y.example"].code == 550
        assert [one.recipients for one in server.accepted] == [["a@y.example", "c@y.example", "e@y.example"]] * 3


@every_way
def test_a_message_that_nobody_may_receive_does_not_disturb_the_next(offers: tuple[str, ...]) -> None:
    with Server(offers=offers, hooks={"RCPT": refuse("reader1@")}) as server, transport_to(server) as transport:
        envelopes = [envelope(number) for number in range(4)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt", "RecipientsRefused", "Receipt", "Receipt"]
        assert server.once_each([envelopes[0], *envelopes[2:]])
        assert all(one.recipients == list(envelopes[int(one.content[9:10])].recipients) for one in server.accepted)


@pytest.mark.parametrize(("code", "retryable"), [("450 4.2.1 busy", True), ("550 5.1.1 unknown", False)])
def test_recipients_that_were_all_told_to_wait_may_be_tried_again(code: str, retryable: bool) -> None:
    with Server(hooks={"RCPT": refuse("@", code=code)}) as server, transport_to(server) as transport:
        with pytest.raises(RecipientsRefused) as caught:
            transport.deliver(envelope(recipients=("a@y.example", "b@y.example")))
        assert caught.value.retryable is retryable
        assert list(caught.value.recipients) == ["a@y.example", "b@y.example"]


@pytest.mark.parametrize(("last", "told"), [("554 no valid recipients", False), ("250 fine", True)])
def test_an_empty_message_is_never_counted_as_ours(last: str, told: bool) -> None:
    """354 although every recipient was refused: a lone dot, and what the server says to that is told (RFC 2920)."""
    contents: list[bytes] = []

    def data(talk: Talk, argument: str) -> bool:
        if talk.recipients:
            return False
        talk.say("354 go on, whoever it is for")
        contents.append(talk.content())
        talk.say(last)
        server.forget(talk)
        return True

    server = Server(hooks={"RCPT": refuse("reader1@"), "DATA": data})
    with server, transport_to(server) as transport:
        envelopes = [envelope(number) for number in range(3)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt", "RecipientsRefused", "Receipt"]
        assert contents == [b""]
        refused = outcomes[1]
        assert isinstance(refused, RecipientsRefused)
        assert ("empty message" in refused.detail) is told
        assert server.once_each([envelopes[0], envelopes[2]])


def test_a_message_whose_sender_was_refused_is_never_given_to_a_server_that_would_take_it() -> None:
    def data(talk: Talk, argument: str) -> bool:
        talk.say("354 whoever it is from")
        content = talk.content()
        server.keep(talk, content)
        talk.say("250 taken")
        return True

    def mail(talk: Talk, argument: str) -> bool:
        talk.sender = "?"
        talk.say("553 5.1.8 not you")
        return True

    server = Server(hooks={"MAIL": mail, "DATA": data})
    with server, transport_to(server) as transport:
        with pytest.raises((SenderRefused, OutmailError)):
            transport.deliver(envelope())
        assert server.accepted == []


@every_way
def test_a_message_that_is_refused_after_its_content_does_not_stop_the_others(offers: tuple[str, ...]) -> None:
    def refuse_one(talk: Talk, content: str) -> bool:
        if "Subject: 2" in content:
            talk.say("554 5.7.1 looks like spam")
        return "Subject: 2" in content

    with Server(offers=offers, hooks={".": refuse_one}) as server, transport_to(server, window=2) as transport:
        envelopes = [envelope(number) for number in range(5)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt", "Receipt", "MessageRejected", "Receipt", "Receipt"]
        assert server.once_each([one for one in envelopes if one is not envelopes[2]])


@every_way
def test_a_message_that_the_server_cannot_take_does_not_stop_the_others(offers: tuple[str, ...]) -> None:
    with Server(offers=[*offers, "SIZE 1000"]) as server, transport_to(server, window=2) as transport:
        envelopes = [envelope(0), envelope(1, size=2000), envelope(2), envelope(3, smtputf8=True), envelope(4)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt", "MessageRejected", "Receipt", "UnsupportedFeature", "Receipt"]
        assert server.once_each([envelopes[0], envelopes[2], envelopes[4]])


def test_a_server_that_stops_in_the_middle_of_a_large_message_has_refused_it() -> None:
    def data(talk: Talk, argument: str) -> None:
        talk.say("354 go on")
        talk.receive()
        talk.say("552 5.3.4 too large after all")
        talk.silence()

    with Server(hooks={"DATA": data}) as server, transport_to(server, timeout_s=5) as transport:
        with pytest.raises(MessageRejected):
            transport.deliver(envelope(size=20_000_000))
        assert server.accepted == []


# -- servers that offer PIPELINING and cannot do it ------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_a_server_that_drops_what_came_along_gets_everything_once(verb: str) -> None:
    hooks = {verb: drops_what_came_along}
    with Server(hooks=hooks) as server, transport_to(server, timeout_s=0.4, connections=1) as transport:
        envelopes = [envelope(number) for number in range(6)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt"] * 6
        assert server.once_each(envelopes)
        # It is remembered: not every message costs a wait and a connection.
        assert len(server.talks) <= 6
        transport.deliver(envelope(8))
        before = len(server.talks)
        transport.deliver(envelope(9))
        assert len(server.talks) == before


def test_a_server_that_drops_the_group_after_a_content_gets_everything_once() -> None:
    server = Server(hooks={"accepted": drops_what_came_along})
    with server, transport_to(server, timeout_s=0.4, connections=1) as transport:
        envelopes = [envelope(number) for number in range(8)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 8
        assert server.once_each(envelopes)
        assert len(server.talks) <= 4


@pytest.mark.parametrize("end", [hang_up, reset])
def test_a_server_that_hangs_up_on_a_group_gets_everything_once(end: Any) -> None:
    def no_groups(talk: Talk, argument: str) -> None:
        if talk.buffer:
            end(talk, argument)

    with Server(hooks={"MAIL": no_groups}) as server, transport_to(server, connections=1) as transport:
        envelopes = [envelope(number) for number in range(6)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 6
        assert server.once_each(envelopes)
        assert len(server.talks) <= 5


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("extra", ["250 and again", "354 go on"])
def test_replies_out_of_step_lose_nothing_and_send_nothing_twice(verb: str, extra: str) -> None:
    def one_too_many(talk: Talk, argument: str) -> None:
        if talk.buffer:
            talk.say(extra)

    with Server(hooks={verb: one_too_many}) as server, transport_to(server, timeout_s=0.5) as transport:
        envelopes = [envelope(number) for number in range(4)]
        outcomes = send_all(transport, envelopes)
        accepted = [one.content for one in server.accepted]
        assert len(set(accepted)) == len(accepted)
        for one, outcome in zip(envelopes, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                assert bytes(one.content) in accepted
            elif not isinstance(outcome, DeliveryUnknown):
                assert bytes(one.content) not in accepted


def test_an_answer_that_comes_before_its_question_is_not_taken_for_one() -> None:
    """The verdict on a message is doubled: the second must not pass for the reply to the next MAIL."""

    def doubled(talk: Talk, argument: str) -> None:
        talk.say("250 2.0.0 and again")

    with Server(hooks={"accepted": doubled}) as server, transport_to(server, timeout_s=0.5) as transport:
        envelopes = [envelope(number) for number in range(4)]
        outcomes = send_all(transport, envelopes)
        assert len({one.content for one in server.accepted}) == len(server.accepted)
        for one, outcome in zip(envelopes, outcomes, strict=True):
            if not isinstance(outcome, (Receipt, DeliveryUnknown)):
                assert bytes(one.content) not in [taken.content for taken in server.accepted]
