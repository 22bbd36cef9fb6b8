"""The map from what an SMTP server says, or fails to say, to our errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .. import network
from ..errors import (
    AuthenticationFailed,
    DeliveryError,
    DeliveryUnknown,
    MessageRejected,
    RecipientsRefused,
    Refusal,
    SenderRefused,
    Throttled,
    TransportUnavailable,
)
from .smtp_client import ProtocolError, Reply

# Exchange Online's ways to say that the log-in, not this message, is the trouble (Exchange: NDR codes 5.7.30, 5.7.57,
# 5.1.8, 5.7.501-5.7.79x).
_ACCOUNT_BARRED = re.compile(r"^5\.(7\.(3|30|57|139|5\d\d|7\d\d)|1\.8)$")
# ... and that this From address is (5.7.60, 5.2.252).
_SENDER_BARRED = re.compile(r"^5\.(7\.60|2\.252)$")
_TOO_LARGE = {"5.3.4", "5.2.3"}  # RFC 3463
_QUEUE_ID = re.compile(r"queued as (\S+)|\bid[= ]<?([\w.@-]+)", re.IGNORECASE)


class Judge:
    """Makes errors for one server. `name` is the transport's."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.where = f"{host}:{port}"

    def lost(self, exc: OSError) -> TransportUnavailable:
        """A connection that failed before the final dot: nothing was handed over (RFC 5321 4.1.1.4)."""
        error: TransportUnavailable
        if isinstance(exc, ProtocolError):
            words = "what answered is not an SMTP server, or this port begins with TLS"
            error = TransportUnavailable(
                f"{self.where}: {words}", code="not_smtp", transport=self.name, retryable=False
            )
        elif isinstance(exc, ConnectionError):
            error = TransportUnavailable(
                f"{self.where}: the server closed the connection", code="connection_lost", transport=self.name
            )
        else:
            error = network.unavailable(exc, self.host, self.port, transport=self.name)
        error.__cause__ = exc
        return error

    def unknown(self, cause: OSError | None = None) -> DeliveryUnknown:
        """The whole message had left, and the answer did not come."""
        error = DeliveryUnknown(
            f"{self.where}: the connection was lost after the message, before the answer",
            code="answer_lost",
            transport=self.name,
        )
        error.__cause__ = cause
        return error

    def odd(self, said: str) -> DeliveryUnknown:
        """The whole message had left, and what came back is no answer to it."""
        return DeliveryUnknown(
            f"{self.where}: an odd answer to the message ({said})", code="answer_odd", transport=self.name
        )

    def refusal(
        self, reply: Reply, words: str, *, sender: str = "", kind: type[DeliveryError] = TransportUnavailable
    ) -> DeliveryError:
        """What a refusing reply means: 4yz is "not now", 5yz is final (RFC 5321 4.2.1)."""
        facts = self.facts(reply)
        text = f"{self.where}: {words} ({reply.status})"
        if reply.is_temporary:
            return Throttled(text, **facts)
        if reply.code == 530 or _ACCOUNT_BARRED.match(reply.enhanced):
            return AuthenticationFailed(text, **facts)
        if reply.code == 552 or reply.enhanced in _TOO_LARGE:
            return MessageRejected(text, **facts)
        if kind is SenderRefused or _SENDER_BARRED.match(reply.enhanced):
            return SenderRefused(text, sender=sender, **facts)
        if kind is MessageRejected:
            return MessageRejected(text, **facts)
        return TransportUnavailable(text, retryable=False, **facts)

    def login_refusal(self, reply: Reply) -> DeliveryError:
        if reply.is_temporary:
            return self.refusal(reply, "log-in is not possible now")
        return AuthenticationFailed(f"{self.where} refused the log-in ({reply.status})", **self.facts(reply))

    def recipients(self, addresses: Sequence[str], replies: Sequence[Reply]) -> dict[str, Refusal]:
        """The recipients that were refused, each with its reply.

        Raises:
            RecipientsRefused: all of them were; worth another try when all of them were told "not now".
            AuthenticationFailed: the log-in itself is barred.
        """
        refused: dict[str, Refusal] = {}
        last = None
        for address, reply in zip(addresses, replies, strict=False):
            if reply.code >= 400:
                if _ACCOUNT_BARRED.match(reply.enhanced):
                    raise self.refusal(reply, "the server stopped at a recipient")
                refused[address] = Refusal(reply.code, reply.text)
                last = reply
        if last is not None and len(refused) == len(addresses):
            raise RecipientsRefused(
                f"the server refused every recipient ({last.status})",
                recipients=refused,
                retryable=all(400 <= one.code < 500 for one in refused.values()),
                **self.facts(last),
            )
        return refused

    def facts(self, reply: Reply) -> dict[str, Any]:
        return {"code": reply.status, "detail": reply.text[:300], "transport": self.name}


def queue_id(reply: Reply) -> str:
    """The server's own name for the message, where its reply has one ("250 2.0.0 Ok: queued as 4XyZ")."""
    match = _QUEUE_ID.search(reply.text)
    return (match[1] or match[2]) if match else ""
