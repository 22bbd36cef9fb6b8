"""The documentation's pages, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "example_app" / "README.md",
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^\n]*)\n(?P<text>.*?)^ *(?P=fence) *$", re.S | re.M
)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it says it is, and its lines."""

    page: str
    line: int
    language: str
    text: str

    def run(self, names: dict[str, Any]) -> None:
        """Runs a block of Python among these names; an error points at the line of the page."""
        code = compile("\n" * self.line + self.text, self.page, "exec")
        exec(code, names)  # noqa: S102 -- the documentation's own code


def blocks(page: str = "", *languages: str) -> list[Block]:
    """All blocks in order, of one page (as `docs/how-to/watch-it.md`) or of all, of some languages or of all."""
    found = []
    for path in PAGES:
        name = path.relative_to(ROOT).as_posix()
        if page in ("", name):
            text = path.read_text()
            for match in _FENCE.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(name, line, match["language"].strip(), textwrap.dedent(match["text"])))
    return [block for block in found if not languages or block.language in languages]


def run(page: str, names: dict[str, Any]) -> dict[str, Any]:
    """Runs all Python of a page, from top to bottom, as its reader would; returns the names."""
    found = blocks(page, "python")
    assert found, page
    for block in found:
        block.run(names)
    return names
