"""One request to Graph at a time: the token, the lane, a kept connection, and what came back or was lost.

Rules cited: Graph errors (the shape of error bodies), throttling (429 and Retry-After).
"""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from .. import network
from ..clouds import Cloud
from ..errors import Throttled, TransportUnavailable
from ..masking import Secrets, readable
from ..network import http_date, retry_after_s
from ..tokens import TokenSource
from .graph_lane import MAX_PAUSE_S, lane

if TYPE_CHECKING:
    import requests

#: Is told what is said: ("client" or "server", line).
Observer = Callable[[str, str], None]
#: An idle connection older than this is not trusted with a message: a lost answer cannot be told from a lost mail.
MAX_IDLE_S = 20.0
#: A pause this short is waited for; a longer one is told to the caller, who can do something else meanwhile.
PATIENCE_S = 5.0
#: A request may take its time-out, and beyond it as long as its body needs on a line this slow.
SLOWEST_BYTES_PER_S = 16_000
#: How much is kept of what an error says, and of its code and its name for the request.
_TEXT_CHARS, _CODE_CHARS, _ID_CHARS = 300, 100, 100
#: So much of it is searched for secrets before it is cut, so that no beginning of one is left at the end.
_READ_CHARS = 2000
_USUAL_ID = re.compile(r"[0-9A-Fa-f-]*")
#: How much of an answer is read: a draft is shown with its whole body, an error says what it has to say early.
MAX_ANSWER_BYTES, MAX_ERROR_BYTES = 16_000_000, 65_536


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """Which mailbox sends, in which cloud, and how to get a token for it.

    `app` is the client id: Exchange counts requests for each application and mailbox. `large_messages` allows drafts
    and upload sessions, `check` to look into the mailbox for what became of a message. `settle_s` is how long after a
    send a draft may still be on its way out, `retry_wait_s` the first wait before a harmless step is repeated.
    `observe` is told each request and answer, without tokens and bodies.
    """

    cloud: Cloud
    mailbox: str
    tokens: TokenSource = field(repr=False)
    ca_file: str = ""
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0
    app: str = ""
    large_messages: bool = True
    check: bool = False
    settle_s: float = 20.0
    retry_wait_s: float = 0.5
    observe: Observer | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `code` is the most specific error code, "" when there is none; `text` its sentence.

    `body` is the JSON object of a 2xx answer that has one; `at` is when it was made, on the server's clock.
    """

    status: int
    code: str = ""
    text: str = ""
    request_id: str = ""
    retry_after_s: float | None = None
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    at: datetime | None = None

    @classmethod
    def read(cls, response: requests.Response, client_request_id: str = "", *, secret: str = "") -> Answer:
        """Never raises: the status has been read, and a body that breaks off changes nothing about it.

        An answer that quotes the secret that was shown (a token, or the address of an upload) is read without it.
        """
        secrets = Secrets(secret)
        request_id = readable(response.headers.get("request-id") or client_request_id)[:_ID_CHARS]
        if not _USUAL_ID.fullmatch(request_id):
            request_id = secrets.mask(request_id)
        succeeded = response.status_code < 300
        content = _body_of(response, MAX_ANSWER_BYTES if response.status_code in (200, 201) else MAX_ERROR_BYTES)
        if succeeded:
            at = http_date(response.headers.get("Date", "")) if content else None
            return cls(response.status_code, request_id=request_id, body=_json(content), at=at)
        code, text = (readable(secrets.mask(one[:_READ_CHARS])) for one in _error(_json(content)))
        code, text = code[:_CODE_CHARS], text[:_TEXT_CHARS]
        hint_s = retry_after_s(response.headers)
        return cls(response.status_code, code, text, request_id, None if hint_s is None else min(hint_s, MAX_PAUSE_S))


class Lost(Exception):
    """No answer came. `left`: at least some of the request did leave, so it may have been obeyed.

    `unavailable` is the error for what is lost harmlessly; `request_id` is the name that the request was given.
    """

    def __init__(self, unavailable: TransportUnavailable, *, left: bool, request_id: str) -> None:
        super().__init__(str(unavailable))
        self.unavailable = unavailable
        self.left = left
        self.request_id = request_id


class GraphCalls:
    """Requests in the name of one mailbox. Safe to use from several threads, and after a fork."""

    def __init__(self, settings: GraphSettings, *, transport: str) -> None:
        self.settings = settings
        self.transport = transport
        self.lane = lane(settings.cloud.graph, settings.app, settings.mailbox)
        self._connections = Connections(settings.ca_file)

    def url(self, path: str, **query: str) -> str:
        """An address below the mailbox, which stays in its own path segment whatever it contains."""
        mailbox = quote(self.settings.mailbox, safe="")
        asked = "&".join(f"${name}={quote(value, safe='')}" for name, value in query.items())
        return f"{self.settings.cloud.graph}/v1.0/users/{mailbox}/{path}" + (f"?{asked}" if asked else "")

    def ask(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        content_type: str = "",
        *,
        patience_s: float = PATIENCE_S,
        urgent: bool = False,
    ) -> Answer:
        """Asks once and returns the answer, whatever its status. A 401 renews the token once.

        Raises:
            Lost: no answer came.
            Throttled: Graph has asked for a pause, or too many requests are under way. Nothing was asked.
            OutmailError: there is no token.
        """
        tokens = self.settings.tokens

        def once(token: str) -> Answer:
            return self._in_turn(
                self._connections, method, url, body, content_type, token=token, patience_s=patience_s, urgent=urgent
            )

        token = tokens.token()
        answer = once(token)
        if answer.status == 401:
            # Refused before anything was read, so asking again cannot send twice.
            answer = once(tokens.token(refused=token))
        return answer

    def put(self, connections: Connections, url: str, data: bytes, content_range: str, *, patience_s: float) -> Answer:
        """Sends one range to an upload session: no token, as the right to use it is inside the address.

        Raises:
            Lost, Throttled: as `ask`; the error does not show the address.
        """
        headers = {"Content-Range": content_range}
        with network.unlogged():
            return self._in_turn(
                connections, "PUT", url, data, "application/octet-stream", headers=headers, patience_s=patience_s
            )

    def close(self) -> None:
        self._connections.close()

    def _in_turn(
        self,
        connections: Connections,
        method: str,
        url: str,
        body: bytes | None,
        content_type: str,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        patience_s: float,
        urgent: bool = False,
    ) -> Answer:
        try:
            with self.lane.turn(timeout_s=self.settings.timeout_s, patience_s=patience_s, urgent=urgent):
                answer = self._once(connections, method, url, body, content_type, token, headers or {})
                # Before the place is free: whoever takes it must know of a pause.
                self.lane.answered(answer.status, answer.retry_after_s)
        except Throttled as exc:
            exc.transport = self.transport
            raise
        return answer

    def _once(
        self,
        connections: Connections,
        method: str,
        url: str,
        body: bytes | None,
        content_type: str,
        token: str,
        headers: Mapping[str, str],
    ) -> Answer:
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        settings = self.settings
        client_request_id = str(uuid4())
        stream = None if body is None else Body(body, timeout_s=settings.timeout_s)
        # An upload's address is a secret; it is what is asked without a token.
        observe = settings.observe if token else None
        started = monotonic()
        if observe is not None:
            observe("client", f"{method} {_shown(url)} (client-request-id {client_request_id})")
        session = connections.take()
        try:
            response = session.request(
                method,
                url,
                data=stream,
                headers={**headers, "client-request-id": client_request_id},
                # As `auth`, so that requests does not replace it by a password from ~/.netrc.
                auth=_Signed(token, content_type, None if body is None else len(body)),
                timeout=(settings.connect_timeout_s, settings.timeout_s),
                allow_redirects=False,
                stream=True,
            )
        except (RequestException, HTTPError) as exc:
            connections.drop(session)
            error = network.unavailable(exc, *_host_and_port(url), transport=self.transport)
            if not token:
                # What a library says of a failed request quotes its address, and this one is a secret.
                error._quote("")
            if observe is not None:
                observe("server", f"no answer ({error.code}), {(monotonic() - started) * 1000:.0f} ms")
            # From None: the request in the cause carries the token.
            raise Lost(error, left=stream is None or stream.has_left, request_id=client_request_id) from None
        answer = Answer.read(response, client_request_id, secret=token or url)
        if observe is not None:
            said = " ".join(filter(None, (str(answer.status), answer.code)))
            took_ms = (monotonic() - started) * 1000
            observe("server", f"{said} (request-id {answer.request_id}), {took_ms:.0f} ms")
        connections.give(session)
        return answer


class Connections:
    """Kept sessions, each with one connection to a host, handed to one request at a time.

    The most recently used comes first, so that those too many grow old. One that was idle for `MAX_IDLE_S`, or that a
    parent process opened, is not used again; urllib3 itself notices one that the server has closed.
    """

    def __init__(self, ca_file: str, *, clock: Callable[[], float] = monotonic) -> None:
        self._ca_file = ca_file
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[tuple[requests.Session, float]] = []
        self._taken: set[requests.Session] = set()
        self._process = os.getpid()

    def take(self) -> requests.Session:
        self._notice_fork()
        stale: list[requests.Session] = []
        with self._lock:
            oldest_at = self._clock() - MAX_IDLE_S
            stale = [session for session, used_at in self._idle if used_at < oldest_at]
            self._idle = [one for one in self._idle if one[1] >= oldest_at]
            session = self._idle.pop()[0] if self._idle else network.http_session(self._ca_file)
            self._taken.add(session)
        for one in stale:
            one.close()
        return session

    def give(self, session: requests.Session) -> None:
        """For a session whose last answer was read."""
        with self._lock:
            is_wanted = session in self._taken
            self._taken.discard(session)
            if is_wanted:
                self._idle.append((session, self._clock()))
        if not is_wanted:
            session.close()

    def drop(self, session: requests.Session) -> None:
        """For a session that met a fault."""
        with self._lock:
            self._taken.discard(session)
        session.close()

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it is given back."""
        self._notice_fork()
        with self._lock:
            idle, self._idle = self._idle, []
            self._taken.clear()
        for session, _ in idle:
            session.close()

    def _notice_fork(self) -> None:
        if self._process != os.getpid():
            # The lock may have been held by a thread that this process does not have. The parent's connections are
            # dropped without a word: closing a socket here does not close the parent's.
            self._lock = threading.Lock()
            self._idle, self._taken = [], set()
            self._process = os.getpid()


