"""SMTP on the wire: bytes go out, replies come back. Judging them is the transport's affair (`smtp_session`).

Rules cited: RFC 5321 (SMTP), 3207 (STARTTLS), 4954 (AUTH), 2034 (enhanced status codes), 2195 (CRAM-MD5), and
Google's and Microsoft's XOAUTH2 pages.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import select
import socket
import ssl
from collections.abc import Callable, Iterable
from time import monotonic

from .. import network
from ..masking import MASK, Secrets, readable

#: RFC 5321 4.5.3.1.5 lets a reply line have 512 octets; servers write longer ones. This ends a server that never stops.
MAX_REPLY_BYTES = 65_536
QUIT_TIMEOUT_S = 1.0
#: The longest command that every server takes (RFC 5321 4.5.3.1.4).
_COMMAND_BYTES = 512
#: What is written at once, and may take as long as one reply. With TLS it is one record (RFC 8446 5.1): an error
#: while a record is written then means that the server cannot have read any of it.
_WRITE_BYTES, _RECORD_BYTES = 65_536, 16_384
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")
# A CR or LF inside a command would be a second command.
_UNSAFE = re.compile(r"[\r\n\x00]")

#: The beginnings of a reply of one line that says yes.
_COMMON = {b"250 ": 250, b"354 ": 354, b"251 ": 251}

Observer = Callable[[str, str], None]


class ProtocolError(ConnectionError):
    """What came back is not SMTP."""


class OutOfStep(ProtocolError):
    """It is SMTP, but not the answer to what was asked."""


class Reply:
    """A server's reply: `code` 250, `text` with its lines joined by blanks."""

    __slots__ = ("code", "lines", "text")

    def __init__(self, code: int, text: str, lines: tuple[str, ...] = ()) -> None:
        self.code = code
        self.text = text
        self.lines = lines

    @property
    def enhanced(self) -> str:
        """The enhanced status code at its beginning, "2.0.0"; "" when there is none."""
        match = _ENHANCED.match(self.text)
        return match[1] if match else ""

    @property
    def status(self) -> str:
        """The codes as people quote them: "535 5.7.139", or "535"."""
        return f"{self.code} {self.enhanced}".strip()

    @property
    def is_temporary(self) -> bool:
        return 400 <= self.code < 500

    def __bool__(self) -> bool:
        return 200 <= self.code < 400


