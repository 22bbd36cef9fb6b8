"""The token endpoint, asked by MSAL and by hand."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import msal
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from flask_outmail.simulator import Simulator

JWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def msal_app(sim: Simulator, credential: Any = None, **options: Any) -> msal.ConfidentialClientApplication:
    arguments: dict[str, Any] = {
        "client_id": sim.client_id,
        "client_credential": sim.client_secret if credential is None else credential,
        "authority": f"{sim.https_url}/{sim.tenant}",
        "instance_discovery": False,
        "verify": str(sim.ca_file),
        "timeout": 10,
        **options,
    }
    return msal.ConfidentialClientApplication(**arguments)


def ask(sim: Simulator, credential: Any = None, scope: str | None = None, **options: Any) -> dict[str, Any]:
    app = msal_app(sim, credential, **options)
    try:
        answer: dict[str, Any] = app.acquire_token_for_client([scope or sim.cloud["scope"]])
        return answer
    finally:
        app.http_client.close()


def claims(token: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return read


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outmail")])
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_secret_gives_a_token_with_the_claims_a_report_would_show(sim: Simulator) -> None:
    answer = ask(sim)

    assert answer["token_source"] == "identity_provider"
    assert answer["expires_in"] == 3599
    read = claims(answer["access_token"])
    assert read["aud"] == sim.https_url
    assert read["appid"] == sim.client_id
    assert read["tid"] == sim.tenant
    assert read["roles"] == ["Mail.Send", "Mail.ReadWrite"]
    assert read["exp"] > read["iat"]
    assert sim.tenant in read["iss"]


def test_smtp_token_has_its_own_audience_and_role(sim: Simulator) -> None:
    read = claims(ask(sim, scope=sim.cloud["smtp_scope"])["access_token"])

    assert read["aud"] + "/.default" == sim.cloud["smtp_scope"]
    assert read["roles"] == ["SMTP.SendAsApp"]


def test_token_is_as_long_as_real_ones(sim: Simulator) -> None:
    assert 1500 <= len(ask(sim)["access_token"]) <= 2500


def test_msal_caches_the_token(sim: Simulator) -> None:
    app = msal_app(sim)
    app.acquire_token_for_client([sim.cloud["scope"]])

    assert app.acquire_token_for_client([sim.cloud["scope"]])["token_source"] == "cache"
    assert sum(answer.path.endswith("/token") for answer in sim.answers) == 1
    app.http_client.close()


def test_msal_works_with_instance_discovery_pointed_here_and_oidc_authority(sim: Simulator) -> None:
    answer = ask(sim, authority=None, oidc_authority=f"{sim.https_url}/{sim.tenant}/v2.0")

    assert "access_token" in answer


def test_tenant_may_be_a_domain(sim: Simulator) -> None:
    assert "access_token" in ask(sim, authority=f"{sim.https_url}/contoso.example")


def test_msal_certificate_with_sha256_thumbprint_and_ps256(
    sim: Simulator, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    app = sim.add_app("By certificate", certificate_pem=pem(certificate))

    answer = ask(sim, {"private_key": key_pem(key), "public_certificate": pem(certificate)}, client_id=app.client_id)

    assert "access_token" in answer, answer


def test_msal_certificate_with_sha1_thumbprint_and_rs256(
    sim: Simulator, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    app = sim.add_app("By certificate", certificate_pem=pem(certificate))
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303

    answer = ask(sim, {"private_key": key_pem(key), "thumbprint": thumbprint}, client_id=app.client_id)

    assert "access_token" in answer, answer


def test_unregistered_certificate_is_700027(
    sim: Simulator, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    answer = ask(sim, {"private_key": key_pem(key), "public_certificate": pem(certificate)})

    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [700027])


def test_wrong_key_for_a_registered_certificate_is_700027(sim: Simulator, certificate: x509.Certificate) -> None:
    app = sim.add_app("By certificate", certificate_pem=pem(certificate))
    other = rsa.generate_private_key(65537, 2048)

    answer = ask(sim, {"private_key": key_pem(other), "public_certificate": pem(certificate)}, client_id=app.client_id)

    assert answer["error_codes"] == [700027]


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"aud": "https://login.example/token"}, 700023),
        ({"sub": "somebody-else"}, 700021),
        ({"nbf": 4_000_000_000}, 700024),
        ({"exp": 1}, 700024),
        ({"exp": "soon"}, 50027),
        ({"alg": "none"}, 50027),
        ({"x5t#S256": "A"}, 700027),
    ],
)
def test_claims_of_an_assertion_are_checked(
    sim: Simulator,
    graph: Any,
    key: rsa.RSAPrivateKey,
    certificate: x509.Certificate,
    changes: dict[str, Any],
    number: int,
) -> None:
    app = sim.add_app("By certificate", certificate_pem=pem(certificate))
    endpoint = f"{sim.https_url}/{sim.tenant}/oauth2/v2.0/token"
    body = {"aud": endpoint, "iss": app.client_id, "sub": app.client_id, "nbf": 0, "exp": 4_000_000_000, **changes}
    thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode().rstrip("=")
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "RS256", "x5t#S256": thumbprint, **changes}, body)
    ]
    signature = key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
    assertion = ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])

    answer = graph.ask_token(
        client_id=app.client_id,
        client_secret="",
        client_assertion=assertion,
        client_assertion_type=JWT,
    )

    assert (answer.status_code, answer.json()["error_codes"]) == (401, [number])


# "W10" is the base64 of "[]", "e30" that of "{}".
@pytest.mark.parametrize("assertion", ["not.a.jwt", "W10.W10.W10", "e30.W10.e30", "e30.e30.e30.e30"])
@pytest.mark.parametrize("kind", [JWT, "saml"])
def test_garbage_instead_of_an_assertion_is_50027(graph: Any, assertion: str, kind: str) -> None:
    answer = graph.ask_token(client_secret="", client_assertion=assertion, client_assertion_type=kind)

    assert answer.json()["error_codes"] == [50027]


def test_a_certificate_without_an_rsa_key_signs_nothing_and_each_that_is_registered_counts(
    sim: Simulator, graph: Any, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(certificate.subject).issuer_name(certificate.subject)
    builder = builder.public_key(curve.public_key()).serial_number(7).not_valid_before(certificate.not_valid_before_utc)
    other = builder.not_valid_after(certificate.not_valid_after_utc).sign(curve, hashes.SHA256())
    app = sim.add_app("Two certificates", certificate_pem=pem(other))
    head = {"alg": "RS256", "x5t#S256": base64.urlsafe_b64encode(other.fingerprint(hashes.SHA256())).decode()}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in (head, {"iss": app.client_id})]
    assertion = ".".join([*parts, "e30"])

    answer = graph.ask_token(
        client_id=app.client_id, client_secret="", client_assertion=assertion, client_assertion_type=JWT
    )

    assert answer.json()["error_codes"] == [700027]
    sim.upload_certificate(pem(certificate), app.client_id)
    both = {"private_key": key_pem(key), "public_certificate": pem(certificate)}
    assert "access_token" in ask(sim, both, client_id=app.client_id)
    with pytest.raises(ValueError, match="there is no application"):
        sim.upload_certificate(pem(certificate), "unknown")


def test_wrong_secret_is_7000215(sim: Simulator) -> None:
    answer = ask(sim, "wrong")

    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [7000215])


def test_secret_id_instead_of_its_value_is_explained(sim: Simulator) -> None:
    answer = ask(sim, sim.secret_id)

    assert answer["error_codes"] == [7000215]
    assert "value" in answer["error_description"]
    assert "not the ID" in answer["error_description"]


def test_expired_secret_is_7000222(sim: Simulator) -> None:
    app = sim.add_app("Old", secret_expired=True)

    assert ask(sim, app.secret, client_id=app.client_id)["error_codes"] == [7000222]


def test_wrong_secret_of_an_application_with_an_expired_one_is_just_wrong(sim: Simulator) -> None:
    app = sim.add_app("Old", secret_expired=True)

    assert ask(sim, "wrong", client_id=app.client_id)["error_codes"] == [7000215]


def test_wrong_tenant_shows_at_discovery(sim: Simulator, graph: Any) -> None:
    wrong = "11111111-2222-3333-4444-555555555555"
    session = requests.Session()
    session.verify = str(sim.ca_file)
    with session, pytest.raises(ValueError, match="authority"):
        ask(sim, authority=f"{sim.https_url}/{wrong}", http_client=session)

    answer = graph.session.get(f"{sim.https_url}/{wrong}/v2.0/.well-known/openid-configuration", timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_tenant"
    assert answer.json()["error_codes"] == [90002]


def test_old_style_instance_discovery_answers(sim: Simulator, graph: Any) -> None:
    answer = graph.session.get(f"{sim.https_url}/common/discovery/instance?api-version=1.1", timeout=10)

    assert answer.json()["tenant_discovery_endpoint"].startswith(sim.https_url)
    for name in ("common", "organizations"):
        shared = graph.session.get(f"{sim.https_url}/{name}/v2.0/.well-known/openid-configuration", timeout=10)
        assert shared.status_code == 200
    assert "no explanations" in graph.session.get(f"{sim.https_url}/error?code=7000215", timeout=10).text
    assert isinstance(answer.json()["metadata"], list)


UNKNOWN = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("fields", "status", "error", "number"),
    [
        ({"grant_type": ""}, 400, "invalid_request", 900144),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"tenant": UNKNOWN}, 400, "invalid_request", 90002),
        ({"tenant": "unknown.example"}, 400, "invalid_request", 90002),
        ({"tenant": "nonsense"}, 400, "invalid_request", 900023),
        ({"tenant": "common"}, 400, "invalid_request", 9001023),
        ({"tenant": "organizations"}, 400, "invalid_request", 50059),
        ({"client_id": ""}, 400, "invalid_request", 900144),
        ({"client_id": UNKNOWN}, 400, "unauthorized_client", 700016),
        ({"client_secret": ""}, 401, "invalid_client", 7000216),
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"scope": ""}, 400, "invalid_request", 900144),
        ({"scope": "https://graph.microsoft.com/Mail.Send"}, 400, "invalid_scope", 1002012),
        ({"scope": "https%3A%2F%2Fgraph.microsoft.com%2F.default"}, 400, "invalid_scope", 1002012),
        ({"scope": "nonsense/.default"}, 400, "invalid_scope", 70011),
        ({"scope": "https://a.example/.default https://b.example/.default"}, 400, "invalid_scope", 700022),
        ({"scope": "https://graph.typo.example/.default"}, 400, "invalid_resource", 500011),
    ],
)
def test_each_mistake_has_its_own_refusal(
    graph: Any, fields: dict[str, str], status: int, error: str, number: int
) -> None:
    answer = graph.ask_token(**fields)

    assert (answer.status_code, answer.json()["error"], answer.json()["error_codes"]) == (status, error, [number])


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"grant_type": "password", "tenant": UNKNOWN}, 70003),
        ({"tenant": UNKNOWN, "client_id": UNKNOWN}, 90002),
        ({"client_id": UNKNOWN, "client_secret": "wrong"}, 700016),
        ({"client_secret": "wrong", "scope": "nonsense"}, 7000215),
    ],
)
def test_the_first_mistake_in_order_decides(graph: Any, fields: dict[str, str], number: int) -> None:
    assert graph.ask_token(**fields).json()["error_codes"] == [number]


def test_disabled_application_is_7000112(sim: Simulator, graph: Any) -> None:
    app = sim.add_app("Off")
    app.enabled = False

    answer = graph.ask_token(client_id=app.client_id, client_secret=app.secret)

    assert answer.json()["error_codes"] == [7000112]


def test_error_has_every_field_and_the_tail_of_the_description(graph: Any) -> None:
    answer = graph.ask_token(client_secret="wrong").json()

    assert set(answer) == {
        "error", "error_description", "error_codes", "timestamp", "trace_id", "correlation_id", "error_uri",
    }  # fmt: skip
    first, trace, correlation, timestamp = answer["error_description"].split("\r\n")
    assert first.startswith("AADSTS7000215: ")
    assert trace == f"Trace ID: {answer['trace_id']}"
    assert correlation == f"Correlation ID: {answer['correlation_id']}"
    assert timestamp == f"Timestamp: {answer['timestamp']}"
    assert answer["error_uri"].endswith("/error?code=7000215")


def test_correlation_id_of_the_client_comes_back(sim: Simulator, graph: Any) -> None:
    graph.session.headers["client-request-id"] = UNKNOWN

    assert graph.ask_token(client_secret="wrong").json()["correlation_id"] == UNKNOWN


def test_secret_may_come_by_http_basic(sim: Simulator, graph: Any) -> None:
    graph.session.auth = (sim.client_id, quote(sim.client_secret, safe=""))

    assert graph.ask_token(client_id="", client_secret="").status_code == 200
    graph.session.auth = None
    graph.session.headers["Authorization"] = "Basic \xff"
    assert graph.ask_token(client_id="", client_secret="").json()["error_codes"] == [900144]


def test_settings_of_new_tokens(sim: Simulator, graph: Any) -> None:
    sim.behaviour.token_lifetime_s, sim.behaviour.token_refresh_in_s = 120, 60

    answer = graph.ask_token().json()

    assert (answer["expires_in"], answer["refresh_in"]) == (120, 60)
    read = claims(answer["access_token"])
    assert read["exp"] - read["iat"] == 120


def test_application_without_grants_gets_a_token_without_roles(sim: Simulator, graph: Any) -> None:
    app = sim.add_app("Bare", roles=())

    assert "roles" not in claims(graph.token(client_id=app.client_id, client_secret=app.secret))


def test_scoped_application_gets_a_token_without_roles(sim: Simulator, graph: Any) -> None:
    app = sim.add_app("Scoped", scoped_to={sim.mailbox})

    assert "roles" not in claims(graph.token(client_id=app.client_id, client_secret=app.secret))


def test_opaque_token_works_and_tells_nothing(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.token_style = "opaque"

    assert "." not in graph.token()
    assert graph.send_mime(make_mime()).status_code == 202


@pytest.mark.parametrize(
    "number",
    ["7000215", "7000222", "700016", "90002", "900023", "1002012", "70011", "500011", "700027", "700024", "50196",
     "53003"],
)  # fmt: skip
def test_any_refusal_can_be_ordered_once(sim: Simulator, graph: Any, number: str) -> None:
    sim.faults.preset(f"token-{number}")

    answer = graph.ask_token()

    assert 400 <= answer.status_code <= 401
    assert answer.json()["error_codes"] == [int(number)]
    assert graph.ask_token().status_code == 200


def test_throttled_token_endpoint_says_how_long(sim: Simulator, graph: Any) -> None:
    sim.faults.preset("token-429")

    answer = graph.ask_token()

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize(
    ("preset", "status", "content"),
    [
        ("token-503-json", 503, "application/json"),
        ("token-503-html", 503, "text/html"),
        ("token-portal", 200, "text/html"),
    ],
)
def test_answers_that_are_no_tokens(sim: Simulator, graph: Any, preset: str, status: int, content: str) -> None:
    sim.faults.preset(preset)

    answer = graph.ask_token()

    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(content)


def test_hanging_token_endpoint_is_ended_by_the_clients_patience(sim: Simulator, graph: Any) -> None:
    sim.faults.preset("token-hang")

    with pytest.raises(requests.exceptions.ReadTimeout):
        graph.session.post(
            f"{sim.https_url}/{sim.tenant}/oauth2/v2.0/token", data={"grant_type": "client_credentials"}, timeout=0.2
        )


def test_secrets_are_not_in_the_list_of_answers(sim: Simulator, graph: Any) -> None:
    token = graph.token()
    graph.ask_token(client_secret="wrong-secret")

    written = repr(sim.answers)
    assert sim.client_secret not in written
    assert "wrong-secret" not in written
    assert token not in written
