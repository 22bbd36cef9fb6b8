"""Who may sign in to SMTP: AUTH LOGIN and PLAIN with a mailbox's password, AUTH XOAUTH2 with an application's token."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from typing import Protocol

from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.state import State
from flask_outmail.simulator.tokens import SMTP, TokenRefused, Tokens
from flask_outmail.simulator.world import SMTP_SEND_AS_APP, Mailbox

_XOAUTH2 = re.compile("user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01", re.IGNORECASE)
_CHALLENGE = b'{"status":"401","schemes":"bearer","scope":"https://outlook.office365.com/"}'
_UNSUCCESSFUL = "Authentication unsuccessful [localhost]"


class Talk(Protocol):
    """What an authenticator needs of a conversation."""

    def challenge(self, text: str) -> str: ...
    def auth_fault(self, mailbox: str) -> Fault | None: ...


@dataclass(frozen=True, slots=True)
class Signed:
    """Who has signed in. `client` is the application's client id, or "password"."""

    mailbox: Mailbox
    client: str


@dataclass(frozen=True, slots=True)
class Result:
    """`signed`, or else the reply that refuses."""

    signed: Signed | None = None
    status: int = 535
    code: str = "5.7.3"
    text: str = _UNSUCCESSFUL


class Authenticator:
    def __init__(self, state: State, tokens: Tokens) -> None:
        self._state = state
        self._tokens = tokens

    def run(self, talk: Talk, mechanism: str, initial: str) -> Result:
        """The whole exchange after the AUTH command, except the last reply."""
        if mechanism == "XOAUTH2":
            return self._xoauth2(talk, initial)
        if mechanism == "LOGIN":
            return self._login(talk, initial)
        if mechanism == "PLAIN" and self._state.behaviour.plain_auth:
            return self._plain(talk, initial)
        return Result(status=504, code="5.7.4", text="Unrecognized authentication type")

    def _login(self, talk: Talk, initial: str) -> Result:
        user = initial or talk.challenge("VXNlcm5hbWU6")
        if user == "*":
            return _cancelled()
        answer = talk.challenge("UGFzc3dvcmQ6")
        if answer == "*":
            return _cancelled()
        return self._password(talk, _decoded(user), _decoded(answer))

    def _plain(self, talk: Talk, initial: str) -> Result:
        answer = initial or talk.challenge("")
        if answer == "*":
            return _cancelled()
        parts = (_decoded(answer) or "").split("\x00")
        return self._password(talk, parts[1], parts[2]) if len(parts) == 3 else _malformed()

    def _password(self, talk: Talk, user: str | None, password: str | None) -> Result:
        if user is None or password is None:
            return _malformed()
        fault = talk.auth_fault(user)
        if fault is not None and fault.status is not None:
            return _scripted(fault, fault.status)
        if not self._state.behaviour.basic_auth:
            return Result(
                code="5.7.139",
                text="Authentication unsuccessful, basic authentication is disabled. [localhost]",
            )
        mailbox = self._state.mailbox(user)
        if mailbox is None or not mailbox.reachable:
            return Result()
        if not hmac.compare_digest(mailbox.password.encode(), password.encode()):
            return Result()
        return Result(Signed(mailbox, "password"))

    def _xoauth2(self, talk: Talk, initial: str) -> Result:
        answer = initial or talk.challenge("")
        if answer == "*":
            return _cancelled()
        match = _XOAUTH2.fullmatch(_decoded(answer) or "")
        if match is None:
            return _malformed()
        fault = talk.auth_fault(match[1])
        if fault is not None and fault.status is not None:
            return self._refused(talk, _scripted(fault, fault.status))
        try:
            return Result(self._by_token(match[1], match[2]))
        except TokenRefused:
            return self._refused(talk, Result())

    def _refused(self, talk: Talk, result: Result) -> Result:
        # Google's definition of XOAUTH2 explains the failure in a challenge, which the client answers with an
        # empty
        # line. Microsoft has only been seen to refuse at once; a client should survive both.
        if self._state.behaviour.xoauth2_failure == "challenge":
            talk.challenge(base64.b64encode(_CHALLENGE).decode())
        return result

    def _by_token(self, user: str, token: str) -> Signed:
        claims = self._tokens.read(token, SMTP)
        app, mailbox = self._state.app(claims["appid"]), self._state.mailbox(user)
        if app is None or mailbox is None or not mailbox.reachable:
            raise TokenRefused("unknown")
        scoped = app.scoped_to is not None and mailbox.address in app.scoped_to and SMTP_SEND_AS_APP in app.roles
        if SMTP_SEND_AS_APP not in claims.get("roles", ()) and not scoped:
            raise TokenRefused("no permission")
        return Signed(mailbox, app.client_id)


def _decoded(text: str) -> str | None:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _scripted(fault: Fault, status: int) -> Result:
    return Result(status=status, code=fault.code, text=f"{fault.message} [localhost]")


def _malformed() -> Result:
    return Result(status=501, code="5.5.2", text="Cannot decode the response")


def _cancelled() -> Result:
    return Result(status=501, code="5.7.0", text="Authentication cancelled")
