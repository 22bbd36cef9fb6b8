"""Rules for the catalogue of remedies: every signal finds the right words, and the words keep to the house's style."""

from __future__ import annotations

import ast
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import flask_outmail
from flask_outmail import errors, network
from flask_outmail.clouds import clouds
from flask_outmail.diagnosis.it_request import it_request
from flask_outmail.diagnosis.remedies import CATALOGUE, WHO_LABELS, Entry, Who, remedy_for
from flask_outmail.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DeliveryError,
    DeliveryUnknown,
    MessageRejected,
    OutmailError,
    RecipientsRefused,
    Refusal,
    SenderRefused,
    SetupNotVerified,
    Throttled,
    TransportUnavailable,
    UnsupportedFeature,
)

PACKAGE = Path(flask_outmail.__file__).parent
IDS = [f"{number}-{entry.remedy.code}" for number, entry in enumerate(CATALOGUE)]

# What servers say, one sample for each regular expression of the catalogue.
SERVER_WORDS = [
    "Audience validation did not pass: aud is https://outlook.office365.com",
    "Access to OData is disabled.",
    "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant."
    " Visit https://aka.ms/smtp_auth_disabled",
    "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
    "5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
    "5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully.",
    "5.7.139 Authentication unsuccessful, basic authentication is disabled.",
    "5.7.0 Must issue a STARTTLS command first",
    "5.2.252 Sender throttled due to continuous send as denied errors",
    "5.7.1 Relay access denied",
    "5.7.1 Sender address rejected: not owned by user app@example.com",
    "4.3.2 Concurrent connections limit exceeded",
    "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
    "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded",
    "4.2.0 Greylisted, please come back in five minutes",
    "graph.microsoft.us: Name or service not known",
]  # fmt: skip


def the_error(
    code: str, detail: str = "", *, kind: type[OutmailError] = DeliveryError, transport: str = "", request_id: str = ""
) -> OutmailError:
    if not issubclass(kind, DeliveryError):
        return kind("it went wrong", code=code, detail=detail)
    return kind("it went wrong", code=code, detail=detail, transport=transport, request_id=request_id)


def the_entry(error: OutmailError) -> Entry | None:
    return next((entry for entry in CATALOGUE if entry.answers(error)), None)


def title(code: str, detail: str = "", *, kind: type[OutmailError] = DeliveryError, transport: str = "") -> str:
    return remedy_for(the_error(code, detail, kind=kind, transport=transport)).title


def samples(entry: Entry, signal: str) -> Iterator[OutmailError]:
    """Errors that the signal of this entry is meant for."""
    codes = [signal.rstrip("*") + more for more in (("", " 5.0.0", "9", "0") if signal.endswith("*") else ("",))]
    words = [text for text in SERVER_WORDS if entry.detail.search(text)] if entry.detail else [""]
    assert words, f"no sample of a server's words for {entry.detail!r}"
    for code in codes:
        for kind in entry.kinds or (DeliveryError,):
            for text in words:
                yield the_error(code, text, kind=kind, transport=entry.transport)


# -- finding the entry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", CATALOGUE, ids=IDS)
def test_every_signal_of_every_entry_is_reached_by_some_error(entry: Entry) -> None:
    for signal in entry.signals:
        assert any(the_entry(error) is entry for error in samples(entry, signal)), f"{signal} is hidden"


@pytest.mark.parametrize("entry", [one for one in CATALOGUE if one.kinds], ids=lambda entry: entry.remedy.code)
def test_an_entry_answers_each_of_its_kinds(entry: Entry) -> None:
    for kind in entry.kinds:
        assert the_entry(the_error(entry.remedy.code, kind=kind)) is entry


def test_the_first_entry_that_answers_wins() -> None:
    error = the_error("535 5.7.3", transport="microsoft365_smtp")
    assert sum(entry.answers(error) for entry in CATALOGUE) > 1
    assert remedy_for(error).title == "SMTP log-in with this application is not set up in Exchange"


@pytest.mark.parametrize("code", ["ErrorAccessDenied", "erroraccessdenied", "ERRORACCESSDENIED"])
def test_codes_are_compared_without_regard_to_case(code: str) -> None:
    assert title(code) == "Microsoft refused this mailbox"


