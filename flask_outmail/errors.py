"""Everything that can go wrong, as one tree.

    OutmailError                    has: message, advice, code, detail
    ├── ConfigurationError          the settings are wrong or missing; trying again cannot help
    │   └── SecretUnreadable        a stored secret cannot be decrypted with the keys at hand
    ├── SetupNotVerified            the active setup was never proven; the message is held, not lost
    ├── InvalidMessage              no transport could send this (also a ValueError)
    │   ├── BadHeaderError          a line break where a header value stands
    │   ├── MissingSender           (also an AssertionError, which Flask-Mail raised)
    │   └── MissingRecipients       (also an AssertionError)
    ├── UnsupportedFeature          this transport cannot say it; names the feature
    └── DeliveryError               has: transport, retryable, retry_after_s, request_id, fault
        ├── TransportUnavailable    nothing left this machine          connection's fault
        │   ├── ConnectionRefused   (also the built-in ConnectionRefusedError)
        │   └── TransportTimeout    (also the built-in TimeoutError)
        ├── Throttled               the server asks to wait            nobody's fault
        ├── AuthenticationFailed    secret, consent or permission      connection's fault
        ├── RecipientsRefused       per recipient: code and text       message's fault
        ├── MessageRejected         too large, policy                  message's fault
        │   └── SenderRefused       this From address is not allowed   message's fault
        └── DeliveryUnknown         it left us and no answer came      nobody knows

Delivery errors are subclasses of the `smtplib` exceptions that applications written for Flask-Mail already
catch, whichever transport raised them. Texts and attributes never hold a secret, a token or a body. Every error
survives pickling.
"""

from __future__ import annotations

import smtplib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

Fault = Literal["connection", "message", "nobody"]


class Refusal(NamedTuple):
    """What a server said about one recipient."""

    code: int
    text: str


class OutmailError(Exception):
    """Base of all errors of this package.

    `code` is the server's own code ("ErrorAccessDenied", "AADSTS7000215", "535 5.7.139") or, for a fault found on
    this side, one of ours ("dns_not_found"); the catalogue of remedies is keyed by it. `detail` is what the other
    side said, shortened and free of secrets. `advice` is one sentence that a page may show.
    """

    advice: str = ""

    def __init__(self, message: str, *, code: str = "", detail: str = "", advice: str = "") -> None:
        # Set by hand: some branches of the tree inherit smtplib classes, whose __init__ wants other arguments.
        self.args = (message,)
        self.message = message
        self.code = code
        self.detail = detail
        if advice:
            self.advice = advice

    def _quote(self, detail: str) -> None:
        """Puts other words into the other side's mouth, wherever an error keeps them: for those that hide a secret."""
        self.detail = detail

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(cls: type[OutmailError], message: str, attributes: dict[str, Any]) -> OutmailError:
    error = cls.__new__(cls)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(OutmailError):
    """Settings are missing or contradict each other. Names the key or field; never retried."""

    advice = "Correct the setting that the message names."


class SecretUnreadable(ConfigurationError):
    """A stored secret cannot be decrypted with the present keys."""

    advice = "Put the key it was stored with back into OUTMAIL_ENCRYPTION_KEYS, or enter the secret again."


class SetupNotVerified(OutmailError):
    """The active setup has not passed a test, so nothing may leave yet.

    `held` tells whether the message was kept: then it leaves by itself once a test passes, and the caller must
    not send it again.
    """

    advice = "Open the outbound mail setup and test it; what is held leaves soon after a test has passed."

    def __init__(self, message: str, *, held: bool = False, code: str = "setup_not_verified") -> None:
        super().__init__(message, code=code)
        self.held = held


class InvalidMessage(OutmailError, ValueError):
    """No transport could send this message; the caller must change it."""

    advice = "Correct the message; nothing was sent."


class BadHeaderError(InvalidMessage):
    """A line break stands where a header value belongs: refused, because it could add headers of its own."""

    advice = "Remove the line break from the field that the message names."


