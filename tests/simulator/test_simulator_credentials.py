"""Credentials without a secret in the simulator: the machine's identity and an outside issuer, by plain requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from flask_outmail.simulator import Simulator

from .conftest import TIMEOUT_S

Foreign = Callable[[str], ModuleType]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def app_service(sim: Simulator, *, header: str | None = None, **params: str) -> requests.Response:
    environment = sim.identity_environment
    header = environment["IDENTITY_HEADER"] if header is None else header
    params = {"api-version": "2019-08-01", "resource": sim.https_url, **params}
    headers = {"X-IDENTITY-HEADER": header}
    return requests.get(environment["IDENTITY_ENDPOINT"], params=params, headers=headers, timeout=TIMEOUT_S)


def virtual_machine(sim: Simulator, headers: dict[str, str], **params: str) -> requests.Response:
    params = {"api-version": "2018-02-01", "resource": sim.https_url, **params}
    url = f"{sim.identity_url}/metadata/identity/oauth2/token"
    return requests.get(url, params=params, headers=headers, timeout=TIMEOUT_S)


def test_app_service_gives_the_machines_token(sim: Simulator) -> None:
    answer = app_service(sim).json()
    assert answer["client_id"] == sim.managed_client_id and answer["token_type"] == "Bearer"
    assert answer["expires_on"].isdigit() and "expires_in" not in answer


def test_app_service_wants_the_header_that_only_the_process_knows(sim: Simulator) -> None:
    refused = app_service(sim, header="guess")
    assert refused.status_code == 401 and refused.json()["statusCode"] == 401


def test_a_virtual_machine_wants_the_header_that_no_forwarded_request_has(sim: Simulator) -> None:
    assert virtual_machine(sim, {}).json()["error"] == "invalid_request"
    answer = virtual_machine(sim, {"Metadata": "true"}).json()
    assert answer["expires_in"].isdigit() and answer["resource"] == sim.https_url


@pytest.mark.parametrize("params", [{"client_id": "unknown"}, {"resource": "https://nowhere"}, {"api-version": ""}])
def test_what_the_machine_does_not_have_is_refused(sim: Simulator, params: dict[str, str]) -> None:
    assert app_service(sim, **params).status_code == 400
    assert virtual_machine(sim, {"Metadata": "true"}, **params).status_code == 400


def test_a_machines_identity_has_no_secret(sim: Simulator) -> None:
    for secret in ("", "anything"):
        answer = ask(sim, client_id=sim.managed_client_id, client_secret=secret)
        assert answer["error"] == "invalid_client"


def ask(sim: Simulator, **fields: str) -> dict[str, Any]:
    values = {
        "grant_type": "client_credentials",
        "client_id": sim.client_id,
        "scope": sim.cloud["scope"],
        **fields,
    }
    url = f"{sim.https_url}/{sim.tenant}/oauth2/v2.0/token"
    answer: dict[str, Any] = requests.post(url, data=values, verify=str(sim.ca_file), timeout=TIMEOUT_S).json()
    return answer


def by_assertion(sim: Simulator, assertion: str) -> list[int]:
    answer = ask(sim, client_assertion_type=ASSERTION, client_assertion=assertion)
    codes: list[int] = answer.get("error_codes", [])
    return codes


def altered(token: str, **changes: Any) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, **changes}).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


def test_a_token_of_the_trusted_issuer_is_taken_and_any_other_refused(sim: Simulator) -> None:
    assert by_assertion(sim, sim.outside_token()) == []
    assert by_assertion(sim, sim.outside_token(subject="other")) == [700213]
    assert by_assertion(sim, sim.outside_token(audience="other")) == [700212]
    assert by_assertion(sim, sim.outside_token(lifetime_s=-4000)) == [700024]
    assert by_assertion(sim, altered(sim.outside_token(), iss="https://elsewhere")) == [700211]
    assert by_assertion(sim, f"{sim.outside_token()}.more") == [50027]
    assert by_assertion(sim, altered(sim.outside_token(), sub="system:serviceaccount:shop:mailer ")) == [50013]


def test_a_second_secret_is_good_beside_the_first(sim: Simulator) -> None:
    second = sim.add_secret()
    for secret in (sim.client_secret, second):
        assert "access_token" in ask(sim, client_secret=secret)
    sim.state.apps()[0].secret_expired = True
    assert ask(sim, client_secret=sim.client_secret)["error_codes"] == [7000222]
    assert "access_token" in ask(sim, client_secret=second)


def test_a_certificate_is_uploaded_over_http_too(sim: Simulator) -> None:
    registered = sim.state.apps()[0].certificates
    wrong = requests.post(f"{sim.web_url}api/certificates", json={"pem": "nonsense"}, timeout=TIMEOUT_S)
    assert wrong.status_code == 400 and not registered
    pem = sim.ca_file.read_text()
    assert requests.post(f"{sim.web_url}api/certificates", json={"pem": pem}, timeout=TIMEOUT_S).status_code == 204
    assert len(registered) == 1


def test_azure_identity_gets_the_machines_token(
    sim: Simulator, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = foreign("azure.identity")
    for name, value in sim.identity_environment.items():
        monkeypatch.setenv(name, value)
    with identity.ManagedIdentityCredential() as credential:
        assert credential.get_token(sim.cloud["scope"]).token


def test_azure_identity_gets_a_token_by_its_workload(sim: Simulator, foreign: Foreign, tmp_path: Path) -> None:
    identity = foreign("azure.identity")
    (tmp_path / "token").write_text(sim.outside_token())
    with identity.WorkloadIdentityCredential(
        tenant_id=sim.tenant,
        client_id=sim.client_id,
        token_file_path=str(tmp_path / "token"),
        authority=sim.https_url,
        disable_instance_discovery=True,
        connection_verify=str(sim.ca_file),
    ) as credential:
        assert credential.get_token(sim.cloud["scope"]).token


def test_a_certificate_is_uploaded_on_the_page(sim: Simulator) -> None:
    registered = sim.state.apps()[0].certificates
    form = {"client_id": sim.client_id}
    wrong = requests.post(
        f"{sim.web_url}values/certificate", data=form, files={"certificate": b"nonsense"}, timeout=TIMEOUT_S
    )
    assert wrong.status_code == 400 and "no certificate" in wrong.text
    file = {"certificate": sim.ca_file.read_bytes()}
    page = requests.post(f"{sim.web_url}values/certificate", data=form, files=file, timeout=TIMEOUT_S)
    assert "1 uploaded" in page.text and len(registered) == 1
