"""A mail server over real sockets that misbehaves exactly where a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask_outmail.content import Content
from flask_outmail.envelope import Envelope
from flask_outmail.transports.smtp import SmtpSettings, SmtpTransport


class Gone(Exception):
    """The conversation is over."""


@dataclass
class Accepted:
    sender: str
    recipients: list[str]
    content: bytes
    connection: int


class Talk:
    """One connection, seen from the server. `lines` is all that was said to it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.buffer = b""
        self.lines: list[str] = []
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.reads = 0

    def say(self, *replies: str) -> None:
        try:
            self.sock.sendall("".join(f"{reply}\r\n" for reply in replies).encode())
        except OSError:
            raise Gone from None

    def receive(self) -> None:
        try:
            data = self.sock.recv(65536)
        except OSError:
            raise Gone from None
        if not data:
            raise Gone
        self.reads += 1
        self.buffer += data

    def line(self) -> str:
        while b"\n" not in self.buffer:
            self.receive()
        line, _, self.buffer = self.buffer.partition(b"\n")
        self.lines.append(line.decode("utf-8", "replace").rstrip("\r"))
        return self.lines[-1]

    def content(self) -> bytes:
        """What follows 354, as it was before the dots were doubled."""
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            self.receive()
        if self.buffer.startswith(b".\r\n"):
            self.buffer = self.buffer[3:]
            return b""
        raw, _, self.buffer = self.buffer.partition(b"\r\n.\r\n")
        return (b"\r\n" + raw + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]

    def chunk(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.receive()
        chunk, self.buffer = self.buffer[:size], self.buffer[size:]
        return chunk

    def hang_up(self) -> None:
        raise Gone

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def silence(self) -> None:
        """Reads on, and never answers again."""
        while True:
            self.receive()


#: A hook gets the talk and the argument of its command, and returns true when it has answered.
Hook = Callable[[Talk, str], Any]


@dataclass
class Server:
    """`hooks` by verb ("MAIL", "RCPT", …; "." is the end of the content, "accepted" comes after the reply to it)."""

    offers: Sequence[str] = ("PIPELINING", "8BITMIME", "SIZE 100000000")
    hooks: dict[str, Hook] = field(default_factory=dict)
    #: A second command in one packet is an error of the client's.
    strict: bool = False
    #: TLS from the start. `resumed` counts handshakes that took up an earlier session.
    tls: ssl.SSLContext | None = None
    resumed: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)
    most_at_once: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    def __enter__(self) -> Server:
        self._open = 0
        self._lock = threading.Lock()
        self._socket = socket.create_server((self.address, 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._acceptor.join(5)
        for talk in self.talks:
            with contextlib.suppress(OSError):
                talk.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.settimeout(20)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = Talk(sock, len(self.talks))
            self.talks.append(talk)
            thread = threading.Thread(target=self._serve, args=(talk,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, talk: Talk) -> None:
        with self._lock:
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            if self.tls is not None:
                talk.sock = self.tls.wrap_socket(talk.sock, server_side=True)
                self.resumed += bool(talk.sock.session_reused)
            if not self._hook("connect", talk, ""):
                talk.say("220 scripted ESMTP")
            while True:
                line = talk.line()
                if self.strict and talk.buffer:
                    talk.say("500 one at a time")
                    raise Gone
                verb, _, argument = line.partition(" ")
                if not self._hook(verb.upper(), talk, argument):
                    self._answer(talk, verb.upper(), argument)
        except (Gone, OSError):
            pass
        finally:
            talk.sock.close()
            with self._lock:
                self._open -= 1

    def _hook(self, name: str, talk: Talk, argument: str) -> bool:
        hook = self.hooks.get(name)
        return bool(hook and hook(talk, argument))

    def _answer(self, talk: Talk, verb: str, argument: str) -> None:
        if verb == "EHLO":
            lines = ["scripted", *self.offers]
            talk.say(*(f"250{'-' if one is not lines[-1] else ' '}{one}" for one in lines))
        elif verb == "MAIL" and talk.sender is None:
            talk.sender = argument.partition("<")[2].partition(">")[0]
            talk.say("250 2.1.0 ok")
        elif verb == "RCPT" and talk.sender is not None:
            talk.recipients.append(argument.partition("<")[2].partition(">")[0])
            talk.say("250 2.1.5 ok")
        elif verb == "DATA" and talk.recipients:
            talk.say("354 go on")
            self.take(talk, talk.content())
        elif verb == "BDAT":
            size = int(argument.split()[0])
            content = talk.chunk(size)
            if not talk.recipients:
                talk.say("503 5.5.1 no valid recipients")
            else:
                self.take(talk, content)
        elif verb == "RSET":
            self.forget(talk)
            talk.say("250 2.0.0 reset")
        elif verb == "NOOP":
            talk.say("250 2.0.0 ok")
        elif verb == "QUIT":
            talk.say("221 2.0.0 bye")
            raise Gone
        else:
            talk.say("503 5.5.1 bad sequence of commands")

    def take(self, talk: Talk, content: bytes) -> None:
        """Judges a whole message."""
        if not self._hook(".", talk, content.decode("latin-1")):
            self.keep(talk, content)
            talk.say(f"250 2.0.0 Ok: queued as Q{len(self.accepted)}")
        self.forget(talk)
        self._hook("accepted", talk, "")

    def keep(self, talk: Talk, content: bytes) -> None:
        assert talk.sender is not None
        with self._lock:
            self.accepted.append(Accepted(talk.sender, list(talk.recipients), content, talk.number))

    @staticmethod
    def forget(talk: Talk) -> None:
        talk.sender, talk.recipients = None, []

    def verbs(self, connection: int = -1) -> list[str]:
        return [line.split(" ")[0].upper() for line in self.talks[connection].lines]

    def wait_for(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        """What the server notices, it notices a moment later than the client."""
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, "the server did not see it"
            time.sleep(0.01)

    def once_each(self, envelopes: Iterable[Envelope]) -> bool:
        """Whether each of these was accepted exactly once, and nothing else was."""
        expected = Counter(bytes(one.content) for one in envelopes)
        return Counter(one.content for one in self.accepted) == expected


@contextlib.contextmanager
def transport_to(server: Server, **settings: Any) -> Iterator[SmtpTransport]:
    defaults: dict[str, Any] = {"tls": "none", "timeout_s": 1.0, "connect_timeout_s": 2.0}
    if server.tls is not None:
        defaults["tls"] = "tls"
    transport = SmtpTransport(SmtpSettings("127.0.0.1", server.port, **{**defaults, **settings}))
    try:
        yield transport
    finally:
        transport.close()


def envelope(number: int = 0, *, size: int = 0, content: bytes | Content | None = None, **fields: Any) -> Envelope:
    if content is None:
        content = b"Subject: %d\r\n\r\n.a dot\r\n" % number + (b"x" * 75 + b"\r\n") * (size // 77)
    defaults: dict[str, Any] = {
        "sender": "shop@x.example",
        "recipients": (f"reader{number}@y.example",),
        "visible": (),
        "from_address": "shop@x.example",
        "message_id": f"<{number}@x.example>",
    }
    return Envelope(**{**defaults, **fields}, content=content if isinstance(content, Content) else Content((content,)))


def only_first(hook: Hook, times: int = 1) -> Hook:
    """`hook`, the first `times` times it is asked."""
    left = [times]

    def once(talk: Talk, argument: str) -> Any:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return hook(talk, argument)

    return once


def on_connections(numbers: Iterable[int], hook: Hook) -> Hook:
    chosen = set(numbers)
    return lambda talk, argument: talk.number in chosen and hook(talk, argument)


def answer(*replies: str) -> Hook:
    def say(talk: Talk, argument: str) -> bool:
        talk.say(*replies)
        return True

    return say


def hang_up(talk: Talk, argument: str) -> None:
    talk.hang_up()


def reset(talk: Talk, argument: str) -> None:
    talk.reset()


def drops_what_came_along(talk: Talk, argument: str) -> bool:
    """As servers do that empty their buffer before each command: PIPELINING offered, and not meant."""
    talk.buffer = b""
    return False
