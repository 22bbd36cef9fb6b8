"""The test panel: what it shows of a run, to whom, and what it never shows."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable

from .conftest import Site

OTHER = "anna@contoso.example"


def support_of(text: str) -> str:
    found = re.search(r"<summary>Copy for support.*?<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    assert found
    return html.unescape(found[1])


def test_a_run_has_a_transcript_and_a_text_for_support_and_neither_shows_a_secret(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    graph = site.test(site.graph_fields(test_message_to="me@customers.example", foreign_mailbox=OTHER)).text
    smtp = site.test(site.smtp_fields()).text
    wrong = site.test(site.smtp_fields(password="wrong-password-1")).text
    assert "POST https://" in graph and "250" in smtp
    assert "Result: passed" in support_of(graph) and "Result: did not pass" in support_of(wrong)
    assert "code 535 5.7.3" in support_of(wrong)
    for secret in (site.simulator.client_secret, site.simulator.smtp_password, "wrong-password-1"):
        for form in (secret, base64.b64encode(secret.encode()).decode(), html.escape(secret)):
            for page in (graph, smtp, wrong):
                assert form not in page
    for page in (graph, smtp, wrong):
        assert site.simulator.mailbox not in support_of(page), "addresses are shortened for a stranger"


def test_a_fault_in_a_field_of_the_test_alone_is_told_beside_it(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    for address, words in (("nobody", "This is not an email address"), (site.simulator.mailbox, "of the setup itself")):
        answer = site.test(site.graph_fields(foreign_mailbox=address))
        assert answer.status_code == 422 and words in answer.text
        assert 'class="om-foreign" data-for-objects open' in answer.text
    elsewhere = site.test(site.smtp_fields(foreign_mailbox="nobody"))
    assert "steps passed" in elsewhere.text, "it is hidden for a service that has no such thing"


def test_the_request_for_it_asks_for_the_kind_of_credential_that_is_chosen(site: Site) -> None:
    site.post("/auth-objects/new", action="save", provider="microsoft_managed_identity", name="Machine",
              cloud="simulator", client_id="")  # fmt: skip
    assert "Managed Identities" not in site.get("/setup").text
    assert "Managed Identities" in site.get("/setup?auth_object=1").text


def hints(text: str) -> list[str]:
    """The hints of the set-up page that are shown for the chosen service."""
    shown = re.sub(r"<span data-for-\w+ hidden>.*?</span>", "", text)
    return [
        re.sub(r"<[^>]+>", "", one).strip() for one in re.findall(r'<p class="om-hint" id="[^"]+">(.*?)</p>', shown)
    ]


def test_each_service_has_hints_of_its_own(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    graph, smtp = site.test(site.graph_fields()).text, site.test(site.smtp_fields()).text
    ports = "587 with STARTTLS, 465 with TLS from the start."
    assert ports not in hints(graph) and ports in hints(smtp)
    assert "Filled in by this mail service." in hints(graph) and "Filled in by this mail service." not in hints(smtp)


def test_the_page_says_what_is_in_use_and_what_is_only_a_draft(site: Site) -> None:
    site.save(site.smtp_fields())
    held = "Mail is held: revision 1 is in use, and no test has passed for it."
    assert held in site.get("/setup").text
    assert held in site.test(site.smtp_fields(port="1")).text
    assert held not in site.test(site.smtp_fields()).text, "the test was what it waited for"
    page = site.get("/setup").text
    assert held not in page and "draft" not in page.partition("</h1>")[0]
    page = site.save(site.smtp_fields(from_name="Shop"), action="save_draft").text
    assert "Below is revision 2, a draft. Revision 1 is in use." in page


def test_a_failed_test_of_other_values_says_nothing_about_what_is_in_force(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    site.test(site.smtp_fields(password="another"))
    overview = site.get("/").text
    assert "did not pass" not in overview
    assert "passed" in overview


def test_the_stream_brings_the_text_for_support_too(site: Site) -> None:
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', site.get("/setup").text)
    assert token
    answer = site.client.post("/outmail/setup/test", data={"csrf_token": token[1], **site.smtp_fields()})
    last = json.loads(answer.text.splitlines()[-1])
    assert "Result: passed" in support_of(last["html"])
    assert "It does not prove" in last["html"]


def test_one_browser_is_one_person_where_the_application_names_nobody(make_site: Callable[..., Site]) -> None:
    site = make_site(OUTMAIL_TESTS_PER_PERSON=1)
    site.mail.actor(lambda: "")
    assert "steps passed" in site.test(site.smtp_fields()).text
    assert "You have run 1 test in the last minute" in site.test(site.smtp_fields()).text
    with site.client.session_transaction() as session:
        session.pop("_outmail_person")  # as in another browser
    assert "steps passed" in site.test(site.smtp_fields()).text
