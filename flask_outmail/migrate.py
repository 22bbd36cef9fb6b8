"""`python -m flask_outmail.migrate DIR`: what must change in a code base that uses Flask-Mail or Flask-Mailman.

Prints the difference, and what a person should look at. `--write` makes the change. Reads the files as text: nothing
of the code base is run.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: The old module, and what stands in its place.
MODULES = {"flask_mail": "flask_outmail", "flask_mailman": "flask_outmail.mailman"}
_REQUIREMENT = re.compile(
    r"(?i)(?<![\w.-])flask[-_]?mail(?:man)?(?![\w-])((?:\[[^\]]*\])?)([ \t]*[=~<>!]=?[^\s,;\"'#]*)?"
)
_REQUIREMENT_FILES = re.compile(
    r"(?i)(requirements|constraints)[\w.-]*\.(txt|in)|pyproject\.toml|setup\.(cfg|py)|Pipfile"
)
_SKIPPED = {".git", ".hg", ".tox", ".nox", ".venv", "venv", "env", "node_modules", "__pycache__", "build", "dist"}
_NAMES_IT = re.compile(rf"({'|'.join(MODULES)})(\.\w+)*")
# The ends of lines as Python counts them; str.splitlines knows more.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_MAILMAN_LOST = {"get_connection", "mail_admins", "mail_managers"}


@dataclass
class Finding:
    """One file that changes; `name` is its path below the code base. `notes` are (line, sentence) to look at."""

    path: Path
    name: str
    before: str
    after: str
    encoding: str = "utf-8"
    notes: list[tuple[int, str]] = field(default_factory=list)

    def diff(self) -> str:
        lines = (self.before.splitlines(keepends=True), self.after.splitlines(keepends=True))
        return "".join(difflib.unified_diff(*lines, f"a/{self.name}", f"b/{self.name}"))


def find(root: Path) -> Iterator[Finding]:
    """Every file below `root` that uses one of the old modules, in the order of their names."""
    for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if _SKIPPED & set(path.relative_to(root).parts) or not path.is_file():
            continue
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        if path.suffix == ".py":
            finding = _python(path, name)
        elif _REQUIREMENT_FILES.fullmatch(path.name):
            finding = _requirements(path, name)
        else:
            continue
        if finding is not None and (finding.before != finding.after or finding.notes):
            yield finding


def _python(path: Path, name: str) -> Finding | None:
    data = path.read_bytes()
    if not any(old.encode() in data for old in MODULES):
        return None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError) as exc:
        sentence = f"cannot be read as Python ({type(exc).__name__}); look at it by hand"
        return Finding(path, name, "", "", notes=[(1, sentence)])
    finding = Finding(path, name, text, text, encoding)
    # Parts of a line are replaced from the end, so that the places found stay right.
    lines = _LINE.findall(text)
    for node in sorted(ast.walk(tree), key=lambda one: getattr(one, "lineno", 0), reverse=True):
        _mend(node, lines, finding.notes)
    finding.after = "".join(lines)
    finding.notes.sort()
    return finding


def _mend(node: ast.AST, lines: list[str], notes: list[tuple[int, str]]) -> None:
    if isinstance(node, ast.ImportFrom) and node.module in MODULES and node.level == 0:
        _replace(lines, node.lineno, node.col_offset, node.module, MODULES[node.module])
        lost = sorted({alias.name for alias in node.names} & _MAILMAN_LOST)
        if lost:
            notes.append((node.lineno, f"{', '.join(lost)}: has no counterpart; the setup says which service sends"))
    elif isinstance(node, ast.Import):
        for alias in reversed(node.names):
            if alias.name in MODULES:
                # The old name stays for the rest of the file: "flask_mail.Message" goes on meaning what it says.
                kept = "" if alias.asname else f" as {alias.name}"
                _replace(lines, alias.lineno, alias.col_offset, alias.name, MODULES[alias.name] + kept)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAMES_IT.fullmatch(node.value):
        notes.append((node.lineno, f"the text {node.value!r} names the old module; change it if it is patched"))


def _replace(lines: list[str], lineno: int, column_bytes: int, old: str, new: str) -> None:
    line = lines[lineno - 1]
    column = len(line.encode()[:column_bytes].decode())
    lines[lineno - 1] = line[:column] + re.sub(rf"\b{old}\b", new, line[column:], count=1)


def _requirements(path: Path, name: str) -> Finding | None:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return None
    after = _REQUIREMENT.sub("flask-outmail", text)
    return Finding(path, name, text, after) if after != text else None


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(
        prog="python -m flask_outmail.migrate",
        description="Says what must change in a code base that uses Flask-Mail or Flask-Mailman. Exit code 1 when"
        " something is left to do.",
    )
    made.add_argument("directory", type=Path, help="the code base, or one file")
    made.add_argument("--write", action="store_true", help="make the change; without it nothing is written")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 nothing left to do, 1 there is something to change or to look at, 2 wrong usage."""
    given = parser().parse_args(arguments)
    if not given.directory.exists():
        parser().error(f"there is no {given.directory}")
    findings = list(find(given.directory))
    for finding in findings:
        sys.stdout.write(finding.diff())
        for line, sentence in finding.notes:
            sys.stdout.write(f"{finding.name}:{line}: note: {sentence}\n")
        if given.write and finding.before != finding.after:
            finding.path.write_bytes(finding.after.encode(finding.encoding))
    changed = sum(one.before != one.after for one in findings)
    noted = sum(len(one.notes) for one in findings)
    verb = "changed" if given.write else "to change"
    sys.stdout.write(f"{changed} file{'' if changed == 1 else 's'} {verb}, {noted} to look at\n")
    return 1 if noted or (changed and not given.write) else 0


if __name__ == "__main__":
    sys.exit(main())
