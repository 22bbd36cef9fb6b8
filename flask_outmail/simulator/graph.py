"""Graph's mail endpoints below /v1.0/users/…: who may call, and `sendMail` itself. Drafts are in `drafts.py`.

Pages: "user-sendmail", "outlook-send-mime-message", "outlook-send-mail-from-other-user", "throttling-limits",
"auth-limit-mailbox-access".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request

from flask_outmail.simulator import mail
from flask_outmail.simulator.graph_errors import GraphRefused, error_response, scripted
from flask_outmail.simulator.graph_json import Fields, read_message, unreadable, with_attachments
from flask_outmail.simulator.http_faults import apply_fault
from flask_outmail.simulator.state import State, Submission, complete
from flask_outmail.simulator.tokens import GRAPH, TokenRefused, Tokens
from flask_outmail.simulator.world import MAIL_READ, MAIL_READ_WRITE, MAIL_SEND, App, Mailbox

REQUEST_LIMIT_BYTES = 4 * 1024 * 1024
THROTTLE_S = 1
METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class Call:
    """An authorised request for one mailbox. `match` holds what the path said behind /users/{mailbox}/."""

    state: State
    base_url: str
    app: App
    mailbox: Mailbox
    match: re.Match[str]

    @property
    def wants_immutable_ids(self) -> bool:
        return 'idtype="immutableid"' in request.headers.get("Prefer", "").lower().replace(" ", "")


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the endpoint table. `endpoint` is the name that faults use; `role` the permission needed."""

    method: str
    path: str
    endpoint: str
    role: str
    run: Callable[[Call], Response]


class Refusable:
    """Marks where refusals become answers; used around every Graph view."""

    def __init__(self, run: Callable[[], Response]) -> None:
        self._run = run

    def __call__(self) -> Response:
        try:
            return self._run()
        except GraphRefused as refused:
            return error_response(refused.status, refused.code, refused.message, headers=refused.headers)


def blueprint(state: State, tokens: Tokens, base_url: str, operations: list[Operation]) -> Blueprint:
    routes = Blueprint("graph", __name__)

    @routes.route("/v1.0/users/<user>/<path:rest>", methods=METHODS)
    def users(user: str, rest: str) -> Response:
        return Refusable(lambda: _dispatch(state, tokens, base_url, operations, user, rest))()

    @routes.route("/v1.0/<path:rest>", methods=METHODS)
    @routes.route("/beta/<path:rest>", methods=METHODS)
    def other(rest: str) -> Response:
        return Refusable(lambda: _elsewhere(state, tokens, base_url, rest))()

    return routes


def _dispatch(
    state: State, tokens: Tokens, base_url: str, operations: list[Operation], user: str, rest: str
) -> Response:
    app, claims = caller(state, tokens, base_url)
    mailbox = _mailbox(state, user)
    operation, match = _operation(operations, rest)
    if not _may(app, claims, operation.role, mailbox):
        raise GraphRefused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
    call = Call(state, base_url, app, mailbox, match)

    def obey() -> Response:
        return Refusable(lambda: operation.run(call))()

    with state.slot(app.client_id, mailbox.address, state.behaviour.concurrency_limit) as free:
        if not free:
            raise GraphRefused(
                429,
                "ApplicationThrottled",
                "Application is over its MailboxConcurrency limit.",
                Retry_After=str(THROTTLE_S),
            )
        fault = state.faults.take(operation.endpoint, mailbox=mailbox.address, method=request.method)
        return apply_fault(state, fault, scripted, obey) if fault else obey()


def _elsewhere(state: State, tokens: Tokens, base_url: str, rest: str) -> Response:
    caller(state, tokens, base_url)
    segment = rest.split("/")[0]
    if segment.lower() == "me":
        raise GraphRefused(400, "BadRequest", "/me request is only valid with delegated authentication flow.")
    raise GraphRefused(400, "BadRequest", f"Resource not found for the segment '{segment[:80]}'.")


def caller(state: State, tokens: Tokens, base_url: str) -> tuple[App, dict[str, Any]]:
    """The application behind the request's token, and the token's claims.

    Raises:
        GraphRefused: 401.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        claims = tokens.read(token.strip() if scheme.lower() == "bearer" else "", GRAPH)
        app = state.app(claims["appid"])
        if app is None:
            raise TokenRefused("The application of the token does not exist any more.")
    except TokenRefused as refused:
        challenge = (
            f'Bearer realm="", authorization_uri="{base_url}/common/oauth2/authorize",'
            ' client_id="00000003-0000-0000-c000-000000000000"'
        )
        raise GraphRefused(401, "InvalidAuthenticationToken", str(refused), WWW_Authenticate=challenge) from None
    return app, claims


def _mailbox(state: State, user: str) -> Mailbox:
    mailbox = state.mailbox(user)
    if mailbox is None:
        raise GraphRefused(404, "ErrorInvalidUser", f"The requested user '{user[:200]}' is invalid.")
    if not mailbox.reachable:
        raise GraphRefused(
            404,
            "MailboxNotEnabledForRESTAPI",
            "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
        )
    return mailbox


def _operation(operations: list[Operation], rest: str) -> tuple[Operation, re.Match[str]]:
    wrong_method = False
    for operation in operations:
        # Names in Graph's paths may be written in any case, and actions may carry their namespace.
        match = re.fullmatch(operation.path, rest, re.IGNORECASE)
        if match and operation.method == request.method:
            return operation, match
        wrong_method = wrong_method or match is not None
    if wrong_method:
        raise GraphRefused(405, "Request_BadRequest", "The method is not allowed for this resource.")
    raise GraphRefused(400, "BadRequest", f"Resource not found for the segment '{rest.split('/')[-1][:80]}'.")


def _may(app: App, claims: dict[str, Any], role: str, mailbox: Mailbox) -> bool:
    """Entra's grants are in the token; those of RBAC for Applications are looked up in Exchange. Either will do."""
    # Who may write may read.
    enough = {role, MAIL_READ_WRITE} if role == MAIL_READ else {role}
    if enough & set(claims.get("roles", ())):
        return True
    return app.scoped_to is not None and mailbox.address in app.scoped_to and bool(enough & app.roles)


