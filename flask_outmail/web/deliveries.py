"""The delivery log: its pages, and what concerns many messages at once (export, sending again, erasing)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from flask import Response, redirect, render_template, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue

from ..access import CHANGE, DELETE, EXPORT
from ..errors import InvalidMessage
from ..models import utc_now
from ..outbox import log, resending, store
from ..outbox.log import Filters, Place
from ..outbox.resending import AGAIN_IN_BULK, BULK_MAX, Bulk
from ..outbox.states import FAILED, REFUSED, UNKNOWN
from .activity import note, noted
from .blueprint import actor, engine, may, needs, pages, tell
from .forms import ActionForm, demand_csrf, number

#: What can be chosen in place of two dates: name → hours.
PERIODS = {"hour": ("Last hour", 1), "day": ("Last 24 hours", 24), "week": ("Last 7 days", 168)}
_PLACE = re.compile(r"(\d{8}T\d{12})-(\d{1,18})")
_LONGEST = 320


@pages.get("/deliveries/")
def deliveries() -> ResponseReturnValue:
    filters, found = read_filters(request.args), engine()
    with found.database.session() as database:
        page = log.page(
            database, filters, before=_place(request.args.get("before")), after=_place(request.args.get("after"))
        )
        causes = log.causes(database, now=utc_now())
    return render_template(
        "outmail/deliveries.html",
        page=page,
        filters=filters,
        asked=asked(request.args),
        causes=causes,
        states=store.STATES,
        connections=found.connections.names(),
        periods={name: label for name, (label, _) in PERIODS.items()},
        bulk=may(CHANGE) and _may_be_bulk(filters),
        form=ActionForm(),
    )


def read_filters(values: Mapping[str, str]) -> Filters:
    """What is looked for, from an address or a form. What makes no sense is left out."""
    texts = asked(values)
    since, until = _moment(texts.get("since", "")), _moment(texts.get("until", ""), end_of_day=True)
    if texts.get("period") in PERIODS:
        since, until = utc_now() - timedelta(hours=PERIODS[texts["period"]][1]), None
    return Filters(
        state=texts["state"] if texts.get("state") in store.STATES else "",
        connection=texts.get("connection", ""),
        code=texts.get("code", ""),
        to=texts.get("to", ""),
        subject=texts.get("subject", ""),
        since=since,
        until=until,
    )


def asked(values: Mapping[str, str]) -> dict[str, str]:
    """The filters as they stand in an address: what a link to the same ones must carry."""
    names = ("state", "connection", "code", "to", "subject", "period", "since", "until")
    # PostgreSQL takes no NUL in a text.
    texts = {name: values.get(name, "").replace("\0", "").strip()[:_LONGEST] for name in names}
    return {name: text for name, text in texts.items() if text}


def _moment(text: str, *, end_of_day: bool = False) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
        # A day as an end includes that day.
        return moment + timedelta(days=1) if end_of_day and len(text) == len("2026-11-25") else moment
    except (ValueError, OverflowError):
        return None


def _place(text: str | None) -> Place | None:
    match = _PLACE.fullmatch(text or "")
    if match is None or not match[0].isascii():
        return None
    try:
        return Place(datetime.strptime(match[1], "%Y%m%dT%H%M%S%f").replace(tzinfo=timezone.utc), int(match[2]))
    except ValueError:
        return None


# -- export ----------------------------------------------------------------------------------------------------------


@pages.post("/deliveries/export")
@needs(EXPORT)
def export_deliveries() -> ResponseReturnValue:
    """The messages that the filters find, as CSV, while it is read: the log may be larger than the memory."""
    demand_csrf()
    filters, found = read_filters(request.form), engine()
    with found.database.session() as database:
        # Which filters, but not whom they look for: the line outlives the erasing of a person's data.
        note(database, "export", "deliveries", ", ".join(asked(request.form)))
        database.commit()

    def page(before: Place | None) -> log.Page:
        with found.database.session() as database:
            return log.exported_page(database, filters, before)

    response = Response(stream_with_context(log.csv_lines(page)), mimetype="text/csv")
    response.headers["Content-Disposition"] = f"attachment; filename=deliveries-{utc_now():%Y%m%d-%H%M}.csv"
    return response


# -- sending again, in bulk ------------------------------------------------------------------------------------------


@pages.get("/deliveries/again")
@needs(CHANGE)
def resend_deliveries() -> ResponseReturnValue:
    return _bulk_page(request.args)


@pages.post("/deliveries/again")
def do_resend_deliveries() -> ResponseReturnValue:
    demand_csrf()
    form, found = request.form, engine()
    bulk, count = _bulk(form), min(number(form.get("count")) or BULK_MAX, BULK_MAX)
    agreed = form.get("may_arrive_twice") == "yes"
    with found.database.session() as database:
        if resending.preview(database, bulk, examples=0).unknown and not agreed:
            return _bulk_page(form, problem="Confirm that these messages may arrive twice."), 422
        queued = resending.resend_bulk(database, found.vault, bulk, limit=count, may_arrive_twice=True)
        told = ", ".join(filter(None, ("/".join(bulk.states), bulk.code, bulk.connection)))
        note(database, "resend_bulk", f"{queued} deliveries", told)
        database.commit()
    found.wake()
    if queued:
        tell(f"Queued again: {queued} {'message' if queued == 1 else 'messages'}.")
    else:
        tell("Nothing was queued: these messages have been sent again already.", "warning")
    return redirect(url_for(".deliveries", state="queued"))


def _bulk_page(values: Mapping[str, str], problem: str = "") -> str:
    bulk = _bulk(values)
    with engine().database.session() as database:
        shown = resending.preview(database, bulk)
    kept = {name: text for name, text in asked(values).items() if name not in ("to", "subject")}
    return render_template(
        "outmail/deliveries_again.html",
        shown=shown,
        bulk=bulk,
        asked=kept,
        most=min(shown.count, BULK_MAX),
        per_minute=engine().settings.rate_per_minute,
        problem=problem,
        form=ActionForm(),
    )


def _bulk(values: Mapping[str, str]) -> Bulk:
    filters = read_filters(values)
    states = (filters.state,) if filters.state in AGAIN_IN_BULK else (FAILED, REFUSED)
    return Bulk(
        states=states,
        code=filters.code,
        connection=filters.connection,
        since=filters.since,
        until=filters.until,
        last_id=number(values.get("last_id")),
    )


def _may_be_bulk(filters: Filters) -> bool:
    """Whether sending again all that the filters find is something a bulk can do."""
    return filters.state in (FAILED, REFUSED, UNKNOWN) and not (filters.to or filters.subject)


# -- erasing ---------------------------------------------------------------------------------------------------------


@pages.get("/deliveries/erase")
@needs(DELETE)
def erase_deliveries() -> ResponseReturnValue:
    return render_template("outmail/deliveries_erase.html", form=ActionForm(), problem="")


@pages.post("/deliveries/erase")
@needs(DELETE)
def do_erase_deliveries() -> ResponseReturnValue:
    """Takes a person out of the log. The address comes in the form, never in an address that servers write down."""
    demand_csrf()
    try:
        done = engine().keeping.erase(request.form.get("address", "").strip()[:_LONGEST], by=actor())
    except InvalidMessage:
        problem = "Enter one whole address, like ann@example.com."
        return render_template("outmail/deliveries_erase.html", form=ActionForm(), problem=problem), 422
    noted()
    tell(f"Anonymised: {done.rows} {'message' if done.rows == 1 else 'messages'}.")
    if done.waiting:
        tell(f"{done.waiting} still to leave, and so left as they are. Cancel them, or erase again later.", "warning")
    return redirect(url_for(".deliveries"))
