"""Microsoft Graph's and Exchange's codes for a refused `sendMail` (Graph: errors, auth-limit-mailbox-access,
outlook-send-mail-from-other-user, throttling; many others are known from reports only).

Faults of the server come while it has the message, so unless the error itself says that nothing was accepted, the
words are those for "nobody knows".
"""

from __future__ import annotations

from ..errors import Throttled, TransportUnavailable
from .catalogue import Entry, entry

_APP = "Microsoft Entra admin center > App registrations > the application"
_CERTAIN = (Throttled, TransportUnavailable)
_LOOK_FIRST = (
    "Look in Sent Items of the sending mailbox, or ask the recipient.",
    "If it did not arrive, send it again; if you cannot tell, be aware that it may arrive twice.",
)

GRAPH: tuple[Entry, ...] = (
    # -- the token ---------------------------------------------------------------------------------------------------
    entry(
        "InvalidAuthenticationToken",
        "graph_401",
        detail=r"audience|\baud\b",
        title="The token was made for another service",
        meaning="Microsoft Graph takes only tokens whose scope is Microsoft Graph of the same cloud.",
        steps=(
            "With a built-in cloud, choose the cloud again in the authentication object and test.",
            "With a cloud from `OUTMAIL_CLOUDS`, let `scope` be the address in `graph` followed by `/.default`.",
        ),
        who="developer",
    ),
    entry(
        "InvalidAuthenticationToken",
        "graph_401",
        title="Microsoft Graph does not accept the token",
        meaning="A new token was fetched and refused too, so it is not merely out of date.",
        steps=(
            "Check that the chosen cloud is the one the tenant lives in.",
            "Check the clock of the machine that runs this application.",
            "With a cloud from `OUTMAIL_CLOUDS`, check that `graph` and `scope` belong together.",
        ),
        who="you",
    ),
    # -- permission --------------------------------------------------------------------------------------------------
    entry(
        "ErrorAccessDenied",
        detail=r"OData is disabled",
        title="An access policy shuts this mailbox out",
        meaning="The organisation limits by an application access policy which mailboxes this application may use.",
        steps=(
            "In Exchange Online PowerShell, after `Connect-ExchangeOnline`, look at"
            " `Test-ApplicationAccessPolicy -AppId APP_ID -Identity MAILBOX`.",
            "Add the mailbox to the group that the policy names.",
            "Wait: such a change can take longer than an hour, even when the command already says granted.",
            "Better, replace the policy by RBAC for Applications, its successor.",
        ),
        who="exchange_admin",
    ),
    entry(
        "ErrorAccessDenied",
        "graph_403",
        title="Microsoft refused this mailbox",
        meaning="The log-in works, and the application may not send from this mailbox, or not yet.",
        steps=(
            f"With consent in Entra: open {_APP} > API permissions; `Mail.Send` must be there as Application, with"
            " admin consent granted.",
            "With RBAC for Applications: run `Test-ServicePrincipalAuthorization -Identity ENTERPRISE_OBJECT_ID"
            " -Resource MAILBOX` in Exchange Online PowerShell; InScope must be True for `Application Mail.Send`.",
            "The Object ID used there must come from Enterprise applications, not from App registrations.",
            "After a change, wait 30 minutes to 2 hours, then test again.",
            "If all of that is right, look for an application access policy, a Conditional Access policy, or switches"
            " of the mailbox itself.",
        ),
        who="exchange_admin",
    ),
    entry(
        "Authorization_RequestDenied",
        title="The application lacks a permission",
        meaning="Microsoft Graph says that the privileges of the application are not sufficient.",
        steps=(
            f"Open {_APP} > API permissions.",
            "Add `Mail.Send` of Microsoft Graph as an Application permission and choose Grant admin consent.",
            "Test again; only a new token shows the change.",
        ),
        who="entra_admin",
    ),
    entry(
        "ErrorSendAsDenied",
        title="This mailbox may not send with this From address",
        meaning="From differs from the sending mailbox, and the mailbox has no right to that address.",
        steps=(
            "Use the mailbox's own address as From.",
            "Or grant the right in Exchange Online PowerShell: `Add-RecipientPermission -Identity FROM_ADDRESS"
            " -Trustee MAILBOX -AccessRights SendAs`.",
            "Or grant it in the Exchange admin center > Recipients > the From mailbox > Delegation > Send as.",
            "Do not repeat the attempt before that; repeated refusals can get a mailbox blocked.",
        ),
        who="exchange_admin",
    ),
    # -- the mailbox -------------------------------------------------------------------------------------------------
    entry(
        "ErrorInvalidUser",
        title="Exchange knows no such mailbox",
        meaning="The address of the sending mailbox was not found in this organisation.",
        steps=(
            "Check the mailbox under Username, letter by letter.",
            "If it is an alias, try the mailbox's main address.",
            "Check that the mailbox is in the tenant of the authentication object.",
        ),
        who="you",
    ),
    entry(
        "Request_ResourceNotFound",
        "ResourceNotFound",
        "graph_404",
        title="The mailbox was not found in this organisation",
        meaning="The directory of this tenant has nobody under the name that was entered.",
        steps=(
            "Check the mailbox under Username, and the tenant and cloud of the authentication object.",
            "A distribution group has no mailbox: enter a mailbox as Username, and the group as From.",
            "If the mailbox was made just now, wait some minutes and test again.",
        ),
        who="you",
    ),
    entry(
        "MailboxNotEnabledForRESTAPI",
        "MailboxNotSupportedForRESTAPI",
        title="No Exchange Online mailbox stands behind this address",
        meaning="The user exists, and the mailbox is missing, inactive, of another kind, or on the organisation's own"
        " servers.",
        steps=(
            "Open Microsoft 365 admin center > Users > Active users > the user and see whether a licence with"
            " Exchange Online is assigned.",
            "Or use a shared mailbox of Exchange Online.",
            "If the mailbox is on your own Exchange server, migrate it, or choose SMTP with that server.",
        ),
        who="exchange_admin",
    ),
    entry(
        "extensionError",
        title="Microsoft Graph cannot reach this mailbox",
        meaning="It is on the organisation's own servers, or an application policy keeps it away.",
        steps=(
            "Ask where the mailbox is; Microsoft Graph serves mailboxes in Exchange Online.",
            "If it is there, look for an application access policy that excludes it.",
        ),
        who="exchange_admin",
    ),
    entry(
        "ErrorQuotaExceeded",
        "quotaLimitReached",
        title="The sending mailbox is full",
        meaning="Every message sent leaves a copy in Sent Items, and there is no room for another one.",
        steps=(
            "Empty Sent Items and Deleted Items of the sending mailbox.",
            "Give it a retention policy that removes old copies, or more space.",
        ),
        who="exchange_admin",
    ),
    entry(
        "ErrorMessageSubmissionBlocked",
        "ErrorAccountSuspend",
        title="Microsoft has blocked this mailbox from sending",
        meaning="Microsoft suspects abuse, for instance after many unwanted messages.",
        steps=(
            "Stop sending, and find out what was sent from this mailbox and by whom.",
            "Open Microsoft Defender portal > Email & collaboration > Review > Restricted entities and release it"
            " there.",
            "For a private mailbox, read Microsoft's message in its Inbox.",
            "If it is not listed, ask Microsoft support.",
        ),
        who="exchange_admin",
    ),
    entry(
        "ErrorExceededMessageLimit",
        title="This mailbox has sent all it may send for now",
        meaning="The allowance of messages or recipients for a day is used up.",
        steps=(
            "Wait: the allowance comes back within 24 hours.",
            "This is mostly reported for private mailboxes; use a mailbox of the organisation.",
            "For mass mail, use a service that is made for it.",
        ),
        who="you",
    ),
    # -- the message -------------------------------------------------------------------------------------------------
    entry(
        "ErrorInvalidRecipients",
        "ErrorIncorrectRecipient",
        title="Microsoft does not accept a recipient",
        meaning="At least one address is not valid in its eyes, and it refused the whole message.",
        steps=(
            "Check the recipients' addresses of this message, Cc and Bcc too.",
            "Do not send it again unchanged; repeated refusals can get a mailbox blocked.",
        ),
        who="you",
    ),
    entry(
        "ErrorExceededMaxRecipientLimit",
        title="The message has too many recipients for Microsoft Graph",
        meaning="A mailbox may address only a limited number of people with one message.",
        steps=(
            "Send several messages with fewer recipients each.",
            "An Exchange administrator can change the limit of a mailbox (`Set-Mailbox -RecipientLimits`).",
        ),
        who="you",
    ),
    entry(
        "ErrorMessageSizeExceeded",
        "ErrorAttachmentSizeLimitExceeded",
        title="The message is larger than the mailbox may send",
        meaning="The limit of this mailbox for one message or attachment is exceeded.",
        steps=(
            "Send smaller attachments, or a link to the file.",
            "An Exchange administrator can raise the limit with `Set-Mailbox -Identity MAILBOX -MaxSendSize 50MB`.",
        ),
        who="you",
    ),
    entry(
        "RequestEntityTooLarge",
        "graph_413",
        title="The request is larger than Microsoft Graph takes",
        meaning="Encoded with its attachments, the message exceeds what one request may hold.",
        steps=("Send smaller attachments, about 2 MB in all, or a link to the file.",),
        who="you",
    ),
    entry(
        "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
        title="An upload session was opened for a small attachment",
        meaning="Microsoft Graph takes attachments below about 3 MB only in an ordinary request.",
        steps=("Report this to whoever maintains this application; the attachment itself is in order.",),
        who="developer",
    ),
    entry(
        "ErrorItemNotFound",
        title="Microsoft does not find the draft",
        meaning="The draft of this message was moved, removed or sent meanwhile.",
        steps=(
            "Look in Drafts and in Sent Items of the sending mailbox.",
            "If the message is in neither, send it again.",
        ),
        who="you",
    ),
    entry(
        "ErrorInvalidParameter",
        title="Microsoft found the message empty or incomplete",
        meaning="This has been reported for messages that were too large as well as for incomplete ones.",
        steps=(
            "Send a small message without attachments; if it passes, the size was the reason.",
            "Otherwise report the code and the server's words to whoever maintains this application.",
        ),
        who="developer",
    ),
    entry(
        "ErrorMimeContentInvalid",
        "ErrorMimeContentConversionFailed",
        title="Microsoft cannot read the message",
        meaning="Something in the form of the message, often a header or an attachment, is not understood there.",
        steps=(
            "Send the same message without attachments and without extra headers, then add them one by one.",
            "Report what you find to whoever maintains this application.",
        ),
        who="developer",
    ),
    entry(
        "InvalidInternetMessageHeader",
        "ErrorInvalidInternetMessageHeader",
        "InvalidInternetMessageHeaderCollection",
        "ErrorInvalidInternetMessageHeaderCollection",
        title="Microsoft does not take these extra headers",
        meaning="In this form of request, it takes at most five extra headers, and their names begin with x-.",
        steps=("Remove or rename the extra headers of this message.",),
        who="developer",
    ),
    entry(
        "ErrorInvalidRequest",
        "RequestBodyRead",
        "BadRequest",
        "Request_BadRequest",
        "UnableToDeserializePostBody",
        "ErrorMimeContentInvalidBase64String",
        "graph_400",
        title="Microsoft could not read the request",
        meaning="The request was not in the form that Microsoft Graph expects.",
        steps=(
            "Try another message; if that one passes, something in this one is unusual, for instance a header.",
            "If none passes, report the code and the request id to whoever maintains this application.",
        ),
        who="developer",
    ),
    # -- not now: refused before anything was read -------------------------------------------------------------------
    entry(
        "ApplicationThrottled",
        "CommandConcurrencyLimitReached",
        title="Too many requests for this mailbox at the same time",
        meaning="Exchange serves only a few requests of one application at once.",
        steps=(
            "Nothing needs to be done for this message; it is tried again after the wait that Microsoft names.",
            "If it happens often, let fewer processes send from the same mailbox.",
        ),
        who="nobody",
    ),
    entry(
        "TooManyRequests",
        "ErrorTooManyRequests",
        "activityLimitReached",
        "graph_429",
        title="Microsoft asks us to slow down",
        meaning="The number of requests in a short time exceeded what is allowed, and nothing was accepted.",
        steps=(
            "Nothing needs to be done; it is tried again after the wait that Microsoft names.",
            "If it happens often, spread the sending over a longer time.",
        ),
        who="nobody",
    ),
    entry(
        "graph_509",
        title="Too much was uploaded in a short time",
        meaning="The volume allowed for this mailbox is used up for the moment, and nothing was accepted.",
        steps=("Nothing needs to be done; it is tried again after a wait.",),
        who="nobody",
    ),
    entry(
        "ErrorServerBusy",
        "ErrorInternalServerTransientError",
        "ErrorMailboxStoreUnavailable",
        "ErrorMailboxMoveInProgress",
        "ServiceUnavailable",
        "serviceNotAvailable",
        "ErrorInternalServerError",
        "generalException",
        "UnknownError",
        "GatewayTimeout",
        "BadGateway",
        "graph_5*",
        kinds=_CERTAIN,
        title="Exchange is not available at the moment",
        meaning="It is busy or has a passing fault, and it did not accept the message.",
        steps=(
            "Nothing needs to be done; it is tried again after a wait.",
            "If it stays, look at the service health in the Microsoft 365 admin center.",
        ),
        who="nobody",
    ),
    # -- nobody knows ------------------------------------------------------------------------------------------------
    entry(
        "ErrorServerBusy",
        "ErrorInternalServerTransientError",
        "ErrorMailboxStoreUnavailable",
        "ErrorMailboxMoveInProgress",
        "ServiceUnavailable",
        "serviceNotAvailable",
        "graph_503",
        title="Exchange was busy when it had the message",
        meaning="It reported a passing fault, and may have accepted the message all the same.",
        steps=_LOOK_FIRST,
        who="you",
    ),
    entry(
        "GatewayTimeout",
        "BadGateway",
        "graph_502",
        "graph_504",
        "graph_408",
        title="Microsoft's front door gave up waiting",
        meaning="Behind it the message may have been accepted; that has been seen.",
        steps=_LOOK_FIRST,
        who="you",
    ),
    entry(
        "ErrorInternalServerError",
        "generalException",
        "UnknownError",
        "graph_5*",
        title="Microsoft had a fault while it had the message",
        meaning="It did not say what it did with the message, and such messages have been seen to arrive.",
        steps=(*_LOOK_FIRST, "If it happens often, quote the request id to Microsoft support."),
        who="you",
    ),
    entry(
        "graph_424",
        title="Another request had to succeed first",
        meaning="This answer belongs to requests that are sent in a bundle, and an earlier one did not pass.",
        steps=("Look at the error of the earlier request; report it to whoever maintains this application.",),
        who="developer",
    ),
    entry(
        "too_many_at_once",
        title="Too many messages are under way at once",
        meaning="Exchange serves four requests of one application and mailbox at a time, and all four were taken.",
        steps=("Send fewer at the same moment; `mail.send_many` hands them over one after another.",),
        who="developer",
    ),
    entry(
        "paused_by_server",
        title="Microsoft has asked for a pause, and it is being kept",
        meaning="An earlier message was answered with a request to wait; asking again before would lengthen the wait.",
        steps=("Nothing needs to be done; the message may be sent when the pause is over.",),
        who="nobody",
    ),
    entry(
        "requests_used_up",
        title="This mailbox has used up its requests for the moment",
        meaning="Exchange serves 10,000 requests of one application and mailbox in ten minutes, and so many were made.",
        steps=(
            "Nothing needs to be done; there is room again within ten minutes.",
            "For mass mail, use a service that is made for it, or several mailboxes.",
        ),
        who="nobody",
    ),
)
