"""The history: any two revisions compared, and the way back to one, without a secret on any page."""

from __future__ import annotations

import re

import pytest

from .conftest import Site, titles


@pytest.fixture
def revised(site: Site) -> Site:
    """Three revisions: another name from the first to the second, another password in the third."""
    site.save_tested(site.smtp_fields(from_name="Contoso"))
    site.save_tested(site.smtp_fields(from_name="Contoso Shop"))
    site.save(site.smtp_fields(from_name="Contoso Shop", password="another-secret-of-mine"), action="save_draft")
    return site


def rows(text: str) -> list[list[str]]:
    table = text[text.index("om-changes") :].partition("</table>")[0]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)[1:]]


def test_any_two_revisions_are_compared_in_the_order_of_time(revised: Site) -> None:
    for query in ("?from=1&to=3", "?from=3&to=1"):
        page = revised.get(f"/history/compare{query}")
        assert titles(page) == ["Revisions 1 and 3"]
        assert rows(page.text) == [["Password", "set", "changed"], ["From name", "Contoso", "Contoso Shop"]]
        assert page.text.count("by anna") == 2


def test_a_password_that_was_changed_is_told_and_neither_is_shown(revised: Site) -> None:
    for path in ("/history", "/history/compare?from=2&to=3"):
        text = revised.get(path).text
        assert "changed</td>" in text
        assert "another-secret-of-mine" not in text
        assert revised.simulator.smtp_password not in text


def test_a_revision_compared_with_itself_says_the_same(revised: Site) -> None:
    assert "They say the same." in revised.get("/history/compare?from=2&to=2").text


@pytest.mark.parametrize("query", ["?from=1&to=9", "?from=x&to=1", "", "?from=1&to=2&connection=backup"])
def test_a_revision_that_is_not_there_is_no_page(revised: Site, query: str) -> None:
    assert revised.get(f"/history/compare{query}").status_code == 404


def test_one_of_the_two_can_be_restored_from_the_comparison(revised: Site) -> None:
    page = revised.get("/history/compare?from=1&to=3")
    assert "Restore revision 1 as a new one" in page.text
    assert "Restore revision 3" not in page.text, "it is the newest"
    token = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)[0]
    answer = revised.client.post(
        "/outmail/history/1/restore", data={"csrf_token": token, "revision": "3"}, follow_redirects=True
    )
    assert "Revision 1 is restored as revision 4." in answer.text


def test_the_history_offers_the_comparison_of_the_newest_two(revised: Site) -> None:
    text = revised.get("/history").text
    form = text[text.index("/history/compare") :].partition("</form>")[0]
    assert re.findall(r"<option selected>(\d)</option>", form) == ["2", "3"]
