"""SMTP replies about one message, its size and its recipients, and those that say "not now" (RFC 5321, RFC 3463;
Exchange: SMTP submission improvements, non-delivery reports, Exchange Online limits).
"""

from __future__ import annotations

from .catalogue import Entry, entry

# -- how much --------------------------------------------------------------------------------------------------------
_LIMITS: tuple[Entry, ...] = (
    entry(
        "432 4.3.2",
        title="Too many connections for this mailbox at the same time",
        meaning="Exchange Online serves three connections of one mailbox at once.",
        steps=(
            "Nothing needs to be done for this message; it is tried again.",
            "If it happens often, let fewer processes send from the same mailbox.",
        ),
        who="nobody",
    ),
    entry(
        "421*",
        "450*",
        "451*",
        "452*",
        detail=r"concurrent connections|thread limit",
        title="The server allows fewer connections at the same time",
        meaning="More connections were open than this mailbox or this machine may have.",
        steps=(
            "Nothing needs to be done for this message; it is tried again.",
            "If it happens often, let fewer processes send at once.",
        ),
        who="nobody",
    ),
    entry(
        "554 5.2.0",
        "550 5.1.90",
        "550 5.2.2",
        "554 5.2.2",
        detail=r"Submission ?Quota",
        title="This mailbox has used up its recipients for today",
        meaning="Exchange Online lets a mailbox reach 10,000 recipients in 24 hours.",
        steps=(
            "Wait: the count goes down as 24 hours pass.",
            "Spread the mail over several mailboxes, or use a service for mass mail.",
        ),
        who="you",
    ),
    entry(
        "550 5.1.90",
        title="The sender has reached a sending limit",
        meaning="Exchange Online does not take more from this mailbox for now.",
        steps=("Wait up to 24 hours.", "Send fewer messages, or use a service for mass mail."),
        who="you",
    ),
    entry(
        "554 5.2.2",
        detail=r"STOREDRV|QuotaExceeded",
        title="The mailbox that sends is full",
        meaning="A copy of each message goes to Sent Items, and there is no room for another one.",
        steps=(
            "Empty Sent Items and Deleted Items of the sending mailbox.",
            "Give it a retention policy that removes old copies, or more space.",
        ),
        who="exchange_admin",
    ),
    entry(
        "554 5.2.0",
        title="Exchange could not pass the message on",
        meaning="The message was refused after it had been handed over; the server's words name the reason.",
        steps=(
            "Read the server's words; the name that ends in Exception is the reason.",
            "Quote them to your Exchange administrator.",
        ),
        who="exchange_admin",
    ),
    entry(
        "552 5.2.2",
        "550 5.2.2",
        "554 5.2.2",
        "452 4.2.2",
        "422*",
        title="A mailbox is full",
        meaning="Mostly it is the recipient's, which takes nothing until there is room again.",
        steps=(
            "Tell the recipient by another way.",
            "If the server's words name the sending mailbox, empty its Sent Items.",
        ),
        who="you",
    ),
    entry(
        "452 4.5.3",
        title="Too many recipients for one delivery",
        meaning="The server takes the first ones now and wants the others in a delivery of their own.",
        steps=(
            "Nothing needs to be done for those it took; send to the others in a further message.",
            "If it happens often, let the application put fewer recipients into one message.",
        ),
        who="you",
    ),
    entry(
        "550 5.5.3",
        "554 5.5.3",
        title="The message has too many recipients",
        meaning="The server limits how many people one message may reach.",
        steps=(
            "Send several messages with fewer recipients each.",
            "In Exchange Online, an administrator can raise it: `Set-Mailbox -Identity MAILBOX -RecipientLimits 500`.",
        ),
        who="you",
    ),
    entry(
        "552 5.3.4",
        "552 5.2.3",
        "554 5.3.4",
        "550 5.3.4",
        "550 5.2.3",
        "554 5.2.3",
        "552*",
        title="The message is too large for this server",
        meaning="With its attachments encoded it exceeds the limit of the server or of the mailbox.",
        steps=(
            "Send smaller attachments, or a link to the file.",
            "Attachments grow by about a third when they are encoded for mail.",
            "Whoever runs the mail server may be able to raise the limit; in Exchange Online,"
            " `Set-Mailbox -Identity MAILBOX -MaxSendSize 50MB`.",
        ),
        who="you",
    ),
)