# sendMail


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message read from a request, in either form, before it is judged."""

    senders: list[str]
    recipients: list[str]
    raw: Callable[[], bytes]


def send_mail(call: Call) -> Response:
    """202 and nothing else is success; the answer has no body."""
    save_copy = True
    media_type = request.mimetype
    if media_type == "text/plain":
        raw = mime_body()
        if oversized := check_size(call.state, mime=True):
            return oversized
        outgoing = from_mime(raw)
    elif media_type == "application/json":
        fields = json_body()
        if oversized := check_size(call.state):
            return oversized
        if "message" not in fields:
            raise GraphRefused(400, "ErrorInvalidParameter", "The value of the parameter 'Message' is empty.")
        save_copy = fields.flag("saveToSentItems", True)
        message = read_message(fields.get("message"))
        outgoing = Outgoing(
            message.senders,
            message.recipients,
            lambda: with_attachments(message.to_mime(call.mailbox), message.attachments),
        )
    else:
        raise unsupported_media_type()
    submit(call, outgoing, save_copy=save_copy)
    return accepted()


def from_mime(raw: bytes) -> Outgoing:
    """There is no envelope: the headers say who receives."""
    senders = [address for name in ("from", "sender") for _, address in mail.addresses(raw, name)]
    recipients = [address for name in ("to", "cc", "bcc") for _, address in mail.addresses(raw, name)]
    return Outgoing(senders, recipients, lambda: raw)


def check_sender(call: Call, senders: list[str]) -> None:
    if any(not call.mailbox.may_send_as(sender) for sender in senders):
        raise GraphRefused(
            403,
            "ErrorSendAsDenied",
            "The user account which was used to submit this request does not have the right to send mail"
            " on behalf of the specified sending account.",
        )


def check_recipients(call: Call, recipients: list[str]) -> None:
    if not recipients:
        raise GraphRefused(
            400,
            "ErrorInvalidRecipients",
            "At least one recipient is not valid., A message can't be sent because it contains no recipients.",
        )
    if not all(mail.is_address(recipient) for recipient in recipients):
        raise GraphRefused(400, "ErrorInvalidRecipients", "At least one recipient is not valid.")
    if len(recipients) > call.state.behaviour.recipient_limit:
        raise GraphRefused(400, "ErrorExceededMaxRecipientLimit", "The message has too many recipients.")


def submit(call: Call, outgoing: Outgoing, *, save_copy: bool = True) -> None:
    """
    Raises:
        GraphRefused: From is not allowed, a recipient is not one, or the message is too large.
    """
    check_sender(call, outgoing.senders)
    check_recipients(call, outgoing.recipients)
    behaviour = call.state.behaviour
    raw = complete(outgoing.raw(), call.mailbox, behaviour, rewrite_alias=True)
    check_message_size(call, raw)
    call.state.submit(
        Submission(call.mailbox, raw, outgoing.recipients, "graph", call.app.client_id, save_copy=save_copy)
    )


def check_message_size(call: Call, raw: bytes) -> None:
    if len(raw) > call.state.behaviour.message_limit_bytes:
        raise GraphRefused(413, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size.")


# Reading requests, for this file and for drafts


def json_body() -> Fields:
    try:
        value = json.loads(request.get_data().decode("utf-8-sig"))
    except ValueError:
        raise unreadable("Unable to read JSON request payload. Please ensure the payload is valid.") from None
    return Fields(value, "The request body")


def mime_body() -> bytes:
    """The message inside the base64 of a MIME request; line breaks in the base64 are welcome."""
    packed = b"".join(request.get_data().split())
    try:
        if not _BASE64.fullmatch(packed):
            raise binascii.Error
        raw = base64.b64decode(packed, validate=True)
    except binascii.Error:
        raise GraphRefused(
            400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content."
        ) from None
    if not mail.split(raw)[0]:
        raise GraphRefused(400, "ErrorMimeContentInvalid", "The MIME content has no headers.")
    return raw


def check_size(state: State, *, mime: bool = False) -> Response | None:
    """An answer for a request above 4 MiB. Users have seen MIME get a 200 (docs issue 3079)."""
    if len(request.get_data()) <= REQUEST_LIMIT_BYTES:
        return None
    mode = state.behaviour.oversize
    if mode == "200" and mime:
        return Response(status=200)
    if mode == "413-bare":
        return Response("Request Entity Too Large", status=413, mimetype="text/html")
    raise GraphRefused(413, "RequestEntityTooLarge", "The request is larger than 4 MB.")


def unsupported_media_type() -> GraphRefused:
    return GraphRefused(
        415, "UnsupportedMediaType", "The Content-Type has to be application/json, or text/plain for MIME."
    )


def accepted() -> Response:
    response = Response(status=202)
    del response.headers["Content-Type"]
    return response


SEND_MAIL = Operation("POST", r"(?:microsoft\.graph\.)?sendMail", "sendMail", MAIL_SEND, send_mail)
NEEDS_READ, NEEDS_READ_WRITE = MAIL_READ, MAIL_READ_WRITE
