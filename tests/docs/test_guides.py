"""The guides name what is there: kinds of alert, buttons and pages, and the guide that goes further than a remedy."""

from __future__ import annotations

import ast
import html
import re
import sys
import urllib.request
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

import pytest
from flask import Flask

import flask_outmail
from flask_outmail import Mail
from flask_outmail.diagnosis.remedies import CATALOGUE
from flask_outmail.outbox import alerts
from flask_outmail.outbox.notices import Event
from flask_outmail.settings import KEYS
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, make_message
from .pages import DOCS, PAGES, ROOT, blocks


def test_each_kind_of_alert_has_its_section() -> None:
    page = (DOCS / "how-to/recover-from-each-alert.md").read_text()
    sections = re.findall(r"^## .*\(`(\w+)`\)$", page, re.MULTILINE)
    assert sections == list(alerts.KINDS)
    for section in page.split("\n## ")[1 : 1 + len(sections)]:
        assert all(word in section for word in ("**Meanwhile**", "**Mend it**", "**It is over**")), section[:40]


def test_what_a_notice_may_be_and_of_which_kind_is_told_whole() -> None:
    page = (DOCS / "how-to/watch-it.md").read_text()
    [(events, kinds)] = re.findall(r"`event` is ([^;]+); `kind` is ([^.]+)\.", page)
    assert set(re.findall(r"`(\w+)`", events)) == set(get_args(Event))
    assert set(re.findall(r"`(\w+)`", kinds)) == {*alerts.KINDS, "test"}


def test_what_a_monitor_reads_is_told_whole(make_app: MakeApp) -> None:
    page = (DOCS / "how-to/watch-it.md").read_text()
    told = {name for row in re.findall(r"^\| (`\w.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    app, mail = make_app(db=True)
    mail.access_control(lambda: True)
    read = app.test_client().get("/outmail/health.json").get_json()
    assert told == set(read)


def test_every_key_that_a_page_names_is_there_with_the_default_that_it_tells() -> None:
    defaults = {key.name: key.default for key in KEYS}
    for page in PAGES:
        text = re.sub(r"\b(FLASK_)?(?=OUTMAIL_)", "", page.read_text())
        for name, more in re.findall(r"\b(OUTMAIL_[A-Z_]+)(…?)", text):
            known = name == TESTS_STRICT or (
                any(one.startswith(name) for one in defaults) if more else name in defaults
            )
            assert known, f"{page.name}: {name}"
        for name, told in re.findall(r"^\|.*`(OUTMAIL_[A-Z_]+)` \| (\d+)", text, re.MULTILINE):
            assert int(told) == defaults[name], f"{page.name}: {name}"


def test_every_remedy_is_in_the_reference_once_and_every_guide_belongs_to_one() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        from generate import GUIDES, REMEDY_GROUPS
    finally:
        sys.path.remove(str(DOCS))
    assert tuple(entry for _, entries in REMEDY_GROUPS for entry in entries) == CATALOGUE
    signals = [entry.signals[0] for entry in CATALOGUE]
    for name, (title, patterns) in GUIDES.items():
        assert (DOCS / f"how-to/{name}.md").exists(), title
        for pattern in patterns:
            assert any(fnmatchcase(one, pattern) for one in signals), pattern


#: Of the tests, and none of the package.
TESTS_STRICT = "OUTMAIL_TESTS_STRICT"
#: What is set in bold for another reason than to name something on our pages: names of Microsoft's, and beginnings.
NOT_OURS = {"Object ID", "Application (client) ID", "Directory (tenant) ID", "Value", "Mail.ReadWrite"}
BEGINNINGS = {"Meanwhile", "Mend it", "It is over", "A certificate made here", "Another mailbox that must be refused",
              "What a test does not prove", "When you ask somebody for help", "Limits.", "Slack", "Teams"}  # fmt: skip
#: Guides in which each point begins in bold.
POINTS = {"go-to-production", "mail-from-templates"}


@pytest.mark.parametrize("name", sorted({path.stem for path in DOCS.glob("how-to/*.md")} - POINTS))
def test_the_buttons_and_pages_that_a_guide_names_are_there(name: str) -> None:
    [catalogue] = [path.read_text() for path in (ROOT / "flask_outmail").rglob("outmail.pot")]
    texts = "".join(re.findall(r'^(?:msgid(?:_plural)? )?"(.*)"$', catalogue, re.MULTILINE))
    text = re.sub(r"```.*?```", "", (DOCS / f"how-to/{name}.md").read_text(), flags=re.DOTALL)
    named = [part.strip() for bold in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL) for part in bold.split("→")]
    ours = {" ".join(one.split()) for one in named if one and one[0].isupper()} - NOT_OURS - BEGINNINGS
    assert [one for one in sorted(ours) if one not in texts] == []


def test_the_configuration_on_the_simulators_page_suffices(simulator: Simulator, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{simulator.web_url}values") as answer:  # noqa: S310 -- our own server
        page = html.unescape(answer.read().decode())
    [shown] = re.findall(r"OUTMAIL_CLOUDS = .*?\n}\n(?=<)", page, re.DOTALL)
    (tmp_path / "config.py").write_text(shown)
    app = Flask("shop")
    app.config.from_pyfile(str(tmp_path / "config.py"))
    with app.app_context():
        assert Mail(app).send(make_message()).accepted


def test_what_a_guide_imports_is_in_the_reference() -> None:
    api, errors = ((DOCS / f"reference/{name}.md").read_text() for name in ("api", "errors"))
    sections = {part.partition("\n")[0]: part for part in api.split("\n## ")}
    sections["flask_outmail.errors"] = errors.replace("\n## ", "\n### ")
    imports = [
        (str(node.module), alias.name)
        for block in blocks("", "python")
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("flask_outmail.")
        for alias in node.names
    ]
    assert len(imports) > 10
    told = [f"### {name}\n" in sections.get(module, "") or name in flask_outmail.__all__ for module, name in imports]
    assert [one for one, is_told in zip(imports, told, strict=True) if not is_told] == []


def test_each_picture_of_a_page_is_taken_by_the_script_and_shown() -> None:
    taken = re.findall(r'Picture\("([\w-]+\.png)"', (DOCS / "screenshots.py").read_text())
    assert sorted(taken) == sorted(path.name for path in (DOCS / "images").glob("*.png"))
    text = "".join(page.read_text() for page in PAGES)
    assert [path.name for path in (DOCS / "images").iterdir() if f"images/{path.name})" not in text] == []


def test_every_picture_is_there_and_told_in_words() -> None:
    pictures = [
        (page, *one) for page in PAGES for one in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(), re.DOTALL)
    ]
    assert pictures
    for page, words, target in pictures:
        assert (page.parent / target).exists(), f"{page.name}: {target}"
        assert len(words.split()) >= 4, f"{page.name}: {target} is told as {words!r}"
