"""A test that did not pass is shown beside what passed last: what differs, or that nothing does."""

from __future__ import annotations

import re

import pytest

from .conftest import Site


def differing(text: str) -> list[list[str]]:
    """The rows of the comparison: field, verified, tested now."""
    table = text[text.index("What differs from what was verified last") :].partition("</table>")[0]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)[1:]]


@pytest.fixture
def verified(site: Site) -> Site:
    site.save_tested(site.smtp_fields(from_name="Contoso"))
    return site


def test_the_settings_that_differ_from_what_passed_last_are_listed(verified: Site) -> None:
    port = str(verified.simulator.smtp_port)
    failed = verified.test(verified.smtp_fields(port="1", tls="tls", from_name="Shop", password="another-one"))
    assert "Revision 1 was verified" in failed.text
    assert differing(failed.text) == [
        ["Port", port, "1"],
        ["TLS", "on, by STARTTLS", "on, from the start"],
        ["Password", "set", "changed"],
    ], "and not the name of the sender, on which no test depends"
    assert "another-one" not in failed.text and verified.simulator.smtp_password not in failed.text


def test_exactly_what_passed_last_points_to_a_change_elsewhere(verified: Site) -> None:
    verified.simulator.faults.preset("smtp-auth-535")
    failed = verified.test(verified.smtp_fields(password=""))
    assert "Exactly these values were verified" in failed.text and "something has changed elsewhere" in failed.text


def test_a_credential_that_was_replaced_is_told_although_no_setting_differs(site: Site) -> None:
    application = site.simulator.add_app(name="replaced")
    fields = site.object_fields(client_id=application.client_id, client_secret=application.secret)
    site.post("/auth-objects/new", action="save", **fields)
    site.save_tested(site.graph_fields())
    wrong = {**fields, "client_secret": "wrong-secret-0123456789", "version": "1"}
    site.post("/auth-objects/1", action="save_anyway", **wrong)
    failed = site.test(site.graph_fields())
    assert "Its secret or certificate was another one." in failed.text


def test_the_newest_verified_revision_counts_though_a_draft_came_after_it(verified: Site) -> None:
    verified.save(verified.smtp_fields(port="2"), action="save_draft")
    assert differing(verified.test(verified.smtp_fields(port="1")).text) == [
        ["Port", str(verified.simulator.smtp_port), "1"]
    ]


def test_nothing_is_compared_after_a_pass_or_before_anything_was_verified(site: Site) -> None:
    assert "was verified" not in site.test(site.smtp_fields(password="wrong")).text
    passed = site.save_tested(site.smtp_fields())
    assert "was verified" not in passed.text
    assert "was verified" not in site.test(site.smtp_fields(from_address="news@contoso.example")).text
