"""What an application written for Flask-Mail calls: its `Message`, its `Connection`, its helpers and its state.

`flask_outmail.message.Message` is the plain value, which knows nothing of Flask; the `Message` here adds the default
sender of the current application and the ways to print itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from flask import current_app, has_app_context

from . import headers, mime
from . import message as values
from .address import Address, AddressLike
from .envelope import Receipt
from .signals import email_dispatched, notify


class FlaskMailUnicodeDecodeError(UnicodeDecodeError):
    """Bytes that are no text in the expected encoding; says what was passed in by its type."""

    def __init__(self, obj: Any, *args: Any) -> None:
        self.obj = obj
        super().__init__(*args)

    def __str__(self) -> str:
        return f"{super().__str__()}. The value is of {type(self.obj)}"


def force_text(value: Any, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Text from text, bytes, or anything that has a string form (lazy translations too)."""
    if isinstance(value, bytes):
        try:
            return value.decode(encoding, errors)
        except UnicodeDecodeError as exc:
            raise FlaskMailUnicodeDecodeError(value, *exc.args) from exc
    return str(value)


def sanitize_subject(subject: str, encoding: str = "utf-8") -> str:
    """The subject as it stands in the header."""
    return headers.subject_value(force_text(subject), encoding)


def sanitize_address(addr: AddressLike, encoding: str = "utf-8") -> str:
    """An address as it stands in a header: name encoded where needed, domain in ASCII."""
    return headers.mailbox_text(Address.parse(addr), encoding, "address")


def sanitize_addresses(addresses: Iterable[AddressLike], encoding: str = "utf-8") -> list[str]:
    """Each address as `sanitize_address` gives it."""
    return [sanitize_address(one, encoding) for one in addresses]


class MailState:
    """What Flask-Mail's configuration says for one application; `app.extensions["mail"]`.

    `default_sender` and `ascii_attachments` may be assigned at run time and are read for each message.
    """

    def __init__(self, config: Mapping[str, Any], debug: bool, testing: bool) -> None:
        from .settings import DEFAULTS

        def value(key: str, default: Any = None) -> Any:
            found = config.get(key)
            return (DEFAULTS[key] if default is None else default) if found is None else found

        self.server: str = value("MAIL_SERVER")
        self.username: str | None = value("MAIL_USERNAME")
        self.password: str | None = value("MAIL_PASSWORD")
        self.port: int = value("MAIL_PORT")
        self.use_tls: bool = value("MAIL_USE_TLS")
        self.use_ssl: bool = value("MAIL_USE_SSL")
        self.default_sender: AddressLike | None = value("MAIL_DEFAULT_SENDER")
        self.debug: bool = value("MAIL_DEBUG", debug)
        self.max_emails: int | None = value("MAIL_MAX_EMAILS")
        self.suppress: bool = value("MAIL_SUPPRESS_SEND", testing)
        self.ascii_attachments: bool = value("MAIL_ASCII_ATTACHMENTS")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.server}:{self.port}>"


class Message(values.Message):
    """One mail. Without `sender` it is from MAIL_DEFAULT_SENDER, or from the setup in force when it is sent."""

    def _default_sender(self) -> AddressLike | None:
        default: AddressLike | None = _state_value("default_sender")
        return default

    def as_bytes(self) -> bytes:
        """The message as it is sent, without Bcc; the same on every call once `date` is set."""
        return bytes(mime.build(self, ascii_attachments=bool(_state_value("ascii_attachments"))))

    def as_string(self) -> str:
        return self.as_bytes().decode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        return self.as_string()

    def __bytes__(self) -> bytes:
        return self.as_bytes()

    def is_bad_headers(self) -> bool:
        """The old name of `has_bad_headers`."""
        import warnings

        warnings.warn("is_bad_headers is now has_bad_headers", DeprecationWarning, stacklevel=2)
        return self.has_bad_headers()

    def send(self, connection: Connection) -> None:
        """Sends this message over an open connection."""
        connection.send(self)


def _state_value(name: str) -> Any:
    state = current_app.extensions.get("mail") if has_app_context() else None
    return getattr(state, name, None)


class Connection:
    """`with mail.connect() as connection: connection.send(message)`; what Flask-Mail users write for many messages.

    `host` is None while sending is suppressed. A subclass may override `configure_host` to return an object with
    `sendmail` and `quit`, such as an `smtplib.SMTP`: then that object does the sending.
    """

    def __init__(self, mail: Any) -> None:
        self.mail = mail
        self.host: Any = None
        self.num_emails = 0

    def __enter__(self) -> Connection:
        self.host = None if self.mail.suppress else self.configure_host()
        self.num_emails = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.host is not None:
            self.host.quit()

    def configure_host(self) -> Any:
        return EngineHost(current_app.extensions["outmail"])

    def send(self, message: values.Message, envelope_from: AddressLike | None = None) -> Receipt | None:
        """Sends one message; `envelope_from` replaces its sender as the return path.

        Raises as `Mail.send` does.
        """
        if self.host is None or isinstance(self.host, EngineHost):
            host = self.host or EngineHost(current_app.extensions["outmail"])
            receipt: Receipt | None = host.deliver(message, envelope_from)
        else:
            receipt = None
            self._send_by_hand(message, envelope_from)
        self.num_emails += 1
        if self.num_emails == self.mail.max_emails:
            self.num_emails = 0
            if self.host is not None:
                self.host.quit()
                self.host = self.configure_host()
        return receipt

    def _send_by_hand(self, message: values.Message, envelope_from: AddressLike | None) -> None:
        import time

        message.check()
        if message.date is None:
            message.date = time.time()
        assert message.sender  # noqa: S101 -- `check` has refused a missing one
        self.host.sendmail(
            sanitize_address(envelope_from or message.sender),
            # A set, as in Flask-Mail, has no order; the order given is kept here.
            list(dict.fromkeys(sanitize_addresses([*message.recipients, *message.cc, *message.bcc]))),
            bytes(mime.build(message, ascii_attachments=bool(_state_value("ascii_attachments")))),
            message.mail_options,
            message.rcpt_options,
        )
        notify(email_dispatched, current_app._get_current_object(), message=message)  # type: ignore[attr-defined]

    def send_message(self, *args: Any, **kwargs: Any) -> Receipt | None:
        """`send(Message(…))`."""
        return self.send(Message(*args, **kwargs))


class EngineHost:
    """Stands where Flask-Mail has an `smtplib.SMTP`: sends by whatever mail service is set up."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def deliver(self, message: values.Message, envelope_from: AddressLike | None) -> Receipt:
        return_path = Address.parse(envelope_from).address if envelope_from else ""
        receipt: Receipt = self._engine.deliver(message, envelope_from=return_path)
        return receipt

    def quit(self) -> None:
        """Connections belong to the transport, not to this object."""
