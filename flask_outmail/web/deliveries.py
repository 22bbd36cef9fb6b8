"""The newest deliveries, as a plain list."""

from __future__ import annotations

from flask import render_template, request
from flask.typing import ResponseReturnValue

from ..outbox import store
from .blueprint import engine, pages


@pages.get("/deliveries/")
def deliveries() -> ResponseReturnValue:
    wanted = request.args.get("state", "")
    state = wanted if wanted in store.STATES else ""
    with engine().database.session() as database:
        rows = store.newest(database, state=state)
        counts = store.counts(database)
    return render_template("outmail/deliveries.html", rows=rows, counts=counts, states=store.STATES, state=state)
