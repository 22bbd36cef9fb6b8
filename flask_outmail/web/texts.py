"""The words of the pages in the language, and moments in the zone, of the request.

Our own name for the function, `t`, because a base template of the application may use `_` for words of its own. Texts
that come from below the pages (remedies, labels, problems) are English there, and translated where a page shows them.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from flask import current_app, request

from ..engine import engine_of_current_app
from ..words import Words, known_language

_KEPT = "outmail.words"
#: The words that `static/outmail.js` shows; a test compares them.
SCRIPT_WORDS = (
    "Show",
    "Copy",
    "Copied.",
    "Copying is not allowed here; select the text instead.",
    "Username",
    "Username (mailbox to send as)",
    "Testing…",
    "Cancelled. What had been tried is listed; nothing counts as proven.",
    "A test message may be on its way already.",
    "The test could not be run: the application did not answer as expected. Reload the page and try again.",
    "passed",
    "passed, look at it",
    "did not pass",
    "not tried",
)


def words() -> Words:
    """The words for this request: in the language of `OUTMAIL_LOCALE`, Flask-Babel's, or the browser's best."""
    # Kept with the request: `g` may outlive it, where an application context was there before.
    if _KEPT not in request.environ:
        request.environ[_KEPT] = Words(_language(), engine_of_current_app().settings.timezone)
    chosen: Words = request.environ[_KEPT]
    return chosen


def _language() -> str:
    wanted = engine_of_current_app().settings.locale or _locale_of_the_application()
    if wanted:
        return known_language(wanted)
    # Not Werkzeug's best_match, which gives somebody who asks for "de-AT, en;q=0.5" the English.
    return known_language(*(one for one, quality in request.accept_languages if quality))


def _locale_of_the_application() -> str:
    if "babel" not in current_app.extensions:
        return ""
    try:
        from flask_babel import get_locale
    except ImportError:
        # Another extension goes by that name.
        return ""
    return str(get_locale() or "")


def language_tag() -> str:
    """The language as HTML's `lang` has it."""
    return words().language.replace("_", "-")


def t(text: str, /, **values: Any) -> str:
    """`text` in the language of this request; see `Words.t`."""
    return words().t(text, **values)


def tn(one: str, many: str, count: int, /, **values: Any) -> str:
    """The form for `count`, which stands for `%(count)d`."""
    return words().tn(one, many, count, **values)


def said(text: str) -> str:
    """A text from below the pages that may hold values, like a step's title; see `Words.said`."""
    return words().said(text)


def day(at: date) -> str:
    """A day, the way it is written in the language of this request."""
    return words().day(at)


def clock(at: datetime) -> str:
    """A moment to the minute in the zone of the pages (`OUTMAIL_TIMEZONE`), with that zone's name."""
    return words().clock(at)


def decimal(value: float, digits: int) -> str:
    """A number as this language writes it; see `Words.decimal`."""
    return words().decimal(value, digits)


def size(count: int) -> str:
    """A number of bytes, for reading; see `Words.size`."""
    return words().size(count)


def script_words() -> dict[str, str]:
    """The words of the script, where they differ from those that stand in it."""
    return {text: t(text) for text in SCRIPT_WORDS if t(text) != text}
