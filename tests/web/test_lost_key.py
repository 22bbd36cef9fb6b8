"""Once no key opens what is stored: no page breaks, each says where to enter the secret again, and that mends it."""

from __future__ import annotations

import pytest

from flask_outmail.vault import Vault, generate_key

from ..conftest import engine_of, make_message
from .conftest import Site
from .test_credentials import credential_of, make_certificate


def lose_the_key(site: Site) -> None:
    engine = engine_of(site.app)
    engine._vault = Vault([generate_key()])
    engine.connections.look_again()


@pytest.fixture
def locked_out(site: Site) -> Site:
    """A setup that carried mail by Graph, until the key was lost."""
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    assert site.mail.send(make_message()).accepted
    lose_the_key(site)
    return site


def test_the_object_asks_for_its_secret_and_mail_flows_once_it_is_entered(locked_out: Site) -> None:
    without = locked_out.post(
        "/auth-objects/1", action="save", **locked_out.object_fields(client_secret="", version="1")
    )
    assert without.status_code == 422 and "stored secret cannot be read" in without.text
    again = locked_out.post("/auth-objects/1", action="save", **locked_out.object_fields(version="1"))
    assert "was tested with the new values and works" in again.text
    assert locked_out.mail.send(make_message()).accepted
    assert credential_of(locked_out).earlier is None, "what no key opens is not kept beside it"


def test_nothing_is_tested_and_each_form_says_where_to_enter_it(locked_out: Site) -> None:
    setup = locked_out.test(locked_out.graph_fields())
    assert setup.status_code == 422 and "Enter it there again" in setup.text
    fields = {"secret_kind": "secret", "client_secret": "new-one"}
    streamed = locked_out.post("/auth-objects/1/secret/test", token_from="/auth-objects/1/secret", **fields)
    assert streamed.status_code == 422 and "on the page of the authentication object" in streamed.text


def test_a_certificate_cannot_be_downloaded_and_its_page_still_opens(site: Site) -> None:
    make_certificate(site)
    lose_the_key(site)
    assert site.get("/auth-objects/1/certificate.cer").status_code == 404
    assert site.get("/auth-objects/1").status_code == 200


def test_a_revision_is_not_restored_without_its_password(site: Site) -> None:
    site.save_tested(site.smtp_fields())
    lose_the_key(site)
    site.save_tested(site.smtp_fields(from_name="After"))
    answer = site.post("/history/1/restore", token_from="/history", revision="2")
    assert "cannot be restored: its secret cannot be read" in answer.text
    assert "Revision 3" not in site.get("/history").text
