"""The Entra ID token endpoint: discovery, and tokens for client credentials.

Pages: "v2-oauth2-client-creds-grant-flow", "certificate-credentials", "reference-error-codes". Statuses and `error`
words that no page gives are those seen in practice.
"""

from __future__ import annotations

import base64
import hmac
import re
import uuid
from urllib.parse import unquote_plus, urlsplit

from flask import Blueprint, Response, g, jsonify, request

from flask_outmail.simulator import assertions, outside_issuer
from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.http_faults import apply_fault
from flask_outmail.simulator.state import State, now
from flask_outmail.simulator.tokens import Tokens
from flask_outmail.simulator.world import App

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)


class EntraRefused(Exception):
    def __init__(self, status: int, error: str, number: int | str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.number = number


def blueprint(state: State, tokens: Tokens, base_url: str) -> Blueprint:
    routes = Blueprint("entra", __name__)

    @routes.get("/<tenant>/v2.0/.well-known/openid-configuration")
    def discovery(tenant: str) -> Response:
        if fault := state.faults.take("discovery"):
            return apply_fault(state, fault, _scripted, lambda: discover(tenant))
        return discover(tenant)

    def discover(tenant: str) -> Response:
        try:
            _check_tenant(state, tenant, error="invalid_tenant", named=False)
        except EntraRefused as refused:
            return _refusal(refused, base_url)
        root = f"{base_url}/{tenant}"
        return jsonify(
            token_endpoint=f"{root}/oauth2/v2.0/token",
            authorization_endpoint=f"{root}/oauth2/v2.0/authorize",
            jwks_uri=f"{root}/discovery/v2.0/keys",
            issuer=f"{base_url}/{state.tenant}/v2.0",
            token_endpoint_auth_methods_supported=[
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
            response_types_supported=["code"],
            scopes_supported=["openid"],
            tenant_region_scope="EU",
            cloud_instance_name=urlsplit(base_url).netloc,
        )

    @routes.get("/common/discovery/instance")
    def instance() -> Response:
        host = urlsplit(base_url).netloc
        return jsonify(
            tenant_discovery_endpoint=f"{base_url}/{state.tenant}/v2.0/.well-known/openid-configuration",
            metadata=[{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        )

    @routes.post("/<tenant>/oauth2/v2.0/token")
    def token(tenant: str) -> Response:
        if fault := state.faults.take("token", method="POST"):
            return apply_fault(state, fault, _scripted, lambda: grant(tenant))
        return grant(tenant)

    def grant(tenant: str) -> Response:
        try:
            return _grant(state, tokens, base_url, tenant)
        except EntraRefused as refused:
            return _refusal(refused, base_url)

    def _scripted(fault: Fault) -> Response:
        number = fault.code or 90033
        refused = EntraRefused(fault.status or 500, fault.error or "invalid_request", number, fault.message)
        return _refusal(refused, base_url)

    @routes.get("/error")
    def explain() -> Response:
        return Response(
            "The simulator has no explanations; Microsoft's page explains the number.", mimetype="text/plain"
        )

    return routes


def _grant(state: State, tokens: Tokens, base_url: str, tenant: str) -> Response:
    form = request.form
    # Grant type, tenant, client id, credential, scope: the first thing that is wrong decides the answer.
    _check_grant_type(form.get("grant_type"))
    _check_tenant(state, tenant)
    client_id, secret = _client(form.get("client_id"), form.get("client_secret"))
    app = _check_app(state, client_id)
    _check_credential(app, secret, tenant, state, base_url)
    audience = _check_scope(tokens, form.get("scope", ""))
    behaviour = state.behaviour
    answer: dict[str, object] = {
        "token_type": "Bearer",
        "expires_in": behaviour.token_lifetime_s,
        "ext_expires_in": behaviour.token_lifetime_s,
        "access_token": tokens.make(
            app,
            audience,
            issuer=f"{base_url}/{state.tenant}/",
            lifetime_s=behaviour.token_lifetime_s,
            style=behaviour.token_style,
        ),
    }
    if behaviour.token_refresh_in_s is not None:
        answer["refresh_in"] = behaviour.token_refresh_in_s
    return _headers(jsonify(answer), str(uuid.uuid4()))


def _check_grant_type(grant_type: str | None) -> None:
    if not grant_type:
        raise EntraRefused(400, "invalid_request", 900144, "The request body must contain 'grant_type'.")
    if grant_type != "client_credentials":
        raise EntraRefused(
            400,
            "unsupported_grant_type",
            70003,
            f"The simulator does not grant '{grant_type}', only client_credentials.",
        )


def _check_tenant(state: State, tenant: str, *, error: str = "invalid_request", named: bool = True) -> None:
    if tenant in ("common", "consumers") and named:
        raise EntraRefused(
            400,
            error,
            9001023,
            f"The client_credentials grant does not work over /{tenant}; name the tenant.",
        )
    if tenant == "organizations" and named:
        raise EntraRefused(400, error, 50059, "Neither the request nor the credentials tell which tenant is meant.")
    if tenant in ("common", "consumers", "organizations"):
        return
    if not _is_guid(tenant) and not _DOMAIN.fullmatch(tenant):
        raise EntraRefused(400, error, 900023, f"'{tenant}' is neither a valid tenant GUID nor a valid domain name.")
    if not state.knows_tenant(tenant):
        raise EntraRefused(
            400,
            error,
            90002,
            f"Tenant '{tenant}' was not found. Check the tenant id, and that it is the right cloud.",
        )


def _client(client_id: str | None, secret: str | None) -> tuple[str, str | None]:
    """From the form, or from HTTP Basic, which RFC 6749 wants form-encoded inside."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:  # no base64, or no text in it
            user, password = "", ""
        client_id, secret = client_id or unquote_plus(user), secret or unquote_plus(password)
    if not client_id:
        raise EntraRefused(400, "invalid_request", 900144, "The request body must contain 'client_id'.")
    return client_id, secret


def _check_app(state: State, client_id: str) -> App:
    app = state.app(client_id)
    if app is None:
        raise EntraRefused(
            400,
            "unauthorized_client",
            700016,
            f"Application '{client_id[:80]}' is not in this directory. Wrong client id, or wrong tenant?",
        )
    if not app.enabled:
        raise EntraRefused(400, "unauthorized_client", 7000112, f"Application '{app.client_id}' is disabled.")
    return app


def _check_credential(app: App, secret: str | None, tenant: str, state: State, base_url: str) -> None:
    assertion = request.form.get("client_assertion")
    if assertion:
        if request.form.get("client_assertion_type") != ASSERTION_TYPE:
            raise EntraRefused(400, "invalid_request", 50027, "client_assertion_type is missing or unknown.")
        names = {tenant, state.tenant, state.domain}
        audiences = [f"{base_url}/{name}/{end}" for name in names for end in ("oauth2/v2.0/token", "v2.0", "")]
        try:
            if outside_issuer.is_from_outside(assertion, app.client_id):
                state.outside.check(assertion, app.trusts)
            else:
                assertions.check(assertion, app.certificates, app.client_id, audiences)
        except assertions.AssertionRefused as refused:
            raise EntraRefused(401, "invalid_client", refused.number, str(refused)) from None
        return
    if not secret:
        raise EntraRefused(
            401, "invalid_client", 7000216, "The request must contain a client_assertion or a client_secret."
        )
    if any(hmac.compare_digest(secret.encode(), other.encode()) for other in app.more_secrets):
        return
    if not app.secret or not hmac.compare_digest(secret.encode(), app.secret.encode()):
        raise EntraRefused(
            401,
            "invalid_client",
            7000215,
            "The client secret is not valid. Send the secret's value in the request, not the ID of the secret"
            f" (application '{app.client_id}').",
        )
    if app.secret_expired:
        raise EntraRefused(
            401,
            "invalid_client",
            7000222,
            f"All client secrets sent for application '{app.client_id}' have expired.",
        )


def _check_scope(tokens: Tokens, scope: str) -> str:
    """The audience, which is the scope without its ending."""
    words = scope.split()
    if not words:
        raise EntraRefused(400, "invalid_request", 900144, "The request body must contain 'scope'.")
    if len(words) > 1:
        raise EntraRefused(400, "invalid_scope", 700022, "The scope names more than one resource.")
    resource, ending, rest = words[0].rpartition("/.default")
    if not ending or rest:
        raise EntraRefused(
            400,
            "invalid_scope",
            1002012,
            f"The scope '{words[0][:200]}' is not valid: it must end with '/.default'.",
        )
    if not urlsplit(resource).netloc and not _is_guid(resource):
        raise EntraRefused(400, "invalid_scope", 70011, f"The scope '{words[0][:200]}' is not valid.")
    audience = resource.rstrip("/")
    if audience not in tokens.resources:
        raise EntraRefused(
            400,
            "invalid_resource",
            500011,
            f"The resource principal '{audience[:200]}' was not found in the tenant.",
        )
    return audience


def _refusal(refused: EntraRefused, base_url: str) -> Response:
    trace_id, moment = str(uuid.uuid4()), now().strftime("%Y-%m-%d %H:%M:%SZ")
    correlation_id = _correlation_id()
    number = str(refused.number)
    response = jsonify(
        error=refused.error,
        error_description=f"AADSTS{number}: {refused}\r\nTrace ID: {trace_id}\r\n"
        f"Correlation ID: {correlation_id}\r\nTimestamp: {moment}",
        error_codes=[int(number)] if number.isdecimal() else [],
        timestamp=moment,
        trace_id=trace_id,
        correlation_id=correlation_id,
        error_uri=f"{base_url}/error?code={number}",
    )
    response.status_code = refused.status
    g.code = number
    return _headers(response, trace_id)


def _headers(response: Response, trace_id: str) -> Response:
    response.headers["x-ms-request-id"] = trace_id
    response.headers["client-request-id"] = _correlation_id()
    response.headers["Cache-Control"] = "no-store, no-cache"
    response.headers["Pragma"] = "no-cache"
    return response


def _correlation_id() -> str:
    given = request.headers.get("client-request-id", "")
    return given if _is_guid(given) else str(uuid.uuid4())


def _is_guid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
