"""One SMTP conversation up to the first message, step by step; and what a message needs from the server.

The setup test walks the same steps that every message takes.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from .. import network
from ..content import Content
from ..envelope import Envelope
from ..errors import (
    AuthenticationFailed,
    BadHeaderError,
    DeliveryError,
    MessageRejected,
    Refusal,
    SenderRefused,
    TransportTimeout,
    TransportUnavailable,
    UnsupportedFeature,
)
from ..settings import DkimKey
from ..setup_values import Tls
from ..tokens import TokenSource
from .smtp_client import Observer, Reply, SmtpClient
from .smtp_judge import Judge

#: smtp.office365.com and its kin allow three connections to a mailbox (Exchange: "SMTP submission improvements").
EXCHANGE_CONNECTIONS = 3
#: Every process that sends keeps connections of its own, so where three are all there are, none is kept for long.
EXCHANGE_IDLE_S = 5.0
#: Parameters of MAIL and RCPT, and the extension that must be offered for them (RFC 3461, 6152, 6531, 4954, 8689, 6710,
#: 4865). What is not listed is left to the server to judge.
_NEEDS = {
    "RET": "DSN",
    "ENVID": "DSN",
    "NOTIFY": "DSN",
    "ORCPT": "DSN",
    "BODY": "8BITMIME",
    "SMTPUTF8": "SMTPUTF8",
    "AUTH": "AUTH",
    "REQUIRETLS": "REQUIRETLS",
    "MT-PRIORITY": "MT-PRIORITY",
    "HOLDFOR": "FUTURERELEASE",
    "HOLDUNTIL": "FUTURERELEASE",
}
#: Answers to AUTH that blame the mechanism, not the credential (RFC 4954 4, 5.5.1).
_MECHANISM_UNKNOWN = (500, 502, 504, 534)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where to connect and how. `password` and `tokens` exclude each other; with neither there is no log-in.

    `address` is connected to in place of looking the host up. `connections` is the most that may be open at a time,
    `idle_s` how long one is kept without being used, `age_s` how long at all. `pipelining` and `chunking` allow what
    the server offers; `window` is how many messages of a bulk may be under way on a connection where it offers
    CHUNKING: that many are unknown when it is lost. On a connection that was not heard of within `fresh_s`, no whole
    message is risked in one write: if it died in the meantime, the message would be unknown.
    """

    host: str
    port: int
    tls: Tls = "starttls"
    address: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tokens: TokenSource | None = field(default=None, repr=False)
    ca_file: str = ""
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0
    connections: int = 10
    idle_s: float = 30.0
    age_s: float = 600.0
    pipelining: bool = True
    chunking: bool = True
    window: int = 1
    fresh_s: float = 5.0
    dkim: DkimKey | None = None

    @property
    def server_key(self) -> tuple[str, int, str]:
        """By what a server counts connections."""
        return self.host.lower(), self.port, self.username


@dataclass(slots=True)
class Transaction:
    """One message as this server wants it: MAIL and every RCPT, and the size of the content.

    `refused` is filled with the recipients that the server did not take.
    """

    head: bytes
    size_bytes: int
    refused: dict[str, Refusal] = field(default_factory=dict)


