"""Corners of the pages that were wrong once."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from .conftest import Site

TOO_LARGE = "9" * 30


def test_an_id_that_no_database_could_hold_is_no_page_and_no_error(site: Site) -> None:
    for path in (f"/auth-objects/{TOO_LARGE}", f"/auth-objects/{TOO_LARGE}/delete", "/auth-objects/4711"):
        assert site.get(path).status_code == 404, path
    for path in (f"/alerts/{TOO_LARGE}/dismiss", f"/history/{TOO_LARGE}/restore", f"/history/{TOO_LARGE}/use"):
        assert site.post(path, token_from="/setup").status_code == 404, path


@pytest.mark.parametrize("proof", ["\x00", "x" * 5000, "' or 1=1 --"])
def test_a_proof_that_was_never_given_out_proves_nothing(site: Site, proof: str) -> None:
    fields = site.smtp_fields(password="", proof=proof)
    assert "There is no password" in site.save(fields, action="choose").text


def test_a_sentence_about_the_configuration_keeps_its_capitals(make_site: Callable[..., Site]) -> None:
    site = make_site(MAIL_SERVER="localhost", MAIL_DEFAULT_SENDER="shop@contoso.example")
    answer = site.save(site.smtp_fields(host="mail.example.com"))
    assert answer.status_code == 422
    assert "The MAIL_… configuration works" in answer.text


def test_a_form_that_came_back_still_says_where_it_is(site: Site) -> None:
    answer = site.save(site.smtp_fields(host=""))
    assert re.search(r'aria-current="true">Set-up<', answer.text)


def test_errors_are_listed_in_the_order_of_the_fields(site: Site) -> None:
    answer = site.save(site.smtp_fields(host="", from_address="nobody", failure_alerts_to="nobody"))
    listed = re.findall(r'<li><a href="#(\w+)">', answer.text)
    assert listed == ["host", "from_address", "failure_alerts_to"]


def test_a_test_that_reloads_the_page_is_told_at_its_top_and_says_what_it_proves(site: Site) -> None:
    passed = site.test(site.smtp_fields())
    assert passed.text.index("See the steps") < passed.text.index("What kind of mail service")
    failed = site.test(site.smtp_fields(password="wrong"))
    assert "Proven so far: encryption." in failed.text


def test_the_first_button_of_a_form_is_harmless_even_when_mail_would_stop(site: Site) -> None:
    """Enter in a field presses it."""
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    wrong = site.object_fields(client_secret="abc~0123456789.0123456789.0123456789abcd", version="1")
    for answer in (
        site.post("/auth-objects/1", action="save", **wrong),
        site.save(site.smtp_fields(host="mail.example.com")),
    ):
        assert answer.status_code == 422
        assert re.findall(r'name="action" value="(\w+)"', answer.text)[0] == "test"


def test_every_field_that_the_configuration_sets_says_so(make_site: Callable[..., Site]) -> None:
    setup = {"service": "smtp", "host": "localhost", "password": "p", "username": "u", "from_address": "a@b.example"}
    site = make_site(OUTMAIL_SETUP=setup)
    assert site.get("/setup").text.count("set by OUTMAIL_SETUP in the application&#39;s configuration") == 8


def test_history_speaks_of_services_and_tls_in_words(site: Site) -> None:
    site.save(site.smtp_fields())
    text = site.get("/history").text
    assert "SMTP server" in text and "on, by STARTTLS" in text


def test_the_test_button_does_not_reach_into_private_networks(make_site: Callable[..., Site]) -> None:
    site = make_site()
    fields = site.smtp_fields(host="127.0.0.1")
    page = site.test(fields)
    assert "This server is in a private network" in page.text and "address_not_allowed" in page.text
    # Nothing behind the name was spoken to: neither greeting nor refusal is shown.
    assert "not tried" in page.text and "220" not in page.text
    allowed = make_site(OUTMAIL_TEST_NETWORKS=["127.0.0.0/8"])
    assert "address_not_allowed" not in allowed.test(fields).text
