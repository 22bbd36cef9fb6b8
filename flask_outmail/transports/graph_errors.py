"""The map from Graph's answers to our errors."""

from __future__ import annotations

from typing import Any

from ..envelope import Envelope
from ..errors import (
    AuthenticationFailed,
    DeliveryError,
    DeliveryUnknown,
    MessageRejected,
    RecipientsRefused,
    Refusal,
    SenderRefused,
    Throttled,
    TransportUnavailable,
)
from .graph_calls import Answer

# Codes that mean "the credential or its permission", whatever status they come with.
_PERMISSION = {
    "erroraccessdenied",
    "authorization_requestdenied",
    "invalidauthenticationtoken",
    "errorinvaliduser",
    "request_resourcenotfound",
    "resourcenotfound",
    "mailboxnotenabledforrestapi",
    "mailboxnotsupportedforrestapi",
    "extensionerror",
    "errormessagesubmissionblocked",
    "erroraccountsuspend",
    "errorquotaexceeded",
    "quotalimitreached",
}
_RECIPIENTS = {"errorinvalidrecipients", "errorexceededmaxrecipientlimit", "errorincorrectrecipient"}


def is_fault(answer: Answer) -> bool:
    """Whether the server failed, so that it may have obeyed all the same. 509 is a limit, refused like a 429."""
    return answer.status == 408 or (answer.status >= 500 and answer.status != 509)


def error_for(answer: Answer, envelope: Envelope, *, transport: str, harmless: bool = False) -> DeliveryError:
    """The typed error for any answer that is not the one wanted.

    `harmless` says that the request could not have sent anything, so that even a fault of the server is certain.
    """
    code = answer.code.lower()
    said = answer.code or f"status {answer.status}"
    facts: dict[str, Any] = {
        "code": answer.code or f"graph_{answer.status}",
        "detail": answer.text,
        "request_id": answer.request_id,
        "transport": transport,
    }
    if answer.status in (429, 509):
        return Throttled(f"Graph asks to wait ({said})", retry_after_s=answer.retry_after_s, **facts)
    if is_fault(answer) and harmless:
        return TransportUnavailable(
            f"Graph failed before the message was sent ({said})", retry_after_s=answer.retry_after_s, **facts
        )
    if is_fault(answer):
        # These have been seen beside messages that arrived, several times over.
        return DeliveryUnknown(f"Graph failed while it had the message ({said})", **facts)
    if answer.status < 400:
        # 200 has been seen for messages that were dropped. Whatever it is, it is not an acceptance.
        facts["code"] = "not_accepted"
        return MessageRejected(f"Graph answered {answer.status}, which accepts nothing", **facts)
    if code == "errorsendasdenied":
        return SenderRefused(
            f"the mailbox may not send as {envelope.from_address}", sender=envelope.from_address, **facts
        )
    if code in _RECIPIENTS:
        refusal = Refusal(answer.status, answer.text or said)
        return RecipientsRefused(
            f"Graph refused the recipients ({said})",
            recipients=dict.fromkeys(envelope.recipients, refusal),
            **facts,
        )
    if code in _PERMISSION or answer.status in (401, 403, 404):
        return AuthenticationFailed(f"Graph refused the mailbox or the permission ({said})", **facts)
    return MessageRejected(f"Graph refused the message ({said})", **facts)
