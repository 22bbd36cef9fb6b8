"""The blueprint that all views hang on, and the few things every view needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from secrets import token_hex
from typing import Any, TypeVar

from flask import Blueprint, current_app, request, session
from werkzeug.wrappers import Response as AnyResponse

from ..access import CHANGE, SEE
from ..engine import engine_of_current_app
from ..models import utc_now
from .texts import clock, day, decimal, language_tag, said, script_words, size, t, tn

engine = engine_of_current_app

pages = Blueprint("outmail", __name__, template_folder="templates", static_folder="static")

#: The part of an address that is a row's id. A number that no database could hold is no page, and not an error.
ID = "int(max=2147483647)"

#: Our own place in the session. Flask's flash() would show each message twice inside a base template that shows
#: flashed messages itself.
_NOTICES = "_outmail_notices"
_PERSON = "_outmail_person"


View = TypeVar("View", bound=Callable[..., Any])


def needs(*actions: str) -> Callable[[View], View]:
    """Decorator for a view: what a person must be allowed for it, besides seeing pages. Put it below the route.

    Without it a view that answers GET needs nothing more, and a POST needs to be allowed to change.
    """

    def mark(view: View) -> View:
        view.outmail_needs = actions  # type: ignore[attr-defined]
        return view

    return mark


def needed() -> tuple[str, ...]:
    """What the current request needs: seeing always comes first."""
    view = current_app.view_functions.get(request.endpoint or "")
    own = getattr(view, "outmail_needs", None)
    if own is None:
        own = () if request.method in ("GET", "HEAD", "OPTIONS") else (CHANGE,)
    return (SEE, *own)


def may(action: str) -> bool:
    """Whether the current person is allowed it: what decides if a button is shown. Asked once in a request."""
    # Not in `g`: an application context may be older than the request, and hold the verdict on somebody else.
    known: dict[str, bool] = request.environ.setdefault("outmail.may", {})
    if action not in known:
        verdict = engine().access.judge(action)
        known[action] = not isinstance(verdict, AnyResponse) and isinstance(verdict, (bool, int)) and bool(verdict)
    return known[action]


def actor() -> str:
    """Who acts, as it is written into the history."""
    return engine().access.actor_name()


def person() -> str:
    """Whose tests are counted together: the actor, or this browser where the application names nobody."""
    name = actor()
    if not name and _PERSON not in session:
        session[_PERSON] = token_hex(8)
    return name or str(session[_PERSON])


def tell(text: str, kind: str = "good") -> None:
    """Leaves a sentence for the next page. `kind` is good, warning or bad."""
    session[_NOTICES] = [*session.get(_NOTICES, []), [kind, text]]


def notices() -> list[tuple[str, str]]:
    """The sentences left for this page; each is given once."""
    return [(str(kind), said(text)) for kind, text in session.pop(_NOTICES, [])] if _NOTICES in session else []


def ago(moment: datetime) -> str:
    """How long ago a moment was, for reading: "4 minutes ago"."""
    seconds = max(0, int((utc_now() - moment).total_seconds()))
    if seconds >= 86_400:
        return tn("%(count)d day ago", "%(count)d days ago", seconds // 86_400)
    if seconds >= 3600:
        return tn("%(count)d hour ago", "%(count)d hours ago", seconds // 3600)
    if seconds >= 60:
        return tn("%(count)d minute ago", "%(count)d minutes ago", seconds // 60)
    return t("just now")


def days_until(day: date) -> int:
    return (day - utc_now().date()).days


def expiry_level(day: date) -> str:
    """How near the end of a credential is: "", "warning" (a month or less) or "bad" (past)."""
    left = days_until(day)
    return "bad" if left < 0 else "warning" if left <= 30 else ""


def expiry_words(day: date) -> str:
    """ "in 143 days", "today" or "12 days ago"."""
    left = days_until(day)
    if left == 0:
        return t("today")
    if left > 0:
        return tn("in %(count)d day", "in %(count)d days", left)
    return tn("%(count)d day ago", "%(count)d days ago", -left)


def helpers() -> dict[str, Any]:
    """What templates may call."""
    return {
        "ago": ago,
        "expiry_words": expiry_words,
        "expiry_level": expiry_level,
        "notices": notices,
        "may": may,
        "t": t,
        "tn": tn,
        "said": said,
        "clock": clock,
        "day": day,
        "decimal": decimal,
        "size": size,
        "language_tag": language_tag,
        "script_words": script_words,
    }


# What the macros need, which see no context. The prefix keeps out of the way of the application's own templates.
pages.add_app_template_global(t, "outmail_t")
pages.add_app_template_global(tn, "outmail_tn")
pages.add_app_template_global(said, "outmail_said")
pages.add_app_template_global(clock, "outmail_clock")
pages.add_app_template_filter(said, "outmail_said")
