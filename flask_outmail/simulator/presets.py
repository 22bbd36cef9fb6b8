"""The ready-made faults, by name: for tests, for the page "Misbehave" and for the HTTP interface.

The statuses, codes and texts are those Microsoft documents, or that users report in public; the pages are named
beside each group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask_outmail.simulator.fault import Fault

HTML_503 = "<html><head><title>503</title></head><body><h1>Service Unavailable</h1></body></html>"
PORTAL = "<!doctype html><html><title>Guest network</title><h1>Please sign in to use this network</h1></html>"
HTTP_DATE = "Fri, 31 Dec 2100 23:59:59 GMT"


@dataclass(frozen=True, slots=True)
class Preset:
    name: str
    group: str
    says: str
    fault: Fault


def _preset(name: str, group: str, says: str, endpoint: str, **fields: Any) -> Preset:
    return Preset(name, group, says, Fault(endpoint=endpoint, **fields))


def _token(number: str, status: int, error: str, says: str, message: str) -> Preset:
    return _preset(
        f"token-{number}",
        "Sign-in (Entra)",
        says,
        "token",
        status=status,
        code=number,
        error=error,
        message=message,
    )


def _graph(name: str, says: str, **fields: Any) -> Preset:
    return _preset(f"graph-{name}", "Graph", says, "sendMail", **fields)


def _smtp(name: str, says: str, stage: str, **fields: Any) -> Preset:
    return _preset(f"smtp-{name}", "SMTP", says, f"smtp.{stage}", **fields)


# Entra: reference-error-codes, and v2-oauth2-client-creds-grant-flow for the shape.
_ENTRA = [
    _token("7000215", 401, "invalid_client", "Secret is wrong",
           "The client secret is not valid. Send the secret's value, not the secret's ID."),
    _token("7000222", 401, "invalid_client", "Secret has expired", "All client secrets sent have expired."),
    _token("7000216", 401, "invalid_client", "No secret in the request",
           "The request must contain a client_assertion or a client_secret."),
    _token("700016", 400, "unauthorized_client", "Application unknown in this tenant",
           "The application was not found in the directory."),
    _token("7000229", 401, "invalid_client", "No enterprise application",
           "The application has no service principal in the tenant."),
    _token("7000112", 400, "unauthorized_client", "Application disabled", "The application is disabled."),
    _token("90002", 400, "invalid_request", "Tenant unknown", "The tenant was not found."),
    _token("900023", 400, "invalid_request", "Tenant malformed",
           "The tenant is neither a valid GUID nor a valid domain name."),
    _token("1002012", 400, "invalid_scope", "Scope does not end in /.default",
           "The scope must end with /.default in the client credentials grant."),
    _token("70011", 400, "invalid_scope", "Scope malformed", "The scope is not valid."),
    _token("500011", 400, "invalid_resource", "Resource unknown",
           "The resource principal was not found in the tenant."),
    _token("700027", 401, "invalid_client", "Certificate unknown",
           "The assertion's signature could not be verified: the certificate is not registered."),
    _token("700024", 401, "invalid_client", "Clock is wrong",
           "The assertion is not within its valid time range."),
    _token("50196", 400, "invalid_grant", "Loop detected",
           "The same request was made too often in a short time."),
    _token("53003", 400, "invalid_grant", "Conditional Access",
           "Access was blocked by Conditional Access policies."),
    _preset("token-429", "Sign-in (Entra)", "Too many requests", "token", status=429, code="90055",
            error="temporarily_unavailable", message="The tenant is throttled.", retry_after=7),
    _preset("token-503-json", "Sign-in (Entra)", "Unavailable, as JSON", "token", status=503, code="90033",
            error="temporarily_unavailable", message="A transient failure has occurred."),
    _preset("token-503-html", "Sign-in (Entra)", "Unavailable, as a web page", "token", status=503,
            body=HTML_503),
    _preset("token-portal", "Sign-in (Entra)", "Captive portal: 200 with a web page", "token", status=200,
            body=PORTAL),
    _preset("token-empty-200", "Sign-in (Entra)", "200 without a token", "token", status=200, body="{}",
            content_type="application/json"),
    _preset("token-reset", "Sign-in (Entra)", "Connection reset", "token", drop=True),
    _preset("token-hang", "Sign-in (Entra)", "Answer after 30 seconds", "token", delay_s=30.0),
    _preset("discovery-hang", "Sign-in (Entra)", "Discovery answers after 30 seconds", "discovery",
            delay_s=30.0),
    _preset("discovery-503-html", "Sign-in (Entra)", "Discovery unavailable, as a web page", "discovery",
            status=503,
            body=HTML_503),
]  # fmt: skip

# Graph: errors, throttling, outlook-send-mail-from-other-user; user reports where Microsoft is silent.
_GRAPH = [
    _graph("429", "Throttled, wait 5 seconds", status=429, code="ApplicationThrottled", retry_after=5,
           message="Application is over its MailboxConcurrency limit."),
    _graph("429-date", "Throttled, wait until a date", status=429, code="TooManyRequests",
           retry_after=HTTP_DATE,
           message="Too many requests."),
    _graph("429-no-hint", "Throttled, without Retry-After", status=429, code="activityLimitReached",
           message="The request was throttled."),
    _graph("202-retry-after", "Accepted, but with Retry-After", retry_after=1),
    _graph("200-empty", "200 instead of 202, and nothing done", status=200, body=""),
    _graph("401", "Token refused", status=401, code="InvalidAuthenticationToken",
           message="Lifetime validation failed, the token is expired."),
    _graph("403-access", "Access denied", status=403, code="ErrorAccessDenied",
           message="Access is denied. Check credentials and try again."),
    _graph("403-policy", "Application access policy", status=403, code="ErrorAccessDenied",
           message="Access to OData is disabled."),
    _graph("403-quota", "Mailbox is full", status=403, code="ErrorQuotaExceeded",
           message="The mailbox has exceeded its quota."),
    _graph("403-blocked", "Sending is blocked", status=403, code="ErrorMessageSubmissionBlocked",
           message="Sending from this mailbox is blocked."),
    _graph("404-rest", "No cloud mailbox", status=404, code="MailboxNotEnabledForRESTAPI",
           message="The mailbox is either inactive, soft-deleted, or is hosted on-premise."),
    _graph("409-odd", "A code nobody has listed", status=409, code="ErrorSomethingNew",
          message="Unexpected."),
    _graph("500-unknown", "500 with an empty message", status=500, code="UnknownError"),
    _graph("500-unknown-delivered", "500 with an empty message, although delivered", status=500,
           code="UnknownError",
           happens=True),
    _graph("502", "Bad gateway", status=502, code="BadGateway", message="Bad gateway."),
    _graph("503-json", "Unavailable, as JSON", status=503, code="ServiceUnavailable",
           message="The service is temporarily unavailable.", retry_after=10),
    _graph("503-busy", "Store busy, no hint", status=503, code="ErrorServerBusy",
          message="The server is busy."),
    _graph("503-html", "Unavailable, as a web page", status=503, body=HTML_503),
    _graph("504-delivered", "Gateway timeout, although delivered", status=504, code="GatewayTimeout",
           message="The gateway gave up waiting.", happens=True),
    _graph("507", "Insufficient storage", status=507, code="quotaLimitReached",
          message="No storage is left."),
    _graph("reset-delivered", "Connection reset, although delivered", drop=True, happens=True),
    _graph("reset-lost", "Connection reset, nothing done", drop=True),
    _graph("html", "An error page instead of JSON", status=500,
           body="<html><body><h1>Oops</h1></body></html>"),
    _graph("portal", "Captive portal: 200 with a web page", status=200, body=PORTAL),
    _graph("empty-code", "An empty error code", status=400, code="", message="Bad Request"),
    _graph("nested", "The telling code is nested", status=403, code="accessDenied", message="Forbidden",
           inner=("generalException", "ErrorSendAsDenied")),
    _graph("hang", "Answer after 30 seconds", delay_s=30.0),
]  # fmt: skip

# Exchange: the SMTP AUTH trouble-shooting pages, smtp-submission-improvements, non-delivery-reports-in-
# exchange-online.
_UNSUCCESSFUL = "Authentication unsuccessful"
_SMTP = [
    _smtp("connect-421", "Busy at connecting", "connect", status=421, code="4.3.2",
          message="Service not available"),
    _smtp("connect-554", "Refused at connecting", "connect", status=554, code="5.7.1",
          message="No service here"),
    _smtp("connect-drop", "Hangs up instead of greeting", "connect", drop=True),
    _smtp("slow-greeting", "Greets after 30 seconds", "connect", delay_s=30.0),
    _smtp("garbage-greeting", "Greets with something else", "connect",
          body="\x00\x01HTTP/1.1 400 Bad Request\r\n\r\n"),
    _smtp("ehlo-500", "Does not know EHLO", "ehlo", status=500, code="5.3.3", message="Unrecognized command"),
    _smtp("no-starttls", "Refuses STARTTLS", "starttls", status=454, code="4.7.0",
          message="TLS not available due to a temporary reason"),
    _smtp("starttls-injection", "Slips in a reply before TLS begins", "starttls",
          body="250 2.0.0 injected\r\n"),
    _smtp("auth-535", "Authentication refused", "auth", status=535, code="5.7.3", message=_UNSUCCESSFUL),
    _smtp("auth-tenant", "SMTP AUTH is off for the tenant", "auth", status=535, code="5.7.139",
          message=f"{_UNSUCCESSFUL}, SmtpClientAuthentication is disabled for the Tenant. "
                  "Visit https://aka.ms/smtp_auth_disabled for more information."),
    _smtp("auth-mailbox", "SMTP AUTH is off for the mailbox", "auth", status=535, code="5.7.139",
          message=f"{_UNSUCCESSFUL}, SmtpClientAuthentication is disabled for the Mailbox. "
                  "Visit https://aka.ms/smtp_auth_disabled for more information."),
    _smtp("auth-defaults", "Security defaults", "auth", status=535, code="5.7.139",
          message=f"{_UNSUCCESSFUL}, user is locked by your organization's security defaults policy. "
                  "Contact your administrator."),
    _smtp("auth-conditional", "Conditional Access", "auth", status=535, code="5.7.139",
          message=f"{_UNSUCCESSFUL}, the request did not meet the criteria to be authenticated successfully. "
                  "Contact your administrator."),
    _smtp("auth-basic", "Basic authentication is off", "auth", status=535, code="5.7.139",
          message=f"{_UNSUCCESSFUL}, basic authentication is disabled."),
    _smtp("auth-retired", "Basic authentication is retired", "auth", status=550, code="5.7.30",
          message="Basic authentication is not supported for Client Submission."),
    _smtp("auth-454", "Authentication fails for the moment", "auth", status=454, code="4.7.0",
          message="Temporary authentication failure"),
    _smtp("concurrent", "Too many connections", "auth", status=432, code="4.3.2",
          message="Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending"),
    _smtp("mail-451", "Try again later", "mail", status=451, code="4.7.0", message="Temporary server error"),
    _smtp("mail-530", "Not authenticated", "mail", status=530, code="5.7.57",
          message="Client not authenticated to send mail"),
    _smtp("throttled", "Mailbox blocked after Send-As denials", "mail", status=550, code="5.2.252",
          message="Sender throttled due to continuous send as denied errors"),
    _smtp("rcpt-550", "A recipient is unknown", "rcpt", status=550, code="5.1.1", message="User unknown"),
    _smtp("rcpt-451", "A recipient later, perhaps", "rcpt", status=451, code="4.7.500",
          message="Please try again later"),
    _smtp("rcpt-452", "Too many recipients", "rcpt", status=452, code="4.5.3", message="Too many recipients"),
    _smtp("data-451", "Content not wanted now", "data", status=451, code="4.3.0", message="Try again later"),
    _smtp("drop-before-dot", "Hangs up in the middle of the message", "data", drop=True),
    _smtp("dot-drop-delivered", "Hangs up after the message, although delivered", "dot", drop=True,
          happens=True),
    _smtp("dot-drop-lost", "Hangs up after the message, nothing done", "dot", drop=True),
    _smtp("dot-hang", "Answers the message after 30 seconds", "dot", delay_s=30.0),
    _smtp("send-as-554", "Send As denied", "dot", status=554, code="5.2.252",
          message="SendAsDenied; the mailbox is not allowed to send as this sender; "
                  "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"),
    _smtp("send-as-550", "Send As denied, older words", "dot", status=550, code="5.7.60",
          message="SMTP; Client does not have permissions to send as this sender"),
    _smtp("full-554", "Mailbox is full", "dot", status=554, code="5.2.2",
          message="mailbox full; STOREDRV.Submission.Exception:QuotaExceededException"),
    _smtp("quota-554", "Daily allowance used up", "dot", status=554, code="5.2.0",
          message="STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
    _smtp("size-552", "Message too large", "dot", status=552, code="5.3.4",
          message="Message size exceeds the limit"),
    _smtp("sender-limit", "Sender thread limit", "dot", status=432, code="4.3.2",
          message="STOREDRV.ClientSubmit; sender thread limit exceeded"),
]  # fmt: skip

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ENTRA + _GRAPH + _SMTP}
