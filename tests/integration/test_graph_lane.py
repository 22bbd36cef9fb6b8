"""Four at a time, pauses that everybody keeps, kept connections, and `deliver_many`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import DeliveryUnknown, OutmailError, RecipientsRefused, Throttled, TransportUnavailable
from flask_outmail.message import Message
from flask_outmail.simulator import Fault, Simulator
from flask_outmail.simulator.listener import Connection, Listener
from flask_outmail.transports.base import BulkTransport, concurrency
from flask_outmail.transports.graph import WINDOW, GraphTransport
from flask_outmail.transports.graph_calls import MAX_IDLE_S, Connections
from flask_outmail.transports.graph_lane import MAX_PAUSE_S, MAX_REQUESTS, WINDOW_S, Lane, lane

from ..conftest import graph_setup, world
from .conftest import MakeTransport


def message(number: int = 1, **fields: Any) -> Envelope:
    defaults: dict[str, Any] = {
        "subject": f"Order {number}",
        "recipients": [f"reader{number}@customers.example"],
        "body": "Thank you.\n",
        "sender": "noreply@contoso.example",
    }
    return Envelope.for_message(Message(**{**defaults, **fields}))


def statuses(simulator: Simulator) -> set[int]:
    return {one.status for one in simulator.answers}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


# -- the lane --------------------------------------------------------------------------------------------------------


def go(one: Lane, **changes: Any) -> None:
    with one.turn(**{"timeout_s": 1.0, "patience_s": 0.0, **changes}):
        pass


def refused(one: Lane, **changes: Any) -> Throttled:
    with pytest.raises(Throttled) as caught:
        go(one, **changes)
    assert caught.value.retryable
    return caught.value


def test_one_mailbox_of_one_application_has_one_lane() -> None:
    first = lane("https://graph.example", "App", "Noreply@contoso.example")
    assert lane("https://graph.example", "app", "noreply@CONTOSO.example") is first
    assert lane("https://graph.example", "other", "noreply@contoso.example") is not first
    assert lane("https://graph.example", "app", "anna@contoso.example") is not first
    assert lane("https://graph.other", "app", "noreply@contoso.example") is not first


def test_the_fifth_waits_for_a_place_and_says_so_when_there_is_none() -> None:
    one = Lane()
    with contextlib.ExitStack() as four:
        for _ in range(4):
            four.enter_context(one.turn(timeout_s=1, patience_s=0))
        assert refused(one, timeout_s=0.05).code == "too_many_at_once"
        assert refused(one, timeout_s=0.05, urgent=True).code == "too_many_at_once"
    go(one)


def test_a_429_makes_everybody_wait_as_long_as_it_says() -> None:
    clock = Clock()
    one = Lane(clock)
    one.answered(429, 30.0)
    error = refused(one, patience_s=29.0)
    assert (error.code, error.retry_after_s) == ("paused_by_server", 30.0)
    go(one, urgent=True)
    clock.now_s += 30.0
    go(one)


def test_a_short_pause_is_waited_for() -> None:
    one = Lane()
    one.answered(503, 0.05)
    go(one, patience_s=5.0)


def test_pauses_double_while_the_hint_stays_the_same_and_end_with_a_success() -> None:
    clock = Clock()
    one = Lane(clock)
    pauses = []
    for _ in range(8):
        one.answered(429, 1.0)
        # Three more that were under way when the pause began count as the same refusal.
        one.answered(429, 1.0)
        pauses.append(refused(one).retry_after_s)
        clock.now_s += 100.0
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    one.answered(202, None)
    one.answered(429, None)
    assert refused(one).retry_after_s == 1.0


def test_a_hint_beside_a_success_means_nothing_and_a_senseless_one_is_cut() -> None:
    one = Lane(Clock())
    one.answered(202, 600.0)
    one.answered(400, 600.0)
    go(one)
    one.answered(503, 7_000_000_000.0)
    assert refused(one).retry_after_s == MAX_PAUSE_S


def test_the_quota_is_kept_before_the_server_has_to_speak_of_it() -> None:
    clock = Clock()
    one = Lane(clock)
    for number in range(MAX_REQUESTS):
        clock.now_s += 0.01
        go(one)
        if number == 0:
            first = clock.now_s
    error = refused(one)
    assert error.code == "requests_used_up"
    assert error.retry_after_s is not None
    clock.now_s += error.retry_after_s
    assert clock.now_s - first >= WINDOW_S
    go(one)


# -- four at a time --------------------------------------------------------------------------------------------------


def test_a_transport_says_that_it_serves_four(make_transport: MakeTransport) -> None:
    transport = make_transport()
    assert concurrency(transport) == 4
    assert isinstance(transport, BulkTransport)


def test_many_threads_and_two_revisions_of_a_setup_never_meet_a_429_or_ask_for_a_token_each(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    transport = make_transport({"timeout_s": 30.0})
    newer = GraphTransport(transport.settings)
    simulator.faults.hang("sendMail", 0.02, times=None)
    failures: list[OutmailError] = []

    def send(number: int) -> None:
        try:
            (transport, newer)[number % 2].deliver(message(number))
        except OutmailError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    newer.close()
    assert failures == []
    assert len(simulator.delivered) == 24
    assert statuses(simulator) == {200, 202}
    assert sum(one.path.endswith("/token") for one in simulator.answers) == 1


def test_deliver_many_has_four_under_way(simulator: Simulator, make_transport: MakeTransport) -> None:
    transport = make_transport({"timeout_s": 30.0})
    simulator.faults.hang("sendMail", 60.0, times=4)

    def free_them_once_all_four_hang() -> None:
        for _ in range(6000):
            if not simulator.faults.active():
                break
            threading.Event().wait(0.005)
        simulator.state.end_waits()

    watcher = threading.Thread(target=free_them_once_all_four_hang)
    watcher.start()
    outcomes = list(transport.deliver_many(message(number) for number in range(9)))
    watcher.join(60)
    assert [type(one) for one in outcomes] == [Receipt] * 9
    assert simulator.faults.active() == []
    assert 429 not in statuses(simulator)


def test_outcomes_come_in_order_and_one_failure_does_not_stop_the_rest(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    simulator.faults.hang("sendMail", 0.2)  # the first one overtaken by the others
    envelopes = [message(number) for number in range(6)]
    # Graph refuses it when it has read it, as it has nobody to send it to.
    envelopes[3] = replace(envelopes[3], content=message(3, bcc=["x@customers.example"], recipients=[]).content,
                           recipients=(), visible=())  # fmt: skip
    outcomes = list(make_transport().deliver_many(envelopes))
    assert isinstance(outcomes[3], RecipientsRefused)
    accepted = [one.message_id for one in outcomes if isinstance(one, Receipt)]
    assert accepted == [one.message_id for number, one in enumerate(envelopes) if number != 3]


def test_envelopes_are_pulled_lazily_and_nothing_begins_after_the_iterator_is_closed(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    pulled = []

    def endless() -> Iterator[Envelope]:
        for number in itertools.count():
            pulled.append(number)
            yield message(number)

    outcomes = make_transport().deliver_many(endless())
    assert isinstance(next(outcomes), Receipt)
    assert len(pulled) == WINDOW
    outcomes.close()  # type: ignore[attr-defined]
    count = len(simulator.delivered)
    assert 1 <= count <= WINDOW
    threading.Event().wait(0.1)
    assert len(simulator.delivered) == count
    assert not [one for one in threading.enumerate() if one.name.startswith("outmail-graph")]


def test_a_mistake_of_our_own_costs_one_message_its_certainty_and_no_other_its_outcome(
    make_transport: MakeTransport,
) -> None:
    broken = replace(message(2), content=None)  # type: ignore[arg-type]
    outcomes = list(make_transport().deliver_many([message(1), broken, message(3)]))
    assert [type(one) for one in outcomes] == [Receipt, DeliveryUnknown, Receipt]


def test_an_iterable_that_breaks_is_heard_after_the_outcomes_before_it(make_transport: MakeTransport) -> None:
    def breaks() -> Iterator[Envelope]:
        yield message(1)
        yield message(2)
        raise LookupError("no third row")

    outcomes = make_transport().deliver_many(breaks())
    assert isinstance(next(outcomes), Receipt)
    assert isinstance(next(outcomes), Receipt)
    with pytest.raises(LookupError):
        next(outcomes)


def test_a_429_in_the_middle_of_many_stops_the_others_from_asking(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    simulator.faults.throttle(retry_after=600)
    outcomes = list(make_transport().deliver_many(message(number) for number in range(20)))
    throttled = [one for one in outcomes if isinstance(one, Throttled)]
    asked = [one for one in simulator.answers if one.path.endswith("/sendMail")]
    # At most the three that were under way beside the refused one got through.
    assert len(asked) <= 4
    assert len(throttled) == 21 - len(asked)
    assert {one.code for one in throttled} == {"ApplicationThrottled", "paused_by_server"}
    assert all(one.retry_after_s is not None and 590 < one.retry_after_s <= 600 for one in throttled)


# -- connections -----------------------------------------------------------------------------------------------------


def test_one_after_another_goes_over_one_kept_connection(simulator: Simulator, make_transport: MakeTransport) -> None:
    simulator.drop_https_connections()
    transport = make_transport()
    for number in range(5):
        transport.deliver(message(number))
    # One to Entra, one to Graph; they are the same server here.
    assert simulator.drop_https_connections() <= 2


def test_a_connection_that_the_server_has_closed_is_noticed_before_a_message_is_risked(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    transport = make_transport()
    transport.deliver(message(1))
    for number in (2, 3):
        assert simulator.drop_https_connections() >= 1
        assert transport.deliver(message(number)).accepted
    assert len(simulator.delivered) == 3


def test_an_idle_connection_is_used_for_a_while_and_then_no_more(simulator: Simulator) -> None:
    clock = Clock()
    kept = Connections(str(simulator.ca_file), clock=clock)
    first, second = kept.take(), kept.take()
    kept.give(first)
    kept.give(second)
    clock.now_s += MAX_IDLE_S - 1
    assert kept.take() is second
    kept.give(second)
    clock.now_s += 2
    assert kept.take() is second
    assert kept.take() is not first
    kept.close()


def test_what_is_in_use_while_everything_is_closed_is_not_kept_afterwards(simulator: Simulator) -> None:
    kept = Connections(str(simulator.ca_file))
    used = kept.take()
    kept.close()
    kept.give(used)
    assert kept.take() is not used


def test_a_transport_works_after_it_was_closed_and_while_others_close_it(make_transport: MakeTransport) -> None:
    transport = make_transport()
    transport.close()
    stop = threading.Event()

    def close_again_and_again() -> None:
        while not stop.is_set():
            transport.close()

    closer = threading.Thread(target=close_again_and_again)
    closer.start()
    try:
        assert all(isinstance(one, Receipt) for one in transport.deliver_many(message(n) for n in range(12)))
    finally:
        stop.set()
        closer.join(10)


FORKING = """
import contextlib, json, os, sys
from dataclasses import replace
from flask_outmail import services
from flask_outmail.envelope import Envelope
from flask_outmail.message import Message
from flask_outmail.settings import Settings, setup_from_mapping
from flask_outmail.transports.graph_lane import lane

