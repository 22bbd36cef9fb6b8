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


def test_whose_fault_each_is_stands_in_the_tree() -> None:
    drawn = dict(
        re.findall(r"(?m)^[ │├└─]*(\w+) .*?(connection's|message's|nobody's|nobody knows)", errors.__doc__ or "")
    )
    for name, whose in drawn.items():
        assert getattr(errors, name).fault == whose.partition("'")[0].partition(" ")[0], name
    assert len(drawn) == 7


@pytest.mark.parametrize(
    "kind", [errors.OutmailError, errors.ConfigurationError, errors.DeliveryError, errors.Throttled]
)
def test_an_error_of_which_nothing_more_is_known_claims_nothing_more(kind: type[OutmailError]) -> None:
    error = kind("it went wrong")
    assert (str(error), error.code, error.detail, error.advice) == ("it went wrong", "", "", kind.advice)
    assert "advice" not in vars(error)
    if isinstance(error, errors.DeliveryError):
        assert (error.transport, error.request_id, error.retry_after_s) == ("", "", None)
        assert error.retryable is (kind is errors.Throttled)
        assert (error.smtp_code, error.smtp_error) == (0, b"it went wrong")


FACTS = {"code": "550-5.7.3", "detail": "they said", "advice": "do this", "transport": "smtp", "retryable": True,
         "retry_after_s": 3.0, "request_id": "r"}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (errors.AuthenticationFailed, {}),
        (RecipientsRefused, {"recipients": {}}),
        (SenderRefused, {"sender": "a@x.example"}),
    ],
)
def test_what_is_told_to_an_error_can_be_read_from_it(kind: type[errors.DeliveryError], own: dict[str, object]) -> None:
    error = kind("no", **FACTS, **own)
    facts = {**FACTS, **own}
    assert {name: getattr(error, name) for name in facts} == facts
    assert error.smtp_code == 550
    assert repr(error) == f"{kind.__name__}('no', code='550-5.7.3')"


def test_errors_with_facts_of_their_own_keep_them() -> None:
    held = SetupNotVerified("held")
    assert (held.held, held.code) == (False, "setup_not_verified")
    assert (SetupNotVerified("x", held=True, code="other").held, SetupNotVerified("x", code="other").code) == (
        True,
        "other",
    )
    feature = errors.UnsupportedFeature("no", feature="SMTPUTF8", transport="smtp", advice="do this")
    assert (feature.feature, feature.transport, feature.code) == ("SMTPUTF8", "smtp", "unsupported_feature")
    assert feature.advice == "do this"
    assert errors.UnsupportedFeature("no", feature="x", transport="y").advice == ""


def test_half_a_character_in_what_a_server_said_does_not_stop_the_error() -> None:
    assert errors.DeliveryError("no", detail="\ud83d").smtp_error == b"?"
