"""The pages in other languages and zones, and the catalogues they come from."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from jinja2 import DictLoader

import flask_outmail
from flask_outmail.errors import ConfigurationError
from flask_outmail.settings import Settings
from flask_outmail.shapes import COUNTED, SHAPES
from flask_outmail.web import texts
from flask_outmail.words import Words

from .conftest import Site

PACKAGE = Path(flask_outmail.__file__).parent
PAGES = ("/", "/setup", "/auth-objects/", "/auth-objects/new", "/deliveries/", "/alerts", "/history", "/domain")
LANGUAGES = ("de", "fr")
_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")
_CODE = re.compile(r"`[^`]*`")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = PACKAGE.parent / "docs" / "translate.py"
    spec = importlib.util.spec_from_file_location("translate", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forms(text: Any) -> tuple[str, ...]:
    return tuple(text) if isinstance(text, (list, tuple)) else (text or "",)


def messages(found: Catalog) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for one in found:
        if one.id:
            yield forms(one.id), forms(one.string)


# -- the catalogues ---------------------------------------------------------------------------------------------------


def test_every_text_of_the_pages_stands_in_every_catalogue(tool: ModuleType) -> None:
    known = {ids for ids, _ in messages(tool.template())}
    assert set(tool.languages()) == set(LANGUAGES)
    for language in LANGUAGES:
        there = {ids for ids, _ in messages(read_po(io.BytesIO(tool.po_file(language).read_bytes())))}
        assert there == known, f"run python docs/translate.py, and translate what is new in {language}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(tool: ModuleType, language: str) -> None:
    path = tool.po_file(language)
    written = {ids: said for ids, said in messages(read_po(io.BytesIO(path.read_bytes()))) if all(said)}
    compiled = dict(messages(read_mo(io.BytesIO(path.with_suffix(".mo").read_bytes()))))
    assert compiled == written, "run python docs/translate.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_keeps_every_value_and_every_command(tool: ModuleType, language: str) -> None:
    for ids, said in messages(read_po(io.BytesIO(tool.po_file(language).read_bytes()))):
        for text in filter(None, said):
            assert set(_PLACEHOLDER.findall(text)) == set(_PLACEHOLDER.findall(ids[-1])), ids
            assert sorted(_CODE.findall(text)) == sorted(_CODE.findall(ids[0])), ids


def test_each_language_keeps_to_its_signs(tool: ModuleType) -> None:
    signs = {
        "de": r"(?<!\w)['\"]|[“][^„”]*”|«|»|\.\.\.",
        "fr": r"'|[„“”\"]|\.\.\.|[^\u202f][;?!](?!\w)|[^\u00a0]:(?=\s|$)|«[^\u00a0]|[^\u00a0]»",
    }
    for language, wrong in signs.items():
        for _, said in messages(read_po(io.BytesIO(tool.po_file(language).read_bytes()))):
            for text in said:
                words = re.sub(r"`[^`]*`|https?://\S+", "", text)
                assert not re.search(wrong, words), (language, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_untranslated_in_doubt_or_out_of_use(tool: ModuleType, language: str) -> None:
    found = read_po(io.BytesIO(tool.po_file(language).read_bytes()))
    assert [ids for ids, said in messages(found) if not all(said)] == [], "translate these"
    assert [one.id for one in found if one.id and one.fuzzy] == [] and not found.obsolete


def test_every_shape_is_that_of_a_text_the_code_makes() -> None:
    made = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "shapes.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                made.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                made.add(re.sub(r"\{\w+\}", "\0", node.value))
    whole = "\n".join(made)
    for shape in (*SHAPES, *(form for forms in COUNTED for form in forms)):
        # Every piece between the values stands in a text that is made; endings may come from another one.
        pieces = [piece.strip(" .,:;") for piece in _PLACEHOLDER.split(shape)]
        assert all(piece in whole for piece in pieces), shape


def test_the_script_shows_only_words_that_the_page_brings() -> None:
    script = (PACKAGE / "web" / "static" / "outmail.js").read_text()
    assert set(re.findall(r'\bt\("([^"]+)"\)', script)) == set(texts.SCRIPT_WORDS)


# -- the pages --------------------------------------------------------------------------------------------------------


def asked(site: Site, language: str, path: str = "/") -> str:
    return site.client.get(f"/outmail{path}", headers={"Accept-Language": language}).get_data(as_text=True)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_speaks_the_language_the_browser_asks_for(site: Site, path: str) -> None:
    heading = re.compile(r"<h1[^>]*>(.*?)</h1>", re.DOTALL)
    headings = {}
    for language in ("en", *LANGUAGES):
        text = asked(site, language, path)
        assert f'<html lang="{language}">' in text
        found = heading.search(text)
        assert found
        headings[language] = found[1]
    assert len(set(headings.values())) == 3, headings


def test_the_configuration_chooses_the_language_over_the_browser(make_site: Callable[..., Site]) -> None:
    assert '<html lang="fr">' in asked(make_site(OUTMAIL_LOCALE="fr-CA"), "de")


def test_an_unknown_language_falls_back_to_english(make_site: Callable[..., Site]) -> None:
    site = make_site(OUTMAIL_LOCALE="xx")
    assert '<html lang="en">' in asked(site, "de")
    assert '<html lang="en">' in asked(make_site(), "xx, yy;q=0.5")


def test_a_language_the_browser_asks_for_by_its_country_is_understood(site: Site) -> None:
    for asked_for in ("de-AT, en;q=0.8", "es, fr-CH;q=0.9, en;q=0.1", "*, de;q=0"):
        expected = {"d": "de", "e": "fr", "*": "en"}[asked_for[0]]
        assert f'<html lang="{expected}">' in asked(site, asked_for)


@pytest.mark.parametrize("path", PAGES)
def test_inside_the_page_of_an_application_ours_says_its_own_language(
    make_site: Callable[..., Site], path: str
) -> None:
    site = make_site(OUTMAIL_BASE_TEMPLATE="host.html")
    site.app.jinja_loader = DictLoader({"host.html": '<html lang="es">{% block content %}{% endblock %}</html>'})
    text = asked(site, "fr", path)
    assert text.startswith('<html lang="es">') and '<div class="outmail" lang="fr"' in text


def test_the_language_of_flask_babel_is_that_of_the_pages(make_site: Callable[..., Site]) -> None:
    from flask_babel import Babel

    site = make_site()
    Babel(site.app, locale_selector=lambda: "de_AT")
    assert '<html lang="de">' in asked(site, "fr")


def test_another_extension_that_goes_by_the_name_of_babel_is_not_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flask_babel", None)  # as if it were not installed
    site.app.extensions["babel"] = object()
    with site.app.test_request_context("/outmail/", headers={"Accept-Language": "de"}):
        assert texts.language_tag() == "de"


def test_a_title_that_was_made_a_sentence_is_translated_too() -> None:
    title = "The client secret has expired"
    assert Words("de").said(f"{title}.") == f"{Words('de').said(title)}." != f"{title}."


def test_remedies_are_shown_in_the_language_of_the_page(site: Site) -> None:
    site.save(site.smtp_fields(password="wrong"), action="test")
    with site.app.test_request_context("/outmail/", headers={"Accept-Language": "de"}):
        assert texts.said("The server does not accept this user name and password").startswith("Der Server akzeptiert")
        assert texts.said("Name found: smtp.example.com") == "Name gefunden: smtp.example.com"
        assert texts.said("“A” is saved. Revision 3 is in use.") == "„A“ ist gespeichert. Revision 3 ist in Gebrauch."


def test_a_value_is_escaped_where_another_is_html(site: Site) -> None:
    from markupsafe import Markup

    with site.app.test_request_context("/outmail/"):
        assert texts.t("%(a)s & %(b)s", a="<x>", b=Markup("<b>y</b>")) == "&lt;x&gt; &amp; <b>y</b>"


def test_times_are_shown_in_the_zone_of_the_configuration(make_site: Callable[..., Site]) -> None:
    at = datetime(2026, 7, 1, 22, 30, tzinfo=timezone.utc)
    site = make_site(OUTMAIL_TIMEZONE="Europe/Berlin")
    for language, words in (("en", "02 Jul 2026, 00:30 CEST"), ("de", "02.07.2026, 00:30 CEST")):
        with site.app.test_request_context("/outmail/", headers={"Accept-Language": language}):
            assert texts.clock(at) == words


@pytest.mark.parametrize(
    "values", [{"OUTMAIL_TIMEZONE": "Mars/Base"}, {"OUTMAIL_LOCALE": "../de"}, {"OUTMAIL_ALERT_LOCALE": "../de"}]
)
def test_a_zone_or_language_that_is_none_is_refused_at_the_start(values: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        Settings.from_config(values)
