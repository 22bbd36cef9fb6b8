"""The set-up form: what it keeps and drops when the answer changes, what it asks for again, what it warns of."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask

from flask_outmail import Mail, SetupNotVerified
from flask_outmail.simulator import Simulator

from ..conftest import make_message, smtp_setup, world
from .conftest import Site

MakeSite = Callable[..., Site]


def value(text: str, name: str) -> str:
    """What stands in a field of the page."""
    found = re.search(rf'<input[^>]* name="{name}"[^>]*>', text)
    assert found, name
    shown = re.search(r' value="([^"]*)"', found[0])
    return shown[1] if shown else ""


def test_what_the_former_service_had_filled_in_goes_with_it_and_what_was_typed_stays(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    by_microsoft = site.save(site.graph_fields(service="microsoft365_smtp"), action="choose").text
    assert value(by_microsoft, "port") == str(site.simulator.smtp_port)
    shown = {name: value(by_microsoft, name) for name in ("host", "port", "shown_service", "username")}
    for port, left in ((shown["port"], "587"), ("2525", "2525")):
        chosen = site.save({**shown, "auth_object": "1", "service": "smtp", "port": port}, action="choose").text
        assert (value(chosen, "host"), value(chosen, "port")) == ("", left)


def test_what_was_typed_for_an_smtp_server_outlives_making_an_object_on_the_way(site: Site) -> None:
    site.save(site.smtp_fields(host="mail.contoso.example"), action="new_auth_object")
    back = site.post("/auth-objects/new?next=setup", action="save", **site.object_fields())
    assert value(back.text, "host") == "mail.contoso.example"
    site.save(site.smtp_fields(service="nonsense"), action="new_auth_object")
    assert site.get("/setup?auth_object=1").status_code == 200


def test_a_port_that_does_not_fit_the_tls_is_warned_of(site: Site) -> None:
    assert "Port 587 usually speaks STARTTLS." in site.save(site.smtp_fields(port="587", tls="tls"), "choose").text
    assert "Port 465 usually speaks TLS from the start." in site.save(site.smtp_fields(port="465"), "choose").text


def test_a_password_that_was_tested_is_asked_for_again_where_the_host_has_changed(site: Site) -> None:
    proof = value(site.test(site.smtp_fields()).text, "proof")
    moved = site.save(site.smtp_fields(password="", proof=proof, host="evil.example"))
    assert moved.status_code == 422 and "or the test was long ago." in moved.text


def test_a_cloud_that_the_configuration_has_lost_is_told_beside_the_object(make_site: MakeSite) -> None:
    site = make_site()
    site.post("/auth-objects/new", action="save", **site.object_fields())
    later = make_site(OUTMAIL_CLOUDS={})
    answer = later.test(later.graph_fields())
    assert answer.status_code == 422 and re.search(r'<a href="#auth_object">[^<]*simulator', answer.text)


def test_a_setup_of_the_configuration_is_shown_and_tested_without_a_database(simulator: Simulator) -> None:
    app = Flask("shop")
    app.config.update(world(simulator), OUTMAIL_SETUP=smtp_setup(simulator))
    mail = Mail(app)
    mail.access_control(lambda: True)
    site = Site(app, mail, app.test_client(), simulator)
    assert "OUTMAIL_SETUP" in site.get("/setup").text
    assert re.search(r"All \d+ steps", site.post("/setup", action="test").text)
    wrong = site.post("/setup", action="test", test_message_to="nobody")
    assert wrong.status_code == 422 and "om-errors" in wrong.text


def test_saving_what_has_passed_hands_over_what_was_held_and_says_what_was_not_accepted(site: Site) -> None:
    site.save(site.smtp_fields(password="wrong"))
    for recipient in ("ann@customers.example", "gone@customers.example"):
        with site.app.app_context(), pytest.raises(SetupNotVerified):
            site.mail.send(make_message(recipients=[recipient]))
    site.test(site.smtp_fields())
    site.simulator.faults.preset("smtp-rcpt-550", recipient="gone@customers.example")
    text = site.save(site.smtp_fields()).text
    told = "1 message that had been held: accepted. 1 message that had been held: not accepted; see Deliveries."
    assert told in text


def test_a_form_that_is_older_than_the_database_can_be_saved(site: Site) -> None:
    """As after the database was made anew while the page was open."""
    assert "Saved." in site.post("/setup", action="save", revision="7", **site.smtp_fields()).text
