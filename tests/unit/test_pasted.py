"""What is copied from Entra finds its field, and what cannot be told apart is not guessed."""

from __future__ import annotations

import pytest

from flask_outmail.web.pasted import Pasted, sort

TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
OBJECT = "33333333-3333-4333-8333-333333333333"
SECRET_ID = "44444444-4444-4444-8444-444444444444"
SECRET = "a.b8Q~0123456789_abcdefghijklmnopqrstuvw"

OVERVIEW = f"""Display name
outmail client
Application (client) ID
{CLIENT}
Object ID
{OBJECT}
Directory (tenant) ID
{TENANT}
Supported account types
My organization only"""
OVERVIEW_GERMAN = f"Anwendungs-ID (Client)\n: {CLIENT}\nObjekt-ID\n: {OBJECT}\nVerzeichnis-ID (Mandant)\n: {TENANT}\n"
OVERVIEW_FRENCH = f"ID d'application (client) : {CLIENT} ID d'objet : {OBJECT} ID de l'annuaire (locataire) : {TENANT}"
AZ = f'''{{
  "appId": "{CLIENT}",
  "displayName": "tenant mailer",
  "password": "{SECRET}",
  "tenant": "{TENANT}"
}}'''
ENVIRONMENT = f"AZURE_CLIENT_ID={CLIENT}\nAZURE_TENANT_ID={TENANT}\nAZURE_CLIENT_SECRET={SECRET}\n"


@pytest.mark.parametrize("text", [OVERVIEW, OVERVIEW_GERMAN, OVERVIEW_FRENCH, OVERVIEW.replace("\n", "\t")])
def test_the_page_overview_gives_both_ids_and_not_the_object_id(text: str) -> None:
    assert sort(text) == Pasted(TENANT, CLIENT)


@pytest.mark.parametrize("text", [AZ, ENVIRONMENT, f"{OVERVIEW}\nouts\t11/25/2027\t{SECRET}\t{SECRET_ID}"])
def test_ids_and_secret_are_found_together(text: str) -> None:
    assert sort(text) == Pasted(TENANT, CLIENT, SECRET)


@pytest.mark.parametrize(
    "text", [SECRET, f"mail\t1/1/2027\t{SECRET}\t{SECRET_ID}", f"Value\t{SECRET}\nSecret ID\t{SECRET_ID}"]
)
def test_of_the_row_of_a_secret_its_value_is_taken_and_not_its_id(text: str) -> None:
    assert sort(text) == Pasted(client_secret=SECRET)


def test_a_secret_that_entra_did_not_make_is_known_by_its_name() -> None:
    assert sort('{"client_secret": "correct-horse-17"}').client_secret == "correct-horse-17"


def test_the_domain_of_a_tenant_stands_for_its_id() -> None:
    assert sort(f"client_id={CLIENT} at contoso.onmicrosoft.com") == Pasted("contoso.onmicrosoft.com", CLIENT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{CLIENT}\n{TENANT}", "without its name"),
        (f"Secret ID {SECRET_ID}", "This is a Secret ID"),
        (f"clientSecret: {SECRET_ID}", "This is a Secret ID"),
        (f"Object ID {OBJECT}", "This is an Object ID"),
        ("hello", "Neither an ID nor a secret"),
        ("", "Neither an ID nor a secret"),
    ],
)
def test_what_cannot_be_used_is_told_and_not_guessed(text: str, told: str) -> None:
    found = sort(text)
    assert told in found.problem
    assert (found.tenant, found.client_id, found.client_secret) == ("", "", "")


def test_no_text_makes_the_sorting_go_on_for_ever() -> None:
    for text in ("~" * 20_000, "a~" * 10_000, "value=" * 3_000, f"{CLIENT} " * 500, "tenant " * 3_000):
        sort(text)
