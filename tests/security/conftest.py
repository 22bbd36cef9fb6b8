"""Servers that lie, and the fixtures of the transports."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import sleep

import pytest

from flask_outmail.simulator import Simulator
from flask_outmail.simulator.certificates import Authority

from ..integration.conftest import make_transport, transport


@dataclass
class Liar:
    """A server on this machine that says the same to whoever comes: `head`, and then `piece` again and again."""

    head: bytes
    piece: bytes = b""
    pieces: int = 0
    pause_s: float = 0.0
    port: int = 0
    #: The beginning of what each client said, and how many bytes it took before it hung up.
    heard: list[bytes] = field(default_factory=list)
    sent_bytes: int = 0

    def answer(self, sock: socket.socket) -> None:
        self.heard.append(sock.recv(65_536))
        sock.sendall(self.head)
        self.sent_bytes += len(self.head)
        for _ in range(self.pieces):
            sleep(self.pause_s)
            sock.sendall(self.piece)
            self.sent_bytes += len(self.piece)
        # What was not read would break the connection off when it is closed, and the answer with it.
        sock.settimeout(0.3)
        sock.recv(65_536)


MakeLiar = Callable[..., Liar]


@pytest.fixture
def make_liar(simulator: Simulator) -> Iterator[MakeLiar]:
    """`make_liar(head, piece=…, pieces=…, pause_s=…, tls=True)`: with a certificate that the tests trust."""
    context = Authority(simulator.ca_file.parent).context()
    listeners: list[tuple[socket.socket, threading.Thread]] = []

    def make(head: bytes, piece: bytes = b"", pieces: int = 0, *, pause_s: float = 0.0, tls: bool = True) -> Liar:
        liar, listener = Liar(head, piece, pieces, pause_s), socket.create_server(("127.0.0.1", 0))
        liar.port = listener.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError), sock:
                    if tls:
                        with context.wrap_socket(sock, server_side=True) as secured:
                            liar.answer(secured)
                    else:
                        liar.answer(sock)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        listeners.append((listener, thread))
        return liar

    yield make
    for listener, thread in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


__all__ = ["make_liar", "make_transport", "transport"]
