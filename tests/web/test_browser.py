"""The set-up page in a real Chromium, with JavaScript and without, at a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import Site, create_object

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PAGES = (
    "",
    "setup",
    "auth-objects/",
    "auth-objects/new",
    "auth-objects/new?provider=microsoft_federated",
    "deliveries/",
    "alerts",
    "history",
    "domain",
)


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_an_administrator_sets_up_graph_proves_it_and_mail_flows(
    site: Site, served: str, open_page: Callable[..., Page], javascript: bool
) -> None:
    page = open_page(java_script_enabled=javascript)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{served}/setup")
    create_object(page, site)
    page.fill("#username", site.simulator.mailbox)
    page.fill("#test_message_to", "me@customers.example")
    page.click("[data-test]")
    page.wait_for_selector(".om-verdict")
    assert "steps passed" in page.inner_text(".om-verdict")
    assert page.locator(".om-is-passed").count() >= 10
    if javascript:
        assert page.evaluate("document.activeElement.hasAttribute('data-test')"), "the button keeps the focus"
        assert page.input_value("#host") == "localhost" and page.locator("#host").get_attribute("readonly") is not None
    page.click("text=Save and start sending")
    page.wait_for_selector("text=Mail is sent with these settings")
    assert [one.recipient for one in site.simulator.delivered] == ["me@customers.example"]
    assert complaints == []


def test_a_wrong_password_shows_its_step_and_its_remedy(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=smtp]")
    page.fill("#host", site.simulator.smtp_host)
    page.fill("#port", str(site.simulator.smtp_port))
    page.fill("#username", site.simulator.mailbox)
    page.fill("#password", "wrong-password")
    page.fill("#from_address", site.simulator.mailbox)
    page.click("[data-test]")
    page.wait_for_selector(".om-verdict")
    failed = page.locator(".om-is-failed")
    assert failed.count() == 1
    assert "What to do" in failed.inner_text() and "535 5.7.3" in failed.inner_text()
    assert page.input_value("#password") == "wrong-password", "what was typed stays until the page is left"
    assert "wrong-password" not in page.inner_text("body")


def test_changing_the_service_keeps_what_was_typed_and_submits_nothing(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=smtp]")
    page.fill("#host", "mail.typed.example")
    page.check("input[name=service][value=microsoft365_graph]")
    assert page.input_value("#host") == "graph.microsoft.com"
    assert not page.is_visible("#password")
    page.check("input[name=service][value=smtp]")
    assert page.input_value("#host") == "mail.typed.example"
    assert page.is_visible("#password")


def test_a_saved_service_leaves_nothing_of_its_server_to_another(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    page = open_page()
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=smtp]")
    chosen = page.locator("input[name=tls]:checked").get_attribute("value")
    assert (page.input_value("#host"), page.input_value("#port"), chosen) == ("", "587", "starttls")


def test_the_port_of_microsofts_smtp_is_that_of_the_objects_cloud_whichever_is_chosen_first(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    page = open_page()
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=microsoft365_smtp]")
    assert page.input_value("#port") == "587"
    page.select_option("#auth_object", "1")
    assert page.input_value("#port") == str(site.simulator.smtp_port)


def test_enter_in_a_field_tests_and_does_not_save(site: Site, served: str, open_page: Callable[..., Page]) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=smtp]")
    page.fill("#host", "")
    page.press("#host", "Enter")
    page.wait_for_selector("#om-errors")
    assert site.get("/history").text.count("Revision 1") == 0


@pytest.mark.parametrize("width", [320, 720])
def test_words_without_end_make_no_page_scroll_sideways(
    site: Site, served: str, open_page: Callable[..., Page], width: int
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields(description="x" * 400))
    site.save(site.smtp_fields())
    page = open_page(viewport={"width": width, "height": 800})
    for path in (*PAGES, "auth-objects/1"):
        page.goto(f"{served}/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_what_microsoft_filled_in_does_not_turn_up_in_another_service(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    page = open_page()
    page.goto(f"{served}/setup")
    page.check("input[name=service][value=smtp]")
    assert [page.input_value(f"#{name}") for name in ("host", "port")] == ["", "587"]
    assert page.is_checked("input[name=tls][value=starttls]")
    page.check("input[name=service][value=microsoft365_graph]")
    assert page.input_value("#host") == site.simulator.smtp_host


def test_hints_and_requests_follow_the_service_and_a_note_goes_with_its_cause(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.save(site.smtp_fields())
    page = open_page()
    page.goto(f"{served}/setup")
    ports, request = "text=587 with STARTTLS, 465 with TLS from the start.", "[data-for-service=microsoft365_graph]"
    assert page.is_visible(ports) and not page.is_visible(request)
    page.check("input[value=microsoft365_graph]")
    assert not page.is_visible(ports) and page.is_visible(request)
    page.check("input[value=smtp]")
    page.fill("#port", str(site.simulator.smtp_port))
    assert page.is_visible("text=Mail is held: revision 1 is in use")
    page.click("[data-test]")
    page.wait_for_selector(".om-verdict.om-good")
    assert not page.is_visible("text=Mail is held: revision 1 is in use")


def test_a_secret_can_be_looked_at_while_it_is_typed(served: str, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(f"{served}/auth-objects/new")
    page.fill("#client_secret", "abc")
    button = page.get_by_role("button", name="Show: Client secret")
    button.click()
    assert page.get_attribute("#client_secret", "type") == "text"
    assert button.get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_secret_gives_way_to_a_certificate_made_on_the_page(
    site: Site, served: str, open_page: Callable[..., Page], javascript: bool, tmp_path: Path
) -> None:
    application = site.simulator.add_app(name=f"registered for {tmp_path.name}")
    fields = site.object_fields(client_id=application.client_id, client_secret=application.secret)
    site.post("/auth-objects/new", action="save", **fields)
    page = open_page(java_script_enabled=javascript, viewport={"width": 390, "height": 800})
    page.goto(f"{served}/auth-objects/1")
    page.click("text=Replace without a gap…")
    page.check("input[value=made]")
    assert page.is_visible("#valid_days") and not page.is_visible("#client_secret"), "only what the choice needs"
    page.click("button:has-text('Switch over')")
    page.wait_for_selector("text=the one before serves")
    with page.expect_download() as download:
        page.click("text=Download public part (.cer)")
    download.value.save_as(tmp_path / "public.cer")
    page.click("button:has-text('Test credential')")
    page.wait_for_selector("text=The new secret or certificate is not taken yet")
    site.simulator.upload_certificate((tmp_path / "public.cer").read_bytes(), application.client_id)
    page.click("button:has-text('Test credential')")
    page.wait_for_selector("text=All 5 steps passed")
    assert not page.is_visible("[data-result] >> text=is not taken yet")
    page.click("text=Delete the one before")
    page.wait_for_selector("text=is deleted here")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
