"""SMTP on the wire: commands go out, replies come back. Judging them is the transport's affair (`smtp`).

Rules cited: RFC 5321 (SMTP), 3207 (STARTTLS), 4954 (AUTH), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8),
2034 (enhanced status codes), and Google's and Microsoft's XOAUTH2 pages.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

from .. import network

#: RFC 5321 4.5.3.1.5 lets a reply line have 512 octets; servers write longer ones. This ends a server that never stops.
MAX_REPLY_BYTES = 65_536
QUIT_TIMEOUT_S = 1.0
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")
# A CR or LF inside a command would be a second command.
_UNSAFE = re.compile(r"[\r\n\x00]")

_ENCODED = re.compile(r"(?=[A-Za-z+/_%-]*\d)[A-Za-z0-9+/_%-]{24,}={0,2}")

Observer = Callable[[str, str], None]


class ProtocolError(ConnectionError):
    """What came back is not SMTP."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply: `code` 250, `enhanced` "2.0.0" or "", `text` without both, lines joined by blanks."""

    code: int
    text: str
    lines: tuple[str, ...] = ()

    @property
    def enhanced(self) -> str:
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
    """One connection. Not safe for several threads at once.

    `timeout_s` bounds the wait for each reply as a whole, not for each byte of it. `observe` is called with
    ("client" or "server", line) for each line, with credentials already masked.

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
    ) -> None:
        self.host = host
        self.port = port
        self.features: dict[str, str] = {}
        self.is_encrypted = False
        self._context = context
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._observe = observe or (lambda who, line: None)
        self._sock: socket.socket | None = None
        self._buffer = bytearray()
        self._secrets: list[str] = []

    # -- opening -----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Opens the TCP connection. Nothing is read yet."""
        self._sock = network.connect(self.host, self.port, timeout_s=self._connect_timeout_s)

    def start_tls(self) -> None:
        """The TLS handshake on the open connection. What the server said before it in the clear is not trusted."""
        if self._buffer:
            # RFC 3207 5: anything that arrived with the reply could have been put there by somebody between.
            raise network.unavailable(ssl.SSLError("bytes before the TLS handshake"), self.host, self.port)
        sock = self._connected()
        try:
            sock.settimeout(self._connect_timeout_s)
            self._sock = self._context.wrap_socket(sock, server_hostname=self.host)
        except (OSError, ValueError) as exc:
            self.close()
            raise network.unavailable(exc, self.host, self.port) from exc
        self.is_encrypted = True
        self.features = {}

    def greeting(self) -> Reply:
        return self._reply(self._connect_timeout_s)

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

    def _auth(self, mechanism: str, initial: str, answers: Iterable[str], secrets: Iterable[str]) -> Reply:
        for secret in secrets:
            self._secrets += [secret, _base64(secret)]
        self._secrets.append(initial)
        self._write(f"AUTH {mechanism} {initial}".strip(), shown=f"AUTH {mechanism} ••••" if initial else "")
        reply = self._reply()
        for answer in answers:
            if reply.code != 334:
                break
            self._secrets.append(answer)
            self._write(answer, shown="••••")
            reply = self._reply()
        if reply.code == 334:
            # It keeps asking. "*" ends the dialogue (RFC 4954 4); the server answers 501.
            reply = self.command("*")
        return reply

    # -- a transaction -----------------------------------------------------------------------------------------------

    def command(self, line: str) -> Reply:
        """Sends one line and reads its reply."""
        self._write(line)
        return self._reply()

    def send_content(self, content: bytes) -> Reply | None:
        """The message after 354, without the final dot: until `end_content` the server cannot have accepted it.

        A server that has had enough may answer early, or hang up; seen here, it is still certain that nothing was
        accepted. Returns such an early reply, None when the server waits for the dot as it should.
        """
        if self._buffer:
            raise ProtocolError("the server spoke out of turn")
        stuffed = re.sub(rb"(?m)^\.", b"..", content)
        if not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        self._observe("client", f"(message, {len(content)} bytes)")
        sock = self._connected()
        sock.settimeout(self._timeout_s)
        sock.sendall(stuffed)
        sock.settimeout(0)
        try:
            chunk = sock.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self._buffer += chunk
        return self._reply()

    def end_content(self) -> Reply:
        """The final dot, and the server's verdict. If this is lost, nobody knows (RFC 1047)."""
        return self.command(".")

    def quit(self) -> None:
        """Says goodbye, if the connection still stands, and closes."""
        # Courtesy is not worth a long wait: the message's fate is settled.
        self._timeout_s = min(self._timeout_s, QUIT_TIMEOUT_S)
        try:
            self.command("QUIT")
        except OSError:
            pass  # the other side has gone first; there is nothing left to say
        finally:
            self.close()

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    # -- lines -------------------------------------------------------------------------------------------------------

    def scrub(self, text: str) -> str:
        """`text` without any credential used here: some servers quote the command they did not like."""
        for secret in sorted(filter(None, self._secrets), key=len, reverse=True):
            text = text.replace(secret, "••••")
        # After a log-in anything that looks encoded may hold it in a form that we have not thought of.
        return _ENCODED.sub("••••", text) if self._secrets else text

    def _connected(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionError("the connection is closed")
        return self._sock

    def _write(self, line: str, *, shown: str = "") -> None:
        if _UNSAFE.search(line):
            raise ValueError("an SMTP command must be one line")
        self._observe("client", shown or self.scrub(line))
        sock = self._connected()
        sock.settimeout(self._timeout_s)
        sock.sendall(line.encode() + b"\r\n")

    def _reply(self, timeout_s: float | None = None) -> Reply:
        deadline = monotonic() + (timeout_s or self._timeout_s)
        lines: list[str] = []
        code, size = "", 0
        while True:
            raw = self._line(deadline)
            size += len(raw)
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            separator = text[3:4]
            if size > MAX_REPLY_BYTES or not re.match(r"^[2-5]\d\d$", text[:3]) or separator not in ("", " ", "-"):
                raise ProtocolError(f"not an SMTP reply: {text[:80]!r}")
            if code and text[:3] != code:
                raise ProtocolError("the lines of one reply carry different codes")
            code = text[:3]
            line = self.scrub(text[4:])
            self._observe("server", f"{code}{separator}{line}")
            lines.append(line)
            if separator != "-":
                return Reply(int(code), " ".join(lines).strip(), tuple(lines))

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_REPLY_BYTES:
                raise ProtocolError("a reply without an end")
            wait_s = deadline - monotonic()
            if wait_s <= 0:
                raise TimeoutError("the server did not finish its reply in time")
            sock = self._connected()
            sock.settimeout(wait_s)
            chunk = sock.recv(4096)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            self._buffer += chunk
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _local_name(self) -> str:
        # The host's own name if it is a full one, otherwise the address as a literal (RFC 5321 4.1.3): both are
        # plain ASCII, and neither asks DNS.
        name = socket.gethostname()
        if "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name):
            return name
        address: str = self._connected().getsockname()[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