config, setup = json.load(sys.stdin)
environment = services.Environment.of(Settings.from_config(config))
transport = services.Microsoft365Graph().transport(setup_from_mapping(setup, "test"), environment)

def send(name):
    message = Message(name, ["ann@customers.example"], "x", sender=setup["from_address"])
    return transport.deliver(Envelope.for_message(message)).accepted

assert send("before")
settings = transport.settings
way = lane(settings.cloud.graph, settings.app, settings.mailbox)
with contextlib.ExitStack() as four:
    for _ in range(4):
        four.enter_context(way.turn(timeout_s=1, patience_s=0))
    # The child has none of the threads that hold these places.
    child = os.fork()
    if child == 0:
        try:
            assert send("child")
        except BaseException as exc:
            print(repr(exc), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert send("after")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_sends_over_connections_and_places_of_its_own(simulator: Simulator) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING],
        input=json.dumps([world(simulator), graph_setup(simulator)]),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert sorted(mail.subject for mail in simulator.delivered) == ["after", "before", "child"]


# -- no wait without an end ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dripping(simulator: Simulator, first: bytes, finished: threading.Event) -> Iterator[int]:
    """A server with the simulator's certificate that answers one byte at a time, for half a minute."""

    def serve(connection: Connection) -> None:
        connection.start_tls(simulator._https_context())
        connection.sock.settimeout(30)
        connection.sock.recv(65536)
        connection.sock.sendall(first)
        for _ in range(150):
            connection.sock.sendall(b"x")
            threading.Event().wait(0.2)
        finished.set()

    listener = Listener("127.0.0.1", 0, serve, name="drip")
    listener.start()
    try:
        yield listener.port
    finally:
        listener.close()


