"""Authentication objects: the list, and making, changing, testing and deleting one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from flask import Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .. import auth_objects as stored
from .. import credential_log, setups
from ..access import CHANGE, DELETE
from ..auth_objects import Conflict, InUse, LimitReached, NotUnique
from ..credential_log import Checked
from ..diagnosis import steps
from ..diagnosis.it_request import it_request
from ..entra import TOKEN_FILE_VARIABLE
from ..errors import ConfigurationError, OutmailError
from ..models import PRIMARY, AuthObject, Setup, utc_now
from ..providers import PROVIDERS
from ..proving import Trial, credential_checks
from ..setup_values import Credential, SetupValues
from .activity import note
from .auth_object_form import Entered, is_changed, offer_choices, read, show, stored_certificate
from .blueprint import ID, actor, ago, engine, needs, pages, person, tell
from .forms import ActionForm, AuthObjectForm, csrf_refused, demand_csrf, in_order, number, wanted_action
from .history import DEEDS
from .setup_form import plain_values_of, wanted_connection
from .setup_saving import is_revision_proven, release
from .texts import words
from .trials import Run, refuse, stream

#: How far back the checks on the page of one object go.
CHECKS_DAYS = 30
MADE_LATER = "A certificate made here is tested once it is saved and its public part is uploaded in Entra."


@dataclass
class Page:
    """All that the template of one authentication object needs."""

    form: AuthObjectForm
    row: AuthObject | None = None
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    used_by: list[Setup] = field(default_factory=list)
    conflict: str = ""
    would_stop_mail: bool = False
    csrf_failed: bool = False
    limit_reached: int = 0

    def render(self, status: int = 200) -> ResponseReturnValue:
        clouds = engine().environment.clouds
        self.problems = in_order(self.form, self.problems)
        offer_choices(self.form)
        self.form.provider.choices = [(name, kind.label) for name, kind in PROVIDERS.items()]
        self.form.cloud.choices = [(cloud.name, cloud.label) for cloud in clouds.values()]
        context: dict[str, Any] = {
            "page": self,
            "form": self.form,
            "row": self.row,
            "clouds": clouds,
            "cloud": clouds.get(self.form.cloud.data or "global"),
            "kinds": PROVIDERS,
            "kind": PROVIDERS.get(self.row.provider if self.row is not None else self.form.provider.data or ""),
            "stored": stored_certificate(self.row, engine()) if self.row is not None else None,
            "action_form": ActionForm(formdata=None),
            "request_text": self._request_text(),
            "token_variable": TOKEN_FILE_VARIABLE,
            "returns_to_setup": returns_to_setup(),
            "connection": wanted_connection(),
        }
        context |= self._past()
        return render_template("outmail/auth_object.html", **context), status

    def _past(self) -> dict[str, Any]:
        """Its checks and its changes, for the template."""
        found, row = engine(), self.row
        past: dict[str, Any] = {"checks": [], "changes": [], "deeds": DEEDS, "checks_days": CHECKS_DAYS}
        past |= {"present": None, "previous_ends_on": None}
        if row is None:
            return past
        with found.database.session() as database:
            past["changes"] = credential_log.changes(database, row)
            with suppress(ConfigurationError):  # without a key nothing was proven either
                since = utc_now() - timedelta(days=CHECKS_DAYS)
                past["checks"] = credential_log.checks(database, row, found.vault, since=since)
            with suppress(OutmailError):  # unreadable: the page says so elsewhere
                past["present"] = credential_log.of_present(database, row, found.vault)
                past["previous_ends_on"] = stored.previous_ends_on(row, found.vault)
        # A field's name in the log, and what it is called on the page.
        past["labels"] = {name: field.label.text for name, field in self.form._fields.items()}
        return past

    def _request_text(self) -> str:
        """The request for the IT department, for what is stored."""
        found, row = engine(), self.row
        if row is None:
            return ""
        certificate = stored_certificate(row, found)
        return it_request(
            service="microsoft365_graph",
            mailbox="",
            app_name=found.app.name,
            provider=row.provider,
            thumbprint=certificate.thumbprint if certificate else "",
            words=words(),
        )


def returns_to_setup() -> bool:
    # A word, not an address: nobody can be sent elsewhere with it.
    return request.args.get("next") == "setup"


def way_back() -> dict[str, Any]:
    """The part of an address that leads back to where the person came from."""
    connection = wanted_connection()
    found = {"next": "setup"} if returns_to_setup() else {}
    return {**found, "connection": connection} if found and connection != PRIMARY else found


@pages.get("/auth-objects/", endpoint="auth_objects")
def list_auth_objects() -> ResponseReturnValue:
    found = engine()
    with found.database.session() as database:
        rows = stored.by_expiry(database)
        in_use = stored.usage(database)
        checked: dict[int, Checked] = {}
        with suppress(ConfigurationError):  # without a key nothing was proven either
            checked = credential_log.last_checks(database, rows, found.vault)
    request_text = it_request(service="microsoft365_graph", mailbox="", app_name=found.app.name, words=words())
    return render_template(
        "outmail/auth_objects.html",
        rows=rows,
        in_use=in_use,
        checked=checked,
        providers=PROVIDERS,
        clouds=found.environment.clouds,
        limit=found.settings.auth_objects_max,
        request_text=request_text,
    )


@pages.route("/auth-objects/new", methods=["GET", "POST"])
@needs(CHANGE)
def new_auth_object() -> ResponseReturnValue:
    limit = _limit_reached()
    if request.method == "GET":
        form = AuthObjectForm(formdata=None)
        named = request.args.get("provider", "")
        form.provider.data, form.cloud.data = named if named in PROVIDERS else next(iter(PROVIDERS)), "global"
        form.expiry_applies_to.data = "client secret"
        return Page(form, limit_reached=limit).render()
    page, entered = _entered(None)
    page.limit_reached = limit
    early = _without_saving(page, entered)
    if early is not None:
        return early
    found = engine()
    entered.make_certificate()
    with found.database.session() as database:
        try:
            row = stored.create(database, entered.draft, found.vault, by=actor(), limit=found.settings.auth_objects_max)
            note(database, "new_auth_object", credential_log.place(row))
            database.commit()
        except LimitReached:
            page.problems["name"] = f"There are already {found.settings.auth_objects_max}, which is the limit."
            return page.render(422)
        except NotUnique as exc:
            page.problems["name"] = f"{exc}."
            return page.render(422)
    tell(f"“{row.name}” is stored.")
    if entered.make_days:
        tell("A key and certificate were made.")
        return redirect(url_for(".auth_object", object_id=row.id, **way_back()))
    if returns_to_setup():
        connection = wanted_connection()
        return redirect(url_for(".setup", auth_object=row.id, connection=None if connection == PRIMARY else connection))
    return redirect(url_for(".auth_objects"))


def _without_saving(page: Page, entered: Entered) -> ResponseReturnValue | None:
    """The answer to a form that is not to be saved: refused, with problems, or only tested. None for all others."""
    if page.csrf_failed:
        return page.render(400)
    if page.problems:
        return page.render(422)
    if wanted_action() == "test" and entered.make_days:
        page.problems["secret_kind"] = MADE_LATER
        return page.render(422)
    if wanted_action() == "test":
        page.runs = [_run(entered, page.row).finish()]
        return page.render()
    return None


def _limit_reached() -> int:
    """The limit, when it is reached; else 0."""
    found = engine()
    with found.database.session() as database:
        count = database.scalar(select(func.count(AuthObject.id))) or 0
    return found.settings.auth_objects_max if count >= found.settings.auth_objects_max else 0


@pages.route(f"/auth-objects/<{ID}:object_id>", methods=["GET", "POST"])
def auth_object(object_id: int) -> ResponseReturnValue:
    row, used_by = wanted(object_id)
    if request.method == "GET":
        form = AuthObjectForm(formdata=None)
        show(form, row)
        return Page(form, row, used_by=used_by).render()
    page, entered = _entered(row)
    page.used_by = used_by
    early = _without_saving(page, entered)
    if early is not None:
        return early
    proven: dict[str, SetupValues] = {}
    is_new = is_changed(entered, row, engine())
    if is_new:
        page.runs, proven, broken = try_with_setups(entered.credential, used_by)
        if broken and wanted_action() != "save_anyway":
            page.would_stop_mail = True
            return page.render(422)
        page.runs = []
    return _change(page, row, entered, proven if is_new else None)


def wanted(object_id: int) -> tuple[AuthObject, list[Setup]]:
    with engine().database.session() as database:
        row = database.get(AuthObject, object_id)
        if row is None:
            abort(404)
        return row, setups.using(database, row)


def _entered(row: AuthObject | None) -> tuple[Page, Entered]:
    form = AuthObjectForm()
    form.validate()
    entered = read(form, row, engine())
    page = Page(form, row, entered.problems, entered.warnings, csrf_failed=csrf_refused(form))
    return page, entered


def try_with_setups(credential: Credential, used_by: list[Setup]) -> tuple[list[Run], dict[str, SetupValues], bool]:
    """Tests the setups in use with the new credential.

    Returns the runs, the values that passed by connection, and whether one that is proven now would stop.
    """
    found, broken = engine(), False
    runs: list[Run] = []
    proven: dict[str, SetupValues] = {}
    for setup in used_by:
        try:
            values = replace(setups.values_of(setup, found.vault), credential=credential)
        except OutmailError:
            # The old secret cannot be read; the rest of the setup can.
            values = replace(plain_values_of(setup), credential=credential)
        trial = Trial(found, values, setup.connection, actor(), person=person())

        def conclude(run: Run, trial: Trial = trial) -> None:
            run.passed, run.proof_id = trial.passed, trial.proof_id

        run = Run(trial.titles, trial.steps, conclude, heading=f"Connection “{setup.connection}” with the new values")
        runs.append(run.finish())
        if run.passed:
            proven[setup.connection] = trial.values
        elif is_revision_proven(found, setup):
            broken = True
    return runs, proven, broken


def note_proven(
    database: Session, changed: AuthObject, proven: Mapping[str, SetupValues]
) -> tuple[list[str], list[str]]:
    """Marks the setups that use a changed object and were tested with what they say now. The caller commits.

    Returns the connections that are proven, and those that are not: one that was saved during the test is not.
    """
    found = engine()
    good: list[str] = []
    held: list[str] = []
    for setup in setups.using(database, changed):
        if setup.connection in proven:
            setups.mark_verified(setup, proven[setup.connection], found.vault, by=actor())
        (good if is_revision_proven(found, setup) else held).append(setup.connection)
    return good, held


def _change(
    page: Page, row: AuthObject, entered: Entered, proven: Mapping[str, SetupValues] | None
) -> ResponseReturnValue:
    """Saves the object. `proven` is None when its credential stays as it is."""
    found, version = engine(), number(page.form.version.data)
    conflict_by = None
    good: list[str] = []
    held: list[str] = []
    with found.database.session() as database:
        try:
            changed = database.get_one(AuthObject, row.id)
            fields = stored.changed_fields(entered.draft, changed)
            stored.edit(database, changed, entered.draft, found.vault, by=actor(), version=version)
            note(database, "auth_object", credential_log.place(changed), ", ".join(fields))
        except NotUnique as exc:
            page.problems["name"] = f"{exc}."
        except Conflict as exc:
            conflict_by = exc.by or "Somebody"
        else:
            if proven is not None:
                good, held = note_proven(database, changed, proven)
            database.commit()
    if page.problems or conflict_by:
        # What was read before is no longer true, or was rolled back.
        page.row, page.used_by = wanted(row.id)
        if not conflict_by:
            return page.render(422)
        page.conflict = f"{conflict_by} saved a change {ago(page.row.updated_at)}."
        return page.render(409)
    found.connections.look_again()
    tell(f"“{entered.draft.name}” is saved.")
    for connection in good:
        released = release(found, connection, tested=connection in (proven or {}))
        tell(f"Connection “{connection}” was tested with the new values and works. {released}".strip())
    for connection in held:
        tell(f"Connection “{connection}” is not proven with the new values: its mail is held.", "warning")
    return redirect(url_for(".auth_objects"))


@pages.post("/auth-objects/new/test")
def stream_new_auth_object_test() -> Response:
    return _stream_test(None)


@pages.post(f"/auth-objects/<{ID}:object_id>/test")
def stream_auth_object_test(object_id: int) -> Response:
    return _stream_test(wanted(object_id)[0])


def _stream_test(row: AuthObject | None) -> Response:
    page, entered = _entered(row)
    if page.csrf_failed:
        return refuse("This page was open too long. Reload it and test again.", status=400)
    # A test needs no name.
    problems = {name: sentence for name, sentence in page.problems.items() if name != "name"}
    if entered.make_days:
        problems["secret_kind"] = MADE_LATER
    if problems:
        return refuse("Nothing was tested: the form needs attention.", problems, status=422)
    return stream(_run(entered, row))


def _run(entered: Entered, row: AuthObject | None = None) -> Run:
    found, by = engine(), actor()
    checks = credential_checks(found, entered.credential, person())
    is_stored = row is not None and not is_changed(entered, row, found)

    def conclude(run: Run) -> None:
        run.passed = steps.passed(run.done)
        if row is None or not is_stored:
            return
        run.settled = run.passed and not run.is_by_earlier
        told = [step.to_dict() for step in run.done]
        with suppress(OutmailError), found.database.session() as database:  # the test itself went as it went
            credential_log.add(database, row, found.vault, passed=run.passed, steps=told, by=by)
            database.commit()

    return Run([(check.key, check.title) for check in checks], lambda: steps.run(checks), conclude, kind="auth_object")


@pages.route(f"/auth-objects/<{ID}:object_id>/delete", methods=["GET", "POST"])
@needs(DELETE)
def delete_auth_object(object_id: int) -> ResponseReturnValue:
    found = engine()
    status = 200
    if request.method == "POST":
        demand_csrf()
        with found.database.session() as database:
            row = database.get(AuthObject, object_id) or abort(404)
            name = row.name
            try:
                stored.delete(database, row)
                database.commit()
            except InUse:
                status = 409
            else:
                found.connections.look_again()
                tell(f"“{name}” is deleted.")
                return redirect(url_for(".auth_objects"))
    with found.database.session() as database:
        row = database.get(AuthObject, object_id) or abort(404)
        users = stored.usage(database).get(row.id, [])
    return render_template("outmail/auth_object_delete.html", row=row, users=users, delete_form=ActionForm()), status
