"""Telling a notice to Slack, Teams or any program, by HTTPS.

The address decides who may post and is a secret: it stands in no error, no log line and no `repr`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from .. import network
from ..errors import OutmailError, TransportUnavailable
from .notices import Notice

SIGNATURE_HEADER = "Outmail-Signature"
#: How long to wait before the second and the third attempt. Somebody may be waiting for the caller of this.
PAUSES_S = (0.5, 2.0)
_RETRY_STATUS = {429, 500, 502, 503, 504}


class WebhookRefused(OutmailError):
    """The webhook answered, but not with success."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where notices are posted. `kind` is json, slack or teams; with a `secret` each post is signed."""

    url: str = field(repr=False)
    kind: str = "json"
    secret: str = field(default="", repr=False)
    timeout_s: float = 5.0
    ca_file: str = ""
    wait: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    @property
    def host(self) -> str:
        """The host alone: all of the address that may be shown."""
        return urlsplit(self.url).hostname or ""

    def post(self, notice: Notice, *, is_patient: bool = True) -> str:
        """Posts a notice and returns what was answered ("HTTP 200"). Touches the network, three times at most.

        Not `is_patient`: once only, for when somebody else is waiting. What is tried again carries the same id, so
        that a receiver can tell a repeat.

        Raises:
            WebhookRefused: the last answer was no success. A redirect is none, and is not followed.
            TransportUnavailable: it could not be reached.
        """
        body = json.dumps(payload(self.kind, notice), ensure_ascii=False).encode()
        for pause_s in (*(PAUSES_S if is_patient else ()), None):
            failure: OutmailError
            try:
                status = self._post_once(body, notice.id)
            except TransportUnavailable as exc:
                failure = exc
                is_lasting = not exc.retryable
            else:
                if 200 <= status < 300:
                    return f"HTTP {status}"
                failure = WebhookRefused(f"the webhook answered {status}", code="webhook_refused")
                is_lasting = status not in _RETRY_STATUS
            if pause_s is None or is_lasting:
                raise failure
            self.wait(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _post_once(self, body: bytes, notice_id: str) -> int:
        # The standard library and not requests, whose urllib3 writes the whole address into its debug log.
        import http.client
        import urllib.error
        import urllib.request

        class NoRedirect(urllib.request.HTTPRedirectHandler):
            # What is posted goes to the address that was configured, and to no other.
            def redirect_request(self, *args: Any, **kwargs: Any) -> None:
                return None

        headers = {"Content-Type": "application/json; charset=utf-8", "Outmail-Notice-Id": notice_id}
        if self.secret:
            headers[SIGNATURE_HEADER] = signature(self.secret, body, datetime.now(timezone.utc))
        where = urlsplit(self.url)
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 -- settings allow https
        handlers = (NoRedirect(), urllib.request.HTTPSHandler(context=network.tls_context(self.ca_file)))
        try:
            # The answer is not read: only its number counts, and nobody knows how long it is.
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as response:
                return int(response.status)
        except urllib.error.HTTPError as exc:
            exc.close()
            return exc.code
        except (OSError, http.client.HTTPException) as exc:
            fault = network.unavailable(exc, self.host, where.port or 443)
        # From None: a library's own text may quote the address.
        raise TransportUnavailable(
            f"the webhook at {self.host} cannot be reached", code=fault.code, retryable=fault.retryable
        ) from None


def signature(secret: str, body: bytes, at: datetime) -> str:
    """The value of the header `Outmail-Signature`: `t=<seconds since 1970>,v1=<HMAC-SHA256 of "t.body" in hex>`.

    The moment is signed too, so that a post that was overheard cannot be sent again later.
    """
    stamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def payload(kind: str, notice: Notice) -> dict[str, Any]:
    """The notice in the form that a kind of webhook understands."""
    if kind == "slack":
        return _slack(notice)
    return _teams(notice) if kind == "teams" else notice.to_dict()


def _slack(notice: Notice) -> dict[str, Any]:
    # https://docs.slack.dev/reference/block-kit/blocks: 150 characters in a header, 3,000 in a section, 2,000 in a
    # field, ten fields. &, < and > are the three characters to escape.
    mark = ":white_check_mark:" if notice.is_good else ":rotating_light:"
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": f"{mark} {notice.headline}"[:150], "emoji": True}}
    ]
    if words := "\n".join(_words(notice)):
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _escaped(words)[:3000]}})
    facts = [
        {"type": "mrkdwn", "text": f"*{_escaped(name)}*\n{_escaped(value)}"[:2000]} for name, value in notice.facts
    ]
    blocks.append({"type": "section", "fields": facts[:10]})
    if notice.page:
        blocks.append(
            {"type": "section", "text": {"type": "mrkdwn", "text": f"<{notice.page}|{_escaped(_open(notice))}>"}}
        )
    return {"text": _escaped(f"[{notice.application}] {notice.headline}"), "blocks": blocks}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(notice: Notice) -> dict[str, Any]:
    # The form that the Teams workflow "Post to a channel when a webhook request is received" takes: a message with
    # one adaptive card. 1.4 is what Teams shows everywhere.
    colour = "Good" if notice.is_good else "Attention"
    body: list[dict[str, Any]] = [
        {
            "type": "TextBlock",
            "text": notice.headline,
            "weight": "Bolder",
            "size": "Medium",
            "wrap": True,
            "color": colour,
        },
        *({"type": "TextBlock", "text": words, "wrap": True} for words in _words(notice)),
        {"type": "FactSet", "facts": [{"title": name, "value": value} for name, value in notice.facts]},
    ]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    if notice.page:
        card["actions"] = [{"type": "Action.OpenUrl", "title": _open(notice), "url": notice.page}]
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }


def _words(notice: Notice) -> list[str]:
    if notice.event == "recovered":
        return [one for one in (notice.remark, notice.what_it_was) if one]
    found = [notice.remark, notice.meaning]
    if notice.steps and not notice.is_good:
        found += [f"{number}. {step}" for number, step in enumerate(notice.steps, 1)]
        found.append(notice.who_can)
    return [one for one in found if one]


def _open(notice: Notice) -> str:
    return notice.words.t("Open the alerts page")
