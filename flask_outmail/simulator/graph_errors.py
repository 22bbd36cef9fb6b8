"""Graph's error answers: shape and headers as on the page "errors" (Microsoft Graph)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from flask import Response, g, jsonify, request

from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.state import now


class GraphRefused(Exception):
    """A refusal on its way to the client."""

    def __init__(self, status: int, code: str, message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def error_response(
    status: int, code: str, message: str, *, inner: Iterable[str] = (), headers: dict[str, str] | None = None
) -> Response:
    """`inner` are codes nested below the first, outermost first."""
    details: dict[str, Any] = {
        "date": now().strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": request_id(),
        "client-request-id": client_request_id(),
    }
    for nested in reversed(list(inner)):
        details = {"code": nested, "innerError": details}
    response = jsonify(error={"code": code, "message": message, "innerError": details})
    response.status_code = status
    for name, value in (headers or {}).items():
        response.headers[name] = value
    g.code = code
    return response


def scripted(fault: Fault) -> Response:
    """The error that a fault wants, written Graph's way."""
    return error_response(fault.status or 500, fault.code, fault.message, inner=fault.inner)


def request_id() -> str:
    """One per request, for the header and the body alike."""
    if "request_id" not in g:
        g.request_id = str(uuid.uuid4())
    return str(g.request_id)


def client_request_id() -> str:
    return request.headers.get("client-request-id", "") or request_id()
