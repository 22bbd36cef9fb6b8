"""Every revision of a setup: who, when, what changed; and the way back to one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flask import abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import audit, services, setups
from ..auth_objects import Conflict
from ..errors import SecretUnreadable
from ..models import PRIMARY, Setup
from ..setups import Change
from .activity import note, noted
from .blueprint import ID, actor, ago, engine, pages, tell
from .forms import ActionForm, demand_csrf, number, wanted_action
from .setup_form import Known, known_of, wanted_connection
from .setup_saving import is_revision_proven, release, revision_words

#: Revisions on a page, and lines of the activity.
_REVISIONS = 20
_ACTIVITY = 30
#: What people did, in words; the rest is told by the name of its view.
DEEDS = {
    "cancel": "Cancelled",
    "retry": "Tried again",
    "resend": "Sent again",
    "resend_bulk": "Sent again, in bulk",
    "read_body": "Read",
    "read_links": "Read, with whole links",
    "export": "Exported as CSV",
    "export_message": "Saved as a file",
    "erase": "Erased",
    "prune": "Pruned",
    "save_setup": "Saved a setup",
    "import_setup": "Imported the configuration as a setup",
    "submit_setup": "Used the set-up page",
    "stream_setup_test": "Tested a setup",
    "restore_revision": "Restored a revision",
    "use_revision": "Put a revision into use",
    "release_held": "Released held messages",
    "new_auth_object": "Made an authentication object",
    "auth_object": "Changed an authentication object",
    "stream_new_auth_object_test": "Tested a credential",
    "stream_auth_object_test": "Tested a credential",
    "stream_secret_test": "Tested a credential",
    "delete_auth_object": "Deleted an authentication object",
    "replace_secret": "Replaced a secret",
    "undo_secret": "Went back to the secret before",
    "forget_secret": "Deleted the secret before",
    "acknowledge_alert": "Acknowledged an alert",
    "dismiss_alert": "Dismissed an alert",
    "test_alert": "Sent a test alert",
    "check_domain": "Checked the domain",
    "stream_domain_check": "Checked the domain",
    "send_preview": "Sent a preview",
}


#: What a number in the address of a page stands for.
_PLACES = {"auth-objects": "authentication object", "alerts": "alert"}
_PLACE = re.compile(rf"/({'|'.join(_PLACES)})/(\d+)\b.*")


def place_words(object: str) -> str:
    """What a line of the activity is about, in words; "" where the action says all."""
    if match := _PLACE.fullmatch(object):
        return f"{_PLACES[match[1]]} {match[2]}"
    return "" if object.startswith("/") else object


@dataclass(frozen=True)
class Entry:
    """One revision as the page shows it."""

    row: Setup
    changes: list[Change]
    is_first: bool
    is_active: bool
    is_proven: bool


@pages.get("/history")
def history() -> ResponseReturnValue:
    connection, found = wanted_connection(), engine()
    with found.database.session() as database:
        known = known_of(found, database, connection)
        before = number(request.args.get("revision"))
        # One more, which the last of the page differs from.
        rows = list(setups.history(database, connection, limit=_REVISIONS + 1, before=before))
        revisions = setups.numbers(database, connection)
        entries = [
            Entry(
                row,
                setups.changes(former, row, found.vault),
                former is None,
                known.active is not None and row.id == known.active.id,
                is_revision_proven(found, row),
            )
            for row, former in zip(rows[:_REVISIONS], [*rows[1:], None], strict=False)
        ]
        activity = audit.entries(database, limit=_ACTIVITY + 1, before_id=number(request.args.get("before")))
    labels = {service.name: service.label for service in services.services()}
    return render_template(
        "outmail/history.html",
        entries=entries,
        revisions=revisions,
        older_revisions=rows[_REVISIONS - 1].revision if len(rows) > _REVISIONS else None,
        known=known,
        form=ActionForm(),
        service_labels=labels,
        activity=activity[:_ACTIVITY],
        older=activity[_ACTIVITY - 1].id if len(activity) > _ACTIVITY else None,
        deeds=DEEDS,
        place_words=place_words,
        taken_over=setups.TAKEN_OVER,
    )


@pages.get("/history/compare")
def compare_revisions() -> ResponseReturnValue:
    """The differences between any two revisions, in the order of time whichever was named first."""
    connection, found = wanted_connection(), engine()
    numbers = sorted(number(request.args.get(name)) for name in ("from", "to"))
    with found.database.session() as database:
        known = known_of(found, database, connection)
        wanted = select(Setup).where(Setup.connection == connection, Setup.revision.in_(numbers))
        rows = list(database.scalars(wanted.order_by(Setup.revision)))
        if len(rows) != len(set(numbers)):
            abort(404)
        changed = setups.changes(rows[0], rows[-1], found.vault)
    labels = {service.name: service.label for service in services.services()}
    return render_template(
        "outmail/history_compare.html", before=rows[0], after=rows[-1], changes=changed, known=known,
        form=ActionForm(), service_labels=labels,
    )  # fmt: skip


@pages.post(f"/history/<{ID}:setup_id>/restore")
def restore_revision(setup_id: int) -> ResponseReturnValue:
    """The values of an old revision as a new one."""
    demand_csrf()
    found = engine()
    with found.database.session() as database:
        old, known = _wanted(database, setup_id)
        try:
            row = setups.restore(
                database, old, found.vault, by=actor(), seen_revision=number(ActionForm().revision.data)
            )
        except Conflict as exc:
            newest = setups.latest(database, known.connection)
            when = ago(newest.created_at) if newest else "meanwhile"
            tell(f"{exc.by or 'Somebody'} saved a change {when}. Nothing was restored; look again.", "bad")
            noted()
            return redirect(_back(known.connection))
        except SecretUnreadable:
            tell("This revision cannot be restored: its secret cannot be read with the present keys.", "bad")
            noted()
            return redirect(_back(known.connection))
        proven = is_revision_proven(found, row)
        into_use = proven or not known.in_use_verified
        if into_use:
            setups.activate(row, by=actor())
        note(database, "restore_revision", revision_words(old), f"as {revision_words(row)}")
        database.commit()
    told = f"Revision {old.revision} is restored as revision {row.revision}."
    if not into_use:
        tell(f"{told} It is not proven, so {known.in_use} stays in use. Test it in Set-up.", "warning")
        return redirect(_back(known.connection))
    return _in_use(known.connection, told, proven)


@pages.post(f"/history/<{ID}:setup_id>/use")
def use_revision(setup_id: int) -> ResponseReturnValue:
    """Puts a saved revision into use; asks first when that would stop mail that flows."""
    demand_csrf()
    found = engine()
    with found.database.session() as database:
        row, known = _wanted(database, setup_id)
        proven = is_revision_proven(found, row)
        if not proven and known.in_use_verified and wanted_action() != "use_anyway":
            return render_template("outmail/history_use.html", row=row, known=known, form=ActionForm()), 422
        setups.activate(row, by=actor())
        note(database, "use_revision", revision_words(row))
        database.commit()
    return _in_use(known.connection, f"Revision {row.revision} is in use.", proven)


def _wanted(database: Session, setup_id: int) -> tuple[Setup, Known]:
    row = database.get(Setup, setup_id)
    if row is None:
        abort(404)
    return row, known_of(engine(), database, row.connection)


def _in_use(connection: str, told: str, proven: bool) -> ResponseReturnValue:
    found = engine()
    found.connections.look_again()
    if proven:
        tell(f"{told} Mail is sent with these settings.")
        released = release(found, connection)
        if released:
            tell(released)
    else:
        tell(f"{told} It is not proven, so mail is held until a test passes. Nothing is lost.", "warning")
    return redirect(_back(connection))


def _back(connection: str) -> str:
    return url_for(".history", connection=None if connection == PRIMARY else connection)
