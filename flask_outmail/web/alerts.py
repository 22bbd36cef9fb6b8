"""Incidents: failures with one cause, told once, until they are over or dismissed."""

from __future__ import annotations

from flask import abort, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from ..models import Incident
from ..outbox import alerts as incidents
from .blueprint import ID, actor, engine, pages, tell
from .forms import ActionForm, demand_csrf

_RECENT = 20


@pages.get("/alerts")
def alerts() -> ResponseReturnValue:
    with engine().database.session() as database:
        open_ones = incidents.open_incidents(database)
        closed = [one for one in incidents.recent_incidents(database) if one.closed_at is not None][:_RECENT]
    return render_template("outmail/alerts.html", open_ones=open_ones, closed=closed, form=ActionForm())


@pages.post(f"/alerts/<{ID}:incident_id>/dismiss")
def dismiss_alert(incident_id: int) -> ResponseReturnValue:
    demand_csrf()
    with engine().database.session() as database:
        incident = database.get(Incident, incident_id) or abort(404)
        if incident.closed_at is None:
            incidents.dismiss(database, incident, by=actor())
            database.commit()
    tell("Dismissed. If it fails again, it is told again.")
    return redirect(url_for(".alerts"))