# -- recipients and content ------------------------------------------------------------------------------------------
_RECIPIENT: tuple[Entry, ...] = (
    entry(
        "550 5.1.1",
        "550 5.1.10",
        "551 5.1.1",
        "553 5.1.1",
        "554 5.1.1",
        title="There is no such recipient",
        meaning="The recipient's server says that it has no mailbox with this address.",
        steps=(
            "Check the address, letter by letter, above all before the @.",
            "If it was right once, ask the recipient for the new one and remove the old one from your data.",
        ),
        who="you",
    ),
    entry(
        "550 5.4.1",
        title="The recipient's domain does not take this mail",
        meaning="The server responsible for the domain refused the address, mostly because it does not know it.",
        steps=(
            "Check the recipient's address, above all after the @.",
            "If it is right, the administrator of the recipient's domain has to look at it.",
        ),
        who="you",
    ),
    entry(
        "550 5.1.2",
        "550 5.1.3",
        "553 5.1.2",
        "553 5.1.3",
        "501 5.1.3",
        "554 5.1.2",
        title="The recipient's address is not usable",
        meaning="Its form is wrong, or there is no such domain.",
        steps=("Correct the recipient's address.",),
        who="you",
    ),
    entry(
        "550 5.1.7",
        "501 5.1.7",
        "553 5.1.7",
        "550 5.1.0",
        title="The server does not like the sender's address",
        meaning="The From address of this setup or message is not usable in the server's eyes.",
        steps=("Check the From address in the outbound mail setup.", "Use the address of a real mailbox."),
        who="you",
    ),
    entry(
        "550 5.7.124",
        title="The recipient is a group that is closed to this sender",
        meaning="Only certain senders may write to this group, and this one is not among them.",
        steps=("Ask the owner of the group to allow the From address.",),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.133",
        title="The recipient is a group that is closed to outsiders",
        meaning="Only people of its own organisation may write to this group.",
        steps=("Ask the owner of the group to allow senders from outside, or the From address.",),
        who="exchange_admin",
    ),
    entry(
        "550 5.7.1",
        "554 5.7.1",
        "550 5.7.0",
        "554 5.7.0",
        title="A rule of the server refused the message",
        meaning="The server's policy does not allow this mail; its own words say more.",
        steps=(
            "Read the server's words.",
            "If they speak of spam or reputation, check SPF, DKIM and DMARC of the From domain, and what the message"
            " contains.",
            "Otherwise ask whoever runs the server that refused it, and quote its words.",
        ),
        who="mail_admin",
    ),
    entry(
        "550 5.6.11",
        title="The message has line ends that the server refuses",
        meaning="Single line feeds were found in it, where mail needs carriage return and line feed.",
        steps=("Report it to whoever maintains this application; the recipient cannot change it.",),
        who="developer",
    ),
)

# -- not now ---------------------------------------------------------------------------------------------------------
_NOT_NOW: tuple[Entry, ...] = (
    entry(
        "451 4.7.5*",
        "451 4.7.6*",
        "451 4.7.85*",
        "451 4.7.86*",
        "451 4.7.87*",
        "451 4.7.88*",
        "451 4.7.89*",
        "450 4.7.5*",
        "450 4.7.6*",
        "450 4.7.85*",
        "450 4.7.86*",
        "450 4.7.87*",
        "450 4.7.88*",
        "450 4.7.89*",
        title="Microsoft finds this sending unusual and slows it down",
        meaning="For a while it takes less mail from here, until it trusts the sender again.",
        steps=(
            "It is tried again by itself; usually this passes.",
            "If it stays, look whether something sends much more than usual, and check SPF, DKIM and DMARC of the From"
            " domain.",
        ),
        who="exchange_admin",
    ),
    entry(
        "450*",
        "451*",
        "421*",
        detail=r"gr[ae]y-?list",
        title="The server wants to see whether we come back",
        meaning="Greylisting turns a new sender away once and takes the second attempt.",
        steps=("Nothing needs to be done; it is tried again after some minutes.",),
        who="nobody",
    ),
    entry(
        "421*",
        title="The server closes the conversation for now",
        meaning="It is busy, it restarts, or it has seen enough for the moment.",
        steps=(
            "Nothing needs to be changed; the next attempt comes by itself.",
            "If it stays, ask whoever runs the mail server.",
        ),
        who="nobody",
    ),
    entry(
        "452*",
        title="The server has no room at the moment",
        meaning="Space or another means is short there, and by its own words only for now.",
        steps=(
            "Nothing needs to be changed; the next attempt comes by itself.",
            "If it stays, ask whoever runs the mail server.",
        ),
        who="mail_admin",
    ),
    entry(
        "450*",
        "451*",
        title="The server cannot take the message just now",
        meaning="It reports a passing fault, and nothing was accepted.",
        steps=(
            "Nothing needs to be changed; the next attempt comes by itself.",
            "If it stays, ask whoever runs the mail server, and quote its words.",
        ),
        who="nobody",
    ),
)

SMTP_MESSAGE: tuple[Entry, ...] = (*_LIMITS, *_RECIPIENT, *_NOT_NOW)
