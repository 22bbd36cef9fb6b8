"""A mail's HTML inside a page: in a sandboxed frame that runs nothing and asks no other host for anything."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from flask import Response

#: Pictures only from the mail itself, styles only its own. "sandbox" without a word allows nothing else.
FRAME_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'self'; sandbox"
)
_URL = re.compile(r"(https?://[^\s/?#\"'<>]*)([/?#][^\s\"'<>]*)", re.IGNORECASE)
#: Long enough for nobody to guess it: what resets a password, confirms an address or logs somebody in.
_LONG = re.compile(r"[A-Za-z0-9_\-.~+:%]{16,}={0,2}")
MASK = "••••"
_CID = re.compile(r"cid:([^\s\"'<>)]+)")
#: A policy keeps a browser from loading what these name, but not from connecting to its host (seen in Chromium with
#: `link` and `iframe`), and the sender would know of the reading.
_CALLING = re.compile("<(?=link|i?frame|fencedframe|object|embed|portal)", re.IGNORECASE)


def parsed(content: bytes) -> EmailMessage:
    """The message as a mail program reads it."""
    message: Any = message_from_bytes(content, policy=policy.default)
    return message  # type: ignore[no-any-return]


def part_text(message: EmailMessage, subtype: str) -> str:
    """The text or HTML of the message; "" when it has none."""
    part: Any = message.get_body((subtype,))
    return "" if part is None else str(part.get_content())


def masked(text: str) -> str:
    """The text, or the source of HTML, with the long parts of its links made unreadable: they let people in."""

    def hide(match: re.Match[str]) -> str:
        return match[1] + _LONG.sub(MASK, match[2])

    return _URL.sub(hide, text)


def files(message: EmailMessage) -> list[tuple[str, str, int]]:
    """(name, type, bytes) of each file and inline picture."""
    found = (part for part in message.walk() if part.get_content_disposition())
    return [
        (part.get_filename() or "(no name)", part.get_content_type(), len(part.get_payload(decode=True) or b""))
        for part in found
    ]


def framed_html(message: EmailMessage, change: Callable[[str], str] = str) -> Response:
    """The HTML of the message as an answer that only a page of ours can frame. Its own pictures are put into it.

    `change` is done to the HTML first.
    """
    pictures = {str(part["Content-ID"]).strip(" <>"): part for part in message.walk() if part["Content-ID"]}

    def picture(match: re.Match[str]) -> str:
        part: Any = pictures.get(match[1])
        if part is None or part.get_content_maintype() != "image":
            return match[0]
        return f"data:{part.get_content_type()};base64,{base64.b64encode(part.get_content()).decode()}"

    html = _CID.sub(picture, change(part_text(message, "html")))
    # Last, whatever was put in before. An element of a name that nobody knows does nothing.
    response = Response(_CALLING.sub("<not-", html), mimetype="text/html")
    response.headers["Content-Security-Policy"] = FRAME_POLICY
    # The policy says nothing about looking up the hosts of links, either.
    response.headers["X-DNS-Prefetch-Control"] = "off"
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response
