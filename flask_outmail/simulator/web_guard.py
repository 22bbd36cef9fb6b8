"""Keeps the mailbox page for people at this machine: no other web site may read it or act through the browser."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)
# For the HTML of a mail, in its frame: its own styles, its own images, nothing from anywhere else and no
# script.
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self';"
    " base-uri 'none'; sandbox allow-popups allow-popups-to-escape-sandbox"
)


def install(app: Flask) -> None:
    """Checks every request, and marks every answer."""
    app.before_request(_check_host)
    app.before_request(_check_origin)
    app.after_request(_mark)


def _check_host() -> None:
    # A page of another site could otherwise point its own name at 127.0.0.1 (DNS rebinding) and read the
    # mail.
    if _hostname(request.host) not in LOCAL_NAMES:
        abort(403, "The simulator answers only under the names localhost and 127.0.0.1.")


def _check_origin() -> None:
    if request.method in ("GET", "HEAD"):
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site not in (None, "same-origin", "none"):
        abort(403, "This request came from another site.")
    # Browsers send Origin with every POST; programs that send neither header are not being abused by a web
    # page.
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        abort(403, "This request came from another site.")


def _mark(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    # Not "no-referrer": with that a browser sends "Origin: null" with the page's own forms, and they are refused above.
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
