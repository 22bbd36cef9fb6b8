"""Rules for credentials: each kind gets a token, two may overlap, and a key made here never leaves."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from flask_outmail import certificates, entra, providers
from flask_outmail.diagnosis import steps
from flask_outmail.diagnosis.microsoft import TokenProof, certificate_seen
from flask_outmail.errors import AuthenticationFailed, ConfigurationError, TransportUnavailable
from flask_outmail.providers import PROVIDERS, problems
from flask_outmail.setup_values import (
    CLIENT_CREDENTIALS,
    FEDERATED,
    MANAGED_IDENTITY,
    Credential,
    SetupValues,
    setup_from_mapping,
)
from flask_outmail.simulator import Simulator
from flask_outmail.simulator.fault import Fault

from ..conftest import MakeApp, graph_setup, make_message
from .test_tokens import requests_made, source, the_cloud, the_credential


@pytest.fixture(scope="module")
def made() -> str:
    return certificates.make("Contoso mailer", 365)


@pytest.fixture
def another(simulator: Simulator) -> Any:
    """An application of its own, so that what is registered with it does not last."""
    return simulator.add_app(name=f"app {os.urandom(4).hex()}")


def check(credential: Credential, simulator: Simulator) -> list[steps.Step]:
    cloud = the_cloud(simulator)
    proof = TokenProof(credential, cloud, cloud.scope, "Mail.Send", 5.0, str(simulator.ca_file))
    return list(steps.run(proof.checks()))


def seen(found: list[steps.Step], key: str) -> steps.Step:
    return next(step for step in found if step.key == key)


# -- certificates -----------------------------------------------------------------------------------------------------


def test_a_certificate_made_here_is_what_entra_asks_for(made: str) -> None:
    loaded = certificates.load(made)
    certificate = x509.load_pem_x509_certificate(loaded.certificate_pem.encode())
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size == 3072
    assert certificate.issuer == certificate.subject and loaded.subject == "CN=Contoso mailer"
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert loaded.thumbprint == certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303
    assert timedelta(364) < loaded.not_after - datetime.now(timezone.utc) <= timedelta(365)
    certificate.verify_directly_issued_by(certificate)


def test_the_public_part_holds_no_private_key(made: str) -> None:
    loaded = certificates.load(made)
    key = serialization.load_pem_private_key(loaded.private_key_pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    secret_number = key.private_numbers().d.to_bytes(384, "big")
    assert "PRIVATE" not in loaded.certificate_pem and secret_number not in loaded.certificate_der
    assert x509.load_der_x509_certificate(loaded.certificate_der).serial_number
    assert loaded.private_key_pem not in repr(loaded)


@pytest.mark.parametrize("name", ["", "\n\x00", "Bücher & Töne <x>", "x" * 300, "a,b=c+d\\"])
def test_any_name_can_stand_in_a_certificate(name: str) -> None:
    assert certificates.load(certificates.make(name, 1)).subject


def test_a_certificate_made_here_gets_a_token_once_its_public_part_is_uploaded(
    simulator: Simulator, made: str, another: Any
) -> None:
    credential = the_credential(simulator, client_id=another.client_id, client_secret="", certificate=made)
    with pytest.raises(AuthenticationFailed) as caught:
        source(simulator, credential).token()
    assert caught.value.code == "AADSTS700027"
    simulator.upload_certificate(certificates.load(made).certificate_der, another.client_id)
    assert source(simulator, credential).token()


def test_a_pfx_file_gets_a_token(simulator: Simulator, made: str, another: Any) -> None:
    loaded = certificates.load(made)
    key = serialization.load_pem_private_key(loaded.private_key_pem.encode(), None)
    certificate = x509.load_pem_x509_certificate(loaded.certificate_pem.encode())
    assert isinstance(key, rsa.RSAPrivateKey)
    locked = serialization.BestAvailableEncryption(b"open sesame")
    pfx = base64.b64encode(pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, locked)).decode()
    simulator.upload_certificate(loaded.certificate_pem, another.client_id)
    values = {"client_id": another.client_id, "client_secret": "", "certificate": pfx}
    assert source(simulator, the_credential(simulator, **values, certificate_password="open sesame")).token()
    with pytest.raises(ConfigurationError) as caught:
        source(simulator, the_credential(simulator, **values, certificate_password="wrong")).token()
    assert caught.value.code == "certificate_unreadable"


# -- federated --------------------------------------------------------------------------------------------------------


def federated(simulator: Simulator, **changes: Any) -> Credential:
    return the_credential(simulator, client_secret="", provider=FEDERATED, **changes)


def test_a_token_file_is_read_each_time_entra_is_asked(simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(simulator.outside_token(lifetime_s=-4000))
    tokens = source(simulator, federated(simulator, token_file=str(file)))
    with pytest.raises(AuthenticationFailed) as caught:
        tokens.token()
    assert caught.value.code == "AADSTS700024"
    file.write_text(simulator.outside_token() + "\n")
    assert tokens.token()


def test_without_a_path_the_file_is_the_one_that_azure_names(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(simulator.outside_token())
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    assert source(simulator, federated(simulator)).token()


@pytest.fixture
def token_function(simulator: Simulator) -> Iterator[list[int]]:
    calls: list[int] = []

    def cluster() -> str:
        calls.append(1)
        return simulator.outside_token()

    entra.register_token_function("cluster", cluster)
    yield calls
    entra._functions.pop("cluster")


def test_a_function_of_the_application_can_give_the_token(simulator: Simulator, token_function: list[int]) -> None:
    tokens = source(simulator, federated(simulator, token_function="cluster"))
    old = tokens.token()
    assert tokens.token(refused=old) != old
    assert len(token_function) == 2, "a kept token would end"


def test_a_token_that_does_not_say_when_it_ends_is_shown_all_the_same(simulator: Simulator) -> None:
    def endless() -> str:
        head, _, signature = simulator.outside_token().split(".")
        body = base64.urlsafe_b64encode(b'{"iss": "https://cluster.example"}').decode().rstrip("=")
        return f"{head}.{body}.{signature}"

    entra.register_token_function("endless", endless)
    try:
        step = seen(check(federated(simulator, token_function="endless"), simulator), "secret")
    finally:
        entra._functions.pop("endless")
    assert step.seen == "token from function endless, issuer https://cluster.example"


def test_a_function_that_fails_is_told_without_its_words(simulator: Simulator) -> None:
    def leaky() -> str:
        raise RuntimeError("Bearer eyJhbGciOi")

    entra.register_token_function("leaky", leaky)
    try:
        with pytest.raises(ConfigurationError) as caught:
            source(simulator, federated(simulator, token_function="leaky")).token()
    finally:
        entra._functions.pop("leaky")
    assert caught.value.code == "token_function_failed"
    assert "eyJ" not in str(caught.value) and caught.value.__cause__ is None
    with pytest.raises(ConfigurationError) as caught:
        source(simulator, federated(simulator, token_function="leaky")).token()
    assert caught.value.code == "token_function_unknown"


@pytest.mark.parametrize("content", [b"", b"root:x:0:0:root", b"a.b", b"a.b.c d", b"\xff\xfe.a.b", b"x" * 100_000])
def test_a_file_that_holds_no_token_is_never_sent(simulator: Simulator, tmp_path: Path, content: bytes) -> None:
    """The path is typed on a page: it must not become a way to send any file of the server elsewhere."""
    file = tmp_path / "passwd"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        source(simulator, federated(simulator, token_file=str(file))).token()
    assert caught.value.code == "token_file_unreadable"
    assert requests_made(simulator) == 0 and "root:" not in str(caught.value)


@pytest.mark.parametrize("path", ["/nowhere/token", "/dev/zero", "/", "\x00"])
def test_a_path_that_is_no_file_is_told(simulator: Simulator, path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source(simulator, federated(simulator, token_file=path)).token()
    assert caught.value.code == "token_file_missing"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"subject": "other"}, "AADSTS700213"), ({"audience": "api://other"}, "AADSTS700212")],
)
def test_a_federated_token_must_match_the_trust(
    simulator: Simulator, tmp_path: Path, wrong: dict[str, str], code: str
) -> None:
    file = tmp_path / "token"
    file.write_text(simulator.outside_token(**wrong))
    found = check(federated(simulator, token_file=str(file)), simulator)
    failed = seen(found, "token")
    assert (failed.state, failed.code) == ("failed", code)
    assert failed.remedy and failed.remedy.title == "No federated credential matches"
    # What an administrator has to compare stands in the step before.
    assert all(word in seen(found, "secret").seen for word in ("issuer", "subject", "audience"))


# -- managed identity -------------------------------------------------------------------------------------------------


@pytest.fixture
def on_app_service(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in simulator.identity_environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def on_a_virtual_machine(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", simulator.identity_url)


MACHINE = Credential(cloud="simulator", provider=MANAGED_IDENTITY)


def identity_requests(simulator: Simulator) -> list[tuple[str, int]]:
    return [(one.path, one.status) for one in simulator.answers if one.path.endswith("token") and one.method == "GET"]


def test_on_app_service_the_machine_itself_has_a_token(
    simulator: Simulator, on_app_service: None, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy for the world must not see a request for this machine's identity.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    setup = {name: value for name, value in graph_setup(simulator).items() if not name.startswith(("client", "tenant"))}
    _, mail = make_app({**setup, "provider": MANAGED_IDENTITY})
    assert mail.send(make_message()).accepted and mail.send(make_message()).accepted
    assert identity_requests(simulator) == [("/msi/token", 200)]
    assert requests_made(simulator) == 0


def test_on_a_virtual_machine_too(simulator: Simulator, on_a_virtual_machine: None) -> None:
    assert source(simulator, MACHINE).token()
    assert identity_requests(simulator) == [("/metadata/identity/oauth2/token", 200)]


@pytest.mark.usefixtures("on_app_service")
def test_a_user_assigned_identity_is_asked_for_by_its_client_id(simulator: Simulator) -> None:
    own = Credential(client_id=simulator.managed_client_id, cloud="simulator", provider=MANAGED_IDENTITY)
    found = check(own, simulator)
    assert [step.state for step in found] == ["passed"] * 3
    assert simulator.managed_client_id in seen(found, "secret").seen
    foreign = Credential(client_id=simulator.client_id, cloud="simulator", provider=MANAGED_IDENTITY)
    failed = seen(check(foreign, simulator), "token")
    assert (failed.state, failed.code) == ("failed", "managed_identity_refused")
    assert "No User Assigned" in failed.detail


@pytest.mark.usefixtures("on_a_virtual_machine")
def test_a_refusal_of_the_machines_endpoint_is_told_in_its_words(simulator: Simulator) -> None:
    foreign = Credential(client_id=simulator.client_id, cloud="simulator", provider=MANAGED_IDENTITY)
    failed = seen(check(foreign, simulator), "token")
    assert failed.code == "managed_identity_refused" and "No User Assigned" in failed.detail


@pytest.mark.usefixtures("on_app_service")
@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (404, True), (410, True)])
def test_an_endpoint_that_is_not_ready_is_tried_again(simulator: Simulator, status: int, retryable: bool) -> None:
    simulator.faults.add(Fault(endpoint="identity", status=status))
    tokens = source(simulator, MACHINE)
    with pytest.raises(TransportUnavailable) as caught:
        tokens.token()
    assert caught.value.retryable is retryable
    assert tokens.token()


def test_a_machine_outside_azure_is_told_so(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    failed = seen(check(MACHINE, simulator), "token")
    assert (failed.state, failed.code) == ("failed", "managed_identity_missing")


# -- two that overlap -------------------------------------------------------------------------------------------------


def test_while_the_new_secret_is_refused_the_old_one_serves(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    credential = the_credential(
        simulator, client_secret="not-known-yet", previous_client_secret=simulator.client_secret
    )
    tokens = source(simulator, credential)
    with caplog.at_level(logging.INFO):
        assert tokens.token() == tokens.token()
    assert tokens.refused is not None and tokens.refused.code == "AADSTS7000215"
    assert requests_made(simulator) == 2
    assert "the one before it was used" in caplog.text and "not-known-yet" not in caplog.text


def test_a_new_certificate_may_be_uploaded_after_it_is_in_use(simulator: Simulator, made: str, another: Any) -> None:
    credential = the_credential(
        simulator,
        client_id=another.client_id,
        client_secret="",
        certificate=made,
        previous_client_secret=another.secret,
    )
    assert source(simulator, credential).token()
    simulator.upload_certificate(certificates.load(made).certificate_pem, another.client_id)
    another.secret_expired = True
    tokens = source(simulator, credential)
    assert tokens.token() and tokens.refused is None


def test_a_new_certificate_that_cannot_be_read_does_not_stop_the_mail(simulator: Simulator) -> None:
    credential = the_credential(
        simulator, client_secret="", certificate="damaged", previous_client_secret=simulator.client_secret
    )
    assert source(simulator, credential).token()
    found = check(credential, simulator)
    assert seen(found, "secret").state == "warning" and seen(found, "token").state == "warning"


@pytest.mark.parametrize("preset", ["token-700016", "token-90002", "token-500011"])
def test_what_another_secret_cannot_mend_is_not_tried_with_it(simulator: Simulator, preset: str) -> None:
    credential = the_credential(simulator, previous_client_secret="older")
    simulator.faults.preset(preset)
    with pytest.raises(AuthenticationFailed):
        source(simulator, credential).token()
    assert requests_made(simulator) == 1


def test_when_both_are_refused_the_newest_is_what_somebody_has_to_mend(simulator: Simulator, another: Any) -> None:
    another.secret_expired = True
    credential = the_credential(
        simulator, client_id=another.client_id, client_secret="wrong", previous_client_secret=another.secret
    )
    with pytest.raises(AuthenticationFailed) as caught:
        source(simulator, credential).token()
    assert caught.value.code == "AADSTS7000215"


def test_the_test_says_that_the_fallback_was_used_and_still_passes(simulator: Simulator) -> None:
    credential = the_credential(
        simulator, client_secret="not-known-yet", previous_client_secret=simulator.client_secret
    )
    found = check(credential, simulator)
    step = seen(found, "token")
    assert steps.passed(found)
    assert (step.state, step.code) == ("warning", "AADSTS7000215")
    assert step.remedy and step.remedy.title == "The new secret or certificate is not taken yet"
    assert "client secret, 40 characters" in step.seen and simulator.client_secret not in step.seen


# -- what the test shows ----------------------------------------------------------------------------------------------


def test_the_test_shows_which_credential_it_is_and_how_long_it_lasts(simulator: Simulator, made: str) -> None:
    in_ten_days = datetime.now(timezone.utc).date() + timedelta(days=10)
    words = seen(check(the_credential(simulator, expires_on=in_ten_days), simulator), "secret").seen
    assert words == "client secret, 40 characters, 10 days left"
    words = seen(check(the_credential(simulator, client_secret="", certificate=made), simulator), "secret").seen
    assert re.fullmatch(r"certificate [0-9A-F]{8}…, 36[45] days left", words)


def test_what_cannot_be_read_or_has_ended_is_told_before_microsoft_is_asked(simulator: Simulator) -> None:
    ended = certificates.make("mailer", 90, now=datetime.now(timezone.utc) - timedelta(days=100))
    for wrong, code, words in (
        ({"client_secret": "", "certificate": ended}, "certificate_expired", "the certificate ended on 20"),
        ({"client_secret": ""}, "credential_incomplete", "neither a secret nor a certificate"),
        ({"client_secret": "", "certificate": "rubbish"}, "certificate_unreadable", "neither PEM"),
    ):
        before = len(simulator.answers)
        step = seen(check(the_credential(simulator, **wrong), simulator), "secret")
        assert (step.state, step.code) == ("failed", code) and words in step.seen
        assert len(simulator.answers) == before


def test_a_connection_without_a_certificate_is_not_called_secure() -> None:
    with pytest.raises(TransportUnavailable, match="not encrypted"):
        certificate_seen({})


def test_a_date_that_was_noted_is_no_verdict(simulator: Simulator) -> None:
    found = check(the_credential(simulator, expires_on=date(2020, 1, 1)), simulator)
    assert "past the date noted for it" in seen(found, "secret").seen and steps.passed(found)


# -- values -----------------------------------------------------------------------------------------------------------


def test_what_was_proven_by_an_earlier_version_stays_proven() -> None:
    """Fields that came later must not change the fingerprint of old values, or an upgrade would hold all mail."""
    values = SetupValues(service="microsoft365_graph", credential=Credential(tenant="t", client_id="c"))
    assert values.canonical() == (
        '{"credential": {"certificate": "", "certificate_password": "", "client_id": "c", "client_secret": "",'
        ' "cloud": "global", "provider": "microsoft_client_credentials", "tenant": "t"}, "from_address": "",'
        ' "host": "", "password": "", "port": 0, "service": "microsoft365_graph", "tls": "starttls", "username": ""}'
    )


def test_a_fallback_and_a_date_are_not_part_of_what_is_proven() -> None:
    plain = Credential(tenant="t", client_id="c", client_secret="s")
    more = Credential(
        tenant="t", client_id="c", client_secret="s", previous_client_secret="r", expires_on=date(2027, 1, 1)
    )
    assert SetupValues(credential=plain).canonical() == SetupValues(credential=more).canonical()


def test_no_secret_shows_in_a_credential() -> None:
    secrets = {"client_secret", "certificate", "certificate_password"}
    secrets |= {f"previous_{name}" for name in secrets}
    credential = Credential(**dict.fromkeys(secrets, "geheim"))  # type: ignore[arg-type]
    assert "geheim" not in repr(credential)
    assert {name for name in Credential.__slots__ if getattr(credential, name) == "geheim"} == secrets


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_kind_of_credential_says_what_it_needs(provider: str) -> None:
    kind = PROVIDERS[provider]
    found = problems(Credential(provider=provider))
    needed = {*kind.needs, *(["client_secret"] if kind.has_secret else [])}
    assert set(found) == needed
    assert set(kind.needs) <= set(kind.fields) <= set(Credential.__slots__)


def test_what_does_not_count_for_a_kind_is_not_kept() -> None:
    everything = dict.fromkeys(["tenant", "client_id", "client_secret", "token_file"], "x")
    cleaned = providers.cleaned(Credential(**everything, provider=MANAGED_IDENTITY))  # type: ignore[arg-type]
    assert cleaned == Credential(client_id="x", provider=MANAGED_IDENTITY)


def test_configuration_takes_every_kind_of_credential(simulator: Simulator, tmp_path: Path, made: str) -> None:
    base = {"service": "microsoft365_graph", "tenant": simulator.tenant, "client_id": simulator.client_id}
    of = lambda **more: setup_from_mapping({**base, **more}, "OUTMAIL_SETUP").credential  # noqa: E731
    assert of(token_file="/var/run/token").provider == FEDERATED
    assert of(token_function="cluster").provider == FEDERATED
    assert of(provider=MANAGED_IDENTITY).provider == MANAGED_IDENTITY
    (tmp_path / "old.pem").write_text(made)
    both = of(client_secret="new", previous_certificate=str(tmp_path / "old.pem"), expires_on="2027-04-15")
    assert (both.provider, both.expires_on, both.previous_certificate) == (CLIENT_CREDENTIALS, date(2027, 4, 15), made)
    bundle = base64.b64encode(made.encode()).decode()
    assert of(certificate=bundle).certificate == bundle, "a PFX file in base64 is taken as it is"
    with pytest.raises(ConfigurationError, match="must be a dict or a string"):
        setup_from_mapping(["microsoft365_graph"], "OUTMAIL_SETUP")
    both_ways = problems(Credential("t", "c", provider=FEDERATED, token_file="/t", token_function="f"))
    assert "not both" in both_ways["token_function"][1]
    with pytest.raises(ConfigurationError, match="expires_on"):
        of(client_secret="new", expires_on="soon")


def test_an_unknown_kind_in_configuration_is_told_at_the_start(simulator: Simulator, make_app: MakeApp) -> None:
    with pytest.raises(ConfigurationError, match="magic"):
        make_app(graph_setup(simulator, provider="magic"))


@pytest.mark.usefixtures("on_app_service")
def test_no_log_line_holds_a_secret_or_a_token(
    simulator: Simulator, tmp_path: Path, made: str, another: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of MSAL and urllib3 included, at the level that somebody switches on to find a fault."""
    outside = simulator.outside_token()
    (tmp_path / "token").write_text(outside)
    simulator.upload_certificate(certificates.load(made).certificate_pem, another.client_id)
    credentials = [
        the_credential(simulator),
        the_credential(simulator, client_secret="wrong-but-secret", previous_client_secret=simulator.client_secret),
        the_credential(simulator, client_id=another.client_id, client_secret="", certificate=made),
        federated(simulator, token_file=str(tmp_path / "token")),
        MACHINE,
    ]
    with caplog.at_level(logging.DEBUG):
        tokens = [source(simulator, credential).token() for credential in credentials]
    header = simulator.identity_environment["IDENTITY_HEADER"]
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for secret in (simulator.client_secret, "wrong-but-secret", outside, header, *tokens, made.splitlines()[3]):
        assert secret not in told
    assert "AADSTS7000215" in told
