"""From the keys of Flask-Mail into the database, and from a password at Microsoft 365 to Graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_outmail import setups
from flask_outmail.simulator import Simulator

from ..conftest import engine_of, make_message
from .conftest import Site


@pytest.fixture
def flask_mail(simulator: Simulator) -> dict[str, Any]:
    """An application as it was with Flask-Mail: a password at the simulated Microsoft 365."""
    return {
        "MAIL_SERVER": simulator.smtp_host,
        "MAIL_PORT": simulator.smtp_port,
        "MAIL_USE_TLS": True,
        "MAIL_USERNAME": simulator.mailbox,
        "MAIL_PASSWORD": simulator.smtp_password,
        "MAIL_DEFAULT_SENDER": f"Contoso <{simulator.mailbox}>",
    }


MakeSite = Callable[..., Site]


def active(site: Site) -> Any:
    with engine_of(site.app).database.session() as session:
        return setups.active(session)


def test_the_keys_are_imported_by_one_click_and_mail_goes_on(make_site: MakeSite, flask_mail: dict[str, Any]) -> None:
    site = make_site(**flask_mail)
    assert "Import the" in site.get("/setup").text
    assert "Imported" in site.save({}, action="import").text
    row = active(site)
    assert (row.host, row.username, row.from_name, row.created_by) == (
        flask_mail["MAIL_SERVER"], flask_mail["MAIL_USERNAME"], "Contoso", "anna",
    )  # fmt: skip
    receipt = site.mail.send(make_message())
    assert receipt.accepted and engine_of(site.app).current().source == "database"  # type: ignore[union-attr]
    # Once is enough: there is nothing left to import.
    assert "Import the" not in site.get("/setup").text
    site.save({}, action="import")
    assert active(site).id == row.id


def test_the_password_is_imported_without_being_shown(make_site: MakeSite, flask_mail: dict[str, Any]) -> None:
    site = make_site(**flask_mail)
    pages = site.get("/setup").text + site.save({}, action="import").text + site.get("/history").text
    assert flask_mail["MAIL_PASSWORD"] not in pages


def test_a_password_at_microsoft_365_is_moved_to_graph_with_what_can_be_kept(
    make_site: MakeSite, flask_mail: dict[str, Any], simulator: Simulator
) -> None:
    site = make_site(**flask_mail)
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save({}, action="import")
    assert "Move to Microsoft Graph" in site.get("/setup").text
    moved = site.save({}, action="move").text
    assert "nothing is saved yet" in moved and 'value="microsoft365_graph" data-needs-object="yes" checked' in moved
    assert moved.count(f'value="{simulator.mailbox}"') == 2  # mailbox and From
    before = active(site)
    assert before.service == "smtp"
    fields = site.graph_fields()
    site.save_tested(fields)
    assert active(site).service == "microsoft365_graph"
    assert site.mail.send(make_message()).transport == "microsoft365_graph"
    # And back, at once: it was verified.
    site.post(f"/history/{before.id}/use", token_from="/history")
    assert site.mail.send(make_message()).transport == "smtp"


def test_an_object_made_on_the_way_leaves_the_form_filled_in_for_the_new_service(
    make_site: MakeSite, flask_mail: dict[str, Any]
) -> None:
    site = make_site(**flask_mail)
    site.save({}, action="import")
    site.save(site.graph_fields(), action="new_auth_object")
    # It leads back to the set-up.
    text = site.post("/auth-objects/new?next=setup", action="save", **site.object_fields()).text
    assert "nothing of it is saved yet" in text and "Move to Microsoft Graph" not in text
    assert 'value="microsoft365_graph" data-needs-object="yes" checked' in text


def test_another_server_is_left_alone(make_site: MakeSite, flask_mail: dict[str, Any]) -> None:
    site = make_site(**{**flask_mail, "MAIL_SERVER": "smtp.example.net"})
    assert "Move to Microsoft Graph" not in site.get("/setup").text
    assert "nothing is saved yet" not in site.save({}, action="move").text


def test_what_configuration_locks_is_neither_imported_nor_moved(make_site: MakeSite, simulator: Simulator) -> None:
    from ..conftest import smtp_setup

    site = make_site(OUTMAIL_SETUP=smtp_setup(simulator))
    page = site.get("/setup").text
    assert "Import the" not in page and "Move to Microsoft Graph" not in page
    site.save({}, action="import")
    assert active(site) is None
