"""Collects the texts of pages and alerts and compiles their catalogues; needs Babel, which nothing needs at run time.

    python docs/translate.py            brings the template and every catalogue up to date, and compiles them
    python docs/translate.py new LANG   begins the catalogue of another language

A text that is new stands in the catalogues untranslated until somebody translates it; one that nothing shows any more
is dropped. The tests fail while a catalogue lacks a text, or differs from what was compiled of it.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from flask_outmail import clouds, providers, services
from flask_outmail.diagnosis.remedies import _UNLISTED, CATALOGUE, WHO_LABELS
from flask_outmail.diagnosis.report import _PROVEN as PROVEN
from flask_outmail.outbox import notices
from flask_outmail.outbox.states import STATES
from flask_outmail.shapes import COUNTED, SHAPES
from flask_outmail.web import alerts, auth_object_form, forms, overview, previews
from flask_outmail.web.texts import SCRIPT_WORDS
from flask_outmail.words import DOMAIN, FOLDER

PACKAGE = Path(services.__file__).parent
KEYWORDS = {"t": None, "tn": (1, 2)}
#: Modules whose sentences a page shows, beside those of the pages themselves.
SENTENCES = ("services.py", "providers.py")
_LABEL = re.compile(r"[A-Z][a-z]+( [\w,-]+)*")
_SENTENCE = re.compile(r"[A-Z“…].* .*[.?]", re.DOTALL)
# They change with every run and with Babel's version, and nothing reads them.
_NOISE = re.compile(rb'^"(POT-Creation-Date|PO-Revision-Date|Generated-By|Last-Translator|Language-Team): .*\n', re.M)

Text = tuple[str, "str | tuple[str, str]"]


def texts() -> Iterator[Text]:
    """Every text of the pages, with the file it stands in; a pair where there is a form for one and one for many."""
    yield from _marked()
    yield from (("diagnosis", text) for text in _remedies())
    yield from (
        ("outbox/states.py", text) for name, words in STATES.items() for text in (name, name.capitalize(), words)
    )
    yield from (("web/health.py", text) for text in ("error", "warning"))
    yield from (("web/charts.py", text) for text in overview.OUTCOMES)
    yield from (("shapes.py", text) for text in (*SHAPES, *COUNTED))
    yield from (("outbox/notices.py", text) for text in (*notices.SHORT.values(), *notices.OVER.values()))
    yield from (("static/outmail.js", text) for text in SCRIPT_WORDS)
    yield from (("diagnosis/report.py", text) for text in PROVEN.values())
    yield from (("web/alerts.py", text) for text in alerts.CHANNEL_LABELS.values())
    yield from (("web/auth_object_form.py", text) for text in auth_object_form.LIFETIMES.values())
    for service in services.services():
        yield from (("services.py", text) for text in (service.label, service.summary))
    for kind in providers.PROVIDERS.values():
        yield from (("providers.py", text) for text in (kind.label, kind.summary))
    yield from (("clouds.py", cloud.label) for cloud in clouds.clouds({}).values())
    for form in (forms.SetupForm, forms.AuthObjectForm, forms.SecretForm, previews.SendForm):
        yield from (("web/forms.py", text) for text in _labels(form))
    for path in [*(PACKAGE / name for name in SENTENCES), *sorted((PACKAGE / "web").glob("*.py"))]:
        yield from ((path.relative_to(PACKAGE).as_posix(), text) for text in (*_sentences(path), *_named(path)))
    for path in sorted((PACKAGE / "diagnosis").glob("*.py")):
        yield from ((f"diagnosis/{path.name}", text) for text in _step_titles(path))


def _marked() -> Iterator[Text]:
    """What stands in `t(…)` and `tn(…)`."""
    for path in sorted(PACKAGE.rglob("*")):
        method = {".html": babel_extract, ".py": "python"}.get(path.suffix)
        if method:
            for _, message, _, _ in extract_from_file(method, path, KEYWORDS):
                yield path.relative_to(PACKAGE).as_posix(), message


def _remedies() -> Iterator[str]:
    for entry in CATALOGUE:
        yield entry.remedy.title
        yield entry.remedy.meaning
        yield from entry.remedy.steps
    yield from (title for title, _ in _UNLISTED.values())
    yield from WHO_LABELS.values()


def _labels(form: type) -> Iterator[str]:
    for field in vars(form).values():
        if field.__class__.__name__ == "UnboundField" and field.args:
            yield field.args[0]


def _sentences(path: Path) -> Iterator[str]:
    """The constant sentences of a module, docstrings left out."""
    tree = ast.parse(path.read_text())
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out.update(id(part) for part in node.values)
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in left_out else None
        if isinstance(text, str) and "{}" not in text and _SENTENCE.fullmatch(text):
            yield text


def _named(path: Path) -> Iterator[str]:
    """What the tables of a module show for a key: labels, alone or first in a tuple, or beside an address."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            for value in node.values:
                for part in value.elts if isinstance(value, ast.Tuple) else [value]:
                    if (
                        isinstance(part, ast.Constant)
                        and isinstance(part.value, str)
                        and _LABEL.fullmatch(part.value)
                        and part.value != "Bearer"
                    ):
                        yield part.value


def _step_titles(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Check" and len(node.args) > 1:
            title = node.args[1]
            if isinstance(title, ast.Constant) and isinstance(title.value, str):
                yield title.value


def template() -> Catalog:
    """All texts, without translations."""
    found = Catalog(
        project="Flask-Outmail", header_comment="# The texts of Flask-Outmail's pages and alerts.", fuzzy=False
    )
    for place, message in texts():
        # Without locations that change with every line: each text names the file it was met in first.
        if message and (message if isinstance(message, str) else message[0]) not in found:
            found.add(message, locations=[(place, 0)])
    return found


def catalogue(language: str, known: Catalog) -> Catalog:
    """The catalogue of a language with exactly the texts of `known`, translated as far as it was."""
    path = po_file(language)
    found = read_po(io.BytesIO(path.read_bytes()), locale=language) if path.exists() else Catalog(locale=language)
    found.update(known, no_fuzzy_matching=True)
    found.obsolete.clear()
    found.header_comment = "# Flask-Outmail's pages."
    found.fuzzy = False
    return found


def po_file(language: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def languages() -> list[str]:
    return sorted(path.parent.parent.name for path in FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))


def as_po(found: Catalog) -> bytes:
    out = io.BytesIO()
    write_po(out, found, width=120, include_lineno=False, ignore_obsolete=True)
    return _NOISE.sub(b"", out.getvalue())


def as_mo(found: Catalog) -> bytes:
    out = io.BytesIO()
    # The same texts make the same file.
    found.creation_date = found.revision_date = datetime(2026, 1, 1, tzinfo=timezone.utc)
    write_mo(out, found)
    return out.getvalue()


def write_all() -> None:
    known = template()
    (FOLDER / f"{DOMAIN}.pot").write_bytes(as_po(known))
    for language in languages():
        write_one(language, known)


def write_one(language: str, known: Catalog) -> None:
    found = catalogue(language, known)
    path = po_file(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_po(found))
    path.with_suffix(".mo").write_bytes(as_mo(found))
    missing = sum(1 for one in found if one.id and not all([one.string] if isinstance(one.id, str) else one.string))
    print(f"{language}: {len(found)} texts, {missing} to translate")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["new"] and len(sys.argv) == 3:
        write_one(sys.argv[2], template())
    else:
        write_all()
