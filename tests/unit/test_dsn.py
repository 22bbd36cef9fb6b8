"""A setup written as one string."""

from __future__ import annotations

import pytest

from flask_outmail.errors import ConfigurationError
from flask_outmail.setup_values import FEDERATED, MANAGED_IDENTITY, setup_from_mapping


def test_an_smtp_server_with_starttls() -> None:
    values = setup_from_mapping(
        "smtp+starttls://shop%40x.example:p%40ss%2Fword@mail.x.example:2525?from=shop@x.example", "KEY"
    )
    assert (values.service, values.host, values.port, values.tls) == ("smtp", "mail.x.example", 2525, "starttls")
    assert (values.username, values.password, values.from_address) == ("shop@x.example", "p@ss/word", "shop@x.example")


@pytest.mark.parametrize(
    ("dsn", "tls", "port"), [("smtp://h", "none", 25), ("smtps://h", "tls", 0), ("smtp://[::1]:26", "none", 26)]
)
def test_other_kinds_of_tls(dsn: str, tls: str, port: int) -> None:
    values = setup_from_mapping(dsn, "KEY")
    assert (values.tls, values.port, values.username) == (tls, port, "")


def test_graph_with_a_secret_and_everything_else() -> None:
    values = setup_from_mapping(
        "graph://11111111-2222-3333-4444-555555555555:s~e.c@contoso.onmicrosoft.com/noreply%40contoso.com"
        "?from=news@contoso.com&from_name=Contoso+News&alerts=ops@contoso.net&cloud=usgov",
        "KEY",
    )
    assert values.credential is not None
    assert (values.credential.tenant, values.credential.client_secret) == ("contoso.onmicrosoft.com", "s~e.c")
    assert (values.credential.cloud, values.username) == ("usgov", "noreply@contoso.com")
    assert (values.from_address, values.from_name) == ("news@contoso.com", "Contoso News")
    assert values.failure_alerts_to == "ops@contoso.net"


def test_microsoft_smtp_sends_as_its_mailbox() -> None:
    values = setup_from_mapping("microsoft365+smtp://id:secret@tenant/noreply@contoso.com", "KEY")
    assert (values.service, values.from_address) == ("microsoft365_smtp", "noreply@contoso.com")


@pytest.mark.parametrize(
    "dsn",
    [
        "", "hidden", "http://u:hidden@h", "smtp+starttls://", "smtp://u:hidden@h:port", "smtp://u:hid/den@h",
        "smtp://h/hidden",
        "smtp://u:hidden@h?frm=a", "smtp://h#hidden", "graph://id:hidden@tenant", "graph://id:hidden@tenant/",
        "smtp://u:hidden@h?cloud=x", "smtp://[::1:hidden", "smtp://h?from=a%0d%0aBcc:hidden", "smtp://u:hid%0aden@h",
    ],
)  # fmt: skip
def test_a_string_that_is_none_names_the_key_and_shows_nothing_of_itself(dsn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^KEY") as caught:
        setup_from_mapping(dsn, "KEY")
    assert "hid" not in str(caught.value)


def test_a_credential_without_a_secret_fits_into_the_string() -> None:
    found = setup_from_mapping(
        "graph://11111111-2222-3333-4444-555555555555@contoso.com/a@contoso.com?token_file=/t", "K"
    )
    assert found.credential and (found.credential.provider, found.credential.token_file) == (FEDERATED, "/t")
    found = setup_from_mapping("graph://contoso.com/a@contoso.com?provider=microsoft_managed_identity", "K")
    assert found.credential and found.credential.provider == MANAGED_IDENTITY
