"""A slow line: a TCP proxy that holds every byte back, in both directions.

A process of its own: `python -m bench.proxy PORT`. It prints `{"port": …}` and ends when its standard input does.

The round trip that opens a TCP connection is held back too. On a real line a client that connects at 0 waits one
round trip for the handshake and half of one more on each side for the greeting, so the greeting is there after two
round trips. A proxy that lets the local handshake stand in for it flatters clients that reconnect.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

READ_BYTES = 65_536


class Line:
    """Carries connections to `port`, `one_way_s` seconds each way. One thread; `select` waits to the microsecond."""

    def __init__(self, port: int, one_way_s: float) -> None:
        self._target = ("127.0.0.1", port)
        self._one_way_s = one_way_s
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        # One queue for each delay, and a delay is the same for all in it: so each is in order of time.
        self._openings: deque[tuple[float, Callable[[], None]]] = deque()
        self._bytes: deque[tuple[float, Callable[[], None]]] = deque()
        self._other: dict[socket.socket, socket.socket] = {}
        self._early: dict[socket.socket, bytes] = {}

    def run(self, until: socket.socket | int) -> None:
        """Carries until `until` can be read to its end."""
        while True:
            due = [queue[0][0] for queue in (self._openings, self._bytes) if queue]
            wait_s = max(0.0, min(due) - monotonic()) if due else None
            readable, _, _ = select.select([self._listener, until, *self._other, *self._early], [], [], wait_s)
            now = monotonic()
            for queue in (self._openings, self._bytes):
                while queue and queue[0][0] <= now:
                    queue.popleft()[1]()
            for one in readable:
                if one is until:
                    return
                if one is self._listener:
                    self._accept()
                elif one in self._other:
                    self._read(one)
                elif one in self._early:
                    self._early[one] += one.recv(READ_BYTES)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._early[client] = b""
        # SYN, SYN and ACK, ACK: the server sees the connection after three ways.
        self._openings.append((monotonic() + 3 * self._one_way_s, lambda: self._open(client)))

    def _open(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if early := self._early.pop(client):
            server.sendall(early)
        self._other[client], self._other[server] = server, client

    def _read(self, one: socket.socket) -> None:
        try:
            data = one.recv(READ_BYTES)
        except OSError:
            data = b""
        other = self._other[one]
        at = monotonic() + self._one_way_s
        if data:
            self._bytes.append((at, lambda: _send(other, data)))
            return
        del self._other[one]
        self._bytes.append((at, lambda: self._end(one, other)))

    def _end(self, one: socket.socket, other: socket.socket) -> None:
        if other in self._other:
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)
        else:
            one.close()
            other.close()


def _send(sock: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # it hung up meanwhile; its end comes by the same way
        sock.sendall(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--round-trip-ms", type=float, default=20.0)
    options = parser.parse_args()
    line = Line(options.port, options.round_trip_ms / 2000)
    print(json.dumps({"port": line.port}), flush=True)
    line.run(sys.stdin.fileno())


if __name__ == "__main__":
    main()
