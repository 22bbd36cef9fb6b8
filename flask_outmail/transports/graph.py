"""Mail over Microsoft Graph: one MIME `sendMail` for each message, and the map from its answers to our errors.

Rules cited: Graph user-sendmail (only 202 is success, the MIME form is base64 sent as text/plain), outlook-things-to-
know-about-send-mail (what 202 means), throttling (429 and Retry-After), errors (the shape of error bodies).
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote
from uuid import uuid4

from .. import mime, network
from ..clouds import Cloud
from ..envelope import Envelope, Receipt
from ..errors import (
    AuthenticationFailed,
    DeliveryError,
    DeliveryUnknown,
    MessageRejected,
    RecipientsRefused,
    Refusal,
    SenderRefused,
    Throttled,
    UnsupportedFeature,
)
from ..network import retry_after_s
from ..tokens import TokenSource

if TYPE_CHECKING:
    import requests

#: Graph takes requests up to 4 MB (Graph: outlook-large-attachments). Whether that is 4,000,000 or 4,194,304 bytes is
#: not documented, and too large a MIME request has been seen to answer 200 and do nothing: so the smaller one.
MAX_REQUEST_BYTES = 4_000_000
#: Exchange serves at most 4 requests at a time for one app and mailbox (Graph: throttling-limits).
MAX_CONCURRENT_REQUESTS = 4
#: An idle connection older than this is not trusted with a message: a lost answer cannot be told from a lost mail.
MAX_IDLE_S = 20.0
MAX_ERROR_BYTES = 65_536

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


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """Which mailbox sends, in which cloud, and how to get a token for it."""

    cloud: Cloud
    mailbox: str
    tokens: TokenSource = field(repr=False)
    ca_file: str = ""
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0


class GraphTransport:
    """Delivers each message as one MIME `sendMail`. Keeps its connections; at most four requests at a time."""

    def __init__(self, settings: GraphSettings, *, name: str = "microsoft365_graph") -> None:
        self.name = name
        self._settings = settings
        self._gate = threading.BoundedSemaphore(MAX_CONCURRENT_REQUESTS)
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._used_at = 0.0

    def deliver(self, envelope: Envelope) -> Receipt:
        started = monotonic()
        body = self.request_body(envelope)
        if not self._gate.acquire(timeout=self._settings.timeout_s):
            raise Throttled("too many messages are under way to Graph", code="too_many_at_once", transport=self.name)
        try:
            answer = self.post(body)
        finally:
            self._gate.release()
        if answer.status != 202:
            self._refuse(answer, envelope)
        # A Retry-After may stand beside a 202. The message is accepted all the same; obeying it would send it twice.
        return Receipt(
            accepted=True,
            transport=self.name,
            message_id=envelope.message_id,
            request_id=answer.request_id,
            accepted_at=datetime.now(timezone.utc),
            elapsed_s=monotonic() - started,
        )

    def request_body(self, envelope: Envelope) -> bytes:
        """The body of the request, judged before anything leaves.

        Graph has no envelope: it reads who receives from the headers To, Cc and Bcc. Recipients that no header shows
        are therefore written as Bcc, which Exchange takes out again on delivery.

        Raises:
            UnsupportedFeature: a header names somebody who is not to receive it, or an address outside ASCII.
            MessageRejected: larger than one request may be.
        """
        strangers = [address for address in envelope.visible if address not in envelope.recipients]
        if strangers:
            raise UnsupportedFeature(
                "Graph would send to everybody in To and Cc, and some of them are not recipients of this message",
                feature="an envelope without the visible recipients",
                transport=self.name,
            )
        if envelope.smtputf8:
            raise UnsupportedFeature(
                "Graph is not known to take addresses outside ASCII before the @",
                feature="SMTPUTF8",
                transport=self.name,
            )
        hidden = [address for address in envelope.recipients if address not in envelope.visible]
        body = base64.b64encode(bytes(mime.with_bcc(envelope.content, hidden)))
        if len(body) > MAX_REQUEST_BYTES:
            raise MessageRejected(
                f"the message needs a request of {len(body)} bytes, Graph takes {MAX_REQUEST_BYTES}",
                code="message_too_large",
                transport=self.name,
                advice="Send smaller attachments (about 2.1 MB in all), or a link to the file.",
            )
        return body

    def post(self, body: bytes) -> Answer:
        """Posts one `sendMail` body and returns the answer, whatever its status. A 401 renews the token once.

        Raises:
            TransportUnavailable: nothing of the body left.
            DeliveryUnknown: some of it did, and no answer came.
        """
        token = self._settings.tokens.token()
        answer = self._post_once(body, token)
        if answer.status == 401:
            # Refused before anything was read, so asking again cannot send twice.
            answer = self._post_once(body, self._settings.tokens.token(refused=token))
        return answer

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _post_once(self, body: bytes, token: str) -> Answer:
        import requests

        settings = self._settings
        client_request_id = str(uuid4())
        stream = _Body(body)
        try:
            response = self._connected().post(
                send_mail_url(settings.cloud.graph, settings.mailbox),
                data=stream,
                headers={"Content-Type": "text/plain", "client-request-id": client_request_id},
                # Given as `auth`, so that requests does not replace it by a password from ~/.netrc.
                auth=_Bearer(token),
                timeout=(settings.connect_timeout_s, settings.timeout_s),
                allow_redirects=False,
                # The status decides; a body that breaks off after a 202 changes nothing.
                stream=True,
            )
        except requests.RequestException as exc:
            # Not one connection of this session is to be trusted after a fault.
            self.close()
            if not stream.has_left:
                cloud = settings.cloud
                # From None: the request in the cause carries the token.
                raise network.unavailable(exc, cloud.graph_host, cloud.graph_port, transport=self.name) from None
            raise DeliveryUnknown(
                "Graph did not answer after the message was sent to it",
                code="answer_lost",
                transport=self.name,
                request_id=client_request_id,
            ) from None
        return Answer.read(response, client_request_id)

    def _connected(self) -> requests.Session:
        with self._lock:
            now = monotonic()
            if self._session is None or now - self._used_at > MAX_IDLE_S:
                self._session = network.http_session(self._settings.ca_file)
            self._used_at = now
            return self._session

    def _refuse(self, answer: Answer, envelope: Envelope) -> NoReturn:
        raise error_for(answer, envelope, transport=self.name)


class _Body(io.BytesIO):
    """A request body that knows whether any of it was handed to the network."""

    has_left = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.has_left = self.has_left or bool(data)
        return data


class _Bearer:
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True, slots=True)
class Answer:
    """What Graph answered. `code` is the most specific error code, "" when there is none; `text` its sentence."""

    status: int
    code: str = ""
    text: str = ""
    request_id: str = ""
    retry_after_s: float | None = None

    @classmethod
    def read(cls, response: requests.Response, client_request_id: str = "") -> Answer:
        request_id = response.headers.get("request-id") or client_request_id
        content = _body_of(response)
        if response.status_code == 202:
            return cls(202, request_id=request_id)
        code, text = _error(content)
        return cls(response.status_code, code, text[:300], request_id, retry_after_s(response.headers))


def _body_of(response: requests.Response) -> bytes:
    """The beginning of the body; what cannot be read is as good as empty."""
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        content: bytes = response.raw.read(MAX_ERROR_BYTES, decode_content=True)
    except (OSError, HTTPError, RequestException):
        content = b""
    if len(content) >= MAX_ERROR_BYTES or not content:
        response.close()
    return content


def send_mail_url(graph: str, mailbox: str) -> str:
    """The address of one mailbox's `sendMail`. The mailbox stays in its path segment, whatever it contains."""
    return f"{graph}/v1.0/users/{quote(mailbox, safe='')}/sendMail"


def _error(content: bytes) -> tuple[str, str]:
    """(code, message) of an error body. The deepest `innerError` with a code is the most specific (Graph: errors)."""
    try:
        error = json.loads(content).get("error")
    except (ValueError, AttributeError, RecursionError):
        return "", ""
    code, text = "", ""
    for _ in range(10):
        if not isinstance(error, Mapping):
            break
        code = str(error.get("code") or code)
        text = text or str(error.get("message") or "")
        error = next((value for key, value in error.items() if key.lower() == "innererror"), None)
    return code, text


def error_for(answer: Answer, envelope: Envelope, *, transport: str) -> DeliveryError:
    """The typed error for any answer that is not 202."""
    code = answer.code.lower()
    said = answer.code or f"status {answer.status}"
    facts: dict[str, Any] = {
        "code": answer.code or f"http_{answer.status}",
        "detail": answer.text,
        "request_id": answer.request_id,
        "transport": transport,
    }
    if answer.status == 429 or answer.status == 509:
        return Throttled(f"Graph asks to wait ({said})", retry_after_s=answer.retry_after_s, **facts)
    if answer.status >= 500 or answer.status == 408:
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