class SmtpSession:
    """One conversation. Each method raises the typed errors of `Transport.deliver`.

    `count` is how many messages have left on it; `needs_reset` says that the server may still be in the middle of a
    transaction.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        name: str = "smtp",
        observe: Observer | None = None,
        tls_session: ssl.SSLSession | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.judge = Judge(name, settings.host, settings.port)
        self.client = SmtpClient(
            settings.host,
            settings.port,
            context=network.tls_context(settings.ca_file),
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.timeout_s,
            observe=observe,
            tls_session=tls_session,
        )
        self.client.address = settings.address
        self.opened_at = monotonic()
        self.used_at = self.opened_at
        self.count = 0
        self.needs_reset = False
        self.pipelining = False
        self.chunking = False
        self._size_limit = 0

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Everything up to the first message: connect, greet, secure, log in."""
        self.connect()
        if self.settings.tls == "tls":
            self.secure()
        self.greet()
        if self.settings.tls == "starttls":
            self.secure()
        self.log_in()
        self.opened_at = self.used_at = monotonic()

    def connect(self) -> None:
        with self._nothing_left():
            self.client.connect()

    def greet(self) -> Reply:
        """Reads the greeting and says EHLO; returns the greeting."""
        with self._nothing_left():
            try:
                greeting = self.client.greeting()
            except TimeoutError as exc:
                # A server that waits for TLS says nothing either, so this has a remedy of its own.
                raise TransportTimeout(
                    f"{self.judge.where}: connected, but no greeting came", code="no_greeting", retryable=False
                ) from exc
            if not greeting:
                raise self.judge.refusal(greeting, "the server does not want to talk")
            self._hello("the server refused EHLO")
        return greeting

    def secure(self) -> None:
        """Verified TLS, by STARTTLS or from the start. Never goes on in the clear when that fails."""
        with self._nothing_left():
            if self.settings.tls == "tls":
                self.client.start_tls()
                return
            if "STARTTLS" not in self.client.features:
                raise TransportUnavailable(
                    f"{self.judge.where}: the server offers no STARTTLS", code="starttls_missing", retryable=False
                )
            reply = self.client.command("STARTTLS")
            if not reply:
                raise self.judge.refusal(reply, "the server refused STARTTLS")
            self.client.start_tls()
            self._hello("the server refused EHLO after TLS")

    def _hello(self, words: str) -> None:
        hello = self.client.ehlo()
        if not hello:
            raise self.judge.refusal(hello, words)
        features = self.client.features
        self.pipelining = self.settings.pipelining and "PIPELINING" in features
        self.chunking = self.settings.chunking and "CHUNKING" in features
        limit = features.get("SIZE", "")
        self._size_limit = int(limit[:18]) if limit.isascii() and limit.isdigit() else 0

    def log_in(self) -> str:
        """Logs in if there is a user; returns the mechanism used ("" for none).

        Raises:
            AuthenticationFailed, Throttled: as the server answered, or no mechanism fits.
        """
        settings = self.settings
        if settings.tokens is None and not (settings.username and settings.password):
            return ""
        if settings.tokens is not None and not self.client.is_encrypted:
            raise AuthenticationFailed("a token is never sent without TLS", code="auth_needs_tls", transport=self.name)
        for mechanism in self._mechanisms():
            with self._nothing_left():
                reply = self._authenticate(mechanism)
            if reply.code not in _MECHANISM_UNKNOWN:
                break
        if reply.code != 235:
            raise self.judge.login_refusal(reply)
        return mechanism

    def _authenticate(self, mechanism: str) -> Reply:
        client, settings = self.client, self.settings
        if settings.tokens is not None:
            token = settings.tokens.token()
            reply = client.auth_xoauth2(settings.username, token)
            if reply.code == 535:
                # Consent or a role may have been given after the token was made.
                newer = settings.tokens.token(refused=token)
                if newer != token:
                    reply = client.auth_xoauth2(settings.username, newer)
            return reply
        log_in = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login, "CRAM-MD5": client.auth_cram_md5}[mechanism]
        return log_in(settings.username, settings.password)

    def mechanism(self) -> str:
        """The mechanism that `log_in` will try first, of those the server offers."""
        return self._mechanisms()[0]

    def _mechanisms(self) -> list[str]:
        offered = self.client.auth_mechanisms
        if self.settings.tokens is not None:
            known = ["XOAUTH2"]
        elif self.client.is_encrypted:
            known = ["PLAIN", "LOGIN", "CRAM-MD5"]
        else:
            # In the clear, the one that does not show the password comes first.
            known = ["CRAM-MD5", "PLAIN", "LOGIN"]
        found = [one for one in known if one in offered]
        if found:
            return found
        said = ", ".join(offered) or "none"
        raise AuthenticationFailed(
            f"{self.judge.where}: no way to log in that both sides know (offered: {said})",
            code="auth_not_offered",
            detail=f"AUTH {said}",
            transport=self.name,
        )

    # -- a message ---------------------------------------------------------------------------------------------------

    def prepare(self, envelope: Envelope, content: Content) -> Transaction:
        """The message in this server's terms. Touches nothing.

        Raises:
            MessageRejected: it is larger than the server takes.
            UnsupportedFeature: it needs an extension that the server does not offer.
        """
        size = content.size_bytes
        features = self.client.features
        if 0 < self._size_limit < size:
            raise MessageRejected(
                f"the message has {size} bytes, the server takes {self._size_limit}",
                code="message_too_large",
                transport=self.name,
            )
        options = ""
        for option in envelope.mail_options:
            self._demand(option)
            options += f" {option}"
        if "SIZE" in features:
            options += f" SIZE={size}"
        if envelope.smtputf8 and "SMTPUTF8" not in envelope.mail_options:
            self._demand("SMTPUTF8", "takes no addresses outside ASCII before the @")
            options += " SMTPUTF8"
        if "8BITMIME" in features and "BODY=" not in options and not content.is_ascii:
            options += " BODY=8BITMIME"
        suffix = ">\r\n"
        if envelope.rcpt_options:
            for option in envelope.rcpt_options:
                self._demand(option)
            suffix = f"> {' '.join(envelope.rcpt_options)}\r\n"
        commands = [f"MAIL FROM:<{envelope.sender}>{options}\r\n"]
        commands += [f"RCPT TO:<{recipient}{suffix}" for recipient in envelope.recipients]
        head = "".join(commands)
        lines = len(commands)
        if not head.count("\r") == head.count("\n") == lines or "\0" in head:
            raise BadHeaderError("an address or an option holds a line break", code="header_control")
        return Transaction(head.encode(), size)

    def _demand(self, option: str, words: str = "") -> None:
        keyword = option.partition("=")[0].upper()
        extension = _NEEDS.get(keyword, "")
        if extension and extension not in self.client.features:
            raise UnsupportedFeature(
                f"{self.judge.where} {words or f'does not offer what {keyword} needs'}",
                feature=extension,
                transport=self.name,
            )

    def mail_from(self, envelope: Envelope) -> Reply:
        """Names the sender, for the setup test."""
        command = self.prepare(envelope, envelope.content).head.decode().split("\r\n")[0]
        with self._nothing_left():
            reply = self.client.command(command)
        if not reply:
            raise self.judge.refusal(reply, "the sender was refused", sender=envelope.sender, kind=SenderRefused)
        return reply

    def rcpt_to(self, envelope: Envelope) -> dict[str, Refusal]:
        """Names every recipient, for the setup test; returns those the server refused.

        Raises:
            RecipientsRefused: all of them were.
        """
        commands = self.prepare(envelope, envelope.content).head.decode().split("\r\n")[1:-1]
        replies = []
        with self._nothing_left():
            for command in commands:
                reply = self.client.command(command)
                if reply.code == 421:
                    raise self.judge.refusal(reply, "the server stopped at a recipient")
                replies.append(reply)
        return self.judge.recipients(envelope.recipients, replies)

    def reset(self) -> None:
        with self._nothing_left():
            self.client.command("RSET")

    def close(self) -> None:
        self.client.quit()

    @contextmanager
    def _nothing_left(self) -> Iterator[None]:
        """Until the final dot, a lost connection means that nothing was handed over (RFC 5321 4.1.1.4)."""
        try:
            yield
        except DeliveryError as exc:
            exc.transport = exc.transport or self.name
            raise
        except OSError as exc:
            raise self.judge.lost(exc) from exc
