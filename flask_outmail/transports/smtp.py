"""Mail over SMTP, and the map from its replies to our errors.

Serves two mail services: any SMTP server with a password (or none), and Microsoft 365 with a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import monotonic
from typing import Any, NoReturn

from .. import network
from ..envelope import Envelope, Receipt
from ..errors import (
    AuthenticationFailed,
    DeliveryError,
    DeliveryUnknown,
    MessageRejected,
    RecipientsRefused,
    Refusal,
    SenderRefused,
    Throttled,
    TransportTimeout,
    TransportUnavailable,
    UnsupportedFeature,
)
from ..settings import Tls
from ..tokens import TokenSource
from .smtp_client import Observer, ProtocolError, Reply, SmtpClient

# Exchange Online's ways to say that the log-in, not this message, is the trouble (Exchange: NDR codes 5.7.30, 5.7.57,
# 5.1.8, 5.7.501-5.7.79x).
_ACCOUNT_BARRED = re.compile(r"^5\.(7\.(3|30|57|139|5\d\d|7\d\d)|1\.8)$")
# ... and that this From address is (5.7.60, 5.2.252).
_SENDER_BARRED = re.compile(r"^5\.(7\.60|2\.252)$")
_TOO_LARGE = {"5.3.4", "5.2.3"}  # RFC 3463


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where to connect and how. `password` and `tokens` exclude each other; with neither there is no log-in."""

    host: str
    port: int
    tls: Tls = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    tokens: TokenSource | None = field(default=None, repr=False)
    ca_file: str = ""
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0


class SmtpTransport:
    """Delivers each message over a connection of its own."""

    def __init__(self, settings: SmtpSettings, *, name: str = "smtp") -> None:
        self.name = name
        self._settings = settings

    def deliver(self, envelope: Envelope) -> Receipt:
        started = monotonic()
        session = SmtpSession(self._settings, name=self.name)
        try:
            session.open()
            reply, refused = session.send(envelope)
        finally:
            session.close()
        return Receipt(
            accepted=True,
            transport=self.name,
            message_id=envelope.message_id,
            request_id=_queue_id(reply),
            refused=refused,
            accepted_at=datetime.now(timezone.utc),
            elapsed_s=monotonic() - started,
        )

    def close(self) -> None:
        """Nothing is kept open between messages."""


