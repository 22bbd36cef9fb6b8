"""Bulks when something goes wrong on the way: what is lost, what is unknown, and what goes again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flask_outmail.content import Content
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import (
    DeliveryUnknown,
    RecipientsRefused,
    TransportUnavailable,
)
from flask_outmail.transports.base import deliver_many

from .scripted import (
    Server,
    Talk,
    answer,
    envelope,
    hang_up,
    on_connections,
    only_first,
    transport_to,
)
from .test_smtp_pipelining import CHUNKING, PIPELINING, PLAIN, Outcomes, every_way, kinds, refuse, send_all

# -- a lost connection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [PLAIN, PIPELINING], ids=["plain", "pipelining"])
@pytest.mark.parametrize("happened", [True, False])
def test_in_a_bulk_only_the_message_whose_dot_had_left_is_unknown(offers: tuple[str, ...], happened: bool) -> None:
    def cut(talk: Talk, content: str) -> None:
        if "Subject: 3" in content:
            if happened:
                server.keep(talk, content.encode("latin-1"))
            talk.hang_up()

    server = Server(offers=offers, hooks={".": cut})
    with server, transport_to(server) as transport:
        envelopes = [envelope(number) for number in range(8)]
        outcomes = send_all(transport, envelopes)
        assert [number for number, one in enumerate(outcomes) if isinstance(one, DeliveryUnknown)] == [3]
        assert sum(isinstance(one, Receipt) for one in outcomes) == 7
        assert server.once_each([one for number, one in enumerate(envelopes) if happened or number != 3])


@pytest.mark.parametrize("window", [1, 2, 4])
def test_in_a_window_no_more_than_that_many_are_unknown(window: int) -> None:
    def cut(talk: Talk, content: str) -> None:
        if "Subject: 9" in content:
            talk.reset()

    hooks = {".": cut}
    with Server(CHUNKING, hooks) as server, transport_to(server, window=window, connections=1) as transport:
        transport.deliver(envelope(0))
        envelopes = [envelope(number) for number in range(5, 25)]
        outcomes = send_all(transport, envelopes)
        unknown = [
            one for one, outcome in zip(envelopes, outcomes, strict=True) if isinstance(outcome, DeliveryUnknown)
        ]
        assert 1 <= len(unknown) <= window
        for one, outcome in zip(envelopes, outcomes, strict=True):
            times = [taken.content for taken in server.accepted].count(bytes(one.content))
            assert times == 1 if isinstance(outcome, Receipt) else times <= 1


def test_the_first_bulk_uses_the_window_once_one_message_was_accepted() -> None:
    """A message behind another in the window begins with RSET, so RSET tells that it was used."""
    with Server(CHUNKING) as server, transport_to(server, window=4, connections=1) as transport:
        envelopes = [envelope(number) for number in range(9)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 9
        assert server.once_each(envelopes)
        [talk] = server.talks
        verbs = [line.split()[0].partition(":")[0] for line in talk.lines]
        assert verbs.count("RSET") >= 3
        assert "RSET" not in verbs[: verbs.index("BDAT") + 1]


def test_a_bulk_whose_first_message_is_refused_goes_on() -> None:
    def refuse_some(talk: Talk, argument: str) -> bool:
        if "nobody" in argument:
            talk.say("550 5.1.1 no such mailbox")
        return "nobody" in argument

    with Server(CHUNKING, {"RCPT": refuse_some}) as server, transport_to(server, window=4, connections=1) as transport:
        good = [envelope(number) for number in range(6)]
        bad = [replace(envelope(number), recipients=("nobody@customers.example",)) for number in (90, 91)]
        assert kinds(send_all(transport, [*bad, *good])) == ["RecipientsRefused"] * 2 + ["Receipt"] * 6
        assert server.once_each(good)


def test_what_comes_after_a_421_in_a_window_was_not_accepted_and_goes_again() -> None:
    def full(talk: Talk, argument: str) -> None:
        if talk.number == 0 and sum(one.connection == 0 for one in server.accepted) >= 4:
            talk.say("421 4.7.0 enough for one connection")
            talk.hang_up()

    server = Server(offers=CHUNKING, hooks={"MAIL": full})
    with server, transport_to(server, window=4, connections=1) as transport:
        envelopes = [envelope(number) for number in range(12)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt"] * 12
        assert server.once_each(envelopes)


def test_a_server_that_loses_every_answer_gets_no_more_than_a_few_messages() -> None:
    with Server(hooks={".": hang_up}) as server, transport_to(server, connections=1) as transport:
        outcomes = send_all(transport, [envelope(number) for number in range(50)])
        assert kinds(outcomes).count("DeliveryUnknown") == 2
        assert kinds(outcomes).count("TransportUnavailable") == 48
        assert len(server.talks) == 2


def test_when_nobody_listens_the_rest_of_a_bulk_does_not_wait_for_it() -> None:
    with Server() as server:
        port = server.port
    with transport_to(Server(port=port)) as transport:
        outcomes = send_all(transport, [envelope(number) for number in range(30)])
        assert kinds(outcomes) == ["ConnectionRefused"] * 30
        assert len({id(one) for one in outcomes}) == 30


# -- asked for ahead -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pause_s", "most"), [(0.0, 3), (0.02, 2)], ids=["quick", "slow"])
def test_only_a_caller_who_gives_quickly_is_asked_while_an_answer_is_on_its_way(pause_s: float, most: int) -> None:
    """A receipt must not wait for what a slow caller gives next, the one that goes along with the content apart."""
    lags: list[int] = []
    outcomes: Outcomes = []

    def given() -> Iterator[Envelope]:
        for number in range(20):
            if number > 3:  # the first have no pace yet
                lags.append(number - len(outcomes))
            yield envelope(number)
            time.sleep(pause_s)

    with Server() as server, transport_to(server, connections=1) as transport:
        for outcome in transport.deliver_many(given()):
            outcomes.append(outcome)
        assert kinds(outcomes) == ["Receipt"] * 20
        assert max(lags) == most - 1
        assert len(server.talks) == 1


def test_a_message_made_ahead_is_sent_once_when_each_connection_takes_one_message() -> None:
    def enough(talk: Talk, argument: str) -> None:
        talk.hang_up()

    with Server(hooks={"accepted": enough}) as server, transport_to(server, connections=1) as transport:
        envelopes = [envelope(number) for number in range(8)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 8
        assert server.once_each(envelopes)


# -- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_a_refused_chunk_is_followed_by_a_reset(window: int) -> None:
    """What recipients a server remembers after it refused a chunk is undefined (RFC 3030 4.2)."""

    def keeps_state(talk: Talk, argument: str) -> bool:
        size = int(argument.split()[0])
        content = talk.chunk(size)
        time.sleep(0.002)  # the answers come one by one
        if int(content[9:11]) * 7 % 11 < 4:
            talk.say("554 5.6.0 not this one")
            return True
        server.take(talk, content)
        return True

    server = Server(offers=CHUNKING, hooks={"BDAT": keeps_state})
    with server, transport_to(server, window=window, connections=1) as transport:
        transport.deliver(envelope(10))
        outcomes = send_all(transport, [envelope(number) for number in range(10, 40)])
        assert kinds(outcomes) == ["MessageRejected" if number * 7 % 11 < 4 else "Receipt" for number in range(10, 40)]
        for taken in server.accepted:
            assert taken.recipients == [f"reader{int(taken.content[9:11])}@y.example"]


def test_a_message_taken_for_nobody_is_told_as_refused() -> None:
    def takes_anything(talk: Talk, argument: str) -> bool:
        talk.chunk(int(argument.split()[0]))
        talk.say("250 ok")
        server.forget(talk)
        return True

    server = Server(offers=CHUNKING)
    with server, transport_to(server) as transport:
        transport.deliver(envelope(0))
        server.hooks = {"RCPT": refuse("@"), "BDAT": takes_anything}
        with pytest.raises(RecipientsRefused) as caught:
            transport.deliver(envelope(1))
        assert "for nobody" in caught.value.detail


def test_on_a_connection_that_was_idle_the_message_is_not_risked_in_one_write() -> None:
    """It died unseen: found out by MAIL and RCPT, of which nothing can be accepted."""

    def die_at_the_third(talk: Talk, argument: str) -> None:
        if len(server.accepted) == 2:
            talk.reset()

    server = Server(offers=CHUNKING, hooks={"MAIL": on_connections([0], die_at_the_third)})
    with server, transport_to(server, fresh_s=0.05) as transport:
        for number in range(3):
            assert transport.deliver(envelope(number)).accepted
            time.sleep(0.1)
        assert len(server.accepted) == 3


# -- attachments that change -----------------------------------------------------------------------------------------


class Vanishing(Content):
    """A message whose last piece is gone when it is read."""

    def chunks(self) -> Iterator[bytes]:
        from flask_outmail.errors import InvalidMessage

        yield from list(super().chunks())[:-1]
        raise InvalidMessage("the file is gone", code="attachment_changed")


@every_way
def test_when_an_attachment_vanishes_while_it_is_sent_nothing_is_accepted(offers: tuple[str, ...]) -> None:
    with Server(offers=offers) as server, transport_to(server) as transport:
        big = Vanishing((b"Subject: x\r\n\r\n", b"x\r\n" * 100_000, b"y\r\n" * 100_000))
        envelopes = [envelope(0), envelope(1, content=big), envelope(2)]
        outcomes = send_all(transport, envelopes)
        assert kinds(outcomes) == ["Receipt", "InvalidMessage", "Receipt"]
        assert server.once_each([envelopes[0], envelopes[2]])


# -- bulk as a whole -------------------------------------------------------------------------------------------------


def test_envelopes_are_pulled_as_they_are_needed() -> None:
    pulled: list[int] = []

    def source() -> Iterator[Envelope]:
        for number in range(1000):
            pulled.append(number)
            yield envelope(number)

    with Server() as server, transport_to(server) as transport:
        outcomes = transport.deliver_many(source())
        assert pulled == []
        for _ in range(3):
            next(outcomes)
        assert len(pulled) <= 8
        outcomes.close()  # type: ignore[attr-defined]
        assert len(server.accepted) <= len(pulled)


def test_what_the_source_raises_comes_after_the_outcomes_before_it() -> None:
    def source() -> Iterator[Envelope]:
        yield envelope(0)
        yield envelope(1)
        raise LookupError("the third cannot be made")

    with Server() as server, transport_to(server) as transport:
        outcomes = transport.deliver_many(source())
        assert kinds([next(outcomes), next(outcomes)]) == ["Receipt", "Receipt"]
        with pytest.raises(LookupError):
            next(outcomes)
        assert len(server.accepted) == 2


@every_way
def test_over_a_slow_line_several_connections_share_the_work_and_the_order_is_kept(offers: tuple[str, ...]) -> None:
    def slow(talk: Talk, content: str) -> None:
        time.sleep(0.01)

    caller = threading.get_ident()
    threads: set[int] = set()

    def source() -> Iterator[Envelope]:
        for number in range(80):
            threads.add(threading.get_ident())
            yield envelope(number)

    with Server(offers=offers, hooks={".": slow}) as server, transport_to(server, connections=4) as transport:
        outcomes = list(deliver_many(transport, source()))
        ids = [one.message_id for one in outcomes if isinstance(one, Receipt)]
        assert ids == [f"<{number}@x.example>" for number in range(80)]
        assert server.once_each([envelope(number) for number in range(80)])
        assert 2 <= server.most_at_once <= 4
        assert threads == {caller}


def test_over_several_connections_a_lost_one_loses_nothing_and_sends_nothing_twice() -> None:
    def slow_and_mortal(talk: Talk, content: str) -> None:
        time.sleep(0.01)
        if talk.number % 2 and sum(one.connection == talk.number for one in server.accepted) == 3:
            talk.reset()

    server = Server(hooks={".": slow_and_mortal})
    with server, transport_to(server, connections=4, timeout_s=5) as transport:
        envelopes = [envelope(number) for number in range(60)]
        outcomes = send_all(transport, envelopes)
        contents = [one.content for one in server.accepted]
        assert len(outcomes) == 60
        for one, outcome in zip(envelopes, outcomes, strict=True):
            times = contents.count(bytes(one.content))
            assert times == (1 if isinstance(outcome, Receipt) else 0), outcome
            assert isinstance(outcome, (Receipt, DeliveryUnknown))


def test_bulks_share_the_connections_that_are_allowed() -> None:
    """A helper that finds none free gives its message back, for those that have one."""

    def slow(talk: Talk, content: str) -> None:
        time.sleep(0.01)

    with Server(hooks={".": slow}) as server, transport_to(server, connections=2, timeout_s=10) as transport:
        results: dict[int, Outcomes] = {}

        def bulk(first: int) -> None:
            results[first] = send_all(transport, [envelope(first + number) for number in range(20)])

        threads = [threading.Thread(target=bulk, args=(first,)) for first in (0, 1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [kinds(one) for one in results.values()] == [["Receipt"] * 20] * 3
        assert server.once_each([envelope(first + number) for first in results for number in range(20)])
        assert server.most_at_once == 2


def test_a_message_whose_connection_was_refused_after_all_others_were_done_is_still_sent() -> None:
    """A second connection is opened for the last messages, and refused once the first has nothing left to do."""
    server = Server()

    def busy(talk: Talk, argument: str) -> bool:
        if talk.number != 1:
            return False
        server.wait_for(lambda: len(server.accepted) == 11)
        time.sleep(0.1)
        talk.say("554 5.7.0 not you again")
        talk.hang_up()
        return True

    server.hooks = {".": lambda talk, content: time.sleep(0.01), "connect": busy}
    with server, transport_to(server, connections=2, timeout_s=5) as transport:
        envelopes = [envelope(number) for number in range(12)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 12
        assert server.once_each(envelopes)


def test_what_was_made_ahead_on_a_lost_connection_goes_over_the_other_one() -> None:
    """No third connection is opened, so the thread that lost its own gives back all that it had taken."""

    def busy(talk: Talk, argument: str) -> bool:
        if talk.number >= 2:
            talk.say("554 5.7.0 not you again")
            talk.hang_up()
        return False

    def enough(talk: Talk, argument: str) -> None:
        if talk.number == 0 and sum(one.connection == 0 for one in server.accepted) == 8:
            talk.hang_up()

    hooks = {".": lambda talk, content: time.sleep(0.01), "connect": busy, "accepted": enough}
    with Server(hooks=hooks) as server, transport_to(server, connections=2, timeout_s=5) as transport:
        envelopes = [envelope(number) for number in range(24)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt"] * 24
        assert server.once_each(envelopes)


def test_stopping_early_leaves_no_thread_behind() -> None:
    def slow(talk: Talk, content: str) -> None:
        time.sleep(0.01)

    with Server(hooks={".": slow}) as server, transport_to(server, connections=4) as transport:
        outcomes = transport.deliver_many(envelope(number) for number in range(500))
        for _ in range(20):
            next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        assert not [one for one in threading.enumerate() if one.name == "outmail-smtp"]
        count = len(server.accepted)
        assert count < 100
        assert transport.deliver(envelope(999)).accepted


def test_several_bulks_at_once_do_not_mix() -> None:
    with Server() as server, transport_to(server, connections=3, timeout_s=10) as transport:
        results: dict[int, Outcomes] = {}

        def bulk(first: int) -> None:
            results[first] = send_all(transport, [envelope(first + number) for number in range(50)])

        threads = [threading.Thread(target=bulk, args=(first,)) for first in (0, 1000, 2000, 3000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for first, outcomes in results.items():
            expected = [f"<{first + number}@x.example>" for number in range(50)]
            assert [one.message_id for one in outcomes if isinstance(one, Receipt)] == expected
        assert len(server.accepted) == 200
        for taken in server.accepted:
            assert taken.recipients == [f"reader{int(taken.content.split()[1])}@y.example"]


def test_the_first_failure_on_a_new_connection_is_told_when_nothing_else_can_be_tried() -> None:
    with Server(offers=PLAIN, hooks={"MAIL": only_first(hang_up)}) as server, transport_to(server) as transport:
        with pytest.raises(TransportUnavailable):
            transport.deliver(envelope())
        assert transport.deliver(envelope()).accepted


def test_an_odd_verdict_is_unknown() -> None:
    with Server(offers=CHUNKING) as server, transport_to(server) as transport:
        transport.deliver(envelope(0))
        server.hooks = {".": answer("354 what?")}
        with pytest.raises(DeliveryUnknown) as caught:
            transport.deliver(envelope(1))
        assert caught.value.code == "answer_odd"
