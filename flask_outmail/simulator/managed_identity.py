"""The endpoint that gives a machine on Azure tokens for its managed identity, over plain HTTP on the machine itself.

Two forms: that of App Service (`IDENTITY_ENDPOINT`, `IDENTITY_HEADER`; page "overview-managed-identity") and that of
virtual machines (page "how-to-use-vm-token"), which `AZURE_POD_IDENTITY_AUTHORITY_HOST` points at.
"""

from __future__ import annotations

import hmac
import time
from typing import Any

from flask import Flask, Response, jsonify, request

from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.http_faults import apply_fault
from flask_outmail.simulator.state import State
from flask_outmail.simulator.tokens import Tokens
from flask_outmail.simulator.world import App

APP_SERVICE_PATH = "/msi/token"
VM_PATH = "/metadata/identity/oauth2/token"


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(state: State, tokens: Tokens, secret: str, issuer: str) -> Flask:
    """`secret` is the value of `IDENTITY_HEADER`; `issuer` stands in the tokens."""
    app = Flask("flask_outmail_simulator_identity", static_folder=None, template_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get(APP_SERVICE_PATH)
    def app_service() -> Response:
        def answer() -> Response:
            if not hmac.compare_digest(request.headers.get("X-IDENTITY-HEADER", ""), secret):
                return _app_service_error(_Refused(401, "The request's X-IDENTITY-HEADER is not that of this process."))
            try:
                values = _grant(state, tokens, issuer)
            except _Refused as refused:
                return _app_service_error(refused)
            values.pop("expires_in")
            return jsonify(values)

        return _faulty(answer, _app_service_error)

    @app.get(VM_PATH)
    def virtual_machine() -> Response:
        def answer() -> Response:
            if request.headers.get("Metadata", "").lower() != "true":
                return _vm_error(_Refused(400, "Required metadata header not specified"))
            try:
                return jsonify(_grant(state, tokens, issuer))
            except _Refused as refused:
                return _vm_error(refused)

        return _faulty(answer, _vm_error)

    def _faulty(answer: Any, refuse: Any) -> Response:
        fault = state.faults.take("identity", method="GET")
        if fault is None:
            return answer()  # type: ignore[no-any-return]

        def scripted(wanted: Fault) -> Response:
            return refuse(_Refused(wanted.status or 500, wanted.message or "scripted"))  # type: ignore[no-any-return]

        return apply_fault(state, fault, scripted, answer)

    @app.after_request
    def note(response: Response) -> Response:
        state.record(request.method, request.path, response.status_code)
        return response

    return app


def _grant(state: State, tokens: Tokens, issuer: str) -> dict[str, Any]:
    if not request.args.get("api-version"):
        raise _Refused(400, "The api-version is missing.")
    identity = _identity(state, request.args.get("client_id", ""))
    resource = request.args.get("resource", "").rstrip("/")
    if resource not in tokens.resources:
        raise _Refused(400, f"The resource '{resource[:200]}' was not found in the tenant.")
    lifetime_s = state.behaviour.token_lifetime_s
    text = tokens.make(identity, resource, issuer=issuer, lifetime_s=lifetime_s, style=state.behaviour.token_style)
    return {
        "access_token": text,
        "client_id": identity.client_id,
        # Texts, not numbers, in both forms.
        "expires_in": str(lifetime_s),
        "expires_on": str(int(time.time()) + lifetime_s),
        "resource": resource,
        "token_type": "Bearer",
    }


def _identity(state: State, client_id: str) -> App:
    managed = [app for app in state.apps() if app.is_managed and app.enabled]
    wanted = [app for app in managed if not client_id or app.client_id.lower() == client_id.lower()]
    if not wanted:
        raise _Refused(
            400, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
        )
    return wanted[0]


def _app_service_error(refused: _Refused) -> Response:
    response = jsonify(statusCode=refused.status, message=str(refused))
    response.status_code = refused.status
    return response


def _vm_error(refused: _Refused) -> Response:
    response = jsonify(error="invalid_request", error_description=str(refused))
    response.status_code = refused.status
    return response
