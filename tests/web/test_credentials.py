"""The pages of authentication objects: every kind of credential, a certificate made here, replacing without a gap."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from sqlalchemy import delete

from flask_outmail import auth_objects, certificates, entra
from flask_outmail.models import AuthObject, SavedToken, utc_now
from flask_outmail.setup_values import FEDERATED, MANAGED_IDENTITY, Credential
from flask_outmail.vault import Vault, generate_key

from ..conftest import make_message
from .conftest import Site, engine_of


def the_row(site: Site, number: int = 1) -> AuthObject:
    with engine_of(site.app).database.session() as session:
        return session.get_one(AuthObject, number)


def credential_of(site: Site, number: int = 1) -> Credential:
    return auth_objects.credential_of(the_row(site, number), engine_of(site.app).vault)


def version(site: Site) -> str:
    return str(the_row(site).version)


@pytest.fixture
def application(site: Site) -> Any:
    """A registration of its own: what is uploaded for it does not last."""
    return site.simulator.add_app(name=f"app of {id(site)}")


@pytest.fixture
def in_use(site: Site, application: Any) -> Site:
    """A setup that works with a secret."""
    fields = site.object_fields(client_id=application.client_id, client_secret=application.secret)
    site.post("/auth-objects/new", action="save", **fields)
    site.save_tested(site.graph_fields())
    assert site.mail.send(make_message()).accepted
    return site


def make_certificate(site: Site, **changes: Any) -> Any:
    fields = site.object_fields(client_secret="", expires_on="", secret_kind="made", valid_days="180", **changes)
    return site.post("/auth-objects/new", action="save", **fields)


# -- a certificate made here ------------------------------------------------------------------------------------------


def test_a_certificate_is_made_downloaded_uploaded_and_then_works(site: Site, application: Any) -> None:
    page = make_certificate(site, client_id=application.client_id)
    public = site.client.get("/outmail/auth-objects/1/certificate.cer")
    certificate = x509.load_der_x509_certificate(public.data)
    thumbprint = re.search(r"<code>([0-9A-F]{40})</code>", page.text)
    assert thumbprint and certificates.load(credential_of(site).certificate).thumbprint == thumbprint[1]
    assert "attachment" in public.headers["Content-Disposition"] and public.headers["Cache-Control"] == "no-store"
    assert the_row(site).expires_on == certificate.not_valid_after_utc.date()
    edit = site.object_fields(client_id=application.client_id, client_secret="", version="1")
    assert "Microsoft does not know this certificate" in site.post("/auth-objects/1", action="test", **edit).text
    site.simulator.upload_certificate(public.data, application.client_id)
    assert "steps passed" in site.post("/auth-objects/1", action="test", **edit).text


def test_the_private_key_leaves_by_no_page(site: Site) -> None:
    made = make_certificate(site)
    secret = credential_of(site).certificate
    lines = [line for line in secret.splitlines()[1:-1] if "-----" not in line][:20]
    paths = ["/auth-objects/1", "/auth-objects/", "/auth-objects/1/certificate.pem", "/auth-objects/1/secret", "/setup"]
    for text in [made.text, *(site.get(path).text for path in paths)]:
        assert "PRIVATE KEY" not in text and not any(line in text for line in lines)
    assert site.get("/auth-objects/1/certificate.pem").text.startswith("-----BEGIN CERTIFICATE-----")


def test_a_certificate_made_here_cannot_be_tested_before_it_exists(site: Site) -> None:
    fields = site.object_fields(client_secret="", secret_kind="made")
    assert "once it is saved" in site.post("/auth-objects/new", action="test", **fields).text
    assert "once it is saved" in site.post("/auth-objects/new/test", token_from="/auth-objects/new", **fields).text


def test_making_a_certificate_leads_back_to_the_setup(site: Site) -> None:
    fields = site.object_fields(client_secret="", secret_kind="made")
    page = site.post("/auth-objects/new?next=setup", action="save", **fields)
    assert "/outmail/setup?auth_object=1" in page.text


@pytest.mark.parametrize("path", ["/auth-objects/1/certificate.cer", "/auth-objects/1/certificate.pem"])
def test_without_a_certificate_there_is_nothing_to_download(site: Site, path: str) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    assert site.get(path).status_code == 404


def in_a_file(data: bytes, **fields: Any) -> dict[str, Any]:
    return {"client_secret": "", "expires_on": "", "certificate_file": (io.BytesIO(data), "chosen"), **fields}


def test_a_certificate_is_read_from_the_file_that_was_chosen_and_brings_its_date(site: Site) -> None:
    pem = certificates.make("Contoso mailer", 90)
    key, certificate = load_pem_private_key(pem.encode(), None), x509.load_pem_x509_certificate(pem.encode())
    assert isinstance(key, RSAPrivateKey)
    pfx = serialize_key_and_certificates(b"mailer", key, certificate, None, BestAvailableEncryption(b"opens-it"))
    ends = certificate.not_valid_after_utc.date()
    nameless = site.post("/auth-objects/new", action="save", **site.object_fields(name="", **in_a_file(pem.encode())))
    assert f'value="{ends}"' in nameless.text and "Without a date" not in nameless.text
    for number, (data, password) in enumerate(((pem.encode(), ""), (pfx, "opens-it")), 1):
        file = in_a_file(data, certificate_password=password, name=f"No. {number}")
        site.post("/auth-objects/new", action="save", **site.object_fields(**file))
        stored = credential_of(site, number)
        assert certificates.load(stored.certificate, password).not_after.date() == ends
        assert the_row(site, number).expires_on == ends


def test_a_file_that_is_no_certificate_is_told_beside_its_field(site: Site) -> None:
    for data, words in ((b"x" * 100_001, "too large for a key"), (b"a holiday picture", "cannot be read")):
        answer = site.post("/auth-objects/new", action="save", **site.object_fields(**in_a_file(data)))
        assert answer.status_code == 422 and words in answer.text


# -- without a secret -------------------------------------------------------------------------------------------------


def test_a_managed_identity_needs_nothing_and_carries_mail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in site.simulator.identity_environment.items():
        monkeypatch.setenv(name, value)
    form = site.get(f"/auth-objects/new?provider={MANAGED_IDENTITY}").text
    assert 'name="client_secret"' not in form and 'name="tenant"' not in form
    fields = {"name": "The machine", "provider": MANAGED_IDENTITY, "cloud": "simulator"}
    assert "Token obtained from this machine" in site.post("/auth-objects/new", action="test", **fields).text
    site.post("/auth-objects/new", action="save", **fields)
    assert "managed identity" in site.get("/auth-objects/").text
    assert "Replace without a gap" not in site.get("/auth-objects/1").text
    assert site.get("/auth-objects/1/secret").status_code == 404
    site.save_tested(site.graph_fields())
    assert site.mail.send(make_message()).accepted


def test_a_federated_credential_carries_mail(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(site.simulator.outside_token())
    form = site.get(f"/auth-objects/new?provider={FEDERATED}").text
    assert 'name="client_secret"' not in form and 'name="token_file"' in form
    fields = site.object_fields(client_secret="", expires_on="", provider=FEDERATED, token_file=str(file))
    tested = site.post("/auth-objects/new", action="test", **fields).text
    assert "subject system:serviceaccount:shop:mailer" in tested and file.read_text() not in tested
    site.post("/auth-objects/new", action="save", **fields)
    assert str(file) in site.get("/auth-objects/1").text
    site.save_tested(site.graph_fields())
    assert site.mail.send(make_message()).accepted


def test_a_registered_function_can_be_chosen(site: Site) -> None:
    entra.register_token_function("cluster", site.simulator.outside_token)
    try:
        assert ">cluster</option>" in site.get(f"/auth-objects/new?provider={FEDERATED}").text
        fields = site.object_fields(client_secret="", expires_on="", provider=FEDERATED, token_function="cluster")
        assert "steps passed" in site.post("/auth-objects/new", action="test", **fields).text
        site.post("/auth-objects/new", action="save", **fields)
        assert credential_of(site).token_function == "cluster"
    finally:
        entra._functions.pop("cluster")
    # Another process may not know it; the page does not lose what is stored.
    assert '<option value="cluster" selected>' in site.get("/auth-objects/1").text


def test_a_kind_that_does_not_exist_is_told(site: Site) -> None:
    assert site.get("/auth-objects/new?provider=magic").status_code == 200
    answer = site.post("/auth-objects/new", action="save", **site.object_fields(provider="magic"))
    assert answer.status_code == 422 and "Choose one of the providers" in answer.text


# -- replacing --------------------------------------------------------------------------------------------------------


def replace(site: Site, action: str = "switch", **fields: Any) -> Any:
    return site.post("/auth-objects/1/secret", action=action, version=version(site), **fields)


def test_a_secret_is_replaced_without_a_gap_and_the_old_one_is_kept(in_use: Site, application: Any) -> None:
    new = in_use.simulator.add_secret(application.client_id)
    page = replace(in_use, secret_kind="secret", client_secret=new, expires_on="2027-09-01")
    assert "was tested with it and works" in page.text and new not in page.text
    found = credential_of(in_use)
    assert (found.client_secret, found.previous_client_secret) == (new, application.secret)
    assert str(the_row(in_use).expires_on) == "2027-09-01"
    assert in_use.mail.send(make_message()).accepted


def test_a_failure_is_over_once_the_secret_is_replaced(in_use: Site, application: Any) -> None:
    application.secret_expired = True
    engine_of(in_use.app).connections.look_again()
    with engine_of(in_use.app).database.session() as session:
        session.execute(delete(SavedToken))
        session.commit()
    assert not in_use.mail.send_many([make_message()])[0]
    assert "is not being accepted" in in_use.get("/").text
    new = in_use.simulator.add_secret(application.client_id)
    page = replace(in_use, secret_kind="secret", client_secret=new).text
    assert "was tested with it and works" in page and "is not being accepted" not in page


def test_a_new_secret_that_microsoft_does_not_take_is_told_and_changes_nothing(in_use: Site, application: Any) -> None:
    page = replace(in_use, secret_kind="secret", client_secret="wrong")
    assert page.status_code == 422 and "Microsoft does not take the new one" in page.text
    assert credential_of(in_use).client_secret == application.secret
    # A person may know better: the old one serves beside it.
    replace(in_use, action="anyway", secret_kind="secret", client_secret="not-yet")
    assert credential_of(in_use).client_secret == "not-yet"
    assert in_use.mail.send(make_message()).accepted


def test_a_new_secret_can_be_tested_before_anything_changes(in_use: Site, application: Any) -> None:
    new = in_use.simulator.add_secret(application.client_id)
    page = replace(in_use, action="test", secret_kind="secret", client_secret=new)
    assert "steps passed" in page.text and credential_of(in_use).client_secret == application.secret
    streamed = in_use.post(
        "/auth-objects/1/secret/test", token_from="/auth-objects/1/secret", secret_kind="secret", client_secret="wrong"
    )
    assert "AADSTS7000215" in streamed.text


def test_a_test_of_a_new_one_says_what_cannot_be_tested(in_use: Site) -> None:
    made = {"secret_kind": "made", "valid_days": "90"}
    assert "once it is saved" in replace(in_use, action="test", **made).text
    for fields, words in ((made, "once it is saved"), ({"expires_on": "next week"}, "in the form 2027-04-15")):
        answer = in_use.post("/auth-objects/1/secret/test", token_from="/auth-objects/1/secret", **fields)
        assert answer.status_code == 422 and words in answer.text


def test_a_replacement_that_would_stop_mail_needs_a_word_and_then_holds_it(in_use: Site, application: Any) -> None:
    """The new one is good, but what it is for is refused: a setup in use did not pass with it."""
    new = in_use.simulator.add_secret(application.client_id)
    application.roles = frozenset()
    refused = replace(in_use, secret_kind="secret", client_secret=new)
    assert refused.status_code == 422 and "mail would stop" in refused.text
    assert credential_of(in_use).client_secret == application.secret
    assert "its mail is held" in replace(in_use, action="anyway", secret_kind="secret", client_secret=new).text
    assert credential_of(in_use).client_secret == new


def test_a_secret_gives_way_to_a_certificate_that_is_uploaded_later(in_use: Site, application: Any) -> None:
    page = replace(in_use, secret_kind="made", valid_days="365")
    assert "Until the public part is uploaded in Entra, the one before serves" in page.text
    assert in_use.mail.send(make_message()).accepted, "the old secret serves"
    cannot = in_use.post("/auth-objects/1/secret/forget", token_from="/auth-objects/1", version=version(in_use))
    assert cannot.status_code == 422 and "does not take the present one yet" in cannot.text
    public = in_use.client.get("/outmail/auth-objects/1/certificate.cer").data
    in_use.simulator.upload_certificate(public, application.client_id)
    gone = in_use.post("/auth-objects/1/secret/forget", token_from="/auth-objects/1", version=version(in_use))
    assert "is deleted here" in gone.text
    assert credential_of(in_use).earlier is None
    nothing = in_use.post("/auth-objects/1/secret/undo", token_from="/auth-objects/1", version=version(in_use))
    assert "no earlier one to go back to" in nothing.text
    application.secret_expired = True
    in_use.mail.send(make_message())


def test_while_the_new_one_is_not_taken_no_page_says_that_all_is_well(in_use: Site, application: Any) -> None:
    page = replace(in_use, secret_kind="made", valid_days="365").text
    assert "works by the one before: Microsoft does not take the new one yet." in page
    assert "was tested with it and works" not in page
    assert "Microsoft does not take the new one yet: the one before it serves." in page
    assert "The one before ends on 15 Apr 2027" in page
    assert "The new secret or certificate is not taken yet" in in_use.get("/").text
    listed = in_use.get("/auth-objects/").text
    assert "the one before is kept" in listed and "look at this" in listed
    assert [one["code"] for one in in_use.get("/health.json").json["issues"]] == ["credential_fallback"]

    public = in_use.client.get("/outmail/auth-objects/1/certificate.cer").data
    in_use.simulator.upload_certificate(public, application.client_id)
    fields = in_use.object_fields(client_id=application.client_id, client_secret="", expires_on="")
    in_use.post("/auth-objects/1", action="test", version=version(in_use), **fields)
    page = in_use.get("/auth-objects/1").text
    assert "Microsoft takes the new one, and the one before it is still kept." in page and "Delete it as soon" in page
    assert in_use.get("/health.json").json["issues"] == []
    assert "Kept beside it" in in_use.get("/").text, "nobody forgets it"


def test_the_end_that_is_told_is_that_of_the_one_by_which_mail_leaves(in_use: Site, application: Any) -> None:
    soon = (utc_now() + timedelta(days=5)).date().isoformat()
    fields = in_use.object_fields(client_id=application.client_id, client_secret="", expires_on=soon)
    in_use.post("/auth-objects/1", action="save", version=version(in_use), **fields)
    replace(in_use, secret_kind="made", valid_days="365")
    assert issues(in_use) == ["credential_fallback", "credential_expiring"], (
        "the new one would last, and does not serve"
    )

    public = in_use.client.get("/outmail/auth-objects/1/certificate.cer").data
    in_use.simulator.upload_certificate(public, application.client_id)
    in_use.post("/auth-objects/1", action="test", version=version(in_use), **fields)
    assert issues(in_use) == []


def issues(site: Site) -> list[str]:
    return sorted((one["code"] for one in site.get("/health.json").json["issues"]), reverse=True)


def test_a_certificate_is_asked_to_be_uploaded_until_microsoft_takes_it(site: Site, application: Any) -> None:
    wanted = "Microsoft has to be given the public part"
    assert wanted in make_certificate(site, client_id=application.client_id).text
    fields = site.object_fields(client_id=application.client_id, client_secret="", version="1")
    assert wanted in site.post("/auth-objects/1", action="test", **fields).text, "it was refused"
    public = site.client.get("/outmail/auth-objects/1/certificate.cer").data
    site.simulator.upload_certificate(public, application.client_id)
    assert wanted not in site.post("/auth-objects/1", action="test", **fields).text
    assert wanted not in site.get("/auth-objects/1").text


def test_a_replacement_can_be_undone_and_done_again(in_use: Site, application: Any) -> None:
    new = in_use.simulator.add_secret(application.client_id)
    replace(in_use, secret_kind="secret", client_secret=new, expires_on="2027-09-01")
    for wanted, day in ((application.secret, "2027-04-15"), (new, "2027-09-01")):
        page = in_use.post("/auth-objects/1/secret/undo", token_from="/auth-objects/1", version=version(in_use))
        assert "is in use again" in page.text
        assert credential_of(in_use).client_secret == wanted and str(the_row(in_use).expires_on) == day
        assert in_use.mail.send(make_message()).accepted


def test_of_two_people_who_replace_the_second_is_told(in_use: Site, application: Any) -> None:
    one, two = (in_use.simulator.add_secret(application.client_id) for _ in range(2))
    seen = version(in_use)
    in_use.post("/auth-objects/1/secret", action="switch", version=seen, secret_kind="secret", client_secret=one)
    late = in_use.post("/auth-objects/1/secret", action="switch", version=seen, secret_kind="secret", client_secret=two)
    assert late.status_code == 409 and "anna saved a change" in late.text
    assert credential_of(in_use).client_secret == one
    for step in ("undo", "forget"):
        in_use.post(f"/auth-objects/1/secret/{step}", token_from="/auth-objects/1", version=seen)
    assert credential_of(in_use).previous_client_secret == application.secret


def test_entering_another_secret_on_the_object_itself_keeps_none_beside_it(in_use: Site, application: Any) -> None:
    new, newer = (in_use.simulator.add_secret(application.client_id) for _ in range(2))
    replace(in_use, secret_kind="secret", client_secret=new)
    fields = in_use.object_fields(client_id=application.client_id, client_secret=newer, version=version(in_use))
    in_use.post("/auth-objects/1", action="save", **fields)
    assert credential_of(in_use).earlier is None


def test_changing_the_name_alone_keeps_the_one_before(in_use: Site, application: Any) -> None:
    new = in_use.simulator.add_secret(application.client_id)
    replace(in_use, secret_kind="secret", client_secret=new)
    fields = in_use.object_fields(client_id=application.client_id, client_secret="", version=version(in_use))
    page = in_use.post("/auth-objects/1", action="save", **{**fields, "name": "Renamed"})
    assert "“Renamed” is saved" in page.text and "held" not in page.text
    assert credential_of(in_use).previous_client_secret == application.secret


def test_a_setup_that_was_not_proven_keeps_no_object_from_being_changed(site: Site) -> None:
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save(site.graph_fields())
    wrong = site.object_fields(client_secret="abc~0123456789.0123456789.0123456789abcd", version="1")
    assert (
        "is not proven with the new values: its mail is held"
        in site.post("/auth-objects/1", action="save", **wrong).text
    )


def test_an_object_is_not_given_the_name_of_another(site: Site) -> None:
    for name in ("One", "Two"):
        site.post("/auth-objects/new", action="save", **site.object_fields(name=name))
    answer = site.post("/auth-objects/2", action="save", **site.object_fields(name="One", version="1"))
    assert answer.status_code == 422 and "already" in answer.text
    assert the_row(site, 2).name == "Two"


def test_after_a_lost_key_the_page_says_where_to_enter_the_new_one(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.post("/auth-objects/new", action="save", **site.object_fields())
    engine_of(site.app)._vault = Vault([generate_key()])
    assert site.get("/auth-objects/1/secret").status_code == 200
    page = replace(site, secret_kind="secret", client_secret="new-one")
    assert page.status_code == 422 and "on the page of the authentication object" in page.text
