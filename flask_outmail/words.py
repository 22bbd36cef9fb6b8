"""Texts in the language of whoever reads them, and moments in their zone: gettext catalogues in `translations`.

Texts that are made far from a reader (remedies, labels, problems, what is stored) are English, and translated where
somebody is shown them. `docs/translate.py` collects the texts and compiles the catalogues.
"""

from __future__ import annotations

import gettext
import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from .settings import zone
from .shapes import COUNTED, SHAPES

DOMAIN = "outmail"
FOLDER = Path(__file__).parent / "translations"
#: What the texts in the code are written in.
SOURCE = "en"
#: How a day is written. Other languages get it as ISO 8601 has it.
DAYS = {"en": "{0:%d} {1} {0:%Y}", "de": "{0:%d.%m.%Y}", "fr": "{0:%d/%m/%Y}"}
# Not %b, which speaks the language that the process has set for everything.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SENTENCE_END = re.compile(r"(?<=[.?!]) (?=[A-Z“])")


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """English, and the languages there are catalogues for."""
    found = sorted(path.parent.parent.name for path in FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))
    return (SOURCE, *found)


@lru_cache(maxsize=32)
def catalogue(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; one that gives every text back as it is where there is none."""
    return gettext.translation(DOMAIN, FOLDER, [language], fallback=True)


def known_language(*wanted: str) -> str:
    """The catalogue that fits the first of these locales (like `de_AT` or `pt-BR`) that any fits; else English."""
    there = {one.lower(): one for one in languages()}
    for one in wanted:
        full = one.replace("-", "_").lower()
        if found := there.get(full) or there.get(full.split("_")[0]):
            return found
    return SOURCE


@dataclass(frozen=True, slots=True)
class Words:
    """One reader's language, one of `languages()`, and zone. Touches no network."""

    language: str = SOURCE
    timezone: str = "UTC"

    def t(self, text: str, /, **values: Any) -> str:
        """`text` in this language; `%(name)s` in it stands for a value.

        With a value that is HTML (`Markup`) the result is HTML, and everything else in it is escaped.
        """
        text = str(text or "")
        return _filled(catalogue(self.language).gettext(text), values) if text else ""

    def tn(self, one: str, many: str, count: int, /, **values: Any) -> str:
        """The form for `count`, which stands for `%(count)d`."""
        return _filled(catalogue(self.language).ngettext(one, many, count), {"count": count, **values})

    def said(self, text: str) -> str:
        """A text made in English, perhaps with values in it; as it is when its shape is not known (`shapes`)."""
        text = str(text or "")
        there = catalogue(self.language)
        found = there.gettext(text) if text else ""
        if found != text or self.language == SOURCE:
            return found
        for shape, many, pattern in _patterns():
            if match := pattern.fullmatch(text):
                values = match.groupdict()
                if many:
                    count = int(values.pop("count"))
                    return self.tn(shape, many, count, **{name: self.said(value) for name, value in values.items()})
                return self.t(shape, **{name: self.said(value) for name, value in values.items()})
        if text.endswith(".") and (known := there.gettext(text[:-1])) != text[:-1]:
            # A title that was made a sentence.
            return f"{known}."
        sentences = _SENTENCE_END.split(text)
        return " ".join(self.said(one) for one in sentences) if len(sentences) > 1 else text

    def decimal(self, value: float, digits: int) -> str:
        """A number with so many digits behind the sign that this language puts there."""
        text = f"{value:.{digits}f}"
        return text if self.language == SOURCE else text.replace(".", ",")

    def size(self, count: int) -> str:
        """A number of bytes, for reading: "12.3 kB"."""
        if count < 1000:
            return self.tn("%(count)d byte", "%(count)d bytes", count)
        if count < 1_000_000:
            return self.t("%(size)s kB", size=self.decimal(count / 1000, 1))
        return self.t("%(size)s MB", size=self.decimal(count / 1_000_000, 1))

    def day(self, at: date) -> str:
        """A day, the way it is written in this language."""
        return DAYS.get(self.language, "{0:%Y-%m-%d}").format(at, _MONTHS[at.month - 1])

    def clock(self, at: datetime) -> str:
        """A moment to the minute in this zone, with the zone's name."""
        local = at.astimezone(zone(self.timezone))
        name = local.tzname() or ""
        # Many zones have a number for a name.
        return f"{self.day(local)}, {local:%H:%M} {f'UTC{name}' if name[:1] in ('+', '-') else name}"


ENGLISH = Words()


def _filled(text: str, values: dict[str, Any]) -> str:
    if any(isinstance(value, Markup) for value in values.values()):
        return escape(text) % values
    return text % values if values else text


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """Each shape, its form for many or "", and what texts of that shape look like."""
    made = [(one, many, _pattern(form)) for one, many in COUNTED for form in (one, many)]
    made += [(shape, "", _pattern(shape)) for shape in SHAPES]
    return [(one, many, re.compile(pattern, re.DOTALL)) for one, many, pattern in made]


def _pattern(shape: str) -> str:
    pattern = re.escape(shape).replace(r"%\(count\)d", "(?P<count>[0-9]+)")
    # A value does not reach over the end of a sentence: the next one has a shape of its own.
    return re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>(?:(?![.?!] [A-Z“]).)+?)", pattern)
