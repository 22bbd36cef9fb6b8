"""Quill & Page: a small bookshop that sends its mail with Flask-Outmail. Start it with `python -m example_app`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask, Response, has_request_context, render_template
from werkzeug.exceptions import HTTPException

from . import accounts, config, shop
from .books import money
from .extensions import csrf, db, mail
from .forms import ButtonForm

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def create_app(changes: Mapping[str, Any] | None = None) -> Flask:
    """The application. `changes` go over what `config.py` finds; EXAMPLE_INSTANCE there moves the instance folder.

    Touches the instance folder, but neither network nor database: `models.create_tables` makes the tables.
    """
    changes = changes or {}
    instance = Path(changes.get("EXAMPLE_INSTANCE") or config.instance_folder())
    app = Flask(__name__, instance_path=str(instance.resolve()))
    app.config.from_mapping(config.settings(instance))
    app.config.update(changes)

    db.init_app(app)
    csrf.init_app(app)
    mail.init_app(app, db)
    app.register_blueprint(accounts.blueprint)
    app.register_blueprint(shop.blueprint)

    app.jinja_env.filters["money"] = money
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.context_processor(_everywhere)
    app.register_error_handler(HTTPException, _explain)
    app.after_request(_protect)
    return app


def _everywhere() -> dict[str, Any]:
    """What every page may use, those of Flask-Outmail inside our base template too."""
    if not has_request_context():
        return {}  # a mail's template, rendered by a worker
    return {"user": accounts.current_user(), "logout_form": ButtonForm()}


def _explain(error: HTTPException) -> tuple[str, int]:
    return render_template("error.html", error=error), error.code or 500


def _protect(response: Response) -> Response:
    # Pages of extensions may bring their own policy.
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response
