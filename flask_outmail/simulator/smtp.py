"""The two SMTP ports, and what is counted per mailbox over both of them."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable

from flask_outmail.simulator.listener import Connection, Listener
from flask_outmail.simulator.smtp_auth import Authenticator
from flask_outmail.simulator.smtp_session import Session
from flask_outmail.simulator.smtp_wire import Wire
from flask_outmail.simulator.state import State


class SmtpServer:
    """Listens on one port; with `implicit_tls` encryption comes first, otherwise by STARTTLS."""

    def __init__(
        self,
        host: str,
        port: int,
        state: State,
        authenticator: Authenticator,
        tls: Callable[[], ssl.SSLContext],
        limits: SmtpLimits,
        *,
        implicit_tls: bool,
    ) -> None:
        self.state = state
        self.authenticator = authenticator
        self.tls = tls
        self.limits = limits
        self._implicit_tls = implicit_tls
        self._listener = Listener(host, port, self._serve, name="smtps" if implicit_tls else "smtp")
        self.port = self._listener.port

    def start(self) -> None:
        self._listener.start()

    def close(self) -> None:
        self._listener.close()

    def hang_up(self) -> int:
        """Ends all open connections without a word, as a server that restarts does; how many there were."""
        connections = self._listener.connections()
        for connection in connections:
            connection.hang_up()
        return len(connections)

    def _serve(self, connection: Connection) -> None:
        if self._implicit_tls:
            connection.start_tls(self.tls())
        Session(self, Wire(connection), encrypted=self._implicit_tls).run()


class SmtpLimits:
    """Counts per mailbox, over both ports: open connections, and refused senders."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._connections: Counter[str] = Counter()
        self._denials: Counter[str] = Counter()

    def enter(self, mailbox: str) -> bool:
        """Counts a connection in, unless the mailbox has its three already."""
        with self._lock:
            if self._connections[mailbox] >= self._state.behaviour.smtp_connection_limit:
                return False
            self._connections[mailbox] += 1
            return True

    def leave(self, mailbox: str) -> None:
        with self._lock:
            self._connections[mailbox] -= 1

    def deny(self, mailbox: str) -> None:
        with self._lock:
            self._denials[mailbox] += 1

    def blocked(self, mailbox: str) -> bool:
        with self._lock:
            return self._denials[mailbox] >= self._state.behaviour.send_as_denials

    def forgive(self) -> None:
        with self._lock:
            self._denials.clear()
