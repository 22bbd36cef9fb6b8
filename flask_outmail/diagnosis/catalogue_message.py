"""What this application finds in a message by itself, and what became of one that left."""

from __future__ import annotations

from .catalogue import Entry, entry

MESSAGE: tuple[Entry, ...] = (
    entry(
        "recipients_held_back",
        title="Mail to this recipient is held back",
        meaning="The application is set to send to named recipients only, as is usual outside production.",
        steps=(
            "On the production system, remove `OUTMAIL_ALLOWED_RECIPIENTS` from the configuration.",
            "Elsewhere, add the address, or its domain as `@example.com`, if it shall receive mail.",
        ),
        who="developer",
    ),
    entry(
        "address_invalid",
        title="This is not an e-mail address",
        meaning="The address that the message names does not have the form of one mailbox.",
        steps=("Correct the address: one address, with one @, without blanks.", "Give several addresses as a list."),
        who="you",
    ),
    entry(
        "header_line_break",
        title="A line break stands where it could add headers",
        meaning="A subject, name or header held a line break, and such a message is never sent.",
        steps=(
            "Remove the line break from the field that the message names.",
            "If the text came from a form, find out what was typed there: it may have been an attempt at abuse.",
        ),
        who="developer",
    ),
    entry(
        "header_control",
        title="A header holds a character that is not text",
        meaning="Control characters have no place in a header.",
        steps=("Remove the character from the field that the message names.",),
        who="developer",
    ),
    entry(
        "header_name",
        title="This is not the name of a header",
        meaning="Header names consist of letters, digits and hyphens, without blanks or colons.",
        steps=("Correct the name in `extra_headers`, or in the attachment's headers.",),
        who="developer",
    ),
    entry(
        "header_computed",
        title="This header is made from the message itself",
        meaning="A second copy among the extra headers would contradict the first.",
        steps=("Remove it from `extra_headers` and set the message's own field instead.",),
        who="developer",
    ),
    entry(
        "recipients_missing",
        title="The message is addressed to nobody",
        meaning="There is no recipient in To, Cc or Bcc.",
        steps=("Give the message at least one recipient.",),
        who="developer",
    ),
    entry(
        "sender_missing",
        title="The message has no sender",
        meaning="Neither the message nor the setup says who it is from.",
        steps=("Enter a From address in the outbound mail setup, or give the message a `sender`.",),
        who="you",
    ),
    entry(
        "attachment_type",
        title="The type of an attachment is not usable",
        meaning="A content type is written as two words with a slash between them, as in text/plain.",
        steps=("Correct the attachment's `content_type`, or leave it out.",),
        who="developer",
    ),
    entry(
        "field_invalid",
        title="A field of the message holds a value that it cannot have",
        meaning="The message names the field, and what may stand in it.",
        steps=("Correct the field where the application makes the message.",),
        who="developer",
    ),
    entry(
        "entity_invalid",
        title="The finished entity is not one",
        meaning="An entity is bytes: Content- headers, an empty line and a body, in place of any other text.",
        steps=(
            "Pass what the signing tool made, from its Content-Type header to its end.",
            "Leave body, html, alternatives and attachments empty: they belong inside what is signed.",
        ),
        who="developer",
    ),
    entry(
        "attachment_unreadable",
        title="A file to attach cannot be read",
        meaning="The path that was attached names no ordinary file that this application may read; nothing was sent.",
        steps=(
            "Check the path that the message names, and that the application's user may read it.",
            "Attach a file, not a folder, a device or a pipe.",
        ),
        who="developer",
    ),
    entry(
        "attachment_changed",
        title="A file changed while it was being sent",
        meaning="The file is gone, or another than when the message was built, and nothing was accepted.",
        steps=(
            "Send the message again once the file is complete.",
            "Let the application write the file first, under its final name, and attach it then.",
        ),
        who="developer",
    ),
    entry(
        "text_invalid",
        title="The text holds half a character",
        meaning="Somewhere a text was cut in the middle of a character, and it cannot be encoded.",
        steps=("Find where the application cuts this text, and cut between characters.",),
        who="developer",
    ),
    entry(
        "message_too_large",
        transport="microsoft365_graph",
        title="The message is larger than Exchange Online sends",
        meaning="No mailbox may send more than 150 MB in one message, so nothing was sent.",
        steps=("Send smaller attachments, or several messages.", "Or send a link to the file."),
        who="you",
    ),
    entry(
        "body_too_large",
        title="The text of the message is too large for Microsoft Graph",
        meaning="Attachments can travel one by one; text, HTML and headers have to fit into one request of 4 MB.",
        steps=(
            "Attach the long part as a file, or send a link to it.",
            "Pictures written into the HTML as `data:` make it large: embed them as inline attachments.",
        ),
        who="developer",
    ),
    entry(
        "large_messages_off",
        title="Large messages are switched off",
        meaning="With its attachments encoded the message exceeds one request to Microsoft Graph, and the configuration"
        " forbids the other way.",
        steps=(
            "Send smaller attachments, about 2 MB in all, or a link to the file.",
            "Or set `OUTMAIL_GRAPH_LARGE_MESSAGES` to `True`; the application then also needs the permission"
            " `Mail.ReadWrite`.",
        ),
        who="developer",
    ),
    entry(
        "large_messages_permission",
        title="The application may send mail, but not make drafts",
        meaning="A message this large goes out as a draft with uploaded attachments, which needs the permission"
        " `Mail.ReadWrite`; nothing was sent, and smaller messages are not concerned.",
        steps=(
            "With RBAC for Applications: `New-ManagementRoleAssignment -App ENTERPRISE_OBJECT_ID -Role"
            ' "Application Mail.ReadWrite" -CustomResourceScope SCOPE_NAME` in Exchange Online PowerShell, with the'
            " scope that is limited to the sending mailbox.",
            "With consent in Entra: add `Mail.ReadWrite` of Microsoft Graph as an Application permission and grant"
            " admin consent. It then lets the application read mailboxes, so limit it.",
            "After a change, wait 30 minutes to 2 hours, then send again.",
            "Or send smaller attachments, about 2 MB in all, or a link to the file.",
        ),
        who="exchange_admin",
    ),
    entry(
        "large_messages_cloud",
        title="This Microsoft cloud takes no attachment that large",
        meaning="The US Government clouds GCC High and DoD have no upload sessions, so an attachment of 3 MB or more"
        " cannot be sent over Microsoft Graph there.",
        steps=(
            "Send a link to the file, or split it.",
            "Or send this message by another connection, such as Microsoft 365 SMTP.",
        ),
        who="you",
    ),
    entry(
        "message_too_large",
        title="The message is larger than the server takes",
        meaning="The server names its limit in advance, and the message exceeds it.",
        steps=(
            "Send smaller attachments, or a link to the file.",
            "Attachments grow by about a third when they are encoded for mail.",
            "Whoever runs the mail server may be able to raise the limit.",
        ),
        who="you",
    ),
    entry(
        "unsupported_feature",
        title="The chosen mail service cannot express this message",
        meaning="Something in the message would be lost, so it was refused instead.",
        steps=(
            "Change what the message names, for instance an address with letters outside ASCII before the @.",
            "Or send this message by another connection, such as an SMTP server.",
        ),
        who="developer",
    ),
    # -- on its way --------------------------------------------------------------------------------------------------
    entry(
        "process_died",
        title="The application stopped while it was sending",
        meaning="The message may or may not have been handed over before the process ended.",
        steps=(
            "Look in Sent Items of the sending mailbox, or ask the recipient.",
            "If it did not arrive, send it again; if you cannot tell, be aware that it may arrive twice.",
            "If this repeats, look in the application's log for why its process ended.",
        ),
        who="you",
    ),
    entry(
        "upload_failed",
        title="The attachments could not be uploaded",
        meaning="Microsoft ended the upload before it was complete; the message was not sent and its draft deleted.",
        steps=(
            "Nothing needs to be done; it may be tried again after a wait.",
            "If it stays, ask the people who run your network whether `outlook.office.com` may be reached: attachments"
            " are uploaded there.",
        ),
        who="you",
    ),
    entry(
        "draft_unsent",
        title="The answer was lost, and the message was not sent",
        meaning="A look into the mailbox found the draft unsent; it was deleted, so that it can never leave by itself.",
        steps=("Send the message again; it cannot arrive twice.",),
        who="you",
    ),
    entry(
        "draft_gone",
        title="Microsoft asked to wait, and then the draft was gone",
        meaning="It may have been sent in spite of the request to wait.",
        steps=(
            "Look in Sent Items of the sending mailbox, or ask the recipient.",
            "If it did not arrive, send it again; if you cannot tell, be aware that it may arrive twice.",
        ),
        who="you",
    ),
    entry(
        "not_accepted",
        title="Microsoft answered, but did not accept the message",
        meaning="Only the status 202 is an acceptance, and another one came.",
        steps=(
            "Send a smaller message: this has been seen when a message was too large.",
            "If small messages get the same answer, something between this application and Microsoft may answer in"
            " its place: ask the people who run your network.",
        ),
        who="you",
    ),
    entry(
        "transport_fault",
        title="The mail service ended by a fault of its own",
        meaning="That says nothing about the message, which may or may not have left.",
        steps=(
            "Look at the application's log, which names the fault, and report it to whoever wrote the mail service.",
        ),
        who="developer",
    ),
    entry(
        "answer_odd",
        title="The server's answer makes no sense",
        meaning="After the message the server gave an answer that is neither a yes nor a no, so it may have arrived.",
        steps=("Ask the recipient before sending it again.", "Tell whoever runs the mail server what it answered."),
        who="mail_admin",
    ),
    entry(
        "message_invalid",
        title="A field of this message is of the wrong kind",
        meaning="Something in the message is not text, or not a number, where it has to be.",
        steps=("Look at the fields that the application gives to the message; the log names the error.",),
        who="developer",
    ),
    entry(
        "recipients_refused",
        title="Some recipients were refused",
        meaning="The message was accepted for the others.",
        steps=("Check the addresses that the reason names.",),
        who="you",
    ),
)
