"""Authentication objects and revisions, on a database without any application."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from flask_outmail import auth_objects, certificates, providers, setups
from flask_outmail.auth_objects import Conflict, Draft, InUse, LimitReached, NotUnique
from flask_outmail.errors import ConfigurationError
from flask_outmail.models import AuthObject, Base, Setup
from flask_outmail.setup_values import Credential, SetupValues
from flask_outmail.vault import Vault, generate_key

TENANT = "11111111-2222-4333-8444-555555555555"
CLIENT = "66666666-7777-4888-9999-000000000000"
SECRET = "q8a~Long.enough.to.look.like.a.secret-0123"
OLD, NEW = generate_key(), generate_key()


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        yield session
    engine.dispose()


@pytest.fixture
def vault() -> Vault:
    return Vault([OLD])


def draft(name: str = "Contoso mailer", **changes: str) -> Draft:
    return Draft(name=name, credential=replace(Credential(TENANT, CLIENT, SECRET), **changes))


def create(session: Session, vault: Vault, name: str = "Contoso mailer", *, limit: int = 100) -> AuthObject:
    row = auth_objects.create(session, draft(name), vault, by="ann", limit=limit)
    session.commit()
    return row


def values(**changes: object) -> SetupValues:
    made = SetupValues(
        service="smtp",
        host="mail.example",
        port=587,
        username="u",
        password="hunter2",
        from_address="a@x.example",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


# -- authentication objects ------------------------------------------------------------------------------------------


def test_no_secret_is_readable_in_the_table(session: Session, vault: Vault) -> None:
    create(session, vault)
    rows = session.execute(text("select * from outmail_auth_objects")).all()
    assert SECRET not in str(rows)


def test_a_stored_credential_is_read_back_whole(session: Session, vault: Vault) -> None:
    assert auth_objects.credential_of(create(session, vault), vault) == draft().credential


def test_an_edit_without_a_secret_keeps_the_stored_one(session: Session, vault: Vault) -> None:
    row = create(session, vault)
    auth_objects.edit(session, row, draft("Renamed", client_secret=""), vault, by="bo", version=1)
    session.commit()
    assert auth_objects.credential_of(row, vault).client_secret == SECRET
    assert (row.name, row.updated_by, row.version) == ("Renamed", "bo", 2)


def test_of_two_people_who_edit_at_once_the_second_is_told(session: Session, vault: Vault) -> None:
    row = create(session, vault)
    auth_objects.edit(session, row, draft("One"), vault, by="bo", version=1)
    session.commit()
    with pytest.raises(Conflict) as caught:
        auth_objects.edit(session, row, draft("Two"), vault, by="cy", version=1)
    assert caught.value.by == "bo"
    assert row.name == "One"


def test_who_goes_back_to_a_secret_that_was_forgotten_meanwhile_is_told(session: Session, vault: Vault) -> None:
    row = create(session, vault)
    auth_objects.replace_secret(session, row, Credential(client_secret="new"), vault, by="ann", version=1)
    auth_objects.forget_previous(session, row, by="bob", version=2)
    with pytest.raises(Conflict) as caught:
        auth_objects.undo_replacement(session, row, vault, by="ann", version=2)
    assert caught.value.by == "bob" and auth_objects.credential_of(row, vault).client_secret == "new"


def test_a_name_can_be_used_once(session: Session, vault: Vault) -> None:
    create(session, vault)
    with pytest.raises(NotUnique):
        create(session, vault)


def test_the_limit_holds(session: Session, vault: Vault) -> None:
    create(session, vault, limit=1)
    with pytest.raises(LimitReached):
        create(session, vault, "Another", limit=1)


def test_what_a_setup_uses_cannot_be_deleted_and_what_none_uses_can(session: Session, vault: Vault) -> None:
    row = create(session, vault)
    first = setups.save(session, values(), vault, by="ann", seen_revision=0, auth_object=row)
    session.commit()
    with pytest.raises(InUse):
        auth_objects.delete(session, row)  # a draft uses it
    setups.activate(first, by="ann")
    session.commit()
    assert auth_objects.usage(session) == {row.id: [first]}
    with pytest.raises(InUse):
        auth_objects.delete(session, row)
    second = setups.save(session, values(), vault, by="ann", seen_revision=1)
    setups.activate(second, by="ann")
    session.commit()
    auth_objects.delete(session, row)
    session.commit()
    assert session.get(AuthObject, row.id) is None


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"tenant": ""}, "tenant", "credential_incomplete"),
        ({"tenant": "common"}, "tenant", "tenant_shared"),
        ({"tenant": "not a tenant"}, "tenant", "tenant_invalid"),
        ({"client_id": "contoso"}, "client_id", "client_id_invalid"),
        ({"client_id": TENANT}, "client_id", "tenant_is_client_id"),
        ({"client_id": TENANT.upper()}, "client_id", "tenant_is_client_id"),
        ({"client_secret": CLIENT}, "client_secret", "secret_is_id"),
        ({"client_secret": ""}, "client_secret", "credential_incomplete"),
        ({"certificate": "x"}, "client_secret", "credential_incomplete"),
        ({"client_secret": "", "certificate": "rubbish"}, "certificate", "certificate_unreadable"),
    ],
)
def test_an_obvious_mistake_is_caught_before_the_network(changes: dict[str, str], field: str, code: str) -> None:
    found = providers.problems(draft(**changes).credential)
    assert found[field][0] == code
    assert providers.problems(draft().credential) == {}
    assert providers.problems(draft(tenant="contoso.com").credential) == {}


@pytest.mark.parametrize("added", [" ", "\n", "\r\n", "\t", "\u00a0", "\u200b", "\ufeff"])
def test_what_pasting_adds_is_taken_away(added: str) -> None:
    pasted = replace(Credential(TENANT + added, added + CLIENT, SECRET + added))
    assert providers.cleaned(pasted) == draft().credential


# -- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    return key, public_of(key)


def public_of(key: Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outmail")])
    today = datetime(2026, 1, 1, tzinfo=timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(today).not_valid_after(today + timedelta(days=365))
    return builder.sign(key, hashes.SHA256())


def pem(key: Any, certificate: x509.Certificate, password: str = "") -> str:
    lock = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        + certificate.public_bytes(serialization.Encoding.PEM)
    ).decode()


def test_a_certificate_is_read_from_pem_and_from_pfx(pair: tuple[rsa.RSAPrivateKey, x509.Certificate]) -> None:
    plain = certificates.load(pem(*pair))
    locked = certificates.load(pem(*pair, password="pw"), "pw")
    lock = serialization.BestAvailableEncryption(b"pw")
    pfx = base64.b64encode(pkcs12.serialize_key_and_certificates(b"x", *pair, None, lock)).decode()
    assert plain == locked == certificates.load(pfx, "pw")
    assert plain.not_after == datetime(2027, 1, 1, tzinfo=timezone.utc)
    assert "PRIVATE" not in repr(plain)


def test_what_is_wrong_with_a_certificate_is_said(pair: tuple[rsa.RSAPrivateKey, x509.Certificate]) -> None:
    key, certificate = pair
    other, curve = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    pfx = pkcs12.serialize_key_and_certificates(b"x", curve, public_of(curve), None, serialization.NoEncryption())
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    for text_, password, words in (
        (public, "", "private key is missing"),
        (pem(key, certificate).split("-----BEGIN CERT")[0], "", "certificate is missing"),
        (pem(other, certificate), "", "does not belong"),
        (pem(key, certificate, "pw"), "", "password"),
        (pem(key, certificate, "pw"), "wrong", "password"),
        ("bm90IGEgcGZ4", "", "cannot be read"),
        (pem(curve, public_of(curve)), "", "only RSA keys"),
        (base64.b64encode(pfx).decode(), "", "must hold an RSA private key"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            certificates.load(text_, password)


def test_the_expiry_of_a_certificate_is_its_own(
    session: Session, vault: Vault, pair: tuple[rsa.RSAPrivateKey, x509.Certificate]
) -> None:
    given = replace(draft(client_secret="", certificate=pem(*pair)), expires_on=date(2030, 1, 1))
    row = auth_objects.create(session, given, vault, by="ann", limit=10)
    assert row.expires_on == date(2027, 1, 1)
    assert row.uses_certificate


# -- setups ----------------------------------------------------------------------------------------------------------


def save(session: Session, vault: Vault, seen: int, **changes: object) -> Setup:
    row = setups.save(session, values(**changes), vault, by="ann", seen_revision=seen)
    session.commit()
    return row


def test_a_revision_is_read_back_whole_and_hides_its_password(session: Session, vault: Vault) -> None:
    row = save(session, vault, 0)
    assert setups.values_of(row, vault) == values()
    assert "hunter2" not in str(session.execute(text("select * from outmail_setups")).all())


def test_of_two_people_who_save_at_once_the_second_is_told(session: Session, vault: Vault) -> None:
    save(session, vault, 0)
    with pytest.raises(Conflict) as caught:
        save(session, vault, 0)
    assert caught.value.by == "ann"
    assert [row.revision for row in setups.history(session)] == [1]


def test_the_active_revision_is_the_one_activated_last(session: Session, vault: Vault) -> None:
    first, second = save(session, vault, 0), save(session, vault, 1)
    assert setups.active(session) is None
    setups.activate(second, by="ann")
    session.commit()
    assert setups.active(session) == second
    setups.activate(first, by="bo")
    session.commit()
    assert setups.active(session) == first
    assert setups.latest(session) == second


def test_restoring_makes_a_new_revision_and_keeps_what_was_proven(session: Session, vault: Vault) -> None:
    first = save(session, vault, 0)
    setups.mark_verified(first, values(), vault, by="ann")
    save(session, vault, 1, host="other.example")
    again = setups.restore(session, first, vault, by="bo", seen_revision=2)
    session.commit()
    assert (again.revision, again.restored_from) == (3, 1)
    restored = setups.values_of(again, vault)
    assert restored == values() and setups.is_verified(again, restored, vault)


def test_a_difference_names_fields_and_never_a_secret(session: Session, vault: Vault) -> None:
    first = save(session, vault, 0)
    second = save(session, vault, 1, host="other.example", password="")
    found = {change.field: (change.before, change.after) for change in setups.changes(first, second, vault)}
    assert found == {"host": ("mail.example", "other.example"), "password": ("set", "")}


def test_verified_is_about_exactly_the_values_that_were_tested(session: Session, vault: Vault) -> None:
    row = save(session, vault, 0)
    setups.mark_verified(row, values(), vault, by="ann")
    assert setups.is_verified(row, values(), vault)
    assert setups.is_verified(row, values(from_name="Shop", failure_alerts_to="ops@x.example"), vault)
    for change in ({"host": "x"}, {"port": 25}, {"password": "other"}, {"username": "v"}, {"tls": "none"},
                   {"from_address": "b@x.example"}, {"credential": Credential(TENANT, CLIENT, SECRET)}):  # fmt: skip
        assert not setups.is_verified(row, values(**change), vault)


def test_a_stored_password_goes_only_where_it_was_stored_for() -> None:
    stored = values()
    assert setups.with_stored_password(values(password=""), stored).password == "hunter2"
    for change in ({"host": "evil.example"}, {"port": 2525}, {"username": "other"}):
        assert setups.with_stored_password(values(password="", **change), stored).password == ""
    assert setups.with_stored_password(values(password="new"), stored).password == "new"


def test_a_proof_counts_for_its_values_for_a_while_and_the_newest_one_decides(session: Session, vault: Vault) -> None:
    setups.add_proof(session, values(), vault, passed=True, steps=[], by="ann")
    session.commit()
    assert setups.is_proven(session, values(), vault, valid_s=60)
    assert not setups.is_proven(session, values(host="x"), vault, valid_s=60)
    assert not setups.is_proven(session, values(), vault, valid_s=0)
    proof = setups.add_proof(session, values(), vault, passed=False, steps=[], by="ann")
    session.commit()
    assert not setups.is_proven(session, values(), vault, valid_s=60)
    assert setups.tested_password(session, values(password=""), proof.id, vault, valid_s=60) == "hunter2"
    assert setups.tested_password(session, values(host="evil.example"), proof.id, vault, valid_s=60) == ""


def test_a_moment_without_a_time_zone_is_refused(session: Session, vault: Vault) -> None:
    from sqlalchemy.exc import StatementError

    row = save(session, vault, 0)
    row.activated_at = datetime(2026, 1, 1)
    with pytest.raises(StatementError, match="time zone"):
        session.commit()
