"""A request for the IT department, ready to be sent: what to register and which commands give one mailbox, no more.

The permission is given in Exchange (RBAC for Applications), so it covers the one mailbox (Exchange: application-rbac).
"""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

from ..setup_values import CLIENT_CREDENTIALS, FEDERATED, MANAGED_IDENTITY
from ..words import ENGLISH, Words


class _Way(NamedTuple):
    """How one mail service is allowed: the role in Exchange, and the consent in Entra that is not to be given."""

    words: str
    role: str
    permission: str
    of: str


_WAYS = {
    "microsoft365_graph": _Way("Microsoft Graph", "Application Mail.Send", "Mail.Send", "Microsoft Graph"),
    "microsoft365_smtp": _Way("SMTP", "Application SMTP.SendAsApp", "SMTP.SendAsApp", "Office 365 Exchange Online"),
}
_SMTP = _WAYS["microsoft365_smtp"]
# Somebody will paste these into PowerShell, where $, ` and quotes of any form would mean something.
_PLAIN_ADDRESS = re.compile(r"[\w.+-]+@[\w.-]+")
_NOT_PLAIN = re.compile(r"[^\w .()-]+")


def it_request(
    *,
    service: str,
    mailbox: str,
    app_name: str,
    provider: str = CLIENT_CREDENTIALS,
    thumbprint: str = "",
    words: Words = ENGLISH,
) -> str:
    """Plain text that asks an administrator to let an application send from one mailbox, with every step.

    A mailbox that cannot stand in a command as it is becomes the placeholder MAILBOX. `provider` is the kind of
    credential; with a `thumbprint` the request is to upload the certificate of that thumbprint. The commands are the
    same in every language.

    Raises:
        ValueError: the service is not one of Microsoft's.
    """
    if service not in _WAYS:
        raise ValueError(f"there is no request for the mail service {service!r}")
    way = _WAYS[service]
    mailbox = mailbox.strip()
    address = mailbox if _PLAIN_ADDRESS.fullmatch(mailbox) else "MAILBOX"
    name = " ".join(_NOT_PLAIN.sub(" ", app_name).split()) or "Outbound mail"
    if provider == MANAGED_IDENTITY:
        allowing = _machine(words, way)
    else:
        allowing = _entra(words, way, name, _credential(words, provider, thumbprint))
    return "\n".join(
        [
            *_opening(words, way, address, name),
            *allowing,
            *_exchange(words, way, address, name),
            *_closing(words, address, _send_back(words, provider, thumbprint)),
        ]
    )


def _opening(words: Words, way: _Way, address: str, name: str) -> list[str]:
    t = words.t
    return [
        t("Subject: Please let the application “%(name)s” send mail from %(address)s", name=name, address=address),
        "",
        *_lines(
            t(
                "“%(name)s” is to send mail from the mailbox %(address)s, through Microsoft 365, without a person's "
                "password. It needs the right to send from this one mailbox and nothing else. It does not read mail.",
                name=name,
                address=address,
            )
        ),
        t("Way of sending: %(way)s with OAuth 2.0 (client credentials).", way=way.words),
        "",
    ]


def _entra(words: Words, way: _Way, name: str, credential: str) -> list[str]:
    t = words.t
    return [
        t("A. Microsoft Entra admin center (https://entra.microsoft.com), by a Microsoft Entra administrator"),
        "",
        *_numbered(
            t(
                "App registrations > New registration: name “%(name)s”, accounts in this organisation only, "
                "no redirect URI.",
                name=name,
            ),
            t("Overview: note Application (client) ID and Directory (tenant) ID."),
            credential,
            t(
                "Enterprise applications > the same name: note the Object ID. The Object ID under App registrations "
                "is another one and does not work below."
            ),
            t("API permissions: do not grant %(permission)s of %(api)s.", permission=way.permission, api=way.of)
            + " "
            + _reason(words, way),
        ),
        "",
    ]


def _machine(words: Words, way: _Way) -> list[str]:
    t = words.t
    return [
        t(
            "A. Azure portal and Microsoft Entra admin center, by whoever runs the machine and by an Entra "
            "administrator"
        ),
        "",
        *_numbered(
            t(
                "Azure portal > the resource that the application runs on > Identity: switch System assigned on (or "
                "add a user-assigned identity). No application is registered, and there is no secret."
            ),
            t(
                "Entra admin center > Enterprise applications > application type Managed Identities > the resource's "
                "name: note Application ID and Object ID."
            ),
            t("Do not grant %(permission)s of %(api)s to it.", permission=way.permission, api=way.of)
            + " "
            + _reason(words, way),
        ),
        "",
    ]


