from __future__ import annotations

from flask import Blueprint


def create_blueprint() -> Blueprint:
    return Blueprint("outmail", __name__, template_folder="templates", static_folder="static")
