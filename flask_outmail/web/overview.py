"""The overview: one sentence of truth, and what stands behind it."""

from __future__ import annotations

from flask import redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from .blueprint import engine, pages, tell
from .forms import ActionForm, demand_csrf
from .health import WORKING, health
from .setup_saving import release


@pages.get("/")
def overview() -> ResponseReturnValue:
    return render_template("outmail/overview.html", health=health(engine()), form=ActionForm())


@pages.post("/release")
def release_held() -> ResponseReturnValue:
    """Lets held messages go. Touches the network."""
    demand_csrf()
    found = engine()
    lines = [line for line in health(found).lines if line.state == WORKING]
    told = [sentence for line in lines if (sentence := release(found, line.name))]
    for sentence in told:
        tell(sentence)
    if not told:
        tell("Nothing was handed over: there is no held message whose connection is verified.", "warning")
    return redirect(url_for(".overview"))
