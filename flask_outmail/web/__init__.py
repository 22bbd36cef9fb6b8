"""The administrator's pages: one blueprint, closed until the application says who may enter (`mail.access_control`)."""

from __future__ import annotations

from flask import Blueprint


def create_blueprint() -> Blueprint:
    """The pages, ready to be registered under `OUTMAIL_URL_PREFIX`."""
    # Importing a module of views is what adds its routes.
    from . import (  # noqa: F401
        alerts,
        auth_objects,
        deliveries,
        delivery,
        domain,
        guard,
        history,
        overview,
        previews,
        secrets,
        setup,
    )
    from .blueprint import pages

    return pages
