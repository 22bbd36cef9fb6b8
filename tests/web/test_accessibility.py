"""Every page, empty and in use, light and dark, is put to axe-core's questions about WCAG 2.2 AA; and the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flask_outmail import OutmailError
from flask_outmail.simulator import Fault

from ..conftest import make_message
from .conftest import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
EMPTY = ["", "setup", "auth-objects/", "auth-objects/new", "deliveries/", "alerts", "history", "domain"]


def violations(page: Page) -> list[str]:
    """What axe finds: rule, and the elements concerned."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        import axe_playwright_python as axe

        # Through the debugger, as nothing may be put into the page itself: its policy forbids it.
        page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text("utf-8"))
    found: Any = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    return [
        f"{one['id']}: {', '.join(str(node['target']) for node in one['nodes'][:3])}" for one in found["violations"]
    ]


def check(page: Page, where: str) -> list[str]:
    return [f"{where or 'overview'}: {one}" for one in violations(page)]


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, open_page: Callable[..., Page]) -> Page:
    return open_page(viewport={"width": 1280, "height": 900}, color_scheme=request.param)


def test_empty_pages_leave_nobody_out(page: Page, served: str) -> None:
    found = []
    for path in EMPTY:
        page.goto(f"{served}/{path}")
        found += check(page, path)
    assert found == []


def test_pages_in_use_leave_nobody_out(page: Page, served: str, site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields(expires_on="2026-12-10"))
    site.save_tested(site.graph_fields())
    site.save(site.graph_fields(from_name="Other"), action="save_draft")
    site.mail.send(make_message())
    site.simulator.faults.add(Fault(endpoint="sendMail", status=403, code="ErrorAccessDenied"))
    with pytest.raises(OutmailError):
        site.mail.send(make_message())
    found = []
    for path in (*EMPTY, "auth-objects/1", "auth-objects/1/delete"):
        page.goto(f"{served}/{path}")
        found += check(page, path)
    page.goto(f"{served}/deliveries/")
    page.click("table a >> nth=0")
    found += check(page, "one delivery")
    assert found == []


def test_errors_and_results_of_a_test_leave_nobody_out(page: Page, served: str, site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    found = []
    page.goto(f"{served}/auth-objects/new")
    page.click("button[value=save]")
    found += check(page, "object with errors")
    page.goto(f"{served}/setup")
    page.click("button[value=save]")
    found += check(page, "set-up with errors")
    for mailbox, where in (("nobody@contoso.example", "failed test"), (site.simulator.mailbox, "passed test")):
        page.goto(f"{served}/setup")
        page.select_option("#auth_object", index=1)
        page.fill("#username", mailbox)
        page.click("[data-test]")
        page.wait_for_selector(".om-verdict")
        found += check(page, where)
    assert found == []


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
