"""The past of an authentication object: its checks, in the list and on its page, and who changed what."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from flask_outmail.checking import check_due
from flask_outmail.models import utc_now
from flask_outmail.vault import Vault, generate_key

from ..unit.test_pasted import OVERVIEW
from .conftest import Site, engine_of

if TYPE_CHECKING:
    from playwright.sync_api import Page


def cells(page: str, label: str) -> list[str]:
    """What a column of the tables of a page says."""
    found = re.findall(rf'<td data-label="{label}"[^>]*>(.*?)</td>', page, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in found]


def stored(site: Site) -> str:
    page: str = site.get("/auth-objects/1").text
    return page


@pytest.fixture
def kept(site: Site) -> Site:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    return site


def try_it(site: Site, **changes: str) -> None:
    site.post("/auth-objects/1", action="test", **site.object_fields(client_secret="", version="1", **changes))


def test_an_object_that_nobody_has_tried_says_so(kept: Site) -> None:
    assert cells(kept.get("/auth-objects/").text, "Last check") == ["none yet"]
    assert "None yet. Each test of it" in stored(kept)


def test_the_list_begins_with_what_expires_first_and_names_who_uses_it(kept: Site) -> None:
    for name, ends_on in (("Later", "2028-01-31"), ("Soonest", "2026-12-01"), ("Undated", "")):
        kept.post("/auth-objects/new", action="save", **kept.object_fields(name=name, expires_on=ends_on))
    kept.save_tested(kept.graph_fields())
    kept.save(kept.graph_fields(from_name="Shop"), action="save_draft")
    kept.save(kept.graph_fields(), query="?connection=backup")
    page = kept.get("/auth-objects/").text
    names = [one.split(" Microsoft")[0] for one in cells(page, "Name")]
    assert names == ["Soonest", "Contoso mailer", "Later", "Undated"]
    assert cells(page, "Expires")[3] == "no date given"
    assert cells(page, "Used by") == ["nothing", "primary , backup", "nothing", "nothing"]
    assert [one.split()[0] for one in cells(page, "Last check")] == ["none", "passed", "none", "none"]


def test_a_test_of_what_is_stored_is_a_check_and_one_of_other_values_is_none(kept: Site) -> None:
    try_it(kept, tenant="contoso.onmicrosoft.com")
    kept.post("/auth-objects/1", action="test", **kept.object_fields(version="1"))
    assert cells(stored(kept), "Result") == ["passed"], "the same secret typed again is the stored one"
    kept.simulator.faults.preset("token-7000222")
    try_it(kept)
    assert cells(stored(kept), "Result") == ["did not pass The client secret has expired", "passed"]
    assert cells(stored(kept), "Who")[:2] == ["anna", "anna"]
    [last] = cells(kept.get("/auth-objects/").text, "Last check")
    assert last.startswith("did not pass") and last.endswith("The client secret has expired")


def test_a_streamed_test_counts_as_well(kept: Site) -> None:
    fields = kept.object_fields(client_secret="", version="1")
    assert '"passed": true' in kept.post("/auth-objects/1/test", token_from="/auth-objects/1", **fields).text
    assert cells(stored(kept), "What was checked") == ["the credential alone"]


def test_tests_and_scheduled_checks_of_the_setup_in_force_count_for_its_credential(kept: Site) -> None:
    kept.test(kept.graph_fields(username="nobody@contoso.example"))
    assert "None yet" in stored(kept), "values that were only tried are not in force"
    kept.save_tested(kept.graph_fields())
    assert [one.passed for one in check_due(engine_of(kept.app), utc_now() + timedelta(days=2))] == [True]
    page = stored(kept)
    assert cells(page, "What was checked") == ["connection “primary”"] * 2
    assert cells(page, "Who")[:2] == ["by itself", "anna"]
    # What the mailbox says is no fault of the credential.
    kept.simulator.faults.preset("graph-403-access", times=2)
    kept.test(kept.graph_fields())
    assert cells(stored(kept), "Result") == ["passed"] * 3
    assert cells(kept.get("/auth-objects/").text, "Last check")[0].startswith("passed")


def test_a_test_that_ended_before_the_credential_was_asked_for_says_nothing_of_it(kept: Site) -> None:
    kept.save_tested(kept.graph_fields())
    own = ["outmail", "test", "--foreign-mailbox", kept.simulator.mailbox]
    assert kept.app.test_cli_runner().invoke(args=own).exit_code == 1
    assert cells(stored(kept), "Result") == ["passed"]


def test_the_history_names_who_and_which_fields_and_no_value(kept: Site) -> None:
    kept.mail.actor(lambda: "boris")
    changed = kept.object_fields(client_secret="", name="Renamed", cloud="simulator", version="1")
    kept.post("/auth-objects/1", action="save", **changed, description="for orders")
    new = kept.simulator.add_secret()
    kept.post("/auth-objects/1/secret", action="switch", version="2", secret_kind="secret", client_secret=new)
    page = stored(kept)
    assert cells(page, "What") == [
        "Replaced a secret",
        "Changed an authentication object",
        "Made an authentication object",
    ]
    assert cells(page, "Fields") == ["Client secret", "Name, Description", "–"]
    assert cells(page, "Who")[-3:] == ["boris", "boris", "anna"]


def test_an_object_has_no_history_of_one_that_had_its_number_before(kept: Site) -> None:
    try_it(kept)
    kept.post("/auth-objects/1/delete")
    kept.post("/auth-objects/new", action="save", **kept.object_fields(name="Another"))
    page = stored(kept)
    assert cells(page, "What") == ["Made an authentication object"] and "None yet. Each test" in page
    assert cells(kept.get("/auth-objects/").text, "Last check") == ["none yet"]


def test_with_a_lost_key_list_and_page_still_open(kept: Site) -> None:
    kept.save_tested(kept.graph_fields())
    engine_of(kept.app)._vault = Vault([generate_key()])
    assert kept.get("/auth-objects/").status_code == 200 and kept.get("/auth-objects/1").status_code == 200


# -- pasting ---------------------------------------------------------------------------------------------------------


def pasted(site: Site) -> str:
    sim = site.simulator
    ids = OVERVIEW.replace("22222222-2222-4222-8222-222222222222", sim.client_id)
    return ids.replace("11111111-1111-4111-8111-111111111111", sim.tenant) + f"\nmail\t1/1/2028\t{sim.client_secret}\n"


def test_what_was_pasted_is_tested_and_stored_and_its_secret_not_shown(site: Site) -> None:
    empty = site.object_fields(tenant="", client_id="", client_secret="", pasted=pasted(site))
    tried = site.post("/auth-objects/new", action="test", **empty)
    assert "steps passed" in tried.text
    assert f'value="{site.simulator.client_id}"' in tried.text and site.simulator.client_secret not in tried.text
    streamed = site.post("/auth-objects/new/test", token_from="/auth-objects/new", **empty)
    assert '"passed": true' in streamed.text
    assert "is stored" in site.post("/auth-objects/new", action="save", **empty).text
    assert "steps passed" in site.test(site.graph_fields()).text


def test_what_was_typed_goes_before_what_was_pasted(site: Site) -> None:
    typed = site.object_fields(client_id="", client_secret="typed~secret-0123456789.abcdefghij", pasted=pasted(site))
    assert "Microsoft does not know this secret" in site.post("/auth-objects/new", action="test", **typed).text


def test_what_cannot_be_sorted_is_told_beside_the_box(site: Site) -> None:
    odd = site.object_fields(tenant="", client_id="", pasted="22222222-2222-4222-8222-222222222222")
    page = site.post("/auth-objects/new", action="save", **odd)
    assert page.status_code == 422 and "There is an ID without its name" in page.text
    assert 'aria-invalid="true"' in page.text[page.text.index('id="pasted"') :][:200]


@pytest.mark.browser
@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_an_object_is_pasted_tested_replaced_undone_and_deleted_in_the_browser(
    site: Site, served: str, open_page: Callable[..., Page], javascript: bool
) -> None:
    page = open_page(java_script_enabled=javascript)
    page.goto(f"{served}/auth-objects/new")
    page.fill("#name", "Contoso mailer")
    page.click("text=Paste anything from Entra")
    page.fill("#pasted", pasted(site))
    page.select_option("#cloud", "simulator")
    page.click("button:has-text('Test credential')")
    page.wait_for_selector("text=All 5 steps passed")
    if not javascript:  # the page came back, without the secret
        page.click("text=Paste anything from Entra")
        page.fill("#pasted", pasted(site))
    page.click("button:has-text('Save')")
    page.wait_for_selector("text=is stored")
    page.click("a:has-text('Contoso mailer')")
    page.click("text=Replace without a gap")
    page.check("input[name=secret_kind][value=secret]")
    page.fill("#client_secret", "wrong~value.of-a-secret-0123456789abcd")
    page.click("button:has-text('Switch over')")
    page.wait_for_selector("text=Microsoft does not take the new one")
    page.check("input[name=secret_kind][value=secret]")
    page.fill("#client_secret", site.simulator.add_secret())
    page.click(".om-save button:has-text('Switch over')")
    page.wait_for_selector("text=The new one is in use")
    page.click("text=Go back to the one before")
    page.wait_for_selector("text=is in use again")
    page.click("button:has-text('Test credential')")
    page.wait_for_selector("text=All 5 steps passed")
    page.reload()
    assert "Went back to the secret before" in page.inner_text("#om-changes ~ table")
    assert "passed" in page.inner_text("#om-checks ~ table")
    page.click("text=Delete…")
    page.click("button:has-text('Delete')")
    page.wait_for_selector("text=is deleted")
