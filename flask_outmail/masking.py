"""What another side said, made fit to be shown: no credential that it quotes, and nothing that is not text."""

from __future__ import annotations

import re
from urllib.parse import quote

MASK = "••••"
#: A run of this many characters of a credential counts as a piece of it.
PIECE_CHARS = 8
_WORD = re.compile(rf"[A-Za-z0-9+/=_.~%-]{{{PIECE_CHARS},}}")


def readable(text: str) -> str:
    """`text` with � for every character that is none to be read.

    A terminal obeys some of them (ESC), a browser lets others turn a line round (U+202E), and a log takes a line break
    for the end of its line.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)


class Secrets:
    """The credentials of one connection, in every form in which they were sent: some servers quote what they got.

    Only what is a credential, or a piece of one, is masked: other long words (queue names, Message-IDs) are what an
    administrator needs to read.
    """

    def __init__(self, *forms: str) -> None:
        self._forms: list[str] = []
        self.add(*forms)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, *forms: str) -> None:
        for form in filter(None, forms):
            self._forms += [one for one in (form, quote(form, safe="")) if one not in self._forms]
        self._forms.sort(key=len, reverse=True)

    def mask_whole(self, text: str) -> str:
        """`text` with whole credentials masked; cheap enough for every line of a server that is content."""
        for form in self._forms:
            if form in text:
                text = _replace(text, form)
        return text

    def mask(self, text: str) -> str:
        """`text` with whole credentials and pieces of them masked, in upper or lower case."""
        text = self.mask_whole(text)
        folded = [form.casefold() for form in self._forms if len(form) >= PIECE_CHARS]
        if not folded:
            return text

        def judged(match: re.Match[str]) -> str:
            word = match[0].casefold()
            pieces = (word[at : at + PIECE_CHARS] for at in range(len(word) - PIECE_CHARS + 1))
            return MASK if any(piece in form for piece in pieces for form in folded) else match[0]

        return _WORD.sub(judged, text)


def _replace(text: str, form: str) -> str:
    if len(form) >= 5:
        return text.replace(form, MASK)
    # A very short password stands in many innocent words.
    return re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
