"""A port that answers each connection in its own thread, and that can be closed at once."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

CLOSE_WITHIN_S = 3.0
HANDSHAKE_TIMEOUT_S = 20.0


class Connection:
    """One accepted connection; `sock` is the encrypted socket once `start_tls` has returned."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._ended = False
        # Replies are small and come in pairs; without this each pair could wait 40 ms for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Raises OSError (ssl.SSLError is one) when the other side does not finish the handshake."""
        self.sock.settimeout(HANDSHAKE_TIMEOUT_S)
        # The handshake comes second, so that hang_up can already reach the socket that it waits on.
        encrypted = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.sock = encrypted
        if self._ended:
            raise ConnectionAbortedError("the simulator is closing")
        encrypted.do_handshake()

    def reset(self) -> None:
        """Closes so that the other side sees "connection reset", not an orderly end."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # detach, because file objects made from the socket would otherwise keep it open.
            os.close(self.sock.detach())

    def hang_up(self) -> None:
        """Ends the connection from another thread: whoever reads from it sees the end of the stream."""
        self._ended = True
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that one throws the encryption away under the reading thread.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class Listener:
    """Listens from `start` to `close`; `serve` is called once per connection, in a thread of its own."""

    def __init__(self, host: str, port: int, serve: Callable[[Connection], None], *, name: str) -> None:
        self._serve = serve
        self._name = name
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"simulator-{name}", daemon=True)

    def start(self) -> None:
        self._acceptor.start()

    def connections(self) -> list[Connection]:
        """Those open at this moment."""
        with self._lock:
            return list(self._connections)

    def hang_up(self) -> int:
        """Ends all open connections without a word, as a server that restarts does; how many there were."""
        connections = self.connections()
        for connection in connections:
            connection.hang_up()
        return len(connections)

    def close(self) -> None:
        """Stops listening, ends every connection, and waits for the threads (a few seconds at most)."""
        with self._lock:
            self._closing = True
        self._wake_acceptor()
        if self._acceptor.ident is not None:
            self._acceptor.join(CLOSE_WITHIN_S)
        self._socket.close()
        with self._lock:
            left = list(self._connections.items())
        for connection, _ in left:
            connection.hang_up()
        deadline = time.monotonic() + CLOSE_WITHIN_S
        for _, thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _wake_acceptor(self) -> None:
        # A thread that waits in accept() is not woken by close() on every system; a connection wakes it.
        host, port = self._socket.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=1.0).close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                continue
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                connection = Connection(sock)
                thread = threading.Thread(
                    target=self._run, args=(connection,), name=f"simulator-{self._name}-client", daemon=True
                )
                self._connections[connection] = thread
            thread.start()

    def _run(self, connection: Connection) -> None:
        try:
            # A client that vanishes is the ordinary end of a connection, not an error of the simulator.
            with contextlib.suppress(OSError):
                self._serve(connection)
        finally:
            connection.close()
            with self._lock:
                self._connections.pop(connection, None)
