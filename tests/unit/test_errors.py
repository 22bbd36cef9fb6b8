from __future__ import annotations

import pickle
import re
import smtplib

import pytest

from flask_outmail import errors
from flask_outmail.errors import OutmailError, RecipientsRefused, Refusal, SenderRefused, SetupNotVerified


def every_error() -> list[type[OutmailError]]:
    return [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OutmailError)]


def make(kind: type[OutmailError]) -> OutmailError:
    if kind is RecipientsRefused:
        return RecipientsRefused("all refused", recipients={"a@x.example": Refusal(550, "no")}, code="550 5.1.1")
    if issubclass(kind, SenderRefused):
        return kind("not allowed", sender="a@x.example")
    if kind is SetupNotVerified:
        return SetupNotVerified("held", held=True)
    if kind is errors.UnsupportedFeature:
        return kind("cannot say it", feature="SMTPUTF8", transport="smtp")
    return kind("it went wrong", code="421 4.3.2")


def test_the_tree_at_the_top_of_the_file_shows_every_error_below_its_parent() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^( *[│├└─ ]*)([A-Z]\w+(?:Error|\w+)) ", line):
            drawn.append((len(match[1]), match[2]))
    tree = {name: depth for depth, name in drawn}
    assert set(tree) >= {one.__name__ for one in every_error()}
    names = [name for _, name in drawn]
    for one in every_error():
        if one is OutmailError:
            continue
        parent = next(base.__name__ for base in one.__mro__[1:] if base.__name__ in tree)
        assert tree[one.__name__] > tree[parent]
        assert names.index(parent) < names.index(one.__name__)


@pytest.mark.parametrize("kind", every_error())
def test_every_error_survives_pickling_whole(kind: type[OutmailError]) -> None:
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(copy) is kind
    assert (str(copy), repr(copy), copy.__dict__) == (str(error), repr(error), error.__dict__)


def test_delivery_errors_are_the_smtplib_errors_that_applications_catch() -> None:
    pairs = {
        errors.DeliveryError: smtplib.SMTPException,
        errors.AuthenticationFailed: smtplib.SMTPAuthenticationError,
        errors.RecipientsRefused: smtplib.SMTPRecipientsRefused,
        errors.SenderRefused: smtplib.SMTPSenderRefused,
        errors.MessageRejected: smtplib.SMTPDataError,
        errors.TransportUnavailable: smtplib.SMTPConnectError,
        errors.DeliveryUnknown: smtplib.SMTPServerDisconnected,
        errors.ConnectionRefused: ConnectionRefusedError,
        errors.TransportTimeout: TimeoutError,
    }
    for ours, theirs in pairs.items():
        assert issubclass(ours, theirs)
        assert issubclass(ours, OSError)


def test_a_handler_written_for_smtplib_finds_code_text_and_recipients() -> None:
    refused = make(RecipientsRefused)
    assert isinstance(refused, RecipientsRefused)
    assert refused.recipients == {"a@x.example": (550, "no")}
    failed = errors.AuthenticationFailed("no", code="535 5.7.3", detail="Authentication unsuccessful")
    assert (failed.smtp_code, failed.smtp_error) == (535, b"Authentication unsuccessful")


@pytest.mark.parametrize("kind", every_error())
def test_every_error_says_what_to_do(kind: type[OutmailError]) -> None:
    error = make(kind)
    abstract = (OutmailError, errors.DeliveryError, errors.UnsupportedFeature)
    assert error.advice or kind in abstract
    if isinstance(error, errors.DeliveryError):
        assert error.fault in ("connection", "message", "nobody")
        assert isinstance(error.retryable, bool)
