"""Lines in and replies out: the part of an SMTP conversation that does not know what the words mean."""

from __future__ import annotations

import ssl

from flask_outmail.simulator.listener import Connection

COMMAND_LIMIT = 12288  # octets; RFC 4954 allows that much for AUTH, and a token needs it
_CHUNK = 65536


class ClientGone(Exception):
    """The client has left, or was told to."""


class IdleTooLong(Exception):
    """The client said nothing for as long as the server is willing to wait."""


class LineTooLong(Exception):
    """A command longer than `COMMAND_LIMIT`; it has been read and thrown away."""


class Wire:
    """Buffers what a client sends, so that pipelined commands wait in order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def start_tls(self, context: ssl.SSLContext) -> None:
        # What came in the clear before the handshake must not be taken for something said in private
        # (CVE-2011-0411).
        self._buffer.clear()
        self._connection.start_tls(context)

    def send(self, data: bytes) -> None:
        try:
            self._connection.sock.sendall(data)
        except OSError:
            raise ClientGone from None

    def read_line(self, timeout_s: float) -> bytes:
        """One line without its ending."""
        too_long = False
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > COMMAND_LIMIT:
                self._buffer.clear()
                too_long = True
            self._receive(timeout_s)
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        if too_long or len(line) > COMMAND_LIMIT:
            raise LineTooLong
        return line

    def read_content(self, timeout_s: float, limit_bytes: int) -> bytes | None:
        """The text of a message with its dots unstuffed; None when it is longer than `limit_bytes`.

        Only CRLF, dot, CRLF ends it: a server that takes a bare LF for a line end can be tricked into a
        second
        message ("SMTP smuggling").
        """
        searched, dropped = 0, False
        while True:
            if self._buffer.startswith(b".\r\n") and not dropped:
                del self._buffer[:3]
                return b""
            end = self._buffer.find(b"\r\n.\r\n", max(0, searched - 4))
            if end >= 0:
                content = bytes(self._buffer[: end + 2])
                del self._buffer[: end + 5]
                if dropped or len(content) > limit_bytes:
                    return None
                return (b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:]
            if len(self._buffer) > limit_bytes + _CHUNK:
                del self._buffer[:-4]
                dropped = True
            searched = len(self._buffer)
            self._receive(timeout_s)

    def read_chunk(self, timeout_s: float, size_bytes: int, limit_bytes: int) -> bytes | None:
        """Exactly `size_bytes`; read and thrown away, and None, when that is more than `limit_bytes`."""
        left, keep = size_bytes, size_bytes <= limit_bytes
        pieces: list[bytes] = []
        while left:
            if not self._buffer:
                self._receive(timeout_s)
            piece = bytes(self._buffer[:left])
            del self._buffer[: len(piece)]
            left -= len(piece)
            if keep:
                pieces.append(piece)
        return b"".join(pieces) if keep else None

    def read_some(self, timeout_s: float) -> None:
        """Waits until the client has sent at least something more."""
        if not self._buffer:
            self._receive(timeout_s)

    def reset(self) -> None:
        self._connection.reset()
        raise ClientGone

    def _receive(self, timeout_s: float) -> None:
        try:
            self._connection.sock.settimeout(max(timeout_s, 0.001))
            data = self._connection.sock.recv(_CHUNK)
        except TimeoutError:
            raise IdleTooLong from None
        except (OSError, ValueError):
            raise ClientGone from None
        if not data:
            raise ClientGone
        self._buffer += data
