"""The two SMTP ports."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from flask_outmail.simulator.listener import Connection, Listener
from flask_outmail.simulator.smtp_auth import Authenticator
from flask_outmail.simulator.smtp_limits import SmtpLimits
from flask_outmail.simulator.smtp_session import Session
from flask_outmail.simulator.smtp_wire import Wire
from flask_outmail.simulator.state import State


class SmtpServer(Listener):
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
        self._state = state
        self._authenticator = authenticator
        self._tls = tls
        self._limits = limits
        self._implicit_tls = implicit_tls
        super().__init__(host, port, self._answer, name="smtps" if implicit_tls else "smtp")

    def _answer(self, connection: Connection) -> None:
        if self._implicit_tls:
            connection.start_tls(self._tls())
        Session(
            Wire(connection), self._state, self._authenticator, self._limits, self._tls, encrypted=self._implicit_tls
        ).run()