class SmtpClient:
    """One connection. Not safe for several threads at once; in a process forked off it is closed without a word.

    `timeout_s` bounds the wait for each reply as a whole, not for each byte of it, and the writing of each
    `_WRITE_BYTES`. `observe` is called with ("client" or "server", line) for each line, with credentials already
    masked. `sent_bytes` counts what this machine has let go of, `waited_s` how long replies were waited for,
    `heard_at` is the `monotonic` time of the last one. `ending` turns true when the server said 421.

    Raises from every method: `TransportUnavailable` while connecting; afterwards an `OSError` when the connection is
    lost or the wait ends.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext,
        connect_timeout_s: float,
        timeout_s: float,
        observe: Observer | None = None,
        tls_session: ssl.SSLSession | None = None,
    ) -> None:
        self.host = host
        self.port = port
        #: Connected to in place of looking the host up, where it was looked up and judged before.
        self.address = ""
        self.features: dict[str, str] = {}
        self.is_encrypted = False
        self.ending = False
        self.sent_bytes = 0
        self.waited_s = 0.0
        self.heard_at = 0.0
        self.connect_timeout_s = connect_timeout_s
        self.timeout_s = timeout_s
        self._context = context
        self._observe = observe
        self._tls_session = tls_session
        self._next_session: ssl.SSLSession | None = None
        self._sock: socket.socket | None = None
        self._sock_timeout_s = -1.0
        self._process_id = os.getpid()
        self._buffer = b""
        self._at = 0
        self._secrets = Secrets()

    # -- connecting --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        self._process_id = os.getpid()
        self._sock = network.connect(self.host, self.port, timeout_s=self.connect_timeout_s, address=self.address)
        self._sock_timeout_s = self.connect_timeout_s
        # A connection that is kept may be forgotten by a router in between; keep-alive finds that out.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def start_tls(self) -> None:
        """The TLS handshake on the open connection. What the server said before it in the clear is not trusted."""
        if self._at < len(self._buffer):
            # RFC 3207 5: anything that arrived with the reply could have been put there by somebody between.
            raise network.unavailable(ssl.SSLError("bytes before the TLS handshake"), self.host, self.port)
        sock = self._connected()
        try:
            self._wait_at_most(self.connect_timeout_s)
            self._sock = self._context.wrap_socket(sock, server_hostname=self.host, session=self._tls_session)
        except (OSError, ValueError) as exc:
            self.close()
            raise network.unavailable(exc, self.host, self.port) from exc
        self.is_encrypted = True
        self.features = {}

    def greeting(self) -> Reply:
        return self.reply(self.connect_timeout_s)

    def ehlo(self) -> Reply:
        """Says EHLO (HELO to a server that knows no EHLO) and notes what the server offers, by upper-case keyword."""
        name = self._local_name()
        reply = self.command(f"EHLO {name}")
        self.features = {}
        if reply:
            for line in reply.lines[1:]:
                keyword, _, parameters = line.strip().partition(" ")
                self.features[keyword.upper()] = parameters.strip()
        elif reply.code in (500, 502, 504, 550):
            reply = self.command(f"HELO {name}")
        return reply

    @property
    def auth_mechanisms(self) -> tuple[str, ...]:
        return tuple(self.features.get("AUTH", "").upper().split())

    def certificate(self) -> dict[str, object]:
        """The verified certificate of the server, as the ssl module describes it; empty without TLS."""
        return dict(self._sock.getpeercert() or {}) if isinstance(self._sock, ssl.SSLSocket) else {}

    def tls_session(self) -> ssl.SSLSession | None:
        """What lets the next connection to the same server skip half of the handshake (RFC 8446 2.2)."""
        if self._next_session is None and isinstance(self._sock, ssl.SSLSocket):
            # Kept, because it is copied each time, and that takes longer than a short message.
            self._next_session = self._sock.session
        return self._next_session

    # -- AUTH --------------------------------------------------------------------------------------------------------

    def auth_plain(self, username: str, password: str) -> Reply:
        """RFC 4616, with the initial response (one round trip less)."""
        return self._auth("PLAIN", _base64(f"\0{username}\0{password}"), [], (password,))

    def auth_login(self, username: str, password: str) -> Reply:
        """The old two-question dialogue that Exchange offers."""
        return self._auth("LOGIN", "", [_base64(username), _base64(password)], (password,))

    def auth_xoauth2(self, username: str, token: str) -> Reply:
        """Log-in by access token. Survives both ways to refuse: 535 at once, and 334 with JSON before it."""
        answer = _base64(f"user={username}\x01auth=Bearer {token}\x01\x01")
        # The second question, if any, carries the reason; the dialogue wants an empty line before the 535.
        return self._auth("XOAUTH2", answer, [""], (token,))

    def auth_cram_md5(self, username: str, password: str) -> Reply:
        """RFC 2195: the password itself is not sent."""
        self._secrets.add(password, _base64(password))
        reply = self.command("AUTH CRAM-MD5")
        if reply.code != 334:
            return reply
        try:
            challenge = base64.b64decode(reply.text, validate=True)
        except ValueError:
            return self.command("*")
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        return self._answer(_base64(f"{username} {digest}"))

    def _auth(self, mechanism: str, initial: str, answers: Iterable[str], secrets: Iterable[str]) -> Reply:
        for secret in secrets:
            self._secrets.add(secret, _base64(secret))
        self._secrets.add(initial)
        command = f"AUTH {mechanism} {initial}".strip()
        if len(command) + 2 > _COMMAND_BYTES:
            # Too long for a command, but not for an answer: those may have 12,288 octets (RFC 4954 4). Postfix cuts a
            # longer command short and then blames the credential.
            command, answers = f"AUTH {mechanism}", [initial, *answers]
            initial = ""
        self._say(command, shown=f"AUTH {mechanism} {MASK}" if initial else "")
        reply = self.reply()
        for answer in answers:
            if reply.code != 334:
                break
            reply = self._answer(answer)
        if reply.code == 334:
            # It keeps asking. "*" ends the dialogue (RFC 4954 4); the server answers 501.
            reply = self.command("*")
        return reply

    def _answer(self, answer: str) -> Reply:
        self._secrets.add(answer)
        self._say(answer, shown=MASK)
        return self.reply()

    # -- saying and hearing ------------------------------------------------------------------------------------------

    def command(self, line: str) -> Reply:
        """Sends one line and reads its reply."""
        self._say(line)
        return self.reply()

    def send(self, data: bytes) -> None:
        """Writes `data`. After an error `sent_bytes` tells how much of it had left."""
        sock = self._connected()
        self._wait_at_most(self.timeout_s)
        limit = _RECORD_BYTES if self.is_encrypted else _WRITE_BYTES
        size = len(data)
        if size <= limit:
            count = sock.send(data)
            self.sent_bytes += count
            if count == size:
                return
            data = data[count:]
        view = memoryview(data)
        for start in range(0, len(view), limit):
            self._send_piece(sock, view[start : start + limit])

    def _send_piece(self, sock: socket.socket, piece: memoryview) -> None:
        deadline = monotonic() + self.timeout_s
        while piece:
            wait_s = deadline - monotonic()
            if wait_s <= 0:
                raise TimeoutError("the server does not read on")
            self._wait_at_most(wait_s if wait_s < self.timeout_s - 1 else self.timeout_s)
            count = sock.send(piece)
            self.sent_bytes += count
            piece = piece[count:]

    @property
    def has_unread(self) -> bool:
        """Whether replies that nobody asked for yet have been read already."""
        return self._at < len(self._buffer)

    @property
    def unread_lines(self) -> int:
        """How many lines of replies are here already."""
        return self._buffer.count(b"\n", self._at)

    def has_spoken(self) -> bool:
        """Whether the server has said something, or hung up, while nothing was asked. Does not wait.

        Raises:
            OSError: it hung up, or the connection is broken.
        """
        if self.has_unread:
            return True
        sock = self._connected()
        has_decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        if not has_decrypted and not _is_readable(sock):
            return False
        # With TLS, what has arrived may be no more than a new session ticket.
        self._wait_at_most(0.0)
        try:
            chunk = sock.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self._buffer, self._at = chunk, 0
        return True

    def reply(self, timeout_s: float = 0.0) -> Reply:
        """The next reply, within `timeout_s` (0: the time-out of this connection)."""
        deadline = 0.0
        if self._at >= len(self._buffer):
            deadline = monotonic() + (timeout_s or self.timeout_s)
            self._receive(deadline)
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        code = _COMMON.get(buffer[at : at + 4])
        if end < 0 or code is None or self._observe is not None:
            return self._long_reply(deadline or monotonic() + (timeout_s or self.timeout_s))
        # Four of these stand behind every message of a bulk, so they are read with as little ado as can be.
        self._at = end + 1
        words = readable(buffer[at + 4 : end].decode("utf-8", "replace").strip())
        if self._secrets:
            words = self._secrets.mask_whole(words)
        return Reply(code, words, (words,))

    def _long_reply(self, deadline: float) -> Reply:
        lines: list[tuple[int, str, str]] = []
        size = 0
        while True:
            end = self._buffer.find(b"\n", self._at)
            while end < 0:
                if size + len(self._buffer) - self._at > MAX_REPLY_BYTES:
                    raise ProtocolError("a reply without an end")
                self._receive(deadline)
                end = self._buffer.find(b"\n", self._at)
            raw = self._buffer[self._at : end]
            self._at = end + 1
            size += len(raw) + 1
            if size > MAX_REPLY_BYTES:
                raise ProtocolError("a reply without an end")
            lines.append(self._line(raw))
            if lines[-1][0] != lines[0][0]:
                raise ProtocolError("the lines of one reply carry different codes")
            if lines[-1][1] != "-":
                return self._finished(lines)

    def _line(self, raw: bytes) -> tuple[int, str, str]:
        text = raw.decode("utf-8", "replace").rstrip("\r")
        code, separator = text[:3], text[3:4]
        is_code = len(code) == 3 and code.isascii() and code.isdigit() and "2" <= code[:1] <= "5"
        if not is_code or separator not in ("", " ", "-"):
            raise ProtocolError(f"not an SMTP reply: {self.scrub(text[:80])!r}")
        number, words = int(code), readable(text[4:])
        if self._secrets:
            words = self._secrets.mask_whole(words) if number < 300 else self._secrets.mask(words)
        if self._observe is not None:
            self._observe("server", f"{code}{separator}{words}")
        return number, separator, words

    def _finished(self, lines: list[tuple[int, str, str]]) -> Reply:
        code = lines[0][0]
        if code == 421:
            self.ending = True
        if len(lines) == 1:
            return Reply(code, lines[0][2].strip(), (lines[0][2],))
        words = tuple(line[2] for line in lines)
        return Reply(code, " ".join(words).strip(), words)

    def _receive(self, deadline: float) -> None:
        sock = self._connected()
        before = monotonic()
        wait_s = deadline - before
        if wait_s <= 0:
            raise TimeoutError("the server did not finish its reply in time")
        # Setting the time-out is a system call, so one that is nearly right stays.
        if not wait_s - 0.05 <= self._sock_timeout_s <= wait_s + 0.05:
            self._wait_at_most(wait_s)
        chunk = sock.recv(65_536)
        self.heard_at = monotonic()
        self.waited_s += self.heard_at - before
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0

    # -- leaving -----------------------------------------------------------------------------------------------------

    def quit(self, wait_s: float = QUIT_TIMEOUT_S) -> None:
        """Says goodbye, if the connection still stands, waits at most `wait_s` for the answer, and closes."""
        self.say_goodbye()
        self.close_after_goodbye(wait_s)

    def say_goodbye(self) -> None:
        """Sends QUIT, and does not wait for the answer."""
        # Courtesy is not worth a long wait: the message's fate is settled.
        self.timeout_s = min(self.timeout_s, QUIT_TIMEOUT_S)
        try:
            self._say("QUIT")
        except OSError:
            self.close()  # the other side has gone first; there is nothing left to say

    def close_after_goodbye(self, wait_s: float = QUIT_TIMEOUT_S) -> None:
        """Waits at most `wait_s` for the answer to QUIT, and closes."""
        try:
            if self._sock is not None and wait_s > 0:
                self.reply(wait_s)
        except OSError:
            pass  # as good as an answer
        finally:
            self.close()

    def close(self) -> None:
        """Lets the connection go without a word. After a fork, that of the other process stays open."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    def scrub(self, text: str) -> str:
        """`text` without any credential used here, or a piece of one."""
        return self._secrets.mask(text)

    def _connected(self) -> socket.socket:
        if self._process_id != os.getpid():
            # Forked off: two processes would speak over one connection.
            self.close()
        if self._sock is None:
            raise ConnectionError("the connection is closed")
        return self._sock

    def _wait_at_most(self, timeout_s: float) -> None:
        if timeout_s != self._sock_timeout_s and self._sock is not None:
            self._sock.settimeout(timeout_s)
            self._sock_timeout_s = timeout_s

    def _say(self, line: str, *, shown: str = "") -> None:
        if _UNSAFE.search(line):
            raise ValueError("an SMTP command must be one line")
        if self._observe is not None:
            self._observe("client", shown or self.scrub(line))
        self.send(line.encode() + b"\r\n")

    def _local_name(self) -> str:
        # The host's own name if it is a full one, otherwise the address as a literal (RFC 5321 4.1.3): both are
        # plain ASCII, and neither asks DNS.
        name = socket.gethostname()
        if "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name):
            return name
        address: str = self._connected().getsockname()[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _is_readable(sock: socket.socket) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])  # where there is no poll, numbers of sockets are not limited


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
