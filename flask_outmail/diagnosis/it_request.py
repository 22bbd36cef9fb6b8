"""A request for the IT department, ready to be sent: what to register and which commands give one mailbox, no more.

The permission is given in Exchange (RBAC for Applications), so it covers the one mailbox (Exchange: application-rbac).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..setup_values import CLIENT_CREDENTIALS, FEDERATED, MANAGED_IDENTITY


class _Way(NamedTuple):
    """How one mail service is allowed: the role in Exchange, and the consent in Entra that is not to be given."""

    words: str
    role: str
    consent: str
    because: str


_WAYS = {
    "microsoft365_graph": _Way(
        words="Microsoft Graph",
        role="Application Mail.Send",
        consent="Mail.Send of Microsoft Graph",
        because="a consent there would open every mailbox of the organisation",
    ),
    "microsoft365_smtp": _Way(
        words="SMTP",
        role="Application SMTP.SendAsApp",
        consent="SMTP.SendAsApp of Office 365 Exchange Online",
        because="a consent there is not needed, and has been reported to get in the way",
    ),
}
# Somebody will paste these into PowerShell, where $, ` and quotes of any form would mean something.
_PLAIN_ADDRESS = re.compile(r"[\w.+-]+@[\w.-]+")
_NOT_PLAIN = re.compile(r"[^\w .()-]+")


def it_request(
    *, service: str, mailbox: str, app_name: str, provider: str = CLIENT_CREDENTIALS, thumbprint: str = ""
) -> str:
    """Plain text that asks an administrator to let an application send from one mailbox, with every step.

    A mailbox that cannot stand in a command as it is becomes the placeholder MAILBOX. `provider` is the kind of
    credential; with a `thumbprint` the request is to upload the certificate of that thumbprint.

    Raises:
        ValueError: the service is not one of Microsoft's.
    """
    if service not in _WAYS:
        raise ValueError(f"there is no request for the mail service {service!r}")
    way = _WAYS[service]
    mailbox = mailbox.strip()
    address = mailbox if _PLAIN_ADDRESS.fullmatch(mailbox) else "MAILBOX"
    name = " ".join(_NOT_PLAIN.sub(" ", app_name).split()) or "Outbound mail"
    return "\n".join(
        [
            *_opening(way, address, name),
            *(_machine(way) if provider == MANAGED_IDENTITY else _entra(way, name, _step_3(provider, thumbprint))),
            *_exchange(way, address, name),
            *_closing(address, _send_back(provider, thumbprint)),
        ]
    )


def _opening(way: _Way, address: str, name: str) -> list[str]:
    return [
        f"Subject: Please let the application “{name}” send mail from {address}",
        "",
        f"“{name}” is to send mail from the mailbox {address}, through Microsoft 365, without a person's password.",
        "It needs the right to send from this one mailbox and nothing else. It does not read mail.",
        f"Way of sending: {way.words} with OAuth 2.0 (client credentials).",
        "",
    ]


def _step_3(provider: str, thumbprint: str) -> list[str]:
    if provider == FEDERATED:
        return [
            "3. Certificates & secrets > Federated credentials > Add credential: issuer and subject as we name them to",
            "   you, audience api://AzureADTokenExchange. No secret is made.",
        ]
    if thumbprint:
        return [
            "3. Certificates & secrets > Certificates > Upload certificate: the file that we send with this. Its",
            f"   thumbprint is {thumbprint}. It is the public part; the key stays with the application.",
        ]
    return [
        "3. Certificates & secrets: upload a certificate's public part, or choose New client secret and copy its Value",
        "   at once. The Value is shown only then; the Secret ID is not the secret.",
    ]


def _send_back(provider: str, thumbprint: str) -> list[str]:
    if provider == MANAGED_IDENTITY:
        return ["- that it is done; there is no secret"]
    ids = ["- Directory (tenant) ID", "- Application (client) ID"]
    if provider == FEDERATED:
        return [*ids, "- that the federated credential is added"]
    if thumbprint:
        return [*ids, "- that the certificate is uploaded; its date of expiry we know"]
    return [
        *ids,
        "- the secret's Value, by a safe way and not by e-mail; or tell us that the certificate is uploaded",
        "- the date on which secret or certificate expires",
    ]


def _machine(way: _Way) -> list[str]:
    return [
        "A. Azure portal and Microsoft Entra admin center, by whoever runs the machine and by an Entra administrator",
        "",
        "1. Azure portal > the resource that the application runs on > Identity: switch System assigned on (or add a",
        "   user-assigned identity). No application is registered, and there is no secret.",
        "2. Entra admin center > Enterprise applications > application type Managed Identities > the resource's name:",
        "   note Application ID and Object ID.",
        f"3. Do not grant {way.consent} to it. Permissions of Entra and Exchange add up;",
        f"   {way.because}.",
        "",
    ]


def _entra(way: _Way, name: str, step_3: list[str]) -> list[str]:
    return [
        "A. Microsoft Entra admin center (https://entra.microsoft.com), by a Microsoft Entra administrator",
        "",
        f"1. App registrations > New registration: name “{name}”, accounts in this organisation only, no redirect URI.",
        "2. Overview: note Application (client) ID and Directory (tenant) ID.",
        *step_3,
        "4. Enterprise applications > the same name: note the Object ID. The Object ID under App registrations is",
        "   another one and does not work below.",
        f"5. API permissions: do not grant {way.consent}. Permissions of Entra and Exchange add up;",
        f"   {way.because}.",
        "",
    ]


def _exchange(way: _Way, address: str, name: str) -> list[str]:
    placeholders = "APP_ID is the Application (client) ID, ENTERPRISE_OBJECT_ID the Object ID of A"
    lines = [
        "B. Exchange Online PowerShell, by an Exchange administrator",
        "",
        f"{placeholders}{', MAILBOX the sending mailbox' if address == 'MAILBOX' else ''}.",
        "",
        "    Connect-ExchangeOnline",
        f"    New-ServicePrincipal -AppId APP_ID -ObjectId ENTERPRISE_OBJECT_ID -DisplayName '{name}'",
        f"    New-ManagementScope -Name '{name} mailbox'"
        f" -RecipientRestrictionFilter \"PrimarySmtpAddress -eq '{address}'\"",
        f"    New-ManagementRoleAssignment -App ENTERPRISE_OBJECT_ID -Role '{way.role}'"
        f" -CustomResourceScope '{name} mailbox'",
    ]
    if way is _WAYS["microsoft365_smtp"]:
        lines += [
            f"    Set-CASMailbox -Identity '{address}' -SmtpClientAuthenticationDisabled $false",
            "",
            "The last line allows SMTP log-in for this mailbox only; where it is off, OAuth 2.0 does not work either.",
            "If you use authentication policies, see Get-AuthenticationPolicy too.",
        ]
    return [*lines, ""]


def _closing(address: str, send_back: list[str]) -> list[str]:
    return [
        "C. To check, by the Exchange administrator",
        "",
        f"    Test-ServicePrincipalAuthorization -Identity ENTERPRISE_OBJECT_ID -Resource '{address}'",
        "    Test-ServicePrincipalAuthorization -Identity ENTERPRISE_OBJECT_ID -Resource 'ANOTHER_MAILBOX'",
        "",
        f"Column InScope: True for {address}, False for any other mailbox.",
        "It takes 30 minutes to 2 hours until the application can send, even when the check says True at once.",
        "",
        "D. Please send back",
        "",
        *send_back,
        "",
    ]
