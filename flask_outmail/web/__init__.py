"""The administrator's pages: one blueprint, closed until the application says who may enter (`mail.access_control`)."""

from __future__ import annotations

from flask import Blueprint


def create_blueprint() -> Blueprint:
    """The pages, ready to be registered under `OUTMAIL_URL_PREFIX`."""
    # Importing a module of views is what adds its routes.
    from . import alerts, auth_objects, deliveries, domain, guard, history, overview, previews, secrets, setup  # noqa: F401
    from .blueprint import pages

    return pages
