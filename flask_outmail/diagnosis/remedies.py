"""From what went wrong to what a person can do about it.

`remedy_for` asks the catalogue, and the first entry that answers wins. A code that no entry knows gets a remedy made
from what is known: the kind of error, the server's own words, its code, and the number to quote to support.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..errors import (
    AuthenticationFailed,
    BadHeaderError,
    ConfigurationError,
    ConnectionRefused,
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
    TransportTimeout,
    TransportUnavailable,
    UnsupportedFeature,
)
from .catalogue import WHO_LABELS, Entry, Remedy, Who
from .catalogue_credential import CREDENTIAL
from .catalogue_domain import DOMAIN
from .catalogue_entra import ENTRA
from .catalogue_graph import GRAPH
from .catalogue_hints import HINTS
from .catalogue_local import LOCAL
from .catalogue_message import MESSAGE
from .catalogue_network import NETWORK
from .catalogue_outbox import OUTBOX
from .catalogue_smtp_login import SMTP_LOGIN
from .catalogue_smtp_message import SMTP_MESSAGE
from .catalogue_smtp_sender import SMTP_SENDER
from .catalogue_watch import WATCH

__all__ = ["CATALOGUE", "WHO_LABELS", "Entry", "Remedy", "Who", "is_listed", "remedy_for"]

CATALOGUE: tuple[Entry, ...] = (
    *LOCAL,
    *CREDENTIAL,
    *HINTS,
    *MESSAGE,
    *OUTBOX,
    *NETWORK,
    *ENTRA,
    *GRAPH,
    *SMTP_LOGIN,
    *SMTP_SENDER,
    *SMTP_MESSAGE,
    *DOMAIN,
    *WATCH,
)

# By the kind of error, for codes that no entry knows. The nearest class wins.
_UNLISTED: dict[type[OutmailError], tuple[str, Who]] = {
    OutmailError: ("Something here needs attention", "you"),
    ConfigurationError: ("A setting needs to be corrected", "you"),
    SecretUnreadable: ("A stored secret cannot be read", "developer"),
    SetupNotVerified: ("The setup has not passed a test yet", "you"),
    InvalidMessage: ("This message cannot be sent as it is", "developer"),
    BadHeaderError: ("A header of this message is not allowed", "developer"),
    MissingSender: ("The message does not say who it is from", "developer"),
    MissingRecipients: ("The message has no recipient", "developer"),
    UnsupportedFeature: ("This mail service cannot express the message", "developer"),
    DeliveryError: ("The message was not accepted", "you"),
    TransportUnavailable: ("The server could not be reached, or would not talk", "network"),
    ConnectionRefused: ("Nothing answers at this host and port", "network"),
    TransportTimeout: ("No answer came in time", "network"),
    Throttled: ("The server asks to wait", "nobody"),
    AuthenticationFailed: ("The log-in, or the permission behind it, was refused", "you"),
    RecipientsRefused: ("The recipients were refused", "you"),
    MessageRejected: ("The server did not take this message", "you"),
    SenderRefused: ("The From address was refused", "you"),
    DeliveryUnknown: ("Nobody knows whether it arrived", "you"),
}
_ENTRA_NUMBER = re.compile(r"^AADSTS(\d+)$", re.IGNORECASE)
_ENHANCED = re.compile(r"\b([45])\.(\d{1,3})\.\d{1,3}$")
# RFC 3463 3: the second number of an enhanced status code names the subject.
_SUBJECTS = {
    "1": "an address",
    "2": "a mailbox",
    "3": "the mail system",
    "4": "the network or the routing of mail",
    "5": "the mail protocol",
    "6": "the content of the message",
    "7": "security or a policy",
}


def remedy_for(error: OutmailError) -> Remedy:
    """The remedy for an error; for a code that is not listed, one that shows what is known."""
    for entry in CATALOGUE:
        if entry.answers(error):
            return replace(entry.remedy, code=error.code)
    return _unlisted(error)


def is_listed(error: OutmailError) -> bool:
    """Whether the catalogue knows the error; the remedy of one it does not know quotes the other side's words."""
    return any(entry.answers(error) for entry in CATALOGUE)


def _unlisted(error: OutmailError) -> Remedy:
    title, who = next(_UNLISTED[kind] for kind in type(error).__mro__ if kind in _UNLISTED)
    steps = [error.advice] if error.advice else []
    number = _ENTRA_NUMBER.match(error.code)
    enhanced = _ENHANCED.search(error.code)
    if number:
        who = "entra_admin"
        steps.append(
            f"Read what Microsoft says about this number: https://login.microsoftonline.com/error?code={number[1]}"
        )
    elif enhanced:
        lasting = "it may pass by itself" if enhanced[1] == "4" else "the same attempt will be refused again"
        subject = _SUBJECTS.get(enhanced[2], "something that the standard leaves open")
        steps.append(f"The code {error.code} means: about {subject}; {lasting}.")
    if error.code and isinstance(error, DeliveryError) and not isinstance(error, Throttled):
        request_id = f" and the request id {error.request_id}" if error.request_id else ""
        steps.append(f"If this stays, quote the code {error.code}{request_id} to those who run the server.")
    return Remedy(
        code=error.code,
        title=title,
        meaning=f"The other side said: {error.detail}" if error.detail else _sentence(str(error)),
        # What is asked of nobody may be empty; everything else needs something to begin with.
        steps=tuple(steps or ["Read the message above; it is all that is known about this."]),
        who=who,
    )


def _sentence(text: str) -> str:
    text = text.strip() or "there is no further explanation"
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?" else ".")
