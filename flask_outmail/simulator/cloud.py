"""Entra and Graph together as one WSGI application, and the record of what it answered."""

from __future__ import annotations

from flask import Flask, Response, g, request

from flask_outmail.simulator import drafts, entra, graph, graph_errors, uploads
from flask_outmail.simulator.state import State
from flask_outmail.simulator.tokens import Tokens
from flask_outmail.simulator.webserver import DropConnection


def make_app(state: State, tokens: Tokens, base_url: str) -> Flask:
    app = Flask("flask_outmail_simulator", static_folder=None, template_folder=None)
    # Otherwise Flask would turn DropConnection into a 500.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    sessions = uploads.Sessions(state, base_url)
    app.register_blueprint(entra.blueprint(state, tokens, base_url))
    app.register_blueprint(graph.blueprint(state, tokens, base_url, drafts.operations(sessions)))
    app.register_blueprint(uploads.blueprint(sessions))

    @app.after_request
    def mark(response: Response) -> Response:
        if not request.path.endswith("/token"):
            response.headers["request-id"] = graph_errors.request_id()
            response.headers["client-request-id"] = graph_errors.client_request_id()
            response.headers["x-ms-ags-diagnostic"] = '{"ServerInfo":{"DataCenter":"Simulator","Slice":"E","Ring":"0"}}'
            response.headers.setdefault("Cache-Control", "private")
            # No Strict-Transport-Security: a browser would remember it for every other server on localhost.
        code = str(g.get("code", ""))
        state.record(request.method, _path(), response.status_code, code, graph_errors.request_id())
        return response

    @app.teardown_request
    def note_dropped(error: BaseException | None) -> None:
        if isinstance(error, DropConnection):
            state.record(request.method, _path(), 0, "dropped", graph_errors.request_id())

    return app


def _path() -> str:
    """Without the query, and without what makes an upload URL a secret."""
    return uploads.PREFIX if request.path.startswith(uploads.PREFIX) else request.path
