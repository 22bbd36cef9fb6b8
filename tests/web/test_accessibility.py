"""Every page in every state is put to axe-core's questions about WCAG 2.2 AA, light and dark, wide and narrow; and the
keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flask_outmail.simulator import Simulator

from .conftest import Site, serving
from .scenes import DESK, STAGES, Backstage, Stage, play

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE = 320  # 320 is also what is left of a desk's 1280 at 400 % zoom


@pytest.fixture(params=STAGES, ids=[one.name for one in STAGES])
def stage(request: pytest.FixtureRequest) -> Stage:
    found: Stage = request.param
    return found


def violations(page: Page, rules: list[str] = RULES) -> list[str]:
    """What axe finds: rule, and the elements concerned."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        import axe_playwright_python as axe

        # Through the debugger, as nothing may be put into the page itself: its policy forbids it.
        page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text("utf-8"))
    found: Any = page.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations'], iframes: false})", rules
    )
    return [
        f"{one['id']}: {', '.join(str(node['target']) for node in one['nodes'][:3])}" for one in found["violations"]
    ]


def sideways(page: Page) -> list[str]:
    """What makes the page wider than the window."""
    page.set_viewport_size({"width": PHONE, "height": 900})
    width = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size(DESK)
    return [f"{width} px wide at {PHONE}"] if width > PHONE else []


@pytest.fixture
def staged(stage: Stage, make_site: Callable[..., Site], simulator: Simulator) -> Iterator[tuple[Site, str]]:
    """The application of the stage, and the address of its pages."""
    with ExitStack() as closing:
        site = stage.build(Backstage(make_site, simulator, closing))
        yield site, closing.enter_context(serving(site.app))


def test_every_page_in_every_state_leaves_nobody_out(
    stage: Stage, staged: tuple[Site, str], open_page: Callable[..., Page]
) -> None:
    site, base = staged
    found: list[str] = []
    for scene, page in play(stage, site, base, open_page):
        met = sideways(page)
        if scene.javascript:  # without it axe's own does not run either
            met += violations(page)
            page.emulate_media(color_scheme="dark")
            met += [f"dark, {one}" for one in violations(page, ["color-contrast"])]
            page.emulate_media(color_scheme="light")
        found += [f"{scene.name}: {one}" for one in met]
    assert not found, "\n".join(found)


def test_the_summary_of_errors_has_the_focus_and_leads_to_the_field(
    served: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{served}/auth-objects/new")
    page.click("button[value=save]")
    page.wait_for_selector("#om-errors")
    assert page.evaluate("document.activeElement.id") == "om-errors"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.name") in ("name", "tenant", "client_id", "client_secret")


def test_the_set_up_is_done_with_the_keyboard_alone(site: Site, served: str, open_page: Callable[..., Page]) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    page = open_page()
    page.goto(f"{served}/setup")

    def to(selector: str) -> None:
        """Tab until the element has the focus; it must be reached, and be seen to be."""
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} is not reached by the keyboard")

    to("#auth_object")
    page.keyboard.press("ArrowDown")
    to("#username")
    page.keyboard.type(site.simulator.mailbox)
    to("[data-test]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".om-verdict.om-good")
    to("button[value=save]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved. Mail is sent")
