"""The outbound mail setup: choose, fill in, test, save."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import Response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from .. import services
from ..auth_objects import Conflict
from ..diagnosis.it_request import it_request
from ..models import PRIMARY
from ..proving import Trial
from ..services import MailService
from ..setup_values import CLIENT_CREDENTIALS, SetupValues
from .activity import noted
from .alerts import CHANNEL_LABELS
from .auth_object_form import stored_certificate
from .blueprint import actor, engine, pages, person, tell
from .comparing import compared
from .forms import SetupForm, csrf_refused, in_order, number, wanted_action
from .setup_form import (
    Entered,
    Known,
    filled_by,
    known_of,
    plain_values_of,
    read,
    service_named,
    show,
    wanted_connection,
    warnings,
)
from .setup_saving import Clash, Saved, WouldStopMail, clash, import_configured, release, save
from .texts import words
from .trials import Run, refuse, stream

#: What was typed, without secrets, while a new authentication object is made on another page.
_TYPED = "_outmail_typed"
_KEPT = (
    "service",
    "host",
    "port",
    "tls",
    "username",
    "from_address",
    "from_name",
    "failure_alerts_to",
    "shown_service",
)


@dataclass
class Page:
    """All that the template of the page needs."""

    form: SetupForm
    known: Known
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    run: Run | None = None
    clash: Clash | None = None
    action: str = ""
    would_stop_mail: bool = False
    csrf_failed: bool = False
    is_chosen: bool = False
    is_moved: bool = False
    is_back: bool = False
    #: Whether the form shows what is stored, and nothing that was typed.
    is_opened: bool = False

    def render(self, status: int = 200) -> ResponseReturnValue:
        found = engine()
        service = service_named(self.form.service.data)
        self.problems = in_order(self.form, self.problems)
        context: dict[str, Any] = {
            "page": self,
            "form": self.form,
            "known": self.known,
            "services": services.services(),
            "locked": service.locked if service is not None and self.is_chosen else frozenset(),
            "fills": self._fills(),
            "clouds": found.environment.clouds,
            "requests": self._it_requests(),
            "successor": self._successor(),
            "channels": [one for one in found.alerting.channels.described() if one[0] != "mail"],
            "channel_labels": CHANNEL_LABELS,
            "service_labels": {service.name: service.label for service in services.services()},
        }
        return render_template("outmail/setup.html", **context), status

    def _successor(self) -> MailService | None:
        """The service that the stored setup, or the configuration in force, should move to."""
        stored = self.known.stored
        # Not where something else must be decided first, nor once the form is filled in for another service.
        is_elsewhere = stored is not None and self.form.service.data != stored.service
        if stored is None or self.known.locked_by or self.clash or self.would_stop_mail or is_elsewhere:
            return None
        found = services.successor(stored, engine().environment)
        return found[0] if found else None

    def _it_requests(self) -> dict[str, tuple[str, str]]:
        """The request for the IT department, for each service that needs their help, and for the credential chosen."""
        found, chosen = engine(), number(self.form.auth_object.data)
        row = next((one for one in self.known.objects if one.id == chosen), None)
        certificate = stored_certificate(row, found) if row is not None else None
        texts = {}
        for service in services.services():
            try:
                text = it_request(
                    service=service.name,
                    mailbox=self.form.username.data or "",
                    app_name=found.app.name,
                    provider=row.provider if row is not None else CLIENT_CREDENTIALS,
                    thumbprint=certificate.thumbprint if certificate else "",
                    words=words(),
                )
            except ValueError:
                continue
            texts[service.name] = (service.label, text)
        return texts

    def _fills(self) -> dict[str, dict[str, Any]]:
        """What each service fills in for each authentication object ("" for none): read by the script."""
        found = engine()
        return {
            str(row.id if row else ""): {
                service.name: {**filled_by(service, row, found), "locked": sorted(service.locked)}
                for service in services.services()
            }
            for row in (None, *self.known.objects)
        }


def _know(connection: str) -> Known:
    found = engine()
    if connection in found.settings.configured and not found.database:
        return known_of(found, None, connection)
    with found.database.session() as database:
        return known_of(found, database, connection)


@pages.get("/setup")
def setup() -> ResponseReturnValue:
    known = _know(wanted_connection())
    form = SetupForm(formdata=None)
    form.service.data = services.services()[0].name
    form.tls.data = "starttls"
    page = Page(form, known)
    newest_object = known.newest.auth_object_id if known.newest else None
    if known.stored is not None:
        values = _completed(known.stored)
        show(form, values, newest_object)
        page.is_chosen, page.warnings = True, warnings(values)
        # On opening, a stored password is no missing one.
        page.warnings.pop("password", None)
    elif known.newest is not None:
        show(form, plain_values_of(known.newest), newest_object)
        page.is_chosen = True
    page.is_opened = not _restore_typed(page)
    return page.render()


def _completed(values: SetupValues) -> SetupValues:
    service = service_named(values.service)
    return service.complete(values, engine().environment) if service is not None else values


def _restore_typed(page: Page) -> bool:
    """Back from making an authentication object: what had been typed is there again, and the new object is chosen."""
    chosen = number(request.args.get("auth_object"))
    if not chosen or chosen not in {row.id for row in page.known.objects}:
        return False
    typed = session.pop(_TYPED, {})
    for name in typed.keys() & _KEPT:
        page.form[name].data = typed[name]
    page.form.auth_object.data = str(chosen)
    service = service_named(page.form.service.data)
    row = next(row for row in page.known.objects if row.id == chosen)
    if service is not None:
        filled = filled_by(service, row, engine())
        for name in service.locked:
            page.form[name].data = str(filled[name])
        page.is_chosen = bool(typed) or page.is_chosen
    page.is_back = bool(typed) and bool(page.known.in_use)
    return True


@pages.post("/setup")
def submit_setup() -> ResponseReturnValue:
    connection, form, action = wanted_connection(), SetupForm(), wanted_action()
    form.validate()
    if csrf_refused(form):
        return Page(form, _know(connection), csrf_failed=True, is_chosen=True).render(400)
    if action in ("new_auth_object", "move", "choose"):
        noted()  # nothing is changed by these
    if action == "new_auth_object":
        session[_TYPED] = {name: str(form[name].data or "")[:320] for name in _KEPT}
        return redirect(url_for(".new_auth_object", next="setup", connection=connection))
    known = _know(connection)
    if known.locked_by:
        return _submit_locked(form, known, action)
    if action == "import":
        return _import(known)
    if action == "move":
        return _move(form, known)
    with engine().database.session() as database:
        entered = read(form, known, engine(), database)
    show(form, entered.values, entered.auth_object.id if entered.auth_object else None)
    page = Page(form, known, entered.problems, entered.warnings, is_chosen=True)
    if action == "choose":
        page.problems = {}
        return page.render()
    if action == "test":
        return _test(page, entered)
    if page.problems:
        return page.render(422)
    return _save(page, entered, action)


def _import(known: Known) -> ResponseReturnValue:
    """The MAIL_… configuration as a saved setup. It carries mail now, so it goes on carrying it."""
    connection = _in_address(known.connection)
    if known.active is None and known.configured_by and known.stored is not None:
        with engine().database.session() as database:
            try:
                import_configured(engine(), database, known, by=actor())
            except Conflict:
                tell("Somebody saved a setup in the meantime; nothing was imported.", "warning")
                return redirect(url_for(".setup", connection=connection))
        tell("Imported. Mail goes on as before; the MAIL_… keys are no longer used and may be removed.")
    return redirect(url_for(".setup", connection=connection))


def _move(form: SetupForm, known: Known) -> ResponseReturnValue:
    """The form filled in for the service that the stored setup should move to. Nothing is saved yet."""
    moved = services.successor(known.stored, engine().environment) if known.stored is not None else None
    if moved is None:
        return redirect(url_for(".setup", connection=_in_address(known.connection)))
    service, values = moved
    show(form, service.complete(values, engine().environment), None)
    return Page(form, known, is_chosen=True, is_moved=True).render()


def _submit_locked(form: SetupForm, known: Known, action: str) -> ResponseReturnValue:
    assert known.stored is not None  # noqa: S101 -- what locks the page is a setup
    values = _completed(known.stored)
    show(form, values, None)
    page = Page(form, known, warnings=warnings(values), is_chosen=True)
    if action != "test":
        page.problems = {"service": f"These settings are set by {known.locked_by} and can be changed only there."}
        return page.render(409)
    page.problems = _test_problems(form, values)
    if page.problems:
        return page.render(422)
    page.run = _run(known, values, form).finish()
    return page.render()


def _test(page: Page, entered: Entered) -> ResponseReturnValue:
    page.problems |= _test_problems(page.form, entered.values)
    if page.problems:
        return page.render(422)
    page.run = _run(page.known, entered.values, page.form).finish()
    page.form.proof.data = page.run.proof_id
    # A passed test may have put the setup in use right.
    page.known = _know(page.known.connection)
    return page.render()


@pages.post("/setup/test")
def stream_setup_test() -> Response:
    """The same test for the script on the page: each step is sent as it ends."""
    connection, form = wanted_connection(), SetupForm()
    form.validate()
    if csrf_refused(form):
        return refuse("This page was open too long. Reload it and test again.", status=400)
    known = _know(connection)
    problems: dict[str, str] = {}
    if known.locked_by and known.stored is not None:
        values = _completed(known.stored)
    else:
        with engine().database.session() as database:
            entered = read(form, known, engine(), database)
        values, problems = entered.values, entered.problems
    problems |= _test_problems(form, values)
    if problems:
        count = len(problems)
        told = "Nothing was tested: " + ("1 field needs" if count == 1 else f"{count} fields need") + " attention."
        return refuse(told, problems, status=422)
    return stream(_run(known, values, form))


def _run(known: Known, values: SetupValues, form: SetupForm) -> Run:
    test_to, foreign_mailbox = form.test_message_to.data or "", _foreign_mailbox(form, values)
    trial = Trial(engine(), values, known.connection, actor(), test_to, foreign_mailbox, gated=True, person=person())

    def conclude(run: Run) -> None:
        run.passed, run.proof_id = trial.passed, trial.proof_id
        if trial.passed and known.active is not None and not known.in_use_verified:
            # When the values are those in use, this test is what the held messages were waiting for.
            run.note = release(engine(), known.connection)
        run.settled = _know(known.connection).in_use_verified
        if not trial.passed and not known.locked_by:
            run.compared = compared(engine(), known.connection, trial.values)

    facts = [f"Mail service: {values.service}, {values.host}:{values.port}, TLS {values.tls}"]
    facts.append(f"Mailbox or user: {values.username or 'none'}; From: {values.from_address}")
    facts.append(f"Connection: {known.connection}")
    return Run(trial.titles, trial.steps, conclude, facts=facts, transcript=trial.transcript)


def _test_problems(form: SetupForm, values: SetupValues) -> dict[str, str]:
    """What is wrong with the fields that are for the test alone."""
    other = _foreign_mailbox(form, values).lower()
    texts = {"test_message_to": form.test_message_to.data or "", "foreign_mailbox": other}
    found = {name: said for name, text in texts.items() if text and (said := services.address_problem(text))}
    if other and other in (values.username.lower(), values.from_address.lower()):
        found["foreign_mailbox"] = "This is the mailbox of the setup itself. Name one that it has nothing to do with."
    return found


def _foreign_mailbox(form: SetupForm, values: SetupValues) -> str:
    """What was typed for a Microsoft service stays in the form, hidden, when another one is chosen."""
    service = service_named(values.service)
    return form.foreign_mailbox.data or "" if service is not None and service.needs_auth_object else ""


def _save(page: Page, entered: Entered, action: str) -> ResponseReturnValue:
    found, known = engine(), page.known
    with found.database.session() as database:
        try:
            saved = save(
                found,
                database,
                known,
                entered.values,
                entered.auth_object,
                action=action,
                by=actor(),
                seen_revision=number(page.form.revision.data),
            )
        except WouldStopMail:
            page.would_stop_mail = True
            return page.render(422)
        except Conflict:
            seen = number(page.form.revision.data)
            page.clash = clash(found, database, known, entered, seen_revision=seen)
        else:
            _tell_saved(saved, known)
            return redirect(url_for(".setup", connection=_in_address(known.connection)))
    page.known = _know(known.connection)
    page.action = action
    return page.render(409)


def _tell_saved(saved: Saved, known: Known) -> None:
    if not saved.is_in_use:
        stays = f"{known.in_use_first} stays in use." if known.in_use else "Nothing is in use yet."
        tell(f"Saved as a draft, revision {saved.revision}. {stays}")
    elif saved.is_proven:
        tell("Saved. Mail is sent with these settings.")
        released = release(engine(), known.connection, tested=saved.is_tested)
        if released:
            tell(released)
    else:
        told = "Saved. These settings are not proven yet, so mail is held until a test passes. Nothing is lost."
        tell(told, "warning")


def _in_address(connection: str) -> str | None:
    return None if connection == PRIMARY else connection
