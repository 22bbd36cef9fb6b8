"""Secrets at rest: who can read them with which key, and what is said of those that nobody can."""

from __future__ import annotations

import pytest

from flask_outmail.errors import ConfigurationError, SecretUnreadable
from flask_outmail.vault import Vault, derived_key, generate_key

OLD, NEW = generate_key(), generate_key()


def test_a_secret_sealed_with_an_old_key_opens_while_that_key_is_listed() -> None:
    sealed = Vault([OLD]).seal("secret")
    assert "secret" not in sealed
    assert Vault([NEW, OLD]).open(sealed) == "secret"
    with pytest.raises(SecretUnreadable, match=r"^a stored secret .* no longer there$"):
        Vault([NEW]).open(sealed)


def test_a_damaged_secret_is_told_from_a_missing_key() -> None:
    vault = Vault([OLD])
    with pytest.raises(SecretUnreadable, match=r"^a stored secret is damaged$"):
        vault.open(vault.seal("secret")[:-4] + "AAAA")
    with pytest.raises(SecretUnreadable, match="damaged"):
        vault.open(f"{vault.newest_key_id}:x:y")


def test_a_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Vault([OLD, "not-a-key"])
    assert "not-a-key" not in str(caught.value)
    assert "key 2 " in str(caught.value)
    assert caught.value.code == "config_invalid"


def test_without_any_key_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^there is no key.* OUTMAIL_ENCRYPTION_KEYS") as caught:
        Vault([])
    assert caught.value.code == "encryption_key_missing"


def test_no_text_is_stored_as_no_text() -> None:
    vault = Vault([OLD])
    assert (vault.seal(""), vault.open(""), vault.open(None)) == ("", "", "")


def test_a_derived_key_depends_on_nothing_but_the_secret_key() -> None:
    assert derived_key("abc") == derived_key(b"abc") != derived_key("abd")


def test_what_earlier_versions_stored_can_be_read_and_recognised() -> None:
    """A change of how keys and fingerprints are derived would lock every database in use."""
    assert derived_key("abc") == "yL9VY9fdIlMqffQcWiycjG9jOa1VXgd2XOrx0SaM-0k="
    vault = Vault([derived_key("abc")])
    assert vault.newest_key_id == "192d41f8"
    assert vault.fingerprints("x") == ["bd7c89b3614583ee3b8938a227399ea0a23a7f219ec4089906b4a77e8b0d1ed1"]


@pytest.mark.parametrize("stored", [b"", b":", b"\xff\xfe:x", b"no colon", b"192d41f8", b"192d41f8:\xff:x"])
def test_bytes_that_no_vault_has_sealed_are_refused_by_name(stored: bytes) -> None:
    with pytest.raises(SecretUnreadable) as caught:
        Vault([derived_key("abc")]).open_bytes(stored)
    assert caught.value.code == "secret_unreadable"
