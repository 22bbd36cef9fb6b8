"""Outbound mail that an administrator can set up, prove and watch, in any Flask application."""

from __future__ import annotations

from .compat import (
    Connection,
    FlaskMailUnicodeDecodeError,
    Message,
    force_text,
    sanitize_address,
    sanitize_addresses,
    sanitize_subject,
)
from .drop_in import install_as_flask_mail
from .envelope import Receipt
from .errors import (
    AuthenticationFailed,
    BadHeaderError,
    ConfigurationError,
    DeliveryError,
    DeliveryUnknown,
    InvalidMessage,
    MessageRejected,
    MissingRecipients,
    MissingSender,
    OutmailError,
    RecipientsRefused,
    SecretUnreadable,
    SenderRefused,
    SetupNotVerified,
    Throttled,
    TransportUnavailable,
    UnsupportedFeature,
)
from .extension import Mail
from .mailables import Mailable
from .message import Attachment
from .signals import (
    delivery_settled,
    email_dispatched,
    message_accepted,
    message_failed,
    message_held,
    message_queued,
    signals,
)
from .templating import message_from_template

__all__ = [
    "Attachment",
    "AuthenticationFailed",
    "BadHeaderError",
    "ConfigurationError",
    "Connection",
    "DeliveryError",
    "DeliveryUnknown",
    "FlaskMailUnicodeDecodeError",
    "InvalidMessage",
    "Mail",
    "Mailable",
    "Message",
    "MessageRejected",
    "MissingRecipients",
    "MissingSender",
    "OutmailError",
    "Receipt",
    "RecipientsRefused",
    "SecretUnreadable",
    "SenderRefused",
    "SetupNotVerified",
    "Throttled",
    "TransportUnavailable",
    "UnsupportedFeature",
    "delivery_settled",
    "email_dispatched",
    "force_text",
    "install_as_flask_mail",
    "message_accepted",
    "message_failed",
    "message_from_template",
    "message_held",
    "message_queued",
    "sanitize_address",
    "sanitize_addresses",
    "sanitize_subject",
    "signals",
]
