"""What stands before every page: who may enter, the headers, and a page with a remedy in place of an error."""

from __future__ import annotations

import logging
from typing import Any

from flask import Response, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ..diagnosis.remedies import WHO_LABELS, remedy_for
from ..errors import ConfigurationError, OutmailError
from ..models import Incident
from ..outbox import alerts
from ..outbox.notices import duration
from ..settings import Settings
from .activity import note_change
from .blueprint import engine, helpers, needed, pages
from .forms import CsrfRefused
from .health import bears_token
from .texts import words

logger = logging.getLogger(__name__)

OWN_BASE = "outmail/base.html"
_LET_IN = "outmail.let_in"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


@pages.before_request
def let_in() -> ResponseReturnValue | None:
    """Nobody enters until the application has said who may."""
    if request.endpoint == f"{pages.name}.static":
        return None
    if request.endpoint == f"{pages.name}.health_json" and request.headers.get("Authorization"):
        # A monitor has no session. It shows its token, or is turned away without the way to the log-in page.
        return None if bears_token() else _not_the_token()
    access = engine().access
    if not access.is_named:
        logger.error(
            "a page was refused: nobody may enter until a function decorated with @mail.access_control says who"
        )
    for action in needed():
        refusal = _refusal(access.judge(action))
        if refusal is not None:
            return refusal
    if not current_app.secret_key:
        # Without it no form can carry a token, and nothing here may be changed.
        raise ConfigurationError("SECRET_KEY is not set, so no form can be protected", code="secret_key_missing")
    request.environ[_LET_IN] = True
    return None


def _refusal(verdict: Any) -> ResponseReturnValue | None:
    if isinstance(verdict, AnyResponse):
        return verdict
    if not verdict:
        return _forbidden()
    if isinstance(verdict, (bool, int)):
        return None
    # A page of text or a tuple is what a view would return to turn somebody away. Taking it for a yes would open the
    # door with the very words that should close it.
    try:
        return current_app.make_response(verdict)
    except TypeError:
        logger.error("@mail.access_control must return True, False or a response; the page was refused")
        return _forbidden()


def _not_the_token() -> ResponseReturnValue:
    return {"status": "unauthorized"}, 401, {"WWW-Authenticate": "Bearer"}


def _forbidden() -> ResponseReturnValue:
    return render_template("outmail/forbidden.html"), 403


@pages.after_request
def add_to_the_activity(response: Response) -> Response:
    """Every change leaves a line of who made it. Whoever was sent to the log-in has made none."""
    if request.method == "POST" and request.environ.get(_LET_IN) and response.status_code < 400:
        note_change(engine())
    return response


@pages.after_request
def add_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("X-Frame-Options", "DENY")
    if request.endpoint != f"{pages.name}.static":
        headers["Cache-Control"] = "no-store"
    if not engine().settings.base_template:
        # Inside the application's own base template, its policy rules: only it knows what that page loads.
        headers.setdefault("Content-Security-Policy", POLICY)
    return response


@pages.context_processor
def add_context() -> dict[str, Any]:
    settings: Settings = engine().settings
    return {
        **helpers(),
        "outmail_base": settings.base_template or OWN_BASE,
        "outmail_own_base": not settings.base_template,
        "app_name": current_app.name,
        "who_labels": WHO_LABELS,
        "kept_incidents": kept_incidents,
        "remedy_of": alerts.remedy_of,
        "remedy_of_code": lambda code: remedy_for(OutmailError("", code=code)),
        "incident_about": alerts.about,
        "outmail_pause": duration(settings.alert_pause_s, words()),
    }


def kept_incidents() -> list[Incident]:
    """Open incidents that nobody could be told of; none when the database does not answer."""
    found = engine()
    try:
        if not found.database:
            return []
        with found.database.session() as session:
            return [
                one
                for one in alerts.open_incidents(session)
                if one.alert == alerts.KEPT and one.acknowledged_at is None
            ]
    except OutmailError:
        return []


@pages.errorhandler(OutmailError)
def show_remedy(error: OutmailError) -> ResponseReturnValue:
    """Whatever the pages themselves lack: the database, its tables, a key."""
    logger.error("a page cannot be shown", extra={"code": error.code, "error": type(error).__name__})
    return render_template("outmail/remedy.html", error=error, remedy=remedy_for(error)), 503


@pages.errorhandler(CsrfRefused)
def show_csrf_refusal(error: CsrfRefused) -> ResponseReturnValue:
    return render_template("outmail/refused.html"), 400


@pages.errorhandler(404)
def show_not_found(error: HTTPException) -> ResponseReturnValue:
    return render_template("outmail/not_found.html"), 404


@pages.errorhandler(403)
def show_forbidden(error: Forbidden) -> ResponseReturnValue:
    return _forbidden()
