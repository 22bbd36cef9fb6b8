"""SMTP replies about who may send (Exchange: non-delivery reports, continuous error throttling).

One code may have several causes, told apart by the server's words. Some of those words are known from reports only.
"""

from __future__ import annotations

from .catalogue import Entry, entry

_BLOCK_STEPS = (
    "Then wait: Microsoft lifts the block by itself after a time of its own choice, and support cannot shorten it.",
    "Until then, do not keep trying; send from another mailbox if it is urgent.",
)


SMTP_SENDER: tuple[Entry, ...] = (
    entry(
        "550 5.2.251",
        title="Microsoft has blocked this mailbox for a while: it is full",
        meaning="Sending went on although the mailbox was full, so SMTP is closed to it for some time.",
        steps=("Empty Sent Items and Deleted Items of the mailbox, or set a retention policy.", *_BLOCK_STEPS),
        who="exchange_admin",
    ),
    entry(
        "550 5.2.252",
        title="Microsoft has blocked this mailbox for a while: From addresses it may not use",
        meaning="It tried too often to send as an address without the right to, so SMTP is closed to it for some time.",
        steps=(
            "Use the mailbox's own address as From, or have the right Send as granted for each other address.",
            *_BLOCK_STEPS,
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.2.253",
        title="Microsoft has blocked this mailbox for a while: its licence",
        meaning="Sending went on without a valid licence, so SMTP is closed to the mailbox for some time.",
        steps=(
            "Assign a licence with Exchange Online in Microsoft 365 admin center > Users > Active users.",
            *_BLOCK_STEPS,
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.2.254",
        title="Microsoft has blocked this mailbox for a while: too many recipients",
        meaning="Messages with more recipients than allowed came again and again, so SMTP is closed for some time.",
        steps=("Let the application put fewer recipients into one message.", *_BLOCK_STEPS),
        who="developer",
    ),
    entry(
        "550 5.2.255",
        title="Microsoft has blocked this mailbox for a while: recipients that do not exist",
        meaning="Messages to invalid addresses came again and again, so SMTP is closed for some time.",
        steps=("Remove the invalid addresses from where the application takes them.", *_BLOCK_STEPS),
        who="developer",
    ),
    entry(
        "554 5.2.25*",
        "451 5.2.25*",
        "452 4.2.25*",
        detail=r"throttled",
        title="Microsoft has blocked this mailbox for a while",
        meaning="The same error came again and again from this mailbox, so SMTP is closed to it for some time.",
        steps=("Read the server's words for the error that repeated, and mend its cause.", *_BLOCK_STEPS),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.60",
        "554 5.7.60",
        "554 5.2.252",
        title="This log-in may not send with this From address",
        meaning="From differs from the mailbox that is logged in, and it has no right to that address.",
        steps=(
            "Use the mailbox's own address as From.",
            "Or grant the right in Exchange Online PowerShell: `Add-RecipientPermission -Identity FROM_ADDRESS"
            " -Trustee MAILBOX -AccessRights SendAs`.",
            "Do not repeat the attempt before that; repeated refusals get the mailbox blocked.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.1.8",
        title="Microsoft has blocked this sender for unwanted mail",
        meaning="The sender is on the list of restricted entities, so none of its mail leaves.",
        steps=(
            "Stop sending; find out what was sent from this mailbox and by whom, and change its password.",
            "Open Microsoft Defender portal > Email & collaboration > Review > Restricted entities and release it.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.501",
        "550 5.7.502",
        "550 5.7.503",
        title="Microsoft has banned this sender for unwanted mail",
        meaning="Too much of what it sent looked like spam.",
        steps=(
            "Stop sending, and find out what was sent and by whom.",
            "Clean up: passwords, forms that strangers can abuse, old lists of recipients.",
            "Then ask Microsoft support to lift the ban, and quote the code.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.5*",
        title="Microsoft refused the mail by a rule against abuse",
        meaning="Codes of this family are bans or refusals that do not pass by themselves.",
        steps=(
            "Read the server's words for the rule.",
            "Ask Microsoft support, or the recipient's administrator if the words point there; quote the code.",
            "Do not send the same mail again before that.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.705",
        title="The whole organisation has exceeded a sending limit",
        meaning="Microsoft has blocked mail of this tenant because too much of it looked suspicious.",
        steps=(
            "Find out which mailboxes sent so much, and stop them.",
            "Then ask Microsoft support to lift the block, and quote the code.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.708",
        title="Microsoft does not take mail from this network address",
        meaning="The address has too low a reputation for this tenant; new and trial tenants meet this often.",
        steps=(
            "Ask Microsoft support to allow it, and quote the code.",
            "Use a tenant with paid licences rather than a trial.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.750",
        title="The From domain is not registered with the organisation",
        meaning="Microsoft has blocked mail of this tenant because it came from domains that are not verified there.",
        steps=(
            "Use a From address in a domain that is listed and verified in Microsoft 365 admin center > Settings >"
            " Domains.",
            "Or have the domain added and verified there.",
            "Then ask Microsoft support to lift the block, and quote the code.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.7*",
        title="Microsoft has blocked mail of the whole organisation",
        meaning="Codes of this family concern the tenant, not this message.",
        steps=(
            "Read the server's words for the reason.",
            "Ask Microsoft support, and quote the code.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.232",
        "550 5.7.233",
        title="The organisation's allowance for outside recipients seems to be used up",
        meaning="Microsoft limits how many recipients outside the organisation a tenant may reach in 24 hours.",
        steps=(
            "Wait: the count goes down as 24 hours pass.",
            "In Exchange Online PowerShell, `Get-LimitsEnforcementStatus` shows count and limit.",
            "The limit grows with the number of licences; trial tenants have a small one.",
            "For mass mail, use a service that is made for it.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.68",
        title="The organisation refuses mail without a log-in",
        meaning="Its setting against Direct Send turns away mail in its own name that nobody logged in for.",
        steps=(
            "Choose a mail service with OAuth 2.0 here.",
            "Or have a connector made in the Exchange admin center > Mail flow > Connectors that knows this machine by"
            " address or certificate.",
        ),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.1",
        "554 5.7.1",
        "551 5.7.1",
        "553 5.7.1",
        "550",
        "551",
        "553",
        "554",
        detail=r"\brelay",
        title="The server does not forward mail for this log-in",
        meaning="It delivers to its own people only, unless somebody logs in or is known to it.",
        steps=(
            "Enter user name and password, or check that they are really used.",
            "Use the port for sending, 587, instead of 25.",
            "If the server should know this machine by its address, ask whoever runs the mail server.",
        ),
        who="mail_admin",
    ),
    entry(
        "550 5.7.1",
        "553 5.7.1",
        "554 5.7.1",
        "550",
        "553",
        detail=r"sender address rejected|not owned by user|send(ing)? as",
        title="The server does not let this log-in use this From address",
        meaning="The From address does not belong to the account that is logged in.",
        steps=(
            "Use the account's own address as From.",
            "Or ask whoever runs the mail server to allow the other address for this account.",
        ),
        who="mail_admin",
    ),
)
