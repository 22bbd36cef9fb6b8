"""An SMTP server that reads, counts and forgets: fast enough not to be what is measured.

A process of its own: `python -m bench.sink`. It prints one line of JSON (`{"port": …}`) and then answers each line
on its standard input with one line of JSON: what it has counted. It ends when its standard input does.

Postfix's smtp-sink needs 5.4 ms for a message of 1 MB; this one needs a tenth. It knows only what the measurements
need, and refuses everything else, so that a client that misuses an extension is not counted.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass

USERNAME = "bench@contoso.example"
PASSWORD = "bench-password"  # noqa: S105 - opens nothing but this
READ_BYTES = 262_144
MAX_SIZE_BYTES = 400_000_000
#: A message is forgotten while it is read, in steps of this.
KEEP_BYTES = 1_000_000


@dataclass
class Counts:
    """What arrived. `content_bytes` counts what stood between 354 and the dot, or in BDAT; `resumed` is about TLS."""

    connections: int = 0
    encrypted: int = 0
    resumed: int = 0
    logins: int = 0
    messages: int = 0
    recipients: int = 0
    content_bytes: int = 0
    chunked: int = 0
    refused: int = 0


class Lost(Exception):
    """The client is gone."""


class Session:
    """One connection, read in large pieces; replies to a group of commands leave in one write (RFC 2920)."""

    def __init__(self, sock: socket.socket, sink: Sink) -> None:
        self._sock = sock
        self._sink = sink
        self._buffer = bytearray()
        self._piece = memoryview(bytearray(READ_BYTES))
        self._out: list[bytes] = []
        self.counts = Counts(connections=1)
        self._recipients = 0
        self._chunk_bytes = 0
        self._sender = False
        self._logged_in = not sink.needs_login

    def run(self) -> None:
        try:
            self._sock.sendall(b"220 sink.example ESMTP\r\n")
            while self._command():
                pass
            self._flush()
        except (Lost, OSError):
            pass
        finally:
            self._sink.leave(self)
            self._sock.close()

    # -- reading and writing -----------------------------------------------------------------------------------------

    def _fill(self) -> None:
        self._flush()
        count = self._sock.recv_into(self._piece)
        if not count:
            raise Lost
        self._buffer += self._piece[:count]

    def _flush(self) -> None:
        if self._out:
            self._sock.sendall(b"".join(self._out))
            self._out.clear()

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _say(self, reply: bytes) -> bool:
        self._out.append(reply)
        return True

    def _refuse(self, reply: bytes) -> bool:
        self.counts.refused += 1
        return self._say(reply)

    # -- commands ----------------------------------------------------------------------------------------------------

    def _command(self) -> bool:
        line = self._line()
        verb = line[:4].upper()
        if verb == b"MAIL":
            if self._sender or not self._logged_in:
                return self._refuse(b"503 5.5.1 not now\r\n")
            self._sender = True
            return self._say(b"250 2.1.0 Ok\r\n")
        if verb == b"RCPT":
            if not self._sender:
                return self._refuse(b"503 5.5.1 MAIL first\r\n")
            self._recipients += 1
            return self._say(b"250 2.1.5 Ok\r\n")
        if verb == b"DATA":
            return self._data()
        if verb == b"BDAT" and self._sink.chunking:
            return self._bdat(line)
        if verb == b"EHLO":
            return self._say(self._features())
        if verb == b"HELO":
            return self._say(b"250 sink.example\r\n")
        if verb == b"STAR" and self._sink.context is not None and not isinstance(self._sock, ssl.SSLSocket):
            return self._starttls()
        if verb == b"AUTH" and self._sink.needs_login:
            return self._auth(line)
        if verb == b"RSET":
            self._forget()
            return self._say(b"250 2.0.0 Ok\r\n")
        if verb == b"NOOP":
            return self._say(b"250 2.0.0 Ok\r\n")
        if verb == b"QUIT":
            self._say(b"221 2.0.0 Bye\r\n")
            return False
        return self._refuse(b"502 5.5.2 unknown\r\n")

    def _features(self) -> bytes:
        names = ["sink.example", f"SIZE {MAX_SIZE_BYTES}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        names += ["PIPELINING"] if self._sink.pipelining else []
        names += ["CHUNKING"] if self._sink.chunking else []
        encrypted = isinstance(self._sock, ssl.SSLSocket)
        if self._sink.context is not None and not encrypted:
            names.append("STARTTLS")
        if self._sink.needs_login and encrypted:
            names.append("AUTH PLAIN LOGIN")
        lines = [f"250-{name}\r\n" for name in names[:-1]] + [f"250 {names[-1]}\r\n"]
        return "".join(lines).encode()

    def _starttls(self) -> bool:
        self._say(b"220 2.0.0 Go ahead\r\n")
        if self._buffer:
            raise Lost  # bytes before the handshake: an attack, or a client that does not wait
        self._flush()
        assert self._sink.context is not None  # noqa: S101
        self._sock = self._sink.context.wrap_socket(self._sock, server_side=True)
        self.counts.encrypted += 1
        self.counts.resumed += bool(self._sock.session_reused)
        return True

    def _auth(self, line: bytes) -> bool:
        if not isinstance(self._sock, ssl.SSLSocket):
            return self._refuse(b"538 5.7.11 encryption first\r\n")
        words = line.split()
        if words[1].upper() == b"PLAIN":
            answer = words[2] if len(words) > 2 else self._ask(b"")
            good = base64.b64decode(answer) == f"\0{USERNAME}\0{PASSWORD}".encode()
        elif words[1].upper() == b"LOGIN":
            name = words[2] if len(words) > 2 else self._ask(b"VXNlcm5hbWU6")
            given = (base64.b64decode(name), base64.b64decode(self._ask(b"UGFzc3dvcmQ6")))
            good = given == (USERNAME.encode(), PASSWORD.encode())
        else:
            return self._refuse(b"504 5.5.4 unknown mechanism\r\n")
        if not good:
            return self._refuse(b"535 5.7.8 no\r\n")
        self._logged_in = True
        self.counts.logins += 1
        return self._say(b"235 2.7.0 Ok\r\n")

    def _ask(self, question: bytes) -> bytes:
        self._say(b"334 " + question + b"\r\n")
        return self._line()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _data(self) -> bool:
        if not self._recipients or self._chunk_bytes:
            return self._refuse(b"503 5.5.1 RCPT first\r\n")
        self._say(b"354 End with a dot\r\n")
        buffer, dropped, seen = self._buffer, 0, 0
        # Base64 holds no dot, and to look for one byte takes a fortieth of the time that five take.
        while buffer.find(b".", seen) < 0 or (end := buffer.find(b"\r\n.\r\n", seen)) < 0:
            if not dropped and buffer.startswith(b".\r\n"):
                end = -2  # nothing but the dot
                break
            if len(buffer) > KEEP_BYTES:
                dropped += len(buffer) - 4
                del buffer[:-4]
            seen = max(0, len(buffer) - 4)
            self._fill()
        del buffer[: end + 5]
        return self._accept(dropped + end + 2)

    def _bdat(self, line: bytes) -> bool:
        words = line.split()
        left = size = int(words[1])
        while left:
            if not self._buffer:
                self._fill()
            taken = min(left, len(self._buffer))
            del self._buffer[:taken]
            left -= taken
        if not self._recipients:
            return self._refuse(b"503 5.5.1 RCPT first\r\n")
        self._chunk_bytes += size
        if len(words) < 3 or words[2].upper() != b"LAST":
            return self._say(b"250 2.0.0 more\r\n")
        self.counts.chunked += 1
        return self._accept(self._chunk_bytes)

    def _accept(self, size: int) -> bool:
        counts = self.counts
        counts.messages += 1
        counts.recipients += self._recipients
        counts.content_bytes += size
        self._forget()
        return self._say(b"250 2.0.0 Ok: queued as %X\r\n" % counts.messages)

    def _forget(self) -> None:
        self._sender, self._recipients, self._chunk_bytes = False, 0, 0


class Sink:
    """Listens on a free port of this machine; a thread for each connection."""

    def __init__(
        self, *, pipelining: bool = True, chunking: bool = False, context: ssl.SSLContext | None = None
    ) -> None:
        self.pipelining = pipelining
        self.chunking = chunking
        self.context = context
        self.needs_login = context is not None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[Session] = set()
        self._gone = Counts()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(sock, self)
            with self._lock:
                self._open.add(session)
            threading.Thread(target=session.run, daemon=True).start()

    def leave(self, session: Session) -> None:
        with self._lock:
            self._open.discard(session)
            self._gone = _sum([self._gone, session.counts])

    def counts(self) -> Counts:
        """Everything counted so far, of connections that are open and of those that have gone."""
        with self._lock:
            return _sum([self._gone, *(session.counts for session in self._open)])


def _sum(many: Iterable[Counts]) -> Counts:
    total: dict[str, int] = {}
    for one in many:
        for name, number in asdict(one).items():
            total[name] = total.get(name, 0) + number
    return Counts(**total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument("--chunking", action="store_true")
    parser.add_argument("--certificate", help="PEM file with key and certificate: offers STARTTLS, then wants a log-in")
    options = parser.parse_args()
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    sink = Sink(pipelining=not options.no_pipelining, chunking=options.chunking, context=context)
    print(json.dumps({"port": sink.port}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(asdict(sink.counts())), flush=True)


if __name__ == "__main__":
    main()
