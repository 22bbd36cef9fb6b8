"""The words of the pages in the reader's language: gettext catalogues in `translations`, domain "outmail".

Our own name for the function, `t`, because a base template of the application may use `_` for words of its own. Texts
that come from below the pages (remedies, labels, problems) are English there, and translated where a page shows them.
`docs/translate.py` collects the texts and compiles the catalogues.
"""

from __future__ import annotations

import gettext
import re
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import current_app, has_request_context, request
from markupsafe import Markup, escape

from ..extension import engine_of_current_app
from ..settings import zone
from .shapes import SHAPES

DOMAIN = "outmail"
FOLDER = Path(__file__).parent / "translations"
_KEPT = "outmail.language"
#: What the texts in the code are written in.
SOURCE = "en"
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
#: How a day is written. Other languages get it as ISO 8601 has it.
DAYS = {"en": "%d %b %Y", "de": "%d.%m.%Y", "fr": "%d/%m/%Y"}


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """English, and the languages there are catalogues for."""
    found = sorted(path.parent.parent.name for path in FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))
    return (SOURCE, *found)


@lru_cache(maxsize=32)
def catalogue(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; one that gives every text back as it is where there is none."""
    return gettext.translation(DOMAIN, FOLDER, [language], fallback=True)


def language() -> str:
    """The language of this request: `OUTMAIL_LOCALE`, Flask-Babel's, or the best that the browser asks for."""
    if not has_request_context():
        return SOURCE
    # Kept with the request: `g` may outlive it, where an application context was there before.
    if _KEPT not in request.environ:
        request.environ[_KEPT] = _chosen()
    chosen: str = request.environ[_KEPT]
    return chosen


def _chosen() -> str:
    wanted = engine_of_current_app().settings.locale or _locale_of_the_application()
    if wanted:
        return known_language(wanted)
    return request.accept_languages.best_match(languages(), default=SOURCE) or SOURCE


def _locale_of_the_application() -> str:
    if "babel" not in current_app.extensions:
        return ""
    try:
        from flask_babel import get_locale
    except ImportError:
        # Another extension goes by that name.
        return ""
    return str(get_locale() or "")


def known_language(wanted: str) -> str:
    """The catalogue that fits a locale like `de_AT` or `pt-BR` best; English when none does."""
    there = {one.lower(): one for one in languages()}
    full = wanted.replace("-", "_").lower()
    return there.get(full) or there.get(full.split("_")[0]) or SOURCE


def language_tag() -> str:
    """The language as HTML's `lang` has it."""
    return language().replace("_", "-")


def t(text: str, /, **values: Any) -> str:
    """`text` in the language of this request; `%(name)s` in it stands for a value.

    With a value that is HTML (`Markup`) the result is HTML, and everything else in it is escaped.
    """
    text = str(text or "")
    return filled(catalogue(language()).gettext(text), values) if text else ""


def tn(one: str, many: str, count: int, /, **values: Any) -> str:
    """The form for `count`, which stands for `%(count)d`."""
    return filled(catalogue(language()).ngettext(one, many, count), {"count": count, **values})


def filled(text: str, values: dict[str, Any]) -> str:
    if any(isinstance(value, Markup) for value in values.values()):
        return escape(text) % values
    return text % values if values else text


def said(text: str) -> str:
    """A text from below the pages that may hold values, like a step's title; as it is when its shape is not known."""
    text = str(text or "")
    there = catalogue(language())
    found = there.gettext(text) if text else ""
    if found != text or language() == SOURCE:
        return found
    for shape, pattern in _patterns():
        match = pattern.fullmatch(text)
        if match:
            return there.gettext(shape) % {name: said(value) for name, value in match.groupdict().items()}
    if text.endswith(".") and (known := there.gettext(text[:-1])) != text[:-1]:
        # A title that was made a sentence.
        return f"{known}."
    sentences = _SENTENCE_END.split(text)
    return " ".join(said(one) for one in sentences) if len(sentences) > 1 else text


_SENTENCE_END = re.compile(r"(?<=[.?!]) (?=[A-Z“])")


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    made = []
    for shape in SHAPES:
        pattern = re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+?)", re.escape(shape))
        made.append((shape, re.compile(pattern, re.DOTALL)))
    return made


def script_words() -> dict[str, str]:
    """The words of the script, where they differ from those that stand in it."""
    return {text: t(text) for text in SCRIPT_WORDS if t(text) != text}


# -- times ------------------------------------------------------------------------------------------------------------


def day(at: date) -> str:
    """A day, the way it is written in the language of this request."""
    return at.strftime(DAYS.get(language(), "%Y-%m-%d"))


def clock(at: datetime) -> str:
    """A moment to the minute in the zone of the pages (`OUTMAIL_TIMEZONE`), with that zone's name."""
    local = at.astimezone(zone(engine_of_current_app().settings.timezone))
    return f"{day(local)}, {local:%H:%M} {local.tzname()}"