@pytest.mark.parametrize("first", [b"HTTP/1.1 202 Accepted\r\nX-Slow: ", b"HTTP/1.1 ", b"HTTP/1.1 100 Continue\r\nA: "])
def test_an_answer_that_drips_in_byte_by_byte_is_not_waited_for(
    simulator: Simulator, make_transport: MakeTransport, first: bytes
) -> None:
    finished = threading.Event()
    with dripping(simulator, first, finished) as port:
        cloud = replace(make_transport().settings.cloud, graph=f"https://localhost:{port}")
        transport = make_transport({"cloud": cloud, "timeout_s": 0.5})
        with pytest.raises((DeliveryUnknown, TransportUnavailable)) as caught:
            transport.deliver(message())
        assert not finished.is_set()
        assert isinstance(caught.value, DeliveryUnknown) and caught.value.request_id


def test_the_status_counts_when_only_the_body_drips(simulator: Simulator, make_transport: MakeTransport) -> None:
    finished = threading.Event()
    first = b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n"
    with dripping(simulator, first, finished) as port:
        cloud = replace(make_transport().settings.cloud, graph=f"https://localhost:{port}")
        assert make_transport({"cloud": cloud, "timeout_s": 0.5}).deliver(message()).accepted
        assert not finished.is_set()


@pytest.mark.parametrize(("ahead_s", "at_most_s"), [(2000, 2000.0), (10**9, MAX_PAUSE_S)])
def test_a_date_in_retry_after_is_seconds_from_now_and_one_far_away_a_mistake(
    simulator: Simulator, make_transport: MakeTransport, ahead_s: float, at_most_s: float
) -> None:
    hint = formatdate(time.time() + ahead_s, usegmt=True)
    simulator.faults.add(Fault(endpoint="sendMail", status=429, code="TooManyRequests", retry_after=hint))
    with pytest.raises(Throttled) as caught:
        make_transport().deliver(message())
    assert at_most_s - 60 < (caught.value.retry_after_s or 0) <= at_most_s