class SmtpSession:
    """One conversation, step by step; the setup test walks the same steps that every message takes.

    Each method raises the typed errors of `Transport.deliver`.
    """

    def __init__(self, settings: SmtpSettings, *, name: str = "smtp", observe: Observer | None = None) -> None:
        self.name = name
        self.settings = settings
        self.client = SmtpClient(
            settings.host,
            settings.port,
            context=network.tls_context(settings.ca_file),
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.timeout_s,
            observe=observe,
        )

    def open(self) -> None:
        """Everything up to the first message: connect, greet, secure, log in."""
        self.connect()
        if self.settings.tls == "tls":
            self.secure()
        self.greet()
        if self.settings.tls == "starttls":
            self.secure()
        self.log_in()

    def connect(self) -> None:
        self.client.connect()

    def greet(self) -> Reply:
        """Reads the greeting and says EHLO; returns the greeting."""
        with self._nothing_left():
            try:
                greeting = self.client.greeting()
            except TimeoutError as exc:
                # A server that waits for TLS says nothing either, so this has a remedy of its own.
                raise TransportTimeout(
                    f"{self._where}: connected, but no greeting came", code="no_greeting", retryable=False
                ) from exc
            if not greeting:
                self._refuse(greeting, "the server does not want to talk")
            hello = self.client.ehlo()
            if not hello:
                self._refuse(hello, "the server refused EHLO")
        return greeting

    def secure(self) -> None:
        """Verified TLS, by STARTTLS or from the start. Never goes on in the clear when that fails."""
        if self.settings.tls == "tls":
            self.client.start_tls()
            return
        with self._nothing_left():
            if "STARTTLS" not in self.client.features:
                raise TransportUnavailable(
                    f"{self._where}: the server offers no STARTTLS", code="starttls_missing", retryable=False
                )
            reply = self.client.command("STARTTLS")
            if not reply:
                self._refuse(reply, "the server refused STARTTLS")
            self.client.start_tls()
            hello = self.client.ehlo()
            if not hello:
                self._refuse(hello, "the server refused EHLO after TLS")

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
        mechanism = self.mechanism()
        if settings.tokens is not None:
            token = settings.tokens.token()
            with self._nothing_left():
                reply = self.client.auth_xoauth2(settings.username, token)
        else:
            log_in = self.client.auth_plain if mechanism == "PLAIN" else self.client.auth_login
            with self._nothing_left():
                reply = log_in(settings.username, settings.password)
        if reply.code != 235:
            self._refuse_login(reply)
        return mechanism

    def mechanism(self) -> str:
        """The mechanism that `log_in` will use, from those the server offers."""
        offered = self.client.auth_mechanisms
        for mechanism in ("XOAUTH2",) if self.settings.tokens is not None else ("PLAIN", "LOGIN"):
            if mechanism in offered:
                return mechanism
        said = ", ".join(offered) or "none"
        raise AuthenticationFailed(
            f"{self._where}: no way to log in that both sides know (offered: {said})",
            code="auth_not_offered",
            detail=f"AUTH {said}",
            transport=self.name,
        )

    def mail_from(self, envelope: Envelope) -> Reply:
        options = [*envelope.mail_options]
        features = self.client.features
        limit = features.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < envelope.content.size_bytes:
            raise MessageRejected(
                f"the message has {envelope.content.size_bytes} bytes, the server takes {limit}",
                code="message_too_large",
                transport=self.name,
            )
        if "SIZE" in features:
            options.append(f"SIZE={envelope.content.size_bytes}")
        if envelope.smtputf8:
            if "SMTPUTF8" not in features:
                raise UnsupportedFeature(
                    f"{self._where} takes no addresses outside ASCII before the @",
                    feature="SMTPUTF8",
                    transport=self.name,
                )
            options.append("SMTPUTF8")
        if not envelope.content.is_ascii and "8BITMIME" in features:
            options.append("BODY=8BITMIME")
        with self._nothing_left():
            reply = self.client.command(" ".join([f"MAIL FROM:<{envelope.sender}>", *dict.fromkeys(options)]))
        if not reply:
            self._refuse(reply, "the sender was refused", sender=envelope.sender, kind=SenderRefused)
        return reply

    def rcpt_to(self, envelope: Envelope) -> dict[str, Refusal]:
        """Names every recipient; returns those the server refused.

        Raises:
            RecipientsRefused: all of them were.
        """
        refused: dict[str, Refusal] = {}
        reply = Reply(0, "")
        with self._nothing_left():
            for recipient in envelope.recipients:
                reply = self.client.command(" ".join([f"RCPT TO:<{recipient}>", *envelope.rcpt_options]))
                if reply.code == 421 or (not reply and _ACCOUNT_BARRED.match(reply.enhanced)):
                    self._refuse(reply, "the server stopped at a recipient")
                if not reply:
                    refused[recipient] = Refusal(reply.code, reply.text)
        if len(refused) == len(envelope.recipients):
            raise RecipientsRefused(
                f"the server refused every recipient ({reply.status})",
                recipients=refused,
                code=reply.status,
                detail=reply.text[:300],
                transport=self.name,
                retryable=all(400 <= one.code < 500 for one in refused.values()),
            )
        return refused

    def send(self, envelope: Envelope) -> tuple[Reply, dict[str, Refusal]]:
        """One whole transaction: the server's last reply, and the recipients it refused."""
        self.mail_from(envelope)
        refused = self.rcpt_to(envelope)
        with self._nothing_left():
            reply = self.client.command("DATA")
            if reply.code != 354:
                self._refuse(reply, "the server refused the message before it was sent")
            early = self.client.send_content(bytes(envelope.content))
            if early is not None:
                self._refuse(early, "the server stopped in the middle of the message", kind=MessageRejected)
        try:
            reply = self.client.end_content()
        except OSError as exc:
            raise DeliveryUnknown(
                f"{self._where}: the connection was lost after the message, before the answer",
                code="answer_lost",
                transport=self.name,
            ) from exc
        if not reply:
            self._refuse(reply, "the server refused the message", sender=envelope.from_address, kind=MessageRejected)
        if reply.code != 250:
            # RFC 5321 4.3.2 knows one acceptance after the final dot.
            raise DeliveryUnknown(
                f"{self._where}: an odd answer to the message ({reply.status})",
                code="answer_odd",
                transport=self.name,
            )
        return reply, refused

    def reset(self) -> None:
        with self._nothing_left():
            self.client.command("RSET")

    def close(self) -> None:
        self.client.quit()

    @property
    def _where(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    @contextmanager
    def _nothing_left(self) -> Iterator[None]:
        """Until the final dot, a lost connection means that nothing was handed over (RFC 5321 4.1.1.4)."""
        try:
            yield
        except DeliveryError as exc:
            exc.transport = exc.transport or self.name
            raise
        except ProtocolError as exc:
            code = "not_smtp"
            words = "what answered is not an SMTP server, or this port begins with TLS"
            raise TransportUnavailable(
                f"{self._where}: {words}", code=code, transport=self.name, retryable=False
            ) from exc
        except ConnectionError as exc:
            raise TransportUnavailable(
                f"{self._where}: the server closed the connection", code="connection_lost", transport=self.name
            ) from exc
        except OSError as exc:
            raise network.unavailable(exc, self.settings.host, self.settings.port, transport=self.name) from exc

    def _refuse_login(self, reply: Reply) -> NoReturn:
        if reply.is_temporary:
            self._refuse(reply, "log-in is not possible now")
        raise AuthenticationFailed(f"{self._where} refused the log-in ({reply.status})", **self._facts(reply))

    def _refuse(
        self, reply: Reply, words: str, *, sender: str = "", kind: type[DeliveryError] = TransportUnavailable
    ) -> NoReturn:
        """Raises what a refusing reply means: 4yz is "not now", 5yz is final (RFC 5321 4.2.1)."""
        facts = self._facts(reply)
        text = f"{self._where}: {words} ({reply.status})"
        if reply.is_temporary:
            raise Throttled(text, **facts)
        if reply.code == 530 or _ACCOUNT_BARRED.match(reply.enhanced):
            raise AuthenticationFailed(text, **facts)
        if reply.code == 552 or reply.enhanced in _TOO_LARGE:
            raise MessageRejected(text, **facts)
        if kind is SenderRefused or _SENDER_BARRED.match(reply.enhanced):
            raise SenderRefused(text, sender=sender, **facts)
        if kind is MessageRejected:
            raise MessageRejected(text, **facts)
        raise TransportUnavailable(text, retryable=False, **facts)

    def _facts(self, reply: Reply) -> dict[str, Any]:
        return {"code": reply.status, "detail": self.client.scrub(reply.text)[:300], "transport": self.name}


def _queue_id(reply: Reply) -> str:
    """The server's own name for the message, where its reply has one ("250 2.0.0 Ok: queued as 4XyZ")."""
    match = re.search(r"queued as (\S+)|\bid[= ]<?([\w.@-]+)", reply.text, re.IGNORECASE)
    return next((one for one in match.groups() if one), "") if match else ""