class MissingSender(InvalidMessage, AssertionError):
    """Neither the message nor the setup says who it is from."""

    advice = "Give the message a sender, or set a From email address in the setup (or MAIL_DEFAULT_SENDER)."


class MissingRecipients(InvalidMessage, AssertionError):
    """The message has no recipient at all."""

    advice = "Give the message at least one recipient, in To, Cc or Bcc."


class UnsupportedFeature(OutmailError):
    """The chosen transport cannot express something in this message. It is refused, never dropped in silence."""

    def __init__(self, message: str, *, feature: str, transport: str, advice: str = "") -> None:
        super().__init__(message, code="unsupported_feature", advice=advice)
        self.feature = feature
        self.transport = transport


class DeliveryError(OutmailError, smtplib.SMTPException):
    """The message was not accepted, or nobody knows whether it was (`DeliveryUnknown`).

    `fault` says whose it is, `retryable` whether the same call may succeed later without anybody changing anything,
    `retry_after_s` how many seconds the server asked to wait, `request_id` what to quote to the server's support.
    """

    fault: ClassVar[Fault] = "connection"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        detail: str = "",
        advice: str = "",
        transport: str = "",
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message, code=code, detail=detail, advice=advice)
        self.transport = transport
        if retryable is not None:
            self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        # What `except smtplib.SMTPResponseException` handlers read. 0 where no SMTP reply stands behind it.
        self.smtp_code = int(code[:3]) if code[:3].isdigit() else 0
        self._quote(detail)

    def _quote(self, detail: str) -> None:
        super()._quote(detail)
        self.smtp_error: bytes | str = (detail or self.message).encode("utf-8", "replace")


class TransportUnavailable(DeliveryError, smtplib.SMTPConnectError):
    """The server could not be reached or would not talk; it is certain that nothing was handed over."""

    retryable = True
    advice = "Nothing was sent. Check the host, the port and the network, then try again."


class ConnectionRefused(TransportUnavailable, ConnectionRefusedError):
    """Nothing listens at this host and port."""


class TransportTimeout(TransportUnavailable, TimeoutError):
    """No answer in time, before the message was handed over."""


class Throttled(DeliveryError, smtplib.SMTPDataError):
    """The server asks to wait; nothing was accepted."""

    fault: ClassVar[Fault] = "nobody"
    retryable = True
    advice = "Wait as long as the server asks; nothing needs to be changed."


class AuthenticationFailed(DeliveryError, smtplib.SMTPAuthenticationError):
    """The server or the identity provider refused the credential, or the permission behind it."""

    advice = "A person must correct the credential or the permission; trying again cannot help."


class RecipientsRefused(DeliveryError, smtplib.SMTPRecipientsRefused):
    """Every recipient was refused. `recipients` maps each address to a `Refusal` (code, text)."""

    fault: ClassVar[Fault] = "message"
    advice = "Check the recipients' addresses."

    def __init__(self, message: str, *, recipients: Mapping[str, Refusal], **facts: Any) -> None:
        super().__init__(message, **facts)
        # smtplib promises bytes where we have text; what catches this prints it.
        self.recipients: dict[str, Any] = dict(recipients)


class MessageRejected(DeliveryError, smtplib.SMTPDataError):
    """The server refused this message (too large, policy, content); another message may pass."""

    fault: ClassVar[Fault] = "message"
    advice = "Change the message; sending the same one again cannot help."


class SenderRefused(MessageRejected, smtplib.SMTPSenderRefused):  # type: ignore[misc]  # smtp_error is bytes there
    """The log-in may not send with this From address. `sender` is the address that was refused."""

    advice = "Use the mailbox's own address as From, or grant it the right to send as this address."

    def __init__(self, message: str, *, sender: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.sender = sender


class DeliveryUnknown(DeliveryError, smtplib.SMTPServerDisconnected):
    """The message left this machine and no clear answer came: it may or may not have been accepted.

    Never sent again by reflex (RFC 1047 explains why that duplicates mail).
    """

    fault: ClassVar[Fault] = "nobody"
    advice = "It may have arrived. Ask the recipient, or look at the sender's mailbox, before sending it again."
