"""The history: any two revisions compared, and the way back to one, without a secret on any page."""

from __future__ import annotations

import re

import pytest

from flask_outmail import SetupNotVerified, setups
from flask_outmail.setup_values import SetupValues

from ..conftest import engine_of, make_message
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


def test_what_is_not_proven_replaces_what_works_only_when_that_is_said_and_the_way_back_lets_mail_go(
    revised: Site,
) -> None:
    restored = revised.post("/history/3/restore", token_from="/history", revision="3")
    assert "is restored as revision 4. It is not proven, so revision 2 stays in use." in restored.text
    asked = revised.post("/history/4/use", token_from="/history")
    assert asked.status_code == 422
    assert (
        "mail is held until a test passes"
        in revised.post("/history/4/use", token_from="/history", action="use_anyway").text
    )
    with revised.app.app_context(), pytest.raises(SetupNotVerified):
        revised.mail.send(make_message())
    back = revised.post("/history/2/use", token_from="/history")
    assert "Revision 2 is in use. Mail is sent with these settings." in back.text
    assert "1 message that had been held: accepted." in back.text
    for way in ("use", "restore"):
        assert revised.post(f"/history/4711/{way}", token_from="/history").status_code == 404


def test_old_revisions_stand_on_further_pages_and_each_is_compared_with_the_one_before(site: Site) -> None:
    engine = engine_of(site.app)
    with engine.database.session() as session:
        for number in range(45):
            values = SetupValues("smtp", "mail.contoso.example", 1000 + number, from_address="a@contoso.example")
            setups.save(session, values, engine.vault, by="anna", seen_revision=number)
        session.commit()
    path, seen, ports = "/history", [], []
    while path:
        text = site.get(path).text
        assert text.count("<option") == 90, "any two can be compared from each page"
        seen.append(len(re.findall(r'id="om-rev-\d+"', text)))
        ports += re.findall(r"<td[^>]*>Port</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", text)
        found = re.search(r'href="/outmail(/history[^"]*revision=\d+)"', text)
        path = found[1] if found else ""
    assert seen == [20, 20, 5]
    assert ports == [(f"{port - 1}", f"{port}") for port in range(1044, 1000, -1)]


def test_the_first_revision_shows_what_it_set_and_nothing_before_it(revised: Site) -> None:
    text = revised.get("/history").text
    first = text[text.index('id="om-rev-1"') :].partition("</article>")[0]
    assert "<table" not in first
    set_then = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", first))
    assert set_then["From name"] == "Contoso" and set_then["Password"] == "set"
    assert "–" not in set_then.values(), "what was not set is not listed"


def test_what_became_of_a_password_is_told_in_the_language_of_the_page(revised: Site) -> None:
    german = revised.client.get("/outmail/history", headers={"Accept-Language": "de"}).get_data(as_text=True)
    assert rows(german) == [["Kennwort", "gesetzt", "geändert"]]
