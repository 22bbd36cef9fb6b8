"""What another side said, made fit to be shown: no credential that it quotes, and nothing that is not text."""

from __future__ import annotations

import base64
import html
import json
import quopri
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "••••"
#: A run of this many characters of a credential counts as a piece of it.
PIECE_CHARS = 8
_WORD = re.compile(rf"[A-Za-z0-9+/=_.~%-]{{{PIECE_CHARS},}}")
#: The two alphabets of base64 (RFC 4648 4, 5) as one.
_ALPHABET = str.maketrans("-_", "+/")


def readable(text: str) -> str:
    """`text` with � for every character that is none to be read.

    A terminal obeys some of them (ESC), a browser lets others turn a line round (U+202E), and a log takes a line break
    for the end of its line.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)


class Secrets:
    """The credentials of one connection, however a server quotes what it got: in base64, in a page, in an address.

    Only what is a credential, or a piece of one, is masked: other long words (queue names, Message-IDs) are what an
    administrator needs to read.
    """

    def __init__(self, *forms: str) -> None:
        self._forms: list[str] = []
        self._encoded: list[str] | None = None
        self._folded: list[str] = []
        self.add(*forms)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, *forms: str) -> None:
        for form in filter(None, forms):
            self._forms += [one for one in (form, quote(form, safe="")) if one not in self._forms]
        self._forms.sort(key=len, reverse=True)
        self._encoded = None

    def mask_whole(self, text: str) -> str:
        """`text` with whole credentials masked; cheap enough for every line of a server that is content."""
        for form in self._forms:
            if form in text:
                text = _replace(text, form)
        return text

    def mask(self, text: str) -> str:
        """`text` with whole credentials and pieces of them masked, in upper or lower case."""
        if self._encoded is None:
            # Made when something is refused, which most connections never see.
            self._encoded = sorted({one for form in self._forms for one in _encoded(form)}, key=len, reverse=True)
            self._folded = [one.casefold().translate(_ALPHABET) for one in self._encoded if len(one) >= PIECE_CHARS]
        for form in self._encoded:
            if form in text:
                text = _replace(text, form)
        folded = self._folded
        if not folded:
            return text

        def judged(match: re.Match[str]) -> str:
            word = match[0].casefold().translate(_ALPHABET)
            pieces = (word[at : at + PIECE_CHARS] for at in range(len(word) - PIECE_CHARS + 1))
            return MASK if any(piece in form for piece in pieces for form in folded) else match[0]

        return _WORD.sub(judged, text)


def _encoded(form: str) -> Iterator[str]:
    """A credential as it may come back: as it is, in a page, in JSON, in a mail, in an address, or inside base64."""
    data = form.encode("utf-8", "replace")
    yield from (form, quote(form, safe=""), quote_plus(form), html.escape(form), json.dumps(form)[1:-1])
    yield quopri.encodestring(data, quotetabs=True).decode().replace("=\n", "")
    yield base64.b64encode(data).decode()
    # What is left of a very short one stands in many innocent words.
    for before in range(3 if len(data) >= 4 else 0):
        # What stands before it moves its letters, and what stands behind it changes the last of them.
        whole = base64.b64encode(b"\0" * before + data).decode()
        yield whole[(0, 2, 3)[before] : len(whole) - (0, 3, 2)[(before + len(data)) % 3]]


def _replace(text: str, form: str) -> str:
    if len(form) >= 5:
        return text.replace(form, MASK)
    # A very short password stands in many innocent words.
    return re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MASK, text)
