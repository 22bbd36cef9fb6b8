"""The whole road in a real Chromium: nothing set up, failure after failure with its remedy, and mail that arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ..conftest import make_message
from .conftest import Site, create_object

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
BOTH_WAYS = pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
OTHER = "anna@contoso.example"


def run_test(page: Page) -> None:
    """Presses the button and waits for the verdict of this run, not of the one before."""
    page.evaluate("document.querySelectorAll('.om-verdict').forEach((one) => one.remove())")
    page.click("[data-test]")
    page.wait_for_selector(".om-verdict")


def failing(page: Page) -> str:
    """The one step that did not pass, with its remedy; what comes after it was not tried."""
    failed = page.locator(".om-is-failed")
    assert failed.count() == 1
    assert page.locator(".om-is-failed ~ .om-is-passed").count() == 0
    told = failed.inner_text()
    assert "What to do" in told and "Who can do it" in told and "Code" in told
    return told


@BOTH_WAYS
def test_from_nothing_by_each_failing_step_to_mail_that_arrives(
    site: Site, served: str, open_page: Callable[..., Page], javascript: bool
) -> None:
    application = site.simulator.add_app(name=f"first visit {javascript}", scoped_to=[site.simulator.mailbox])
    page = open_page(java_script_enabled=javascript)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{served}/setup")
    create_object(page, site, client_id=application.client_id, client_secret="wrong~value.of-a-secret-0123456789abcd")
    # A mistake that is seen before anything is asked of a server.
    page.fill("#username", "not an address")
    page.click("[data-test]")
    page.wait_for_selector("#username-error, #username-live-error")
    page.fill("#username", site.simulator.mailbox)

    # Entra: the wrong secret, mended in the authentication object.
    run_test(page)
    assert "Microsoft does not know this secret" in failing(page)
    site.post("/auth-objects/1", action="save_anyway", **site.object_fields(
        client_id=application.client_id, client_secret=application.secret, version="1"))  # fmt: skip

    # Graph: a mailbox outside the scope, and a From address that is not allowed.
    page.fill("#username", OTHER)
    page.fill("#from_address", OTHER)
    run_test(page)
    assert "Microsoft refused this mailbox" in failing(page)
    page.fill("#username", site.simulator.mailbox)
    page.fill("#from_address", "stranger@contoso.example")
    run_test(page)
    assert "may not send with this From address" in failing(page)
    page.fill("#from_address", site.simulator.mailbox)

    # Success, with the proof that another mailbox is closed, and a message.
    page.fill("#test_message_to", "me@customers.example")
    page.evaluate("document.querySelector('.om-foreign').open = true")
    page.fill("#foreign_mailbox", OTHER)
    run_test(page)
    verdict = page.inner_text(".om-verdict")
    assert "steps passed" in verdict and "that the other mailbox is closed" in verdict
    assert "It does not prove: arrival in the inbox" in verdict.replace("\n", " ")
    assert [one.recipient for one in site.simulator.delivered] == ["me@customers.example"]
    page.click("text=Copy for support")
    support = page.inner_text(".om-request pre >> nth=0")
    assert "Result: passed" in support and "request-id" in support
    assert application.secret not in page.content() and site.simulator.mailbox not in support

    page.click("text=Save and start sending")
    page.wait_for_selector("text=Mail is sent with these settings")
    with site.app.app_context():
        assert site.mail.send(subject="Order 17", recipients=["ann@customers.example"], body="Thank you.").accepted
    assert [one.subject for one in site.simulator.delivered][-1] == "Order 17"
    assert complaints == []


@BOTH_WAYS
def test_smtp_from_each_failing_step_to_a_held_message_that_leaves(
    make_site: Callable[..., Site], serve: Callable[[Site], str], open_page: Callable[..., Page], javascript: bool
) -> None:
    site = make_site(OUTMAIL_TEST_NETWORKS=["127.0.0.1/32", "::1/128"])
    page = open_page(java_script_enabled=javascript)
    sim = site.simulator
    page.goto(f"{serve(site)}/setup")
    page.check("input[name=service][value=smtp]")
    for name, value in {"username": sim.mailbox, "password": "wrong", "from_address": sim.mailbox}.items():
        page.fill(f"#{name}", value)
    page.fill("#host", "no-such-server.invalid")
    run_test(page)
    assert "There is no server with this name" in failing(page)
    page.fill("#host", "127.0.0.2")
    page.fill("#password", "wrong")
    run_test(page)
    assert "This server is in a private network" in failing(page)
    page.fill("#host", sim.smtp_host)
    page.fill("#port", "1")
    page.fill("#password", "wrong")
    run_test(page)
    assert "Nothing listens at this host and port" in failing(page)
    page.fill("#port", str(sim.smtp_port))
    page.fill("#password", "wrong")
    run_test(page)
    assert "does not accept this user name and password" in failing(page)
    page.fill("#password", sim.smtp_password)
    page.click("text=Save and start sending")
    page.wait_for_selector("text=mail is held until a test passes")
    with site.app.app_context():
        site.mail.send_many([make_message(subject="held")])
    assert sim.delivered == []
    run_test(page)
    assert "1 message that had been held: accepted" in page.inner_text(".om-verdict")
    assert [one.subject for one in sim.delivered] == ["held"]


def test_an_edit_that_matters_sets_the_result_aside_and_undoing_it_brings_it_back(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    page = open_page()
    page.goto(f"{served}/setup?auth_object=1")
    page.fill("#username", site.simulator.mailbox)
    run_test(page)
    note = page.locator("[data-stale]")
    page.fill("#from_name", "Contoso orders")
    page.fill("#failure_alerts_to", "ops@elsewhere.example")
    assert not note.is_visible(), "who is told, and under which name, proves nothing"
    page.fill("#from_address", "news@contoso.example")
    assert "for other values" in note.inner_text()
    page.fill("#from_address", "")
    assert not note.is_visible()
    page.check("input[name=service][value=smtp]")
    assert note.is_visible()
    page.check("input[name=service][value=microsoft365_graph]")
    assert not note.is_visible()


def test_a_test_can_be_cancelled_and_proves_nothing_then(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.simulator.faults.hang("token", 30)
    page = open_page()
    page.goto(f"{served}/setup?auth_object=1")
    page.fill("#username", site.simulator.mailbox)
    page.click("[data-test]")
    page.wait_for_selector(".om-is-passed")
    page.click("[data-cancel]")
    page.wait_for_selector("text=Cancelled")
    assert page.locator("text=not tried").count() >= 1
    assert page.input_value("input[name=proof]") == ""
    assert page.evaluate("document.activeElement.hasAttribute('data-test')")


def test_of_two_administrators_the_second_is_told_who_was_first_and_loses_nothing(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    anna, boris = open_page(), open_page()
    for page in (anna, boris):
        page.goto(f"{served}/setup?auth_object=1")
        page.fill("#username", site.simulator.mailbox)
        run_test(page)
    boris.fill("#from_name", "From Boris")
    site.mail.actor(lambda: "Boris")
    boris.click("text=Save and start sending")
    boris.wait_for_selector("text=Mail is sent with these settings")
    site.mail.actor(lambda: "anna")
    anna.fill("#from_name", "From Anna")
    anna.click("text=Save and start sending")
    anna.wait_for_selector("text=Boris saved a change")
    assert anna.input_value("#from_name") == "From Anna"
    assert "Nothing of yours was saved" in anna.inner_text("body")
    assert anna.locator(".om-changes tbody tr").all_inner_texts() == ["From name\t–\tFrom Boris\tFrom Anna"]
    anna.click("text=Save mine in its place")
    anna.wait_for_selector("text=Mail is sent with these settings")
    assert "Revision 2" in site.get("/history").text


def test_one_who_tests_too_often_is_told_when_to_go_on(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(OUTMAIL_TESTS_PER_PERSON=1)
    site.test(site.smtp_fields())
    told = site.test(site.smtp_fields()).text
    assert "You have run 1 test in" in told and "There were many tests in a short time" in told
    site.mail.actor(lambda: "boris")
    assert "steps passed" in site.test(site.smtp_fields()).text
