"""Somebody who can write where he should not: into the database, the spool's folder, a form's hidden fields."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from flask_outmail import SetupNotVerified
from flask_outmail.errors import SecretUnreadable
from flask_outmail.models import Setup
from flask_outmail.outbox.spool import Entry, Spool
from flask_outmail.simulator import Simulator
from flask_outmail.vault import Vault, generate_key

from ..conftest import MakeApp, engine_of, make_message
from ..integration.test_holding import activate, smtp_values
from ..web.conftest import Site, make_site, site
from .conftest import MakeLiar

# -- in the database -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["host", "port", "tls", "username", "password_sealed"])
def test_whoever_changes_a_verified_setup_in_the_database_gets_no_password(
    make_app: MakeApp, simulator: Simulator, make_liar: MakeLiar, changed: str
) -> None:
    """What a test has proven is a keyed hash of all values: other ones are not verified, and mail is held."""
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    liar = make_liar(b"220 ready\r\n250-ready\r\n250 AUTH PLAIN\r\n", tls=False)
    engine = engine_of(app)
    other = {
        "host": "127.0.0.1",
        "port": liar.port,
        "tls": "none",
        "username": "eve@contoso.example",
        "password_sealed": engine.vault.seal("that of another row"),
    }
    with engine.database.session() as session:
        session.execute(update(Setup).values({changed: other[changed]}))
        session.commit()
    engine.connections.look_again()
    with app.app_context(), pytest.raises(SetupNotVerified):
        mail.send(make_message())
    assert liar.heard == []
    assert not simulator.delivered


def test_no_byte_of_what_is_sealed_can_be_changed() -> None:
    vault = Vault([generate_key()])
    sealed = vault.seal("a secret of some length")
    for place in range(len(sealed)):
        for other in "A", "_":
            changed = f"{sealed[:place]}{other}{sealed[place + 1 :]}"
            if changed != sealed:
                with pytest.raises(SecretUnreadable):
                    vault.open(changed)


# -- in the spool's folder -------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="Windows has no file modes to be kept")
def test_what_waits_in_the_spool_is_for_its_owner_alone_and_unreadable(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "spool", lambda: VAULT)
        spool.put(Entry("one", "delivery", {"recipients": ["ann@customers.example"]}, VAULT.seal_bytes(b"Reset: 1234")))
    finally:
        os.umask(before)
    (file,) = spool.folder.iterdir()
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"ann@" not in file.read_bytes() and b"1234" not in file.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="on Windows making a link is a privilege of its own")
def test_a_link_laid_in_the_spools_folder_changes_no_other_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "one.waiting").symlink_to(precious)
    for guess in (f".one.{os.getpid()}", ".one"):
        (folder / guess).symlink_to(precious)
    spool = Spool(folder, lambda: VAULT)
    spool.put(Entry("one", "delivery", {}, None))
    assert precious.read_bytes() == b"precious"
    assert not (folder / "one.waiting").is_symlink()


VAULT = Vault([generate_key()])


# -- in a form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["Hi there!", "-----BEGIN CERTIFICATE-----"])
def test_a_kind_of_credential_that_is_none_is_told_beside_its_field(site: Site, certificate: str) -> None:
    fields: dict[str, Any] = site.object_fields(provider="nonsense'\"(", certificate=certificate, client_secret="")
    for action in ("test", "save"):
        page = site.post("/auth-objects/new", action=action, **fields)
        assert page.status_code == 422
        assert "Choose one of the providers." in page.text


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_no_form_leads_to_another_site(site: Site, target: str) -> None:
    page = site.client.get(f"/outmail/auth-objects/new?next={target}")
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
    assert token
    fields = {**site.object_fields(), "csrf_token": token[1], "action": "save", "next": target}
    answer = site.client.post(f"/outmail/auth-objects/new?next={target}", data=fields)
    assert answer.status_code == 302
    assert answer.location.startswith("/outmail/")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example"])
def test_no_page_writes_the_host_that_a_request_names(site: Site, host: str) -> None:
    for path in ("/", "/setup", "/auth-objects/", "/deliveries/", "/alerts", "/history", "/health.json", "/nowhere"):
        assert "evil.example" not in site.client.get(f"/outmail{path}", headers={"Host": host}).text, path


MakeSite = Callable[..., Site]
__all__ = ["make_site", "site"]
