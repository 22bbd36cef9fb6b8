"""Inside the application's own base template: neither its macros nor its styles meet ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import ChoiceLoader, DictLoader

import flask_outmail
from flask_outmail.simulator import Simulator

from ..docs.pages import blocks
from .conftest import Site, serving
from .scenes import Backstage, embedded, in_host

if TYPE_CHECKING:
    from playwright.sync_api import Page

TEMPLATES = Path(flask_outmail.__file__).parent / "web/templates/outmail"
#: The macros that our templates import.
OURS = sorted(
    {
        name
        for path in TEMPLATES.glob("*.html")
        for found in re.findall(r"{% from [^%]+ import ([^%]+?)(?: with context)? %}", path.read_text())
        for name in re.findall(r"\w+", found)
    }
)
PAGES = ["/", "/setup", "/auth-objects/", "/auth-objects/new", "/deliveries/", "/alerts", "/history", "/domain"]


@pytest.mark.parametrize("path", PAGES)
def test_a_base_template_with_macros_of_our_names_changes_nothing(make_site: Callable[..., Site], path: str) -> None:
    clutter = "".join(f"{{% macro {name}() %}}CLASH{{% endmacro %}}" for name in OURS)
    site = make_site(OUTMAIL_BASE_TEMPLATE="host.html")
    host = f"{clutter}<title>{{% block title %}}{{% endblock %}}</title>{{% block content %}}{{% endblock %}}"
    loader = site.app.jinja_env.loader
    assert loader is not None
    site.app.jinja_env.loader = ChoiceLoader([DictLoader({"host.html": host}), loader])
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save(site.smtp_fields())
    page = site.get(path)
    assert page.status_code == 200
    assert "CLASH" not in page.text
    assert len(OURS) > 10


@pytest.mark.parametrize("path", ["/history", "/auth-objects/1", "/setup"])
def test_sentences_stay_apart_where_the_application_has_jinja_drop_white_space(
    make_site: Callable[..., Site], path: str
) -> None:
    site = make_site()
    site.app.jinja_env.trim_blocks = site.app.jinja_env.lstrip_blocks = True
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    site.post("/auth-objects/1/secret", action="switch", version="1", secret_kind="made", valid_days="180")
    text = re.sub(r"</?(?:span|strong|time|a|code)\b[^>]*>", "", site.get(path).text)
    assert re.search(r"by anna\.\s+\w", text)
    assert re.findall(r"(?:anna|\))\.\w+", text) == [], "one runs into the next"


# -- styles ------------------------------------------------------------------------------------------------------------

#: What an element looks like, without what follows from the width that the application gives us.
LOOKS = """
accent-color align-items appearance background-color border-bottom-color border-bottom-style border-bottom-width
border-collapse border-left-color border-left-style border-left-width border-right-style border-right-width
border-spacing border-top-color border-top-left-radius border-top-style border-top-width box-shadow box-sizing
caption-side clip-path color cursor direction display fill filter flex-grow float font-family font-size font-style
font-variant font-weight hyphens letter-spacing line-height list-style-type margin-bottom margin-left margin-right
margin-top opacity outline-style overflow-wrap overflow-x padding-bottom padding-left padding-right padding-top
pointer-events position resize row-gap stroke text-align text-decoration-line text-decoration-thickness text-indent
text-shadow text-transform transform user-select vertical-align visibility white-space word-spacing
""".split()  # noqa: SIM905 -- a list of a hundred lines reads no better
LOOK = """([among, names]) => [...document.querySelectorAll(among)].map(element => {
  const style = getComputedStyle(element);
  const id = element.tagName.toLowerCase() + [...element.classList].map(one => "." + one).join("");
  return names.map(name => `${id} ${name}: ${style.getPropertyValue(name)}`);
})"""
OURS_WITHIN = ".outmail *"
THEIRS = "*:not(.outmail, .outmail *, head *)"
SHOWN = ("", "setup", "auth-objects/", "auth-objects/new", "deliveries/")


def looks(page: Page, among: str) -> list[list[str]]:
    found: list[list[str]] = page.evaluate(LOOK, [among, LOOKS])
    return found


def differences(before: list[list[str]], after: list[list[str]]) -> list[str]:
    assert len(before) == len(after) > 20
    pairs = [(one, other) for old, new in zip(before, after, strict=True) for one, other in zip(old, new, strict=True)]
    return [f"{one} → {other.partition(': ')[2]}" for one, other in pairs if one != other]


@pytest.fixture
def hosted(make_site: Callable[..., Site], simulator: Simulator) -> Iterator[Callable[..., str]]:
    """`hosted("plain")`: the address of the pages inside a base template of `hosts`."""
    with ExitStack() as closing:

        def serve(host: str, build: Any = in_host, **config: Any) -> str:
            site = build(Backstage(make_site, simulator, closing), host, **config)
            return closing.enter_context(serving(site.app))

        yield serve


@pytest.mark.browser
@pytest.mark.parametrize(("host", "version"), [("plain", 5), ("bootstrap", 4), ("bootstrap", 5)])
def test_neither_sides_styles_touch_the_other(
    hosted: Callable[..., str], open_page: Callable[..., Page], host: str, version: int
) -> None:
    page = open_page(viewport={"width": 1280, "height": 900})
    bare, base = hosted("bare", embedded), hosted(host, HOST_BOOTSTRAP=version)
    for path in SHOWN:
        page.goto(f"{bare}/{path}")
        alone = looks(page, OURS_WITHIN)
        page.goto(f"{base}/{path}")
        assert differences(alone, looks(page, OURS_WITHIN)) == [], f"ours, at {path or 'the overview'}"
        both = looks(page, THEIRS)
        page.evaluate("document.querySelector('link[href*=\"outmail.css\"]').disabled = true")
        assert differences(both, looks(page, THEIRS)) == [], f"theirs, at {path or 'the overview'}"


BACKGROUND = "getComputedStyle(document.querySelector('.outmail')).backgroundColor"
LIGHT, DARK = "rgb(244, 246, 249)", "rgb(15, 19, 25)"


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_are_dark_when_the_application_is_whatever_the_reader_prefers_elsewhere(
    hosted: Callable[..., str], open_page: Callable[..., Page], theme: str
) -> None:
    base = hosted("bootstrap", HOST_THEME=theme)
    for preferred in ("light", "dark"):
        page = open_page(color_scheme=preferred)
        page.goto(base)
        assert page.evaluate(BACKGROUND) == {"light": LIGHT, "dark": DARK}[theme]


@pytest.mark.browser
def test_a_page_of_an_application_that_knows_no_dark_stays_light(
    hosted: Callable[..., str], open_page: Callable[..., Page]
) -> None:
    page = open_page(color_scheme="dark")
    page.goto(hosted("plain"))
    assert page.evaluate(BACKGROUND) == LIGHT


@pytest.mark.browser
def test_the_application_gives_its_colour_and_its_letters(
    hosted: Callable[..., str], open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{hosted('plain')}/auth-objects/new")
    [shown] = blocks("docs/how-to/embed-the-pages.md", "css")
    page.add_style_tag(content=shown.text)
    found = page.evaluate("getComputedStyle(document.querySelector('.om-primary')).backgroundColor")
    assert found == "rgb(76, 96, 48)"
    assert page.evaluate("getComputedStyle(document.querySelector('.outmail h1')).fontFamily") == "Georgia, serif"
    assert page.evaluate(BACKGROUND) == "rgba(0, 0, 0, 0)"


def test_every_rule_of_our_styles_begins_below_our_own_class() -> None:
    text = re.sub(r"/\*.*?\*/", "", (TEMPLATES.parent.parent / "static/outmail.css").read_text(), flags=re.DOTALL)
    selectors = [one.strip() for one in re.findall(r"[{};]\s*([^{};@]+)\{", "}" + text)]
    assert len(selectors) > 100
    assert [one for one in selectors if not all(part.strip().startswith(".outmail") for part in split(one))] == []


def split(selectors: str) -> list[str]:
    """At the commas that stand in no bracket."""
    return re.split(r",(?![^()]*\))", selectors)
