"""The text part of a mail that has only HTML: what a person would type for somebody who reads no HTML.

Paragraphs, lists, tables and links keep their meaning; colours, scripts and pictures without words go.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

# Names stand in one text, one blank apart, because a list of thirty quoted words reads badly.
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote body center dd div dl dt fieldset figcaption figure footer form header hr"
        " html main nav ol p pre section table tbody tfoot thead tr ul",
    )
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
#: Blocks with an empty line before and after.
_PARAGRAPHS = frozenset(("p", "ul", "ol", "dl", "table", "blockquote", "pre", "hr", "figure")) | _HEADINGS
_SILENT = frozenset(("head", "style", "script", "title", "template", "svg", "noscript"))
_BLANKS = re.compile(r"[ \t\r\n\f]+")
# What senders hide so that a mail list shows it after the subject; as text it would be a repetition.
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)
_VOID = frozenset(re.findall(r"\w+", "area base br col embed hr img input link meta source track wbr"))


def text_from_html(html: str) -> str:
    """Readable plain text. A link is followed by its address in angle brackets; an image becomes its `alt` text."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._line = ""
        self._silent: list[str] = []
        self._links: list[tuple[str, int]] = []
        self._lists: list[int | None] = []
        self._quotes = 0
        self._pre = 0
        self._cell_begun = False

    def text(self) -> str:
        self._end_line()
        text = "\n".join(self._out)
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n" if text.strip() else ""

    # -- what the parser calls ---------------------------------------------------------------------------------------

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        hidden = "hidden" in given or bool(_HIDDEN.search(given.get("style", "")))
        if self._silent or tag in _SILENT or hidden:
            if tag not in _VOID:
                self._silent.append(tag)
            return
        if tag == "br":
            self._end_line(even_empty=True)
        elif tag == "img":
            self._add(given.get("alt", ""))
        elif tag == "a":
            self._links.append((given.get("href", ""), len(self._line)))
        elif tag in ("td", "th"):
            if self._cell_begun and self._line.strip():
                self._line = self._line.rstrip() + "  "
            self._cell_begun = True
        else:
            self._begin_block(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            # Some close what they never opened, or in the wrong order: the nearest one of that name ends.
            if tag in self._silent:
                del self._silent[len(self._silent) - 1 - self._silent[::-1].index(tag) :]
            return
        if tag == "a" and self._links:
            self._end_link(*self._links.pop())
        elif tag in _BLOCKS or tag in _HEADINGS or tag == "li":
            self._end_block(tag)

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if self._pre:
            first, *others = data.split("\n")
            self._line += first
            for line in others:
                self._end_line(even_empty=True)
                self._line = line
            return
        self._add(data)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _add(self, data: str) -> None:
        text = _BLANKS.sub(" ", data)
        if not self._line or self._line.endswith(" "):
            text = text.lstrip(" ")
        self._line += text

    def _begin_block(self, tag: str) -> None:
        if tag == "li":
            self._end_line()
            number = self._lists[-1] if self._lists else None
            if number is not None:
                self._lists[-1] = number + 1
            self._line = "  " * max(0, len(self._lists) - 1) + (f"{number}. " if number is not None else "- ")
            return
        if tag not in _BLOCKS and tag not in _HEADINGS:
            return
        self._end_line()
        if tag in ("ul", "ol"):
            if not self._lists:
                self._empty_line()
            self._lists.append(1 if tag == "ol" else None)
        elif tag in _PARAGRAPHS:
            self._empty_line()
        if tag == "tr":
            self._cell_begun = False
        elif tag == "blockquote":
            self._quotes += 1
        elif tag == "pre":
            self._pre += 1
        elif tag == "hr":
            self._line = "-" * 20
            self._end_line()
            self._empty_line()

    def _end_block(self, tag: str) -> None:
        self._end_line()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
            if not self._lists:
                self._empty_line()
        elif tag == "blockquote":
            if self._out and not self._out[-1].strip("> "):
                self._out.pop()
            self._quotes = max(0, self._quotes - 1)
        elif tag == "pre":
            self._pre = max(0, self._pre - 1)
        if tag in _PARAGRAPHS and tag not in ("ul", "ol"):
            self._empty_line()

    def _end_link(self, href: str, begun_at: int) -> None:
        words = self._line[begun_at:].strip() if begun_at <= len(self._line) else ""
        address = href.removeprefix("mailto:").removeprefix("tel:")
        # A link inside the page, or one whose words are its address, says nothing more to a reader of text.
        if href and not href.startswith(("#", "cid:", "javascript:")) and words != address:
            self._line = self._line.rstrip() + (f" <{address}>" if self._line.strip() else f"<{address}>")

    def _end_line(self, *, even_empty: bool = False) -> None:
        line = self._line if self._pre else self._line.rstrip()
        self._line = ""
        self._links = [(href, 0) for href, _ in self._links]
        if line.strip() or even_empty:
            self._out.append("> " * self._quotes + line)

    def _empty_line(self) -> None:
        if self._out and self._out[-1].strip("> "):
            self._out.append(("> " * self._quotes).rstrip())