def _reason(words: Words, way: _Way) -> str:
    if way is _SMTP:
        return words.t(
            "Permissions of Entra and Exchange add up; a consent there is not needed, and has been reported to get "
            "in the way."
        )
    return words.t(
        "Permissions of Entra and Exchange add up; a consent there would open every mailbox of the organisation."
    )


def _credential(words: Words, provider: str, thumbprint: str) -> str:
    """The step that gives the application something to prove itself with."""
    t = words.t
    if provider == FEDERATED:
        return t(
            "Certificates & secrets > Federated credentials > Add credential: issuer and subject as we name them to "
            "you, audience %(audience)s. No secret is made.",
            audience="api://AzureADTokenExchange",
        )
    if thumbprint:
        return t(
            "Certificates & secrets > Certificates > Upload certificate: the file that we send with this. Its "
            "thumbprint is %(thumbprint)s. It is the public part; the key stays with the application.",
            thumbprint=thumbprint,
        )
    return t(
        "Certificates & secrets: upload a certificate's public part, or choose New client secret and copy its Value "
        "at once. The Value is shown only then; the Secret ID is not the secret."
    )


def _send_back(words: Words, provider: str, thumbprint: str) -> list[str]:
    t = words.t
    if provider == MANAGED_IDENTITY:
        return [t("that it is done; there is no secret")]
    ids = [t("Directory (tenant) ID"), t("Application (client) ID")]
    if provider == FEDERATED:
        return [*ids, t("that the federated credential is added")]
    if thumbprint:
        return [*ids, t("that the certificate is uploaded; its date of expiry we know")]
    return [
        *ids,
        t("the secret's Value, by a safe way and not by e-mail; or tell us that the certificate is uploaded"),
        t("the date on which secret or certificate expires"),
    ]


def _exchange(words: Words, way: _Way, address: str, name: str) -> list[str]:
    t = words.t
    return [
        t("B. Exchange Online PowerShell, by an Exchange administrator"),
        "",
        t("APP_ID is the Application (client) ID, ENTERPRISE_OBJECT_ID the Object ID of A."),
        *([t("MAILBOX is the sending mailbox.")] if address == "MAILBOX" else []),
        "",
        "    Connect-ExchangeOnline",
        f"    New-ServicePrincipal -AppId APP_ID -ObjectId ENTERPRISE_OBJECT_ID -DisplayName '{name}'",
        f"    New-ManagementScope -Name '{name} mailbox'"
        f" -RecipientRestrictionFilter \"PrimarySmtpAddress -eq '{address}'\"",
        f"    New-ManagementRoleAssignment -App ENTERPRISE_OBJECT_ID -Role '{way.role}'"
        f" -CustomResourceScope '{name} mailbox'",
        *(_smtp(words, address) if way is _SMTP else []),
        "",
    ]


def _smtp(words: Words, address: str) -> list[str]:
    return [
        f"    Set-CASMailbox -Identity '{address}' -SmtpClientAuthenticationDisabled $false",
        "",
        *_lines(
            words.t(
                "The last line allows SMTP log-in for this mailbox only; where it is off, OAuth 2.0 does not work "
                "either. If you use authentication policies, see Get-AuthenticationPolicy too."
            )
        ),
    ]


def _closing(words: Words, address: str, send_back: list[str]) -> list[str]:
    t = words.t
    return [
        t("C. To check, by the Exchange administrator"),
        "",
        f"    Test-ServicePrincipalAuthorization -Identity ENTERPRISE_OBJECT_ID -Resource '{address}'",
        "    Test-ServicePrincipalAuthorization -Identity ENTERPRISE_OBJECT_ID -Resource 'ANOTHER_MAILBOX'",
        "",
        *_lines(
            t("Column InScope: True for %(address)s, False for any other mailbox.", address=address),
            t("It takes 30 minutes to 2 hours until the application can send, even when the check says True at once."),
        ),
        "",
        t("D. Please send back"),
        "",
        *(f"- {one}" for one in send_back),
        "",
    ]


def _lines(*sentences: str) -> list[str]:
    return textwrap.wrap(" ".join(sentences), 110, break_long_words=False, break_on_hyphens=False)


def _numbered(*steps: str) -> list[str]:
    return [
        line
        for number, step in enumerate(steps, 1)
        for line in textwrap.wrap(
            step, 110, initial_indent=f"{number}. ", subsequent_indent="   ", break_long_words=False,
            break_on_hyphens=False,
        )
    ]  # fmt: skip
