"""Incidents: failures with one cause, told once, until they are over, with what to do about each."""

from __future__ import annotations

from collections.abc import Callable

from flask import abort, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from ..models import Incident
from ..outbox import alerts as incidents
from ..proving import count_test
from .blueprint import ID, actor, engine, pages, tell
from .forms import ActionForm, demand_csrf

_RECENT = 20
CHANNEL_LABELS = {"mail": "Mail", "webhook": "Webhook", "callback": "Function of the application"}


@pages.get("/alerts")
def alerts() -> ResponseReturnValue:
    return _page()


def _page(**values: object) -> str:
    with engine().database.session() as database:
        open_ones = incidents.open_incidents(database)
        closed = [one for one in incidents.recent_incidents(database) if one.closed_at is not None][:_RECENT]
    return render_template(
        "outmail/alerts.html",
        open_ones=open_ones,
        closed=closed,
        channels=engine().alerting.channels.described(),
        channel_labels=CHANNEL_LABELS,
        repeats=engine().settings.alert_repeats,
        form=ActionForm(),
        **values,
    )


@pages.post("/alerts/test")
def test_alert() -> ResponseReturnValue:
    """Sends a test alert through every channel and shows what each said. Touches the network."""
    demand_csrf()
    count_test(engine())
    # Shown at once, not after a redirect: what the channels said belongs to this press of the button alone.
    return _page(tested=engine().alerting.send_test())


@pages.get("/alerts/test")
def reload_after_test() -> ResponseReturnValue:
    """Where the browser ends up when somebody opens the address of the button."""
    return redirect(url_for(".alerts"))


@pages.post(f"/alerts/<{ID}:incident_id>/acknowledge")
def acknowledge_alert(incident_id: int) -> ResponseReturnValue:
    said = "Noted. There are no more reminders of it; you are told when it is over."
    return _changed(incident_id, incidents.acknowledge, said)


@pages.post(f"/alerts/<{ID}:incident_id>/dismiss")
def dismiss_alert(incident_id: int) -> ResponseReturnValue:
    return _changed(incident_id, incidents.dismiss, "Dismissed. If it fails again, it is told again.")


def _changed(incident_id: int, change: Callable[..., None], said: str) -> ResponseReturnValue:
    demand_csrf()
    with engine().database.session() as database:
        incident = database.get(Incident, incident_id) or abort(404)
        if incident.closed_at is None:
            change(database, incident, by=actor())
            database.commit()
    tell(said)
    return redirect(url_for(".alerts"))
