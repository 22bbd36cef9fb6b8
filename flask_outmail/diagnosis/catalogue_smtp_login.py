"""SMTP replies about the log-in (RFC 4954; Exchange: non-delivery reports), and what is judged before it.

One code may have several causes, told apart by the server's words. Some of those words are known from reports only.
"""

from __future__ import annotations

from .catalogue import Entry, entry

_M365 = "microsoft365_smtp"
_TO_GRAPH = (
    "Or choose the mail service Microsoft Office 365 Exchange (Graph) with OAuth 2.0 here; it does not need SMTP."
)
_TO_OAUTH = "Choose a mail service with OAuth 2.0 here, best Microsoft Office 365 Exchange (Graph)."


SMTP_LOGIN: tuple[Entry, ...] = (
    entry(
        "535 5.7.139",
        detail=r"SmtpClientAuthentication is disabled for the Tenant",
        title="SMTP log-in is switched off for the whole organisation",
        meaning="The switch is called SMTP AUTH, and it stops passwords and OAuth 2.0 alike.",
        steps=(
            "Switch it on for this one mailbox; that goes before the setting of the organisation. In Exchange Online"
            " PowerShell: `Connect-ExchangeOnline`, then `Set-CASMailbox -Identity MAILBOX"
            " -SmtpClientAuthenticationDisabled $false`.",
            "Microsoft explains it at https://aka.ms/smtp_auth_disabled.",
            "Wait some minutes and test again.",
            _TO_GRAPH,
        ),
        who="exchange_admin",
    ),
    entry(
        "535 5.7.139",
        detail=r"SmtpClientAuthentication is disabled for the Mailbox",
        title="SMTP log-in is switched off for this mailbox",
        meaning="The switch is called SMTP AUTH, and it stops passwords and OAuth 2.0 alike.",
        steps=(
            "In Exchange Online PowerShell: `Connect-ExchangeOnline`, then `Set-CASMailbox -Identity MAILBOX"
            " -SmtpClientAuthenticationDisabled $false`.",
            "Or in the Microsoft 365 admin center, usually under Users > Active users > the user > Mail > Manage"
            " email apps, tick Authenticated SMTP.",
            "Wait some minutes and test again.",
            _TO_GRAPH,
        ),
        who="exchange_admin",
    ),
    entry(
        "535 5.7.139",
        detail=r"security defaults",
        title="The organisation's security defaults forbid this log-in",
        meaning="Security defaults stop older kinds of log-in, and a password over SMTP is one of them.",
        steps=(
            _TO_OAUTH,
            "An Entra administrator could replace security defaults by Conditional Access policies; for one"
            " application that is seldom worth it.",
        ),
        who="you",
    ),
    entry(
        "535 5.7.139",
        detail=r"did not meet the criteria",
        title="A rule of the organisation forbids this log-in",
        meaning="A Conditional Access policy or an authentication policy does not allow it.",
        steps=(
            "Ask for the Sign-in logs in Microsoft Entra admin center > Monitoring & health; they name the policy.",
            "If authentication policies are used, look at `Get-AuthenticationPolicy` in Exchange Online PowerShell.",
            "Exclude the mailbox from that rule, or choose a mail service with OAuth 2.0 here.",
        ),
        who="entra_admin",
    ),
    entry(
        "535 5.7.139",
        detail=r"basic authentication is disabled",
        title="This organisation no longer takes passwords over SMTP",
        meaning="Basic authentication, which is user name and password, is switched off there.",
        steps=(
            _TO_OAUTH,
            "Microsoft's plan for basic authentication:"
            " https://techcommunity.microsoft.com/blog/exchange/"
            "updated-exchange-online-smtp-auth-basic-authentication-deprecation-timeline/4489835",
        ),
        who="you",
    ),
    entry(
        "535 5.7.139",
        title="Microsoft does not allow this mailbox to log in over SMTP",
        meaning="A switch or a policy of the organisation forbids it.",
        steps=(
            "See whether SMTP AUTH is on: in Exchange Online PowerShell, `Get-CASMailbox -Identity MAILBOX |"
            " Format-List SmtpClientAuthenticationDisabled`; False means on.",
            "Switch it on for this mailbox: `Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled"
            " $false`.",
            "If it is on, look for security defaults and Conditional Access.",
            _TO_GRAPH,
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.30",
        "535 5.7.30",
        title="Microsoft has ended log-in by password here",
        meaning="Basic authentication is not supported any more for sending through this server.",
        steps=(
            _TO_OAUTH,
            "Microsoft's plan for basic authentication:"
            " https://techcommunity.microsoft.com/blog/exchange/"
            "updated-exchange-online-smtp-auth-basic-authentication-deprecation-timeline/4489835",
        ),
        who="you",
    ),
    entry(
        "535*",
        transport=_M365,
        title="SMTP log-in with this application is not set up in Exchange",
        meaning="The token was issued, and Exchange does not let the application use this mailbox over SMTP.",
        steps=(
            "Check that SMTP AUTH is on for the mailbox: `Set-CASMailbox -Identity MAILBOX"
            " -SmtpClientAuthenticationDisabled $false`.",
            "Check that the application is known to Exchange: `Get-ServicePrincipal`; its ObjectId must be the Object"
            " ID from Microsoft Entra admin center > Enterprise applications, not from App registrations.",
            "Check that the role covers the mailbox: `Test-ServicePrincipalAuthorization -Identity"
            " ENTERPRISE_OBJECT_ID -Resource MAILBOX` must show InScope True for `Application SMTP.SendAsApp`.",
            "After a change, wait 30 minutes to 2 hours, then test again; do not try all the time meanwhile.",
            "If all of that is right, look for security defaults and Conditional Access.",
            _TO_GRAPH,
        ),
        who="exchange_admin",
    ),
    entry(
        "535 5.7.3",
        title="Exchange does not accept this user name and password",
        meaning="The password is wrong, or a password alone is not enough for this account.",
        steps=(
            "Check the user name (the whole e-mail address) and the password.",
            "If the account asks for a second factor, its ordinary password may not work over SMTP.",
            "Do not keep trying; too many wrong attempts lock an account.",
            "For Microsoft 365, choose a mail service with OAuth 2.0 here.",
        ),
        who="you",
    ),
    entry(
        "534*",
        title="The server wants another kind of password",
        meaning="Some providers take only a password made for this purpose, often called app password.",
        steps=(
            "Look in the provider's account settings for app passwords, make one, and enter it here.",
            "Or use another way to send that the provider offers to applications.",
        ),
        who="you",
    ),
    entry(
        "535*",
        title="The server does not accept this user name and password",
        meaning="The log-in reached the server and was refused.",
        steps=(
            "Check the user name; many servers want the whole e-mail address.",
            "Enter the password again.",
            "If the account uses a second factor, the provider may want an app password.",
            "Do not keep trying; too many wrong attempts lock an account.",
        ),
        who="you",
    ),
    entry(
        "530*",
        "538*",
        "523*",
        detail=r"STARTTLS|encryption (is )?required|TLS",
        title="The server wants an encrypted connection first",
        meaning="It accepts a log-in or mail only after STARTTLS, and this setup does not use it.",
        steps=("Choose STARTTLS and the port 587.", "Test again."),
        who="you",
    ),
    entry(
        "538*",
        "523*",
        title="The server takes this log-in only when it is encrypted",
        meaning="The connection was not encrypted, so the server refused to see the password.",
        steps=("Choose STARTTLS at port 587, or TLS from the start at port 465.", "Test again."),
        who="you",
    ),
    entry(
        "530*",
        title="The server wants a log-in",
        meaning="Mail from nobody in particular is not accepted at this server.",
        steps=(
            "Enter user name and password, or choose a mail service with an authentication object.",
            "Check that the password field is really filled: a log-in is made only with both, name and password.",
            "If the server should know this machine by its address, ask whoever runs the mail server.",
        ),
        who="you",
    ),
    entry(
        "504*",
        title="The server does not know this way to log in",
        meaning="Client and server agreed on a log-in that the server then did not accept.",
        steps=(
            "Check host and port with the provider's instructions.",
            "For Microsoft 365, choose a mail service with OAuth 2.0 here.",
        ),
        who="you",
    ),
    entry(
        "454*",
        title="The server is not ready for a log-in just now",
        meaning="It says that log-in or TLS is not possible for a moment.",
        steps=(
            "Nothing needs to be changed; the next attempt comes by itself.",
            "If it stays, ask whoever runs the mail server.",
        ),
        who="mail_admin",
    ),
    entry(
        "auth_needs_tls",
        title="A token never travels without TLS",
        meaning="TLS is off in this setup, so logging in would have shown the token to everybody on the way.",
        steps=("Choose STARTTLS (port 587).", "Test again."),
        who="you",
    ),
    entry(
        "auth_not_offered",
        transport="microsoft365_smtp",
        title="The server does not offer log-in by token",
        meaning="Microsoft 365 offers it at its submission host, so another server may have answered.",
        steps=(
            "Check that the host is the cloud's own, `smtp.office365.com` for the worldwide cloud, and the port 587.",
            "Ask the people who run your network whether something between the two answers in Microsoft's place.",
            "Microsoft Graph needs no SMTP at all.",
        ),
        who="you",
    ),
    entry(
        "auth_not_offered",
        title="Server and application know no common way to log in",
        meaning="The server offers none of the usual password log-ins: PLAIN, LOGIN, CRAM-MD5.",
        steps=(
            "Check port and TLS: many servers offer a log-in only on a secured connection, or only at port 587.",
            "If the server needs no log-in from here, leave user name and password empty.",
            "If it offers only XOAUTH2, passwords are off; for Microsoft 365 choose a mail service with OAuth 2.0.",
        ),
        who="you",
    ),
)
