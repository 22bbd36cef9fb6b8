"""Every lasting rule has one home: lists in the documentation are compared with the code."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import flask_outmail
from flask_outmail.cli import outmail_commands
from flask_outmail.clouds import Cloud
from flask_outmail.settings import KEYS, Settings
from flask_outmail.setup_values import Credential, SetupValues

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = Path(flask_outmail.__file__).parent


def test_the_generated_pages_agree_with_the_code() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        from generate import PAGES
    finally:
        sys.path.remove(str(DOCS))
    stale = [name for name, page in PAGES.items() if (DOCS / name).read_text() != page()]
    assert not stale, "run `python docs/generate.py`"


def test_every_key_that_is_read_is_in_the_table_and_the_other_way_round() -> None:
    read = set()
    for path in PACKAGE.rglob("*.py"):
        if "simulator" in path.parts:
            continue
        constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        read |= {one for one in constants if isinstance(one, str) and re.fullmatch(r"(OUTMAIL|MAIL)_[A-Z_]+", one)}
    assert read == {key.name for key in KEYS}


def test_every_key_has_a_default_that_the_settings_take() -> None:
    Settings.from_config({key.name: key.default for key in KEYS})


def test_every_value_of_a_setup_and_of_a_cloud_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "configuration.md").read_text().partition("## How a setup is written")[2]
    names = {one.name for kind in (SetupValues, Credential, Cloud) for one in fields(kind)}
    # A setup in configuration has its credential in it; a cloud's name is its key, and its port may stand in its host.
    names -= {"auth_object", "credential", "name", "smtp_port"}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_every_command_that_tells_something_tells_it_as_json_too() -> None:
    found = {
        f"{name} {sub}".strip(): one
        for name, command in outmail_commands.commands.items()
        for sub, one in getattr(command, "commands", {"": command}).items()
    }
    without = {name for name, one in found.items() if not any("--json" in option.opts for option in one.params)}
    assert without == {"simulator", "worker", "keys generate"}, "two that go on until they are stopped, and a bare key"


def test_every_command_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "commands.md").read_text()
    for name, command in outmail_commands.commands.items():
        subcommands = getattr(command, "commands", None)
        names = [f"{name} {sub}" for sub in subcommands] if subcommands else [name]
        for one in names:
            assert f"`flask outmail {one}" in page, one
        assert command.help, f"{name} has no help text"


def test_every_signal_is_in_the_reference() -> None:
    from flask_outmail import signals as module

    page = (DOCS / "reference" / "signals.md").read_text()
    for name in module:
        assert name in page


def test_every_page_of_the_documentation_is_reached_and_every_link_leads_somewhere() -> None:
    roots = {*ROOT.glob("*.md"), ROOT / "example_app" / "README.md"}
    pages = {path for path in DOCS.rglob("*.md") if "_build" not in path.parts} | roots
    reached = set()
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                path = (page.parent / target).resolve()
                assert path.exists(), f"{page.relative_to(ROOT)}: {target}"
                reached.add(path)
        for listed in re.findall(r"```\{toctree\}(.*?)```", page.read_text(), flags=re.DOTALL):
            reached |= {(page.parent / f"{line.strip()}.md").resolve() for line in listed.splitlines() if line.strip()}
    assert pages - reached <= {ROOT / "README.md", ROOT / "example_app" / "README.md", DOCS / "index.md"}


def test_every_test_that_the_security_model_names_is_there() -> None:
    pages = [(DOCS / "explanation" / name).read_text() for name in ("security.md", "security-review.md")]
    named = re.findall(r"`([a-z_]+/test_[a-z_]+\.py)(?:::(test_\w+))?`", "\n".join(pages))
    assert len(named) > 40
    for file, test in named:
        source = (ROOT / "tests" / file).read_text()
        assert f"def {test}(" in source if test else "def test_" in source, f"{file}::{test}"
    # Every row of the table says what shows it.
    rows = [line for line in pages[0].splitlines() if re.match(r"\| V\d", line)]
    assert len(rows) > 35
    assert [row for row in rows if "/test_" not in row and "`ruff`" not in row] == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "NotImplementedError"])
def test_nothing_is_left_for_later(word: str) -> None:
    found = [path for path in PACKAGE.rglob("*.py") if word in path.read_text()]
    assert not found


def test_no_template_has_inline_script_or_style() -> None:
    for path in PACKAGE.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text), path.name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path.name
        assert "|safe" not in text.replace(" ", ""), path.name
