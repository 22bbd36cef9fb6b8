"""Every command may be refused, answered out of turn, or not at all: what is then said, sent again, or left alone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_outmail.content import Content
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import (
    AuthenticationFailed,
    DeliveryUnknown,
    MessageRejected,
    OutmailError,
    SenderRefused,
    Throttled,
    TransportUnavailable,
)
from flask_outmail.transports.smtp import SmtpSession, SmtpSettings

from .scripted import Hook, Server, Talk, answer, envelope, hang_up, on_connections, only_first, transport_to
from .test_smtp_pipelining import CHUNKING, PIPELINING, PLAIN, every_way, kinds, refuse, send_all

with_data = pytest.mark.parametrize("offers", [PLAIN, PIPELINING], ids=["plain", "pipelining"])


def about(word: str, *replies: str) -> Hook:
    """Answers the commands in which `word` stands."""
    return lambda talk, argument: word in argument and answer(*replies)(talk, argument)


@contextmanager
def session_to(server: Server) -> Iterator[SmtpSession]:
    session = SmtpSession(SmtpSettings("127.0.0.1", server.port, tls="none", timeout_s=1.0))
    session.open()
    try:
        yield session
    finally:
        session.close()


def said(server: Server) -> list[str]:
    """The commands of the first connection, whether or not its QUIT has been read yet."""
    return [verb for verb in server.verbs(0) if verb != "QUIT"]


def too_large() -> Envelope:
    """What no server here takes: it never leaves, and whatever is open is left as it is."""
    return envelope(9, size=200_000)


# -- before the first message ----------------------------------------------------------------------------------------


def test_a_refused_greeting_of_ours_is_told_with_its_reply() -> None:
    with Server(hooks={"EHLO": answer("554 5.7.1 not from there")}) as server, transport_to(server) as transport:
        with pytest.raises(TransportUnavailable) as caught:
            transport.deliver(envelope())
        assert caught.value.smtp_code == 554
        assert not caught.value.retryable
        assert said(server) == ["EHLO"]  # HELO is for those that know no EHLO


def test_when_starttls_is_refused_nothing_goes_in_the_clear() -> None:
    hooks = {"STARTTLS": answer("454 4.7.0 TLS not available")}
    with Server(offers=["STARTTLS"], hooks=hooks) as server, transport_to(server, tls="starttls") as transport:
        with pytest.raises(Throttled):
            transport.deliver(envelope())
        assert said(server) == ["EHLO", "STARTTLS"]


def test_a_host_with_a_full_name_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "mail-7.shop.example")
    with Server() as server, transport_to(server) as transport:
        transport.deliver(envelope())
        assert server.talks[0].lines[0] == "EHLO mail-7.shop.example"


@pytest.mark.parametrize(
    "fields",
    [
        {"mail_options": ("BODY=8BITMIME\r\nRCPT TO:<evil@x.example>",)},
        {"rcpt_options": ("NOTIFY=NEVER\nDATA",)},
        {"sender": "a@x.example>\r\nRCPT TO:<evil@x.example"},
        {"recipients": ("a@y.example>\r\nDATA\r\n<",)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_line_break_never_becomes_a_second_command(fields: dict[str, Any]) -> None:
    with Server(offers=["PIPELINING", "8BITMIME", "DSN"]) as server, transport_to(server) as transport:
        with pytest.raises(OutmailError):
            transport.deliver(envelope(**fields))
        assert server.verbs(0) == ["EHLO"]


def test_a_command_with_a_line_break_is_not_said() -> None:
    with Server() as server:
        with session_to(server) as session, pytest.raises(ValueError, match="one line"):
            session.client.command("NOOP\r\nDATA")
        assert said(server) == ["EHLO"]


def test_what_looks_like_a_reply_and_is_none_is_not_taken_for_one() -> None:
    with Server(hooks={"MAIL": answer("250ok")}) as server, transport_to(server) as transport:
        with pytest.raises(TransportUnavailable) as caught:
            transport.deliver(envelope())
        assert caught.value.code == "not_smtp"


def test_the_only_connection_that_a_server_takes_is_waited_for() -> None:
    """Another process of the same account has it: 432 is about their number, and passes."""
    full = only_first(answer("432 4.3.2 Concurrent connections limit exceeded"))
    with Server(hooks={"connect": full}) as server, transport_to(server, timeout_s=5) as transport:
        assert transport.deliver(envelope()).accepted
        assert len(server.talks) == 2


def test_the_setup_test_tells_what_was_said_to_the_sender_and_to_the_recipients() -> None:
    hooks = {"MAIL": only_first(answer("553 5.7.1 not you")), "RCPT": answer("421 4.7.0 enough")}
    with Server(hooks=hooks) as server, session_to(server) as session:
        with pytest.raises(SenderRefused):
            session.mail_from(envelope())
        session.mail_from(envelope())
        with pytest.raises(Throttled):
            session.rcpt_to(envelope())


# -- the server speaks first -----------------------------------------------------------------------------------------


def ends(talk: Talk, farewell: bytes, over: threading.Event) -> None:
    """Says so, and says no more; what the client says all the same is kept in `talk.buffer`."""
    talk.sock.sendall(farewell)
    talk.sock.shutdown(socket.SHUT_WR)
    over.set()
    talk.silence()


farewells = pytest.mark.parametrize("farewell", [b"421 4.7.0 enough\r\n", b"42", b""], ids=["421", "half", "nothing"])


@with_data
@farewells
def test_a_server_that_ends_between_two_messages_hears_no_more(offers: tuple[str, ...], farewell: bytes) -> None:
    over = threading.Event()
    server = Server(offers=[*offers, "SIZE 100000"], hooks={"accepted": lambda talk, _: ends(talk, farewell, over)})
    with server, transport_to(server, connections=1) as transport:

        def source() -> Iterator[Envelope]:
            yield envelope(0)
            yield too_large()  # nothing of the next is said along with the content
            assert over.wait(5)
            server.hooks = {}
            yield envelope(1)

        assert kinds(list(transport.deliver_many(source()))) == ["Receipt", "MessageRejected", "Receipt"]
        assert server.once_each([envelope(0), envelope(1)])
        assert [one.connection for one in server.accepted] == [0, 1]
        assert server.talks[0].buffer == b""


@farewells
def test_a_server_that_ends_between_two_whole_messages_hears_no_more(farewell: bytes) -> None:
    over = threading.Event()

    def enough(talk: Talk, argument: str) -> None:
        if len(server.accepted) == 4:
            ends(talk, farewell, over)

    with Server(CHUNKING, {"accepted": enough}) as server, transport_to(server, connections=1) as transport:

        def source() -> Iterator[Envelope]:
            for number in range(4):
                yield envelope(number)
            assert over.wait(5)
            yield envelope(4)

        assert kinds(list(transport.deliver_many(source()))) == ["Receipt"] * 5
        assert server.once_each([envelope(number) for number in range(5)])
        assert server.talks[0].buffer == b""


# -- refused commands ------------------------------------------------------------------------------------------------


@every_way
def test_a_refused_sender_does_not_stop_the_others(offers: tuple[str, ...]) -> None:
    hooks = {"MAIL": about("evil@", "553 5.7.1 not you")}
    with Server(offers=offers, hooks=hooks) as server, transport_to(server) as transport:
        transport.deliver(envelope(0))
        envelopes = [envelope(1), envelope(2, sender="evil@x.example"), envelope(3)]
        assert kinds(send_all(transport, envelopes)) == ["Receipt", "SenderRefused", "Receipt"]
        assert server.once_each([envelope(0), envelopes[0], envelopes[2]])


def test_word_by_word_nothing_follows_a_refused_sender() -> None:
    with Server(offers=PLAIN, hooks={"MAIL": answer("553 5.7.1 not you")}) as server, transport_to(server) as transport:
        with pytest.raises(SenderRefused):
            transport.deliver(envelope())
        assert server.verbs(0) == ["EHLO", "MAIL"]


def test_a_message_from_a_refused_sender_that_was_taken_all_the_same_is_unknown() -> None:
    server = Server(offers=CHUNKING)
    with server, transport_to(server) as transport:
        transport.deliver(envelope(0))

        def takes(talk: Talk, argument: str) -> bool:
            server.keep(talk, talk.chunk(int(argument.split()[0])))
            talk.say("250 2.0.0 taken")
            return True

        def refuses(talk: Talk, argument: str) -> bool:
            talk.sender = "?"
            talk.say("553 5.7.1 not you")
            return True

        server.hooks = {"MAIL": refuses, "BDAT": takes}
        with pytest.raises(DeliveryUnknown):
            transport.deliver(envelope(1))


@with_data
@pytest.mark.parametrize(
    ("reply", "kind"),
    [("451 4.3.0 not now", Throttled), ("554 5.3.0 no", TransportUnavailable), ("552 5.3.4 no", MessageRejected)],
)
def test_refused_before_its_content_a_message_has_not_left(offers: tuple[str, ...], reply: str, kind: type) -> None:
    server = Server(offers=offers, hooks={"DATA": only_first(answer(reply))})
    with server, transport_to(server) as transport:
        with pytest.raises(kind):
            transport.deliver(envelope(0))
        assert transport.deliver(envelope(1)).accepted
        assert server.once_each([envelope(1)])
        assert server.verbs(0).count("RSET") == 1  # the server still has the first one's recipients in mind


@with_data
def test_a_server_that_takes_the_word_data_for_a_whole_message_gets_none(offers: tuple[str, ...]) -> None:
    server = Server(offers=offers)
    with server, transport_to(server, connections=1) as transport:
        transport.deliver(envelope(0))
        server.hooks = {"DATA": on_connections([0], answer("250 2.0.0 taken"))}
        assert transport.deliver(envelope(1)).accepted
        assert server.once_each([envelope(0), envelope(1)])
        assert [one.connection for one in server.accepted] == [0, 1]


@every_way
def test_a_server_that_has_not_finished_the_message_before_is_left_for_a_new_connection(
    offers: tuple[str, ...],
) -> None:
    server = Server(offers=offers)
    with server, transport_to(server, connections=1, fresh_s=0.0) as transport:
        transport.deliver(envelope(0))
        server.hooks = {"MAIL": on_connections([0], answer("503 5.5.1 nested MAIL command"))}
        assert transport.deliver(envelope(1)).accepted
        assert server.once_each([envelope(0), envelope(1)])


@with_data
@pytest.mark.parametrize("reply", ["502 5.5.1 what?", "421 4.7.0 that was enough"])
def test_a_server_that_cannot_reset_is_left_for_a_new_connection(offers: tuple[str, ...], reply: str) -> None:
    hooks = {"RCPT": refuse("reader1@"), "RSET": answer(reply)}
    with Server(offers=offers, hooks=hooks) as server, transport_to(server, connections=1) as transport:
        outcomes = send_all(transport, [envelope(number) for number in range(4)])
        assert kinds(outcomes) == ["Receipt", "RecipientsRefused", "Receipt", "Receipt"]
        assert server.once_each([envelope(0), envelope(2), envelope(3)])


def test_a_message_in_one_write_behind_a_reset_that_was_refused_is_unknown() -> None:
    """The server may have taken it for the recipients of the message before."""
    server = Server(offers=CHUNKING)
    with server, transport_to(server, connections=1) as transport:
        transport.deliver(envelope(0))
        server.hooks = {"RCPT": refuse("reader1@"), "RSET": answer("502 5.5.1 what?")}
        assert kinds(send_all(transport, [envelope(1), envelope(2)])) == ["RecipientsRefused", "DeliveryUnknown"]
        assert len(server.talks) == 1


@pytest.mark.parametrize("end", [hang_up, answer("554 5.5.1 no recipients", "421 4.7.0 and good-bye")])
def test_a_server_that_goes_when_an_opened_message_is_taken_back_costs_a_new_connection(end: Hook) -> None:
    def data(talk: Talk, argument: str) -> bool:
        if talk.recipients:
            return False
        talk.say("354 go on, whoever it is for")
        assert talk.content() == b""
        end(talk, argument)
        talk.hang_up()
        return True

    with Server(hooks={"RCPT": refuse("reader1@"), "DATA": data}) as server, transport_to(server) as transport:
        outcomes = send_all(transport, [envelope(number) for number in range(3)])
        assert kinds(outcomes) == ["Receipt", "RecipientsRefused", "Receipt"]
        assert server.once_each([envelope(0), envelope(2)])


def test_a_log_in_that_is_barred_at_a_recipient_stops_before_the_content() -> None:
    """5.7.57 is about us and not about the recipient; and this server would take the content all the same."""
    contents: list[bytes] = []

    def data(talk: Talk, argument: str) -> bool:
        talk.say("354 whoever it is for")
        contents.append(talk.content())
        return True

    hooks = {"RCPT": refuse("@", code="530 5.7.57 Client not authenticated to send mail"), "DATA": data}
    with Server(hooks=hooks) as server, transport_to(server) as transport:
        with pytest.raises(AuthenticationFailed):
            transport.deliver(envelope())
        server.wait_for(lambda: server._open == 0)
        assert contents == []


def test_word_by_word_a_second_answer_to_one_command_is_not_taken_for_the_next_ones() -> None:
    server = Server(offers=PLAIN)
    with server, transport_to(server, connections=1) as transport:
        transport.deliver(envelope(0))

        def twice(talk: Talk, argument: str) -> bool:
            talk.say("354 go on", "250 2.0.0 taken")
            return True

        server.hooks = {"DATA": on_connections([0], twice)}
        assert transport.deliver(envelope(1)).accepted
        assert [one.connection for one in server.accepted] == [0, 1]


# -- the connection ends in the middle -------------------------------------------------------------------------------


def test_a_kept_connection_that_breaks_in_the_middle_of_a_content_is_replaced_without_a_word() -> None:
    def breaks(talk: Talk, argument: str) -> None:
        talk.say("354 go on")
        talk.receive()
        talk.reset()

    server = Server()
    with server, transport_to(server, timeout_s=5, connections=1) as transport:
        transport.deliver(envelope(0))
        server.hooks = {"DATA": on_connections([0], breaks)}
        big = envelope(1, size=8_000_000)
        assert transport.deliver(big).accepted
        assert server.once_each([envelope(0), big])


def test_a_large_message_behind_one_whose_answer_was_lost_goes_over_a_new_connection() -> None:
    server = Server(offers=CHUNKING)
    with server, transport_to(server, window=3, connections=1, timeout_s=5) as transport:
        transport.deliver(envelope(0))
        server.hooks = {".": on_connections([0], hang_up)}
        envelopes = [envelope(1), envelope(2, size=100_000)]
        assert kinds(send_all(transport, envelopes)) == ["DeliveryUnknown", "Receipt"]
        assert server.once_each([envelope(0), envelopes[1]])


def test_what_was_never_in_a_window_keeps_its_outcome_when_the_connection_is_lost() -> None:
    server = Server(offers=[*CHUNKING, "SIZE 100000"])
    with server, transport_to(server, window=4, connections=1) as transport:
        transport.deliver(envelope(0))
        server.hooks = {".": on_connections([0], hang_up)}
        outcomes = send_all(transport, [envelope(1), too_large(), envelope(2)])
        assert kinds(outcomes) == ["DeliveryUnknown", "MessageRejected", "DeliveryUnknown"]


def test_in_a_window_what_had_not_left_when_the_connection_broke_is_not_unknown() -> None:
    """More than the sockets hold: the first of them have left, and the others wait for the server to read."""
    server = Server(offers=CHUNKING)
    with server, transport_to(server, window=200, connections=1, timeout_s=5) as transport:
        transport.deliver(envelope(0))

        def breaks(talk: Talk, argument: str) -> None:
            time.sleep(0.2)
            talk.reset()

        server.hooks = {"MAIL": breaks}
        found = kinds(send_all(transport, [envelope(number, size=60_000) for number in range(200)]))
        left = found.count("DeliveryUnknown")
        assert 0 < left < 200
        assert found == ["DeliveryUnknown"] * left + ["TransportUnavailable"] * (200 - left)


def test_a_server_that_reads_by_drops_is_given_up_when_the_time_is_over() -> None:
    def sips(talk: Talk, argument: str) -> None:
        talk.say("354 go on")
        while talk.sock.recv(4000):
            time.sleep(0.01)

    with Server(hooks={"DATA": sips}) as server, transport_to(server, timeout_s=0.3) as transport:
        with pytest.raises(TransportUnavailable):
            transport.deliver(envelope(size=20_000_000))
        assert server.accepted == []


# -- content that is not what was announced --------------------------------------------------------------------------


class Growing(Content):
    """A message that has another size when it is read than when it was looked at."""

    def chunks(self) -> Iterator[bytes]:
        yield from super().chunks()
        yield b"QUIT\r\n"


class Shrinking(Content):
    def chunks(self) -> Iterator[bytes]:
        *before, last = super().chunks()
        yield from [*before, last[:-9]]


@pytest.mark.parametrize("kind", [Growing, Shrinking])
@pytest.mark.parametrize("size", [2_000, 400_000], ids=["in one write", "in pieces"])
def test_content_that_changed_its_size_is_never_read_as_commands(kind: type[Content], size: int) -> None:
    """BDAT announces the size: what is above it would be commands, and for what is missing the next would be taken."""
    server = Server(offers=CHUNKING)
    with server, transport_to(server, timeout_s=5, connections=1) as transport:
        transport.deliver(envelope(0))
        content = kind((b"Subject: x\r\n\r\n", b"x\r\n" * (size // 6), b"y\r\n" * (size // 6)))
        outcomes = send_all(transport, [envelope(1, content=content), envelope(2)])
        assert kinds(outcomes) == ["InvalidMessage", "Receipt"]
        assert server.once_each([envelope(0), envelope(2)])
        assert "QUIT" not in server.verbs(0)


@with_data
def test_a_dot_at_the_beginning_of_a_piece_is_doubled_too(offers: tuple[str, ...]) -> None:
    head = b"Subject: x\r\n\r\n" + b"x" * 76 + b"\r\n"
    content = Content((head + b"y\r\n" * 100_000, b".\r\n" + b"z\r\n" * 100_000))
    with Server(offers=offers) as server, transport_to(server, timeout_s=5) as transport:
        assert isinstance(transport.deliver(envelope(content=content)), Receipt)
        assert [one.content for one in server.accepted] == [bytes(content)]