def test_a_signal_without_a_star_does_not_match_longer_codes() -> None:
    assert title("550 5.7.6") != title("550 5.7.60")
    assert title("AADSTS70001") != title("AADSTS700016")


def test_a_remedy_carries_the_code_that_the_error_had() -> None:
    assert remedy_for(the_error("550 5.7.742")).code == "550 5.7.742"


def test_an_error_without_a_code_still_gets_a_remedy() -> None:
    remedy = remedy_for(OutmailError("something is odd"))
    assert remedy.title
    assert remedy.meaning == "Something is odd."
    assert remedy.steps


# -- every code that this package raises has words -------------------------------------------------------------------


def codes_in_source() -> set[str]:
    """Every literal given as `code=` in a call, as the default of a parameter `code`, or assigned to a name `code`."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if "simulator" in path.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            values: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            elif isinstance(node, ast.Assign) and any(
                isinstance(one, ast.Name) and one.id == "code" for one in node.targets
            ):
                values = [node.value]
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                values = [default for argument, default in arguments if argument.arg == "code"]
            for value in values:
                branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                found |= {one.value for one in branches if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found - {""}


def test_the_walk_through_the_source_finds_codes_of_each_form() -> None:
    assert {
        "connection_lost",
        "setup_not_verified",
        "not_smtp",
        "dns_no_answer",
        "unsupported_feature",
    } <= codes_in_source()


@pytest.mark.parametrize("code", sorted(codes_in_source()))
def test_every_code_raised_in_this_package_has_an_entry(code: str) -> None:
    assert the_entry(the_error(code)), f"no remedy for {code!r}"


@pytest.mark.parametrize(
    "code",
    [
        "secret_is_id", "tenant_is_client_id", "credential_incomplete", "certificate_unreadable",
        "certificate_expired", "credential_expired", "secret_unreadable", "settings_incomplete", "tables_missing",
        "database_unavailable", "setup_not_verified", "token_without_role", "token_role_delegated", "token_opaque",
        "graph_accepted_empty", "sender_domain_differs", "port_465_starttls", "port_587_tls", "no_alert_path",
        "entra_busy", "entra_unavailable", "not_entra", "entra_error", "tests_too_many", "not_accepted",
        "tls_expired", "tls_not_yet_valid", "tls_wrong_name", "tls_untrusted", "tls_wrong_kind", "tls_failed",
        "starttls_missing", "no_greeting", "not_smtp", "port_closed", "no_answer", "dns_not_found", "dns_no_answer",
        "unreachable", "connection_lost", "answer_lost", "invalid_client", "temporarily_unavailable",
        "paused_by_server", "requests_used_up",
    ],
)  # fmt: skip
def test_every_code_of_our_own_has_an_entry(code: str) -> None:
    assert the_entry(the_error(code))


@pytest.mark.parametrize("fault", [TimeoutError(), ConnectionRefusedError(), OSError("no route"), UnicodeError("bad")])
def test_every_fault_of_a_connection_has_an_entry(fault: BaseException) -> None:
    assert the_entry(network.unavailable(fault, "mail.example.com", 587))


@pytest.mark.parametrize(
    "host",
    [host for cloud in clouds().values() for host in (cloud.authority_host, cloud.graph_host, cloud.smtp_host)],
)
def test_a_name_of_microsofts_that_is_not_found_leads_to_the_cloud(host: str) -> None:
    error = network.unavailable(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), host, 443)
    for one in (error, OutmailError("read back", code=error.code, detail=str(error))):
        assert any("OUTMAIL_CLOUDS" in step for step in remedy_for(one).steps)
        assert any("cloud of the authentication object" in step for step in remedy_for(one).steps)


@pytest.mark.parametrize("host", ["mail.contoso.com", "outlooking.example", "microsoft-mail.example"])
def test_any_other_name_that_is_not_found_has_nothing_to_do_with_clouds(host: str) -> None:
    error = network.unavailable(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), host, 587)
    assert "cloud" not in " ".join(remedy_for(error).steps)


def test_errors_that_bring_their_own_code_have_an_entry() -> None:
    assert remedy_for(SetupNotVerified("not yet")).title == "The setup has not been proven yet"
    unsupported = UnsupportedFeature("no", feature="SMTPUTF8", transport="smtp")
    assert remedy_for(unsupported).title == "The chosen mail service cannot express this message"


# -- Microsoft Entra -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ("7000215", "Microsoft does not know this secret"),
        ("7000222", "The client secret has expired"),
        ("7000216 7000218", "No secret reached Microsoft"),
        ("700016 700011", "This application is not in this tenant"),
        ("7000229", "The application has no enterprise application in this tenant"),
        ("7000112 70001", "The application is switched off in this tenant"),
        ("90002", "There is no tenant with this ID or name"),
        ("900023", "The tenant is neither an ID nor a domain"),
        ("50059 90019", "Microsoft was not told the tenant"),
        ("50194 9001023", "A tenant of its own is needed here"),
        ("70011 1002012 28002 28003", "The token was requested for a scope that does not work"),
        ("700022", "One token was requested for two services"),
        ("500011", "The tenant does not know the service a token was requested for"),
        ("650057 650052", "The application is not set up for this service"),
        ("65001 65004", "An administrator has not agreed yet"),
        ("50034", "Microsoft looked for a person instead of an application"),
        ("50011", "Microsoft complains about a reply address"),
        ("53003 530032", "Conditional Access stopped the log-in"),
        ("50005 53000 53001 53002", "Conditional Access asks for a managed device"),
        ("700027", "Microsoft does not know this certificate"),
        ("700024", "This machine's clock seems to be wrong"),
        ("700030", "The certificate's subject is not accepted"),
        ("50012 50013 50027", "Microsoft cannot accept the signed proof"),
        ("700213 70021", "No federated credential matches"),
        ("700229", "A federated credential of the wrong kind was used"),
        ("50196", "Too many equal requests reached Microsoft's sign-in service"),
        ("90055", "Microsoft asks this tenant to wait"),
        ("90033 90006 90012 90024 50033 50087 90090", "Microsoft's sign-in service has a passing fault"),
        ("90036 90092", "Microsoft's sign-in service cannot complete the request"),
        ("90038 900382 900432", "The tenant lives in another Microsoft cloud"),
    ],
)
def test_each_number_of_entra_has_its_words(numbers: str, words: str) -> None:
    for number in numbers.split():
        assert title(f"AADSTS{number}", kind=AuthenticationFailed) == words


@pytest.mark.parametrize("number", ["7000113", "7000131", "999999"])
def test_an_unlisted_number_of_entra_gets_the_address_of_its_explanation(number: str) -> None:
    remedy = remedy_for(the_error(f"AADSTS{number}", "AADSTS: words", kind=AuthenticationFailed))
    assert any(f"https://login.microsoftonline.com/error?code={number}" in step for step in remedy.steps)
    assert remedy.who == "entra_admin"


@pytest.mark.parametrize(
    ("mistake", "signals", "told"),
    [
        ("the secret's ID in place of its value", "AADSTS7000215", r"Value .*, and not the column Secret ID"),
        ("the object ID of App registrations in place of that of Enterprise applications",
         "ErrorAccessDenied|microsoft365_graph 535 5.7.3|microsoft365_smtp",
         r"Enterprise applications, not from App registrations"),
        ("consent was not given", "ErrorAccessDenied|microsoft365_graph token_without_role AADSTS65001",
         r"(?i)grant admin consent|admin consent granted"),
        ("Exchange has not taken up the role yet",
         "ErrorAccessDenied|microsoft365_graph 535 5.7.3|microsoft365_smtp token_without_role foreign_mailbox_open",
         r"30 minutes to 2 hours"),
        ("another tenant", "AADSTS700016 AADSTS90002 ErrorInvalidUser Request_ResourceNotFound", r"(?i)tenant"),
        ("another cloud", "AADSTS90002 AADSTS900382 AADSTS500011 Request_ResourceNotFound", r"(?i)cloud"),
    ],
)  # fmt: skip
def test_the_mistakes_that_everybody_makes_are_named_where_they_show(mistake: str, signals: str, told: str) -> None:
    # A signal with a blank in it (SMTP) is joined to what stands before the next bar.
    for signal in re.findall(r"\d{3} [\d.]+(?:\|\w+)?|\S+", signals):
        code, _, transport = signal.partition("|")
        error = the_error(code, kind=AuthenticationFailed, transport=transport)
        assert the_entry(error) is not None, f"{code} falls back"
        assert re.search(told, " ".join(remedy_for(error).steps)), f"{mistake}: {code}"


# -- Graph -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ("InvalidAuthenticationToken graph_401", "Microsoft Graph does not accept the token"),
        ("Authorization_RequestDenied", "The application lacks a permission"),
        ("ErrorAccessDenied graph_403", "Microsoft refused this mailbox"),
        ("ErrorSendAsDenied", "This mailbox may not send with this From address"),
        ("ErrorInvalidUser", "Exchange knows no such mailbox"),
        ("Request_ResourceNotFound ResourceNotFound graph_404", "The mailbox was not found in this organisation"),
        ("MailboxNotEnabledForRESTAPI MailboxNotSupportedForRESTAPI",
         "No Exchange Online mailbox stands behind this address"),
        ("extensionError", "Microsoft Graph cannot reach this mailbox"),
        ("ErrorItemNotFound", "Microsoft does not find the draft"),
        ("ErrorInvalidRecipients ErrorIncorrectRecipient", "Microsoft does not accept a recipient"),
        ("ErrorInvalidParameter", "Microsoft found the message empty or incomplete"),
        ("ErrorInvalidRequest RequestBodyRead BadRequest Request_BadRequest UnableToDeserializePostBody"
         " ErrorMimeContentInvalidBase64String graph_400", "Microsoft could not read the request"),
        ("ErrorMimeContentInvalid ErrorMimeContentConversionFailed", "Microsoft cannot read the message"),
        ("InvalidInternetMessageHeader ErrorInvalidInternetMessageHeader InvalidInternetMessageHeaderCollection",
         "Microsoft does not take these extra headers"),
        ("ErrorMessageSizeExceeded ErrorAttachmentSizeLimitExceeded",
         "The message is larger than the mailbox may send"),
        ("RequestEntityTooLarge graph_413", "The request is larger than Microsoft Graph takes"),
        ("not_accepted", "Microsoft answered, but did not accept the message"),
        ("ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", "An upload session was opened for a small attachment"),
        ("ErrorQuotaExceeded quotaLimitReached", "The sending mailbox is full"),
        ("ErrorExceededMessageLimit", "This mailbox has sent all it may send for now"),
        ("ErrorExceededMaxRecipientLimit", "The message has too many recipients for Microsoft Graph"),
        ("ErrorMessageSubmissionBlocked ErrorAccountSuspend", "Microsoft has blocked this mailbox from sending"),
        ("ApplicationThrottled CommandConcurrencyLimitReached",
         "Too many requests for this mailbox at the same time"),
        ("TooManyRequests ErrorTooManyRequests activityLimitReached graph_429", "Microsoft asks us to slow down"),
        ("graph_509", "Too much was uploaded in a short time"),
        ("graph_424", "Another request had to succeed first"),
    ],
)  # fmt: skip
def test_each_code_of_graph_has_its_words(codes: str, words: str) -> None:
    for code in codes.split():
        assert title(code, transport="microsoft365_graph") == words


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 424, 429, 500, 502, 503, 504, 509])
def test_a_status_of_another_service_does_not_get_the_words_of_graph(status: int) -> None:
    """`http_403` is what anybody calls it whose service speaks HTTP, and it would be told to look into Entra."""
    for kind in (AuthenticationFailed, MessageRejected, Throttled, TransportUnavailable, DeliveryUnknown):
        assert the_entry(the_error(f"http_{status}", kind=kind, transport="relay")) is None


def test_a_token_for_another_service_is_told_from_a_bad_one() -> None:
    words = "Access token validation failure. Invalid audience."
    assert title("InvalidAuthenticationToken", words) == "The token was made for another service"


def test_a_claims_challenge_of_graph_is_told_as_conditional_access() -> None:
    words = "Conditional Access stopped the log-in"
    assert title("insufficient_claims", kind=AuthenticationFailed, transport="microsoft365_graph") == words


def test_an_access_policy_is_told_from_a_missing_permission() -> None:
    assert title("ErrorAccessDenied", "Access to OData is disabled.") == "An access policy shuts this mailbox out"


@pytest.mark.parametrize(
    "code",
    [
        "ErrorServerBusy",
        "ErrorInternalServerTransientError",
        "ErrorMailboxStoreUnavailable",
        "ErrorMailboxMoveInProgress",
        "ErrorInternalServerError",
        "generalException",
        "UnknownError",
        "ServiceUnavailable",
        "serviceNotAvailable",
        "GatewayTimeout",
        "BadGateway",
        "graph_500",
        "graph_502",
        "graph_503",
        "graph_504",
        "graph_599",
    ],
)
def test_a_fault_of_graph_says_look_first_unless_it_is_certain_that_nothing_was_accepted(code: str) -> None:
    unknown = remedy_for(the_error(code, kind=DeliveryUnknown))
    assert "arrive twice" in " ".join(unknown.steps)
    # A delivery read back from the log has a code and no kind: then the careful words are the right ones.
    assert remedy_for(OutmailError("read back", code=code)) == unknown
    for kind in (Throttled, TransportUnavailable):
        certain = remedy_for(the_error(code, kind=kind))
        assert certain.who == "nobody"
        assert "tried again" in certain.steps[0]


# -- SMTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "detail", "words"),
    [
        ("535 5.7.139", SERVER_WORDS[2], "SMTP log-in is switched off for the whole organisation"),
        ("535 5.7.139", SERVER_WORDS[3], "SMTP log-in is switched off for this mailbox"),
        ("535 5.7.139", SERVER_WORDS[4], "The organisation's security defaults forbid this log-in"),
        ("535 5.7.139", SERVER_WORDS[5], "A rule of the organisation forbids this log-in"),
        ("535 5.7.139", SERVER_WORDS[6], "This organisation no longer takes passwords over SMTP"),
        ("535 5.7.139", "5.7.139 Authentication unsuccessful",
         "Microsoft does not allow this mailbox to log in over SMTP"),
        ("550 5.7.30", "", "Microsoft has ended log-in by password here"),
        ("530 5.7.57", "5.7.57 Client not authenticated to send mail", "The server wants a log-in"),
        ("530 5.7.0", SERVER_WORDS[7], "The server wants an encrypted connection first"),
        ("504 5.7.4", "", "The server does not know this way to log in"),
        ("454 4.7.0", "", "The server is not ready for a log-in just now"),
        ("550 5.7.60", "", "This log-in may not send with this From address"),
        ("554 5.2.252", "SendAsDenied; a not allowed to send as b",
         "This log-in may not send with this From address"),
        ("550 5.2.251", "", "Microsoft has blocked this mailbox for a while: it is full"),
        ("550 5.2.252", "", "Microsoft has blocked this mailbox for a while: From addresses it may not use"),
        ("550 5.2.253", "", "Microsoft has blocked this mailbox for a while: its licence"),
        ("550 5.2.254", "", "Microsoft has blocked this mailbox for a while: too many recipients"),
        ("550 5.2.255", "", "Microsoft has blocked this mailbox for a while: recipients that do not exist"),
        ("554 5.2.252", SERVER_WORDS[8], "Microsoft has blocked this mailbox for a while"),
        ("432 4.3.2", "Concurrent connections limit exceeded",
         "Too many connections for this mailbox at the same time"),
        ("451 4.3.2", "STOREDRV.ClientSubmit; sender thread limit exceeded",
         "The server allows fewer connections at the same time"),
        ("421 4.3.2", "", "The server closes the conversation for now"),
        ("421 4.4.2", "", "The server closes the conversation for now"),
        ("421 4.7.0", "", "The server closes the conversation for now"),
        ("451 4.7.0", "Temporary server error", "The server cannot take the message just now"),
        ("451 4.7.500", "Server busy (AS77712)", "Microsoft finds this sending unusual and slows it down"),
        ("451 4.7.699", "", "Microsoft finds this sending unusual and slows it down"),
        ("451 4.7.850", "", "Microsoft finds this sending unusual and slows it down"),
        ("451 4.7.899", "", "Microsoft finds this sending unusual and slows it down"),
        ("451 4.7.1", "Greylisted", "The server wants to see whether we come back"),
        ("452 4.5.3", "", "Too many recipients for one delivery"),
        ("452 4.3.1", "", "The server has no room at the moment"),
        ("550 5.5.3", "", "The message has too many recipients"),
        ("552 5.3.4", "", "The message is too large for this server"),
        ("554 5.2.3", "", "The message is too large for this server"),
        ("552", "", "The message is too large for this server"),
        ("554 5.2.2", SERVER_WORDS[13], "The mailbox that sends is full"),
        ("552 5.2.2", "", "A mailbox is full"),
        ("554 5.2.0", SERVER_WORDS[12], "This mailbox has used up its recipients for today"),
        ("550 5.2.2", "Submission quota exceeded", "This mailbox has used up its recipients for today"),
        ("550 5.1.90", "", "The sender has reached a sending limit"),
        ("550 5.1.8", "Access denied, bad outbound sender", "Microsoft has blocked this sender for unwanted mail"),
        ("550 5.7.501", "", "Microsoft has banned this sender for unwanted mail"),
        ("550 5.7.503", "", "Microsoft has banned this sender for unwanted mail"),
        ("550 5.7.511", "", "Microsoft refused the mail by a rule against abuse"),
        ("550 5.7.705", "", "The whole organisation has exceeded a sending limit"),
        ("550 5.7.708", "", "Microsoft does not take mail from this network address"),
        ("550 5.7.750", "", "The From domain is not registered with the organisation"),
        ("550 5.7.742", "", "Microsoft has blocked mail of the whole organisation"),
        ("550 5.7.232", "", "The organisation's allowance for outside recipients seems to be used up"),
        ("550 5.7.233", "", "The organisation's allowance for outside recipients seems to be used up"),
        ("550 5.7.68", "", "The organisation refuses mail without a log-in"),
        ("550 5.1.10", "", "There is no such recipient"),
        ("550 5.1.1", "", "There is no such recipient"),
        ("550 5.4.1", "", "The recipient's domain does not take this mail"),
        ("550 5.7.1", "", "A rule of the server refused the message"),
        ("550 5.7.1", "Unable to relay", "The server does not forward mail for this log-in"),
        ("553 5.7.1", SERVER_WORDS[10], "The server does not let this log-in use this From address"),
        ("550 5.7.124", "", "The recipient is a group that is closed to this sender"),
        ("550 5.7.133", "", "The recipient is a group that is closed to outsiders"),
        ("550 5.6.11", "", "The message has line ends that the server refuses"),
    ],
)  # fmt: skip
def test_each_reply_of_a_mail_server_has_its_words(code: str, detail: str, words: str) -> None:
    assert title(code, detail) == words


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        ("microsoft365_smtp", "SMTP log-in with this application is not set up in Exchange"),
        ("smtp", "Exchange does not accept this user name and password"),
    ],
)
def test_a_refused_token_is_told_from_a_refused_password(transport: str, words: str) -> None:
    assert title("535 5.7.3", "Authentication unsuccessful", kind=AuthenticationFailed, transport=transport) == words


def test_a_refused_password_at_any_other_server_is_not_blamed_on_microsoft() -> None:
    remedy = remedy_for(the_error("535 5.7.8", kind=AuthenticationFailed, transport="smtp"))
    assert "Microsoft" not in " ".join([remedy.title, remedy.meaning, *remedy.steps])


# -- codes that nobody listed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (DeliveryUnknown, "Nobody knows whether it arrived"),
        (Throttled, "The server asks to wait"),
        (AuthenticationFailed, "The log-in, or the permission behind it, was refused"),
        (MessageRejected, "The server did not take this message"),
        (TransportUnavailable, "The server could not be reached, or would not talk"),
        (ConfigurationError, "A setting needs to be corrected"),
    ],
)
def test_an_unlisted_code_is_named_by_its_kind_and_shows_what_the_server_said(
    kind: type[OutmailError], words: str
) -> None:
    remedy = remedy_for(the_error("ErrorBrandNew", "It is a new kind of fault.", kind=kind))
    assert (remedy.title, remedy.code) == (words, "ErrorBrandNew")
    assert "It is a new kind of fault." in remedy.meaning
    assert remedy.steps


def test_an_unlisted_code_names_the_code_and_the_request_to_quote() -> None:
    remedy = remedy_for(the_error("ErrorBrandNew", kind=MessageRejected, request_id="5b1a7c2e"))
    assert any("ErrorBrandNew" in step and "5b1a7c2e" in step for step in remedy.steps)


def test_errors_with_further_facts_fall_back_as_well() -> None:
    refused = RecipientsRefused("all refused", recipients={"a@example.com": Refusal(550, "no")}, code="559 5.9.9")
    assert remedy_for(refused).title == "The recipients were refused"
    assert remedy_for(SenderRefused("no", sender="a@example.com", code="559")).title == "The From address was refused"


@pytest.mark.parametrize(
    ("code", "subject", "outlook"),
    [
        ("559 5.1.99", "an address", "refused again"),
        ("459 4.2.99", "a mailbox", "pass by itself"),
        ("559 5.3.99", "the mail system", "refused again"),
        ("459 4.4.99", "the network", "pass by itself"),
        ("559 5.5.99", "the mail protocol", "refused again"),
        ("559 5.6.99", "the content", "refused again"),
        ("559 5.7.99", "a policy", "refused again"),
        ("559 5.0.0", "leaves open", "refused again"),
    ],
)
def test_an_unlisted_enhanced_code_is_read_by_its_class_and_subject(code: str, subject: str, outlook: str) -> None:
    told = " ".join(remedy_for(the_error(code, kind=MessageRejected)).steps)
    assert subject in told
    assert outlook in told


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OutmailError)]
)
def test_every_kind_of_error_has_a_title_of_its_own_for_unlisted_codes(kind: type[OutmailError]) -> None:
    error = kind.__new__(kind)
    OutmailError.__init__(error, "it went wrong", code="brand_new")
    error.request_id = ""  # type: ignore[attr-defined]
    assert remedy_for(error).title


# -- the words themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", CATALOGUE, ids=IDS)
def test_a_remedy_has_a_title_one_sentence_and_steps(entry: Entry) -> None:
    remedy = entry.remedy
    assert remedy.title
    assert remedy.title[0].isupper()
    assert not remedy.title.endswith(".")
    assert re.fullmatch(r"[^.?]+(\.[^\s.?]+[^.?]*)*\.", remedy.meaning), "the meaning is one sentence"
    assert remedy.steps or remedy.who == "nobody"
    assert all(step.endswith((".", "4489835")) for step in remedy.steps)
    assert all(step.count("`") % 2 == 0 for step in remedy.steps)
    assert remedy.code in entry.signals


@pytest.mark.parametrize("entry", CATALOGUE, ids=IDS)
def test_the_words_are_calm_and_plain(entry: Entry) -> None:
    text = " ".join([entry.remedy.title, entry.remedy.meaning, *entry.remedy.steps])
    assert not re.search(
        r"!|\b(oops|sorry|failed|failure|fatal|illegal|simply|please|obviously)\b", text, re.IGNORECASE
    )
    # Dates of Microsoft's plans move; a page that prints one is soon wrong.
    assert not re.search(r"\b20[2-9]\d\b", text)


@pytest.mark.parametrize("entry", [one for one in CATALOGUE if one.remedy.steps], ids=lambda one: one.remedy.code)
def test_the_first_step_is_something_to_do(entry: Entry) -> None:
    """An order, or where and when it is to be carried out; what is good to know stands behind it."""
    first = entry.remedy.steps[0]
    assert (
        not re.match(r"(Records|Many|Most|Some|It|Its|This|These|There|They|The|A|An)\b", first) or "by itself" in first
    )


def test_no_two_remedies_share_a_title_or_a_meaning() -> None:
    assert [words for words, times in Counter(entry.remedy.title for entry in CATALOGUE).items() if times > 1] == []
    pairs = Counter((entry.remedy.meaning, entry.remedy.steps) for entry in CATALOGUE)
    assert [words for words, times in pairs.items() if times > 1] == []


def test_nobody_is_told_to_switch_verification_off() -> None:
    for entry in CATALOGUE:
        assert not re.search(r"\b(ignore|skip|disable)\b.*\b(certificate|verif)", " ".join(entry.remedy.steps))


def test_everybody_who_can_do_something_has_a_label() -> None:
    assert set(WHO_LABELS) == set(get_args(Who))
    assert {entry.remedy.who for entry in CATALOGUE} == set(get_args(Who))


@pytest.mark.parametrize("code", ["ErrorSendAsDenied", "550 5.7.60", "ErrorInvalidRecipients", "550 5.2.252"])
def test_refusals_that_get_a_mailbox_blocked_warn_against_repeating(code: str) -> None:
    assert re.search(r"do not (repeat|send it again|keep trying)", " ".join(remedy_for(the_error(code)).steps), re.I)


# -- the request for IT ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "role"),
    [("microsoft365_graph", "Application Mail.Send"), ("microsoft365_smtp", "Application SMTP.SendAsApp")],
)
def test_the_request_for_it_asks_for_one_mailbox_and_no_more(service: str, role: str) -> None:
    text = it_request(service=service, mailbox="noreply@contoso.com", app_name="Shop")
    assert f"-Role '{role}' -CustomResourceScope 'Shop mailbox'" in text
    assert "-RecipientRestrictionFilter \"PrimarySmtpAddress -eq 'noreply@contoso.com'\"" in text
    assert "do not grant" in text
    assert "Enterprise applications" in text
    assert "30 minutes to 2 hours" in text


def test_only_the_request_for_smtp_opens_smtp() -> None:
    line = "Set-CASMailbox -Identity 'a@contoso.com' -SmtpClientAuthenticationDisabled $false"
    assert line in it_request(service="microsoft365_smtp", mailbox="a@contoso.com", app_name="Shop")
    assert "CASMailbox" not in it_request(service="microsoft365_graph", mailbox="a@contoso.com", app_name="Shop")


@pytest.mark.parametrize(
    "mailbox", ["", "a'; Remove-Mailbox b; '@contoso.com", "a\nb@contoso.com", "a$(x)@contoso.com", "a`b@contoso.com",
                "a’b@contoso.com"],
)  # fmt: skip
def test_a_mailbox_that_could_be_a_command_becomes_a_placeholder(mailbox: str) -> None:
    text = it_request(service="microsoft365_graph", mailbox=mailbox, app_name="Shop")
    assert "PrimarySmtpAddress -eq 'MAILBOX'" in text
    assert "MAILBOX is the sending mailbox" in text
    assert "Remove-Mailbox" not in text


@pytest.mark.parametrize("name", ["Bob's shop", "Bob’s shop", "Bob`s shop", "Bob$s\nshop", 'Bob"s shop'])
def test_the_name_of_the_application_cannot_end_its_quotes(name: str) -> None:
    assert "-DisplayName 'Bob s shop'" in it_request(service="microsoft365_graph", mailbox="a@b.c", app_name=name)


def test_there_is_no_request_for_a_service_that_is_not_microsofts() -> None:
    with pytest.raises(ValueError, match="smtp"):
        it_request(service="smtp", mailbox="a@contoso.com", app_name="Shop")


def test_the_request_asks_for_what_the_kind_of_credential_needs() -> None:
    def text(**more: str) -> str:
        found = it_request(service="microsoft365_graph", mailbox="noreply@contoso.com", app_name="Shop", **more)
        assert max(len(line) for line in found.splitlines()) < 140
        return " ".join(found.split())

    uploaded = text(thumbprint="AB12")
    assert "thumbprint is AB12" in uploaded and "New client secret" not in uploaded and "Value" not in uploaded
    federated = text(provider="microsoft_federated")
    assert "Federated credentials" in federated and "New client secret" not in federated
    machine = text(provider="microsoft_managed_identity")
    assert "Managed Identities" in machine and "New registration" not in machine
    for one in (uploaded, federated, machine):
        assert "New-ManagementRoleAssignment" in one