class Body(io.BytesIO):
    """A request body that knows whether any of the request was handed to the network, and that is not sent for ever.

    HTTP libraries ask for the body once the head has left, for an empty one too.
    """

    has_left = False
    _until = 0.0

    def __init__(self, data: bytes, *, timeout_s: float) -> None:
        super().__init__(data)
        self._allowed_s = timeout_s + len(data) / SLOWEST_BYTES_PER_S

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.has_left:
            self.has_left = True
            self._until = monotonic() + self._allowed_s
        elif monotonic() > self._until:
            raise TimeoutError("the request could not be sent in time")
        return super().read(size)


class _Signed:
    """The headers that requests would otherwise decide itself."""

    def __init__(self, token: str, content_type: str, length: int | None) -> None:
        self._token, self._content_type, self._length = token, content_type, length

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        if self._content_type:
            request.headers["Content-Type"] = self._content_type
        if self._length is not None:
            # requests would send an empty body in chunks; Graph wants to read its length (Graph: message-send).
            request.headers.pop("Transfer-Encoding", None)
            request.headers["Content-Length"] = str(self._length)
        return request


def _shown(url: str) -> str:
    """A Graph address for reading: host and path, without what was asked about it."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    return f"https://{parts.netloc}{unquote(parts.path)}"


def _host_and_port(url: str) -> tuple[str, int]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 443


def _body_of(response: requests.Response, most_bytes: int) -> bytes:
    """The body, or its beginning; what cannot be read is as good as empty. Nobody asked for a packed one."""
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        content: bytes = response.raw.read(most_bytes, decode_content=False)
    except (OSError, HTTPError, RequestException):
        content = b""
    if len(content) >= most_bytes or not content:
        response.close()
    return content


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(content) if content else None
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _error(body: Mapping[str, Any]) -> tuple[str, str]:
    """(code, message) of an error body. The deepest `innerError` with a code is the most specific (Graph: errors)."""
    error = body.get("error")
    code, text = "", ""
    for _ in range(10):
        if not isinstance(error, Mapping):
            break
        code = str(error.get("code") or code)
        text = text or str(error.get("message") or "")
        error = next((value for key, value in error.items() if key.lower() == "innererror"), None)
    return code, text
