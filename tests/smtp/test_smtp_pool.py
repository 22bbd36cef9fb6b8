"""Connections are kept between messages, and nothing is risked on one that is dead."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flask_outmail.errors import DeliveryUnknown, Throttled, TransportUnavailable
from flask_outmail.simulator.certificates import Authority

from .scripted import Server, Talk, answer, envelope, hang_up, on_connections, only_first, reset, transport_to


def test_messages_one_after_another_share_a_connection() -> None:
    with Server() as server, transport_to(server) as transport:
        for number in range(5):
            assert transport.deliver(envelope(number)).accepted
        assert len(server.talks) == 1
        assert server.verbs().count("EHLO") == 1


def test_a_receipt_names_the_servers_own_id() -> None:
    with Server() as server, transport_to(server) as transport:
        assert transport.deliver(envelope()).request_id == "Q1"


@pytest.mark.parametrize("farewell", [["421 4.4.2 idle too long"], []], ids=["421", "silent"])
def test_a_connection_that_the_server_ended_while_idle_is_noticed(farewell: list[str]) -> None:
    def end(talk: Talk, argument: str) -> None:
        talk.say(*farewell)
        talk.hang_up()

    with Server(hooks={"accepted": on_connections([0], end)}) as server, transport_to(server) as transport:
        envelopes = [envelope(number) for number in range(2)]
        transport.deliver(envelopes[0])
        time.sleep(0.05)
        transport.deliver(envelopes[1])
        assert [one.connection for one in server.accepted] == [0, 1]
        assert server.once_each(envelopes)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("end", [hang_up, reset])
@pytest.mark.parametrize("offers", [("PIPELINING",), ()], ids=["pipelining", "plain"])
def test_a_kept_connection_that_dies_before_the_dot_is_replaced_without_a_word(
    verb: str, end: Any, offers: tuple[str, ...]
) -> None:
    asked: list[str] = []

    def second_time(talk: Talk, argument: str) -> None:
        asked.append(argument)
        if len(asked) == 2:
            end(talk, argument)

    with Server(offers=offers, hooks={verb: second_time}) as server, transport_to(server) as transport:
        envelopes = [envelope(number) for number in range(3)]
        for one in envelopes:
            assert transport.deliver(one).accepted
        assert server.once_each(envelopes)
        assert len(server.talks) == 2


def test_a_421_in_the_middle_of_a_kept_connection_costs_nothing_but_a_new_one() -> None:
    asked: list[str] = []

    def enough(talk: Talk, argument: str) -> Any:
        asked.append(argument)
        if len(asked) == 3:
            talk.say("421 4.7.0 too many messages on this connection")
            talk.hang_up()

    with Server(hooks={"MAIL": enough}) as server, transport_to(server) as transport:
        envelopes = [envelope(number) for number in range(4)]
        for one in envelopes:
            transport.deliver(one)
        assert server.once_each(envelopes)


def test_a_421_on_a_new_connection_is_told() -> None:
    with Server(hooks={"MAIL": answer("421 4.3.2 shutting down")}) as server, transport_to(server) as transport:
        with pytest.raises(Throttled):
            transport.deliver(envelope())
        assert server.accepted == []


def test_a_connection_cut_after_the_dot_is_unknown_and_not_repeated() -> None:
    with Server(hooks={"accepted": hang_up}) as server, transport_to(server) as transport:
        server.hooks["."] = lambda talk, content: server.keep(talk, content.encode("latin-1")) or talk.hang_up()
        with pytest.raises(DeliveryUnknown) as caught:
            transport.deliver(envelope())
        assert caught.value.code == "answer_lost"
        assert len(server.accepted) == len(server.talks) == 1


def test_half_an_answer_after_the_dot_is_unknown() -> None:
    def half(talk: Talk, content: str) -> None:
        talk.sock.sendall(b"250-2.0.0 Ok: queu")
        talk.hang_up()

    with Server(hooks={".": half}) as server, transport_to(server) as transport:
        with pytest.raises(DeliveryUnknown):
            transport.deliver(envelope())
        assert len(server.talks) == 1


def test_an_answer_that_drips_ends_with_the_time_out() -> None:
    def drip(talk: Talk, content: str) -> None:
        for letter in "250 2.0.0 " + "very slowly " * 40:
            talk.sock.sendall(letter.encode())
            time.sleep(0.05)

    with Server(hooks={".": drip}) as server, transport_to(server, timeout_s=0.5) as transport:
        began = time.monotonic()
        with pytest.raises(DeliveryUnknown):
            transport.deliver(envelope())
        assert time.monotonic() - began < 10


def test_an_answer_without_an_end_is_cut_off() -> None:
    def flood(talk: Talk, argument: str) -> None:
        while True:
            talk.say("250-" + "x" * 4000)

    with (
        Server(hooks={"MAIL": flood}) as server,
        transport_to(server, timeout_s=5) as transport,
        pytest.raises(TransportUnavailable),
    ):
        transport.deliver(envelope())


def test_no_more_connections_than_allowed_are_open_at_a_time() -> None:
    def slow(talk: Talk, argument: str) -> None:
        time.sleep(0.02)

    with Server(hooks={"DATA": slow}) as server, transport_to(server, connections=3, timeout_s=20) as transport:
        envelopes = [envelope(number) for number in range(40)]
        threads = [threading.Thread(target=transport.deliver, args=(one,)) for one in envelopes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert server.once_each(envelopes)
        assert server.most_at_once <= 3


def test_the_wait_for_a_free_connection_ends() -> None:
    release = threading.Event()

    def hold(talk: Talk, argument: str) -> None:
        release.wait(10)

    with (
        Server(hooks={"MAIL": hold}) as server,
        transport_to(server, connections=1, timeout_s=2) as transport,
        transport_to(server, connections=1, timeout_s=0.3) as other,
    ):
        thread = threading.Thread(target=lambda: transport.deliver(envelope()))
        thread.start()
        server.wait_for(lambda: server.talks and "MAIL" in server.verbs())
        # Another transport to the same server and user counts with it.
        with pytest.raises(Throttled) as caught:
            other.deliver(envelope(1))
        assert caught.value.code == "connections_busy"
        assert caught.value.retryable
        release.set()
        thread.join(10)


def test_a_pool_gives_up_an_idle_connection_for_another_transport() -> None:
    with (
        Server() as server,
        transport_to(server, connections=1) as one,
        transport_to(server, connections=1) as other,
    ):
        one.deliver(envelope(1))
        other.deliver(envelope(2))
        one.deliver(envelope(3))
        assert len(server.accepted) == 3
        assert server.verbs(0)[-1] == "QUIT"


def test_a_server_that_allows_fewer_connections_than_we_thought_is_not_pressed() -> None:
    lock = threading.Lock()
    server = Server()
    logged_in: set[int] = set()

    def greet(talk: Talk, argument: str) -> bool:
        with lock:
            there = [one for one in server.talks if one.number in logged_in and one.sock.fileno() >= 0]
            if len(there) >= 2:
                talk.say("432 4.3.2 Concurrent connections limit exceeded")
                talk.hang_up()
            logged_in.add(talk.number)
        return False

    server.hooks = {"connect": greet, "DATA": lambda talk, argument: time.sleep(0.05)}
    with server, transport_to(server, connections=8, timeout_s=20) as transport:
        envelopes = [envelope(number) for number in range(12)]
        failed: list[Exception] = []

        def deliver(one: Any) -> None:
            try:
                transport.deliver(one)
            except Exception as exc:
                failed.append(exc)

        threads = [threading.Thread(target=deliver, args=(one,)) for one in envelopes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert failed == []
        assert server.once_each(envelopes)


def test_closing_says_goodbye_and_a_later_message_opens_a_new_connection() -> None:
    with Server() as server, transport_to(server) as transport:
        transport.deliver(envelope(1))
        transport.close()
        server.wait_for(lambda: server.verbs(0)[-1] == "QUIT")
        transport.deliver(envelope(2))
        assert len(server.talks) == 2


def test_a_transport_that_is_forgotten_closes_its_connections() -> None:
    # An unclosed socket would be a warning, and warnings are errors here.
    with Server() as server:
        with transport_to(server) as transport:
            transport.deliver(envelope())
            transport.close = lambda: None  # type: ignore[method-assign]
        del transport
        gc.collect()
        server.wait_for(lambda: server.verbs(0)[-1] == "QUIT")


def test_a_connection_that_nobody_uses_is_given_back_after_a_while() -> None:
    with Server() as server, transport_to(server, idle_s=0.2) as transport:
        transport.deliver(envelope())
        server.wait_for(lambda: server.verbs(0)[-1] == "QUIT")
        assert transport.deliver(envelope(1)).accepted


def test_an_old_connection_is_not_kept() -> None:
    with Server() as server, transport_to(server, age_s=0.001) as transport:
        transport.deliver(envelope(1))
        time.sleep(0.01)
        transport.deliver(envelope(2))
        assert len(server.talks) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_opens_its_own_and_leaves_the_parents_alone() -> None:
    with Server() as server, transport_to(server) as transport:
        transport.deliver(envelope(1))

        def child() -> None:
            code = 1
            try:
                transport.deliver(envelope(2))
                transport.close()
                code = 0
            finally:
                os._exit(code)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(20)
        assert process.exitcode == 0
        transport.deliver(envelope(3))
        assert [one.connection for one in server.accepted] == [0, 1, 0]
        assert "QUIT" not in server.verbs(0)


def test_once_more_is_enough_for_a_server_that_always_hangs_up() -> None:
    with Server(hooks={"MAIL": reset}) as server, transport_to(server) as transport:
        with pytest.raises(TransportUnavailable) as caught:
            transport.deliver(envelope())
        assert caught.value.retryable
        assert len(server.talks) <= 3


def test_one_refusal_of_a_connection_is_told_and_forgotten() -> None:
    hooks = {"connect": only_first(answer("421 4.3.2 not now"))}
    with Server(hooks=hooks) as server, transport_to(server) as transport:
        with pytest.raises(Throttled):
            transport.deliver(envelope())
        assert transport.deliver(envelope()).accepted


# -- over TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_new_connection_resumes_the_tls_session_of_the_one_before(authority: Authority) -> None:
    with (
        Server(tls=authority.context()) as server,
        transport_to(server, ca_file=str(authority.ca_file)) as transport,
    ):
        for number in range(3):
            transport.deliver(envelope(number))
            transport.close()
        assert server.resumed == 2


@pytest.mark.parametrize("farewell", [["421 4.4.2 idle too long"], []], ids=["421", "silent"])
def test_over_tls_a_connection_that_ended_while_idle_is_noticed_too(authority: Authority, farewell: list[str]) -> None:
    def end(talk: Talk, argument: str) -> None:
        talk.say(*farewell)
        talk.hang_up()

    with (
        Server(tls=authority.context(), hooks={"accepted": on_connections([0], end)}) as server,
        transport_to(server, ca_file=str(authority.ca_file)) as transport,
    ):
        envelopes = [envelope(number) for number in range(3)]
        for one in envelopes:
            transport.deliver(one)
            time.sleep(0.05)
        assert [one.connection for one in server.accepted] == [0, 1, 1]
        assert server.once_each(envelopes)


@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "CHUNKING")], ids=["pipelining", "chunking"])
def test_over_tls_a_bulk_with_large_messages_arrives_whole(authority: Authority, offers: tuple[str, ...]) -> None:
    with (
        Server(offers, tls=authority.context()) as server,
        transport_to(server, ca_file=str(authority.ca_file), timeout_s=20, window=2) as transport,
    ):
        envelopes = [envelope(number, size=number % 3 * 200_000) for number in range(9)]
        assert all(transport.deliver_many(envelopes))
        assert server.once_each(envelopes)


def test_over_tls_a_connection_cut_after_the_message_is_unknown(authority: Authority) -> None:
    with (
        Server(tls=authority.context(), hooks={".": reset}) as server,
        transport_to(server, ca_file=str(authority.ca_file)) as transport,
    ):
        with pytest.raises(DeliveryUnknown):
            transport.deliver(envelope())
        assert len(server.talks) == 1
