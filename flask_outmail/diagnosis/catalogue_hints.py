"""What a setup that works, or is not finished, gives reason to look at."""

from __future__ import annotations

from .catalogue import Entry, entry

HINTS: tuple[Entry, ...] = (
    entry(
        "token_without_role",
        title="The token does not name the permission",
        meaning="This is right if Exchange keeps the permission (RBAC for Applications), and otherwise means that"
        " consent is missing.",
        steps=(
            "Look at the next steps of the test: if the mailbox accepts the call, nothing needs to be done.",
            "If it does not, and you use RBAC for Applications: the role may not be assigned yet, or the change may"
            " still be on its way (30 minutes to 2 hours).",
            "If you do not use it: in Microsoft Entra admin center > App registrations > the application > API"
            " permissions, add `Mail.Send` of Microsoft Graph, or `SMTP.SendAsApp` of Office 365 Exchange Online for"
            " SMTP, as an Application permission and choose Grant admin consent.",
        ),
        who="entra_admin",
    ),
    entry(
        "foreign_mailbox_open",
        title="This application may send as other mailboxes too",
        meaning="The permission is not limited to the mailbox of this setup, so a stolen secret would speak for"
        " everybody.",
        steps=(
            "Give the permission in Exchange for the one mailbox (RBAC for Applications); the request for your IT"
            " department has the commands.",
            "In Microsoft Entra admin center > App registrations > the application > API permissions, remove the"
            " consent to `Mail.Send` (for SMTP `SMTP.SendAsApp`): it and the scope in Exchange add up.",
            "Wait 30 minutes to 2 hours, then test both again: the own mailbox has to pass, the other to be refused.",
        ),
        who="entra_admin",
    ),
    entry(
        "foreign_mailbox_unknown",
        title="The other mailbox does not exist, so nothing is proven by it",
        meaning="Only a mailbox that exists can show whether this application is kept out of it.",
        steps=("Name the mailbox of a colleague in the same organisation, and test again; nothing is sent.",),
        who="you",
    ),
    entry(
        "foreign_mailbox_not_asked",
        title="This mail service cannot be asked about other mailboxes",
        meaning="Only the Microsoft services send by a permission of the application, which may reach too far.",
        steps=("Leave the other mailbox out, and test again.",),
        who="you",
    ),
    entry(
        "foreign_mailbox_own",
        title="The other mailbox is the one that sends",
        meaning="The proof needs a mailbox that this application has nothing to do with.",
        steps=("Name another mailbox of the organisation, or leave the field empty.",),
        who="you",
    ),
    entry(
        "worker_not_running",
        title="No worker is running, so mail would wait",
        meaning="`OUTMAIL_DELIVERY` is `outbox`: messages are stored, and `flask outmail worker` hands them over.",
        steps=(
            "Start `flask outmail worker`, and let the service manager of the machine keep it running.",
            "Test again; until then messages are kept, and none is lost.",
        ),
        who="developer",
    ),
    entry(
        "worker_behind",
        title="A worker has not taken up this setup yet",
        meaning="Workers look for a new revision every few seconds, and this one still uses another.",
        steps=(
            "Wait half a minute and test again.",
            "If it stays so, restart that worker and read its log: it may use another database or another key.",
        ),
        who="developer",
    ),
    entry(
        "token_role_delegated",
        title="The permission may have been added as Delegated",
        meaning="Delegated permissions act for a person who is logged in, and this application sends without one.",
        steps=(
            "Open Microsoft Entra admin center > App registrations > the application > API permissions and look at"
            " the column Type.",
            "Add the permission again under Application permissions, and remove the delegated one.",
            "Choose Grant admin consent, then test again; only a new token shows the change.",
        ),
        who="entra_admin",
    ),
    entry(
        "token_opaque",
        title="The token cannot be looked into",
        meaning="Microsoft may write tokens in any form, and this says nothing about whether sending works.",
        steps=(),
        who="nobody",
    ),
    entry(
        "graph_accepted_empty",
        title="Microsoft accepted a message without recipients",
        meaning="The test expects a refusal there, so this step proves nothing about the permission.",
        steps=(
            "Send a test message to yourself and see whether it arrives.",
            "If it does, nothing else needs to be done.",
        ),
        who="you",
    ),
    entry(
        "sender_domain_differs",
        title="The From address belongs to another domain than the mailbox",
        meaning="Recipients may see such mail as forged, and the server may refuse it.",
        steps=(
            "Use a From address in the mailbox's own domain where you can.",
            "Otherwise see that the mailbox may send as that address, and that SPF, DKIM and DMARC of its domain"
            " allow this server.",
            "Send a test message to an address outside your organisation.",
        ),
        who="you",
    ),
    entry(
        "port_465_starttls",
        title="Port 465 usually begins with TLS",
        meaning="STARTTLS is chosen, and at this port nearly every server expects TLS from the start.",
        steps=("Choose TLS from the start, or use port 587 with STARTTLS.",),
        who="you",
    ),
    entry(
        "port_587_tls",
        title="Port 587 usually begins in the clear",
        meaning="TLS from the start is chosen, and at this port nearly every server expects STARTTLS.",
        steps=("Choose STARTTLS, or use port 465 with TLS from the start.",),
        who="you",
    ),
    entry(
        "tls_off",
        title="The connection is not encrypted",
        meaning="Everybody on the way to the server can read the mail, and the password if there is one.",
        steps=(
            "Choose STARTTLS, or TLS from the start, if the server offers either.",
            "Leave it off only for a server on the same machine or in a network that you trust.",
        ),
        who="you",
    ),
    entry(
        "no_alert_path",
        title="Nobody would be told when mail stops",
        meaning="An alert that can only travel through the broken mail service does not arrive.",
        steps=(
            "Set up a second connection, for instance `backup`, with another mail service, or another channel for"
            " alerts.",
            "Enter an address for alerts that does not depend on this mail service.",
        ),
        who="you",
    ),
)
