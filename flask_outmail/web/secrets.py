"""Replacing the secret or certificate of an authentication object without a gap, and the public part to download.

The new one is put beside the old one, which goes on serving while Microsoft does not take the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from flask import Response, abort, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from .. import auth_objects as stored
from .. import certificates, credential_log, providers
from ..access import CHANGE
from ..auth_objects import Conflict
from ..certificates import ClientCertificate
from ..diagnosis import steps
from ..errors import OutmailError
from ..models import AuthObject, Setup
from ..proving import credential_checks
from ..setup_values import CLIENT_CREDENTIALS, Credential
from .activity import note
from .auth_object_form import MADE_HERE, OWN, offer_choices, read_secret, stored_certificate, wanted_days
from .auth_objects import MADE_LATER, note_proven, try_with_setups, wanted
from .blueprint import ID, actor, ago, engine, needs, pages, person, tell
from .forms import SecretForm, csrf_refused, demand_csrf, in_order, number, told_by, wanted_action
from .setup_saving import release
from .trials import Run, refuse, stream

#: Names the change that a person wants although a test did not pass.
ANYWAY = "anyway"
_UNREADABLE = (
    "The present secret cannot be read with the present keys, so it cannot be kept beside the new one. Enter the new"
    " one on the page of the authentication object instead."
)


@dataclass
class Page:
    """All that the template needs."""

    form: SecretForm
    row: AuthObject
    used_by: list[Setup]
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    conflict: str = ""
    refused: str = ""
    #: Which change was refused, so that a person can have it all the same.
    endpoint: str = "outmail.replace_secret"
    csrf_failed: bool = False

    def render(self, status: int = 200) -> ResponseReturnValue:
        offer_choices(self.form)
        self.problems = in_order(self.form, self.problems)
        return render_template("outmail/secret.html", page=self, form=self.form, row=self.row), status


@dataclass
class Wanted:
    """What the form asks for: a new secret by itself, or a certificate to be made that lasts so many days."""

    new: Credential
    make_days: int = 0


@pages.route(f"/auth-objects/<{ID}:object_id>/secret", methods=["GET", "POST"])
@needs(CHANGE)
def replace_secret(object_id: int) -> ResponseReturnValue:
    row, used_by = _with_secret(object_id)
    form = SecretForm()
    page = Page(form, row, used_by)
    if not form.is_submitted():
        form.version.data = str(row.version)
        form.secret_kind.data = MADE_HERE if row.uses_certificate else None
        return page.render()
    entered = _read(page)
    if page.csrf_failed:
        return page.render(400)
    if page.problems:
        return page.render(422)
    try:
        present = stored.credential_of(row, engine().vault)
    except OutmailError:
        page.refused = _UNREADABLE
        return page.render(422)
    new = entered.new
    if not entered.make_days:
        # Whoever types a value can be told at once that it is not the right one. What is made here cannot be known
        # to Microsoft yet.
        run = _run(stored.with_new_secret(present, new).newest).finish()
        if wanted_action() == "test" or (not run.passed and wanted_action() != ANYWAY):
            page.runs = [run]
            if wanted_action() == "test":
                return page.render()
            page.refused = "Microsoft does not take the new one. Nothing was changed."
            return page.render(422)
    else:
        made = certificates.make(row.name, entered.make_days)
        new = Credential(certificate=made, expires_on=certificates.load(made).not_after.date())
    return _switch(page, stored.with_new_secret(present, new), _replacing(new), _told_of(entered))


def _replacing(new: Credential) -> Callable[[Session, AuthObject, int], Any]:
    def change(database: Session, row: AuthObject, version: int) -> None:
        stored.replace_secret(database, row, new, engine().vault, by=actor(), version=version)

    return change


def _told_of(entered: Wanted) -> str:
    if entered.make_days:
        return "A key and certificate were made. Until the public part is uploaded in Entra, the one before serves."
    return "The new one is in use. The one before is kept, and serves should Microsoft refuse the new one."


def _switch(
    page: Page, credential: Credential, change: Callable[[Session, AuthObject, int], Any], told: str
) -> ResponseReturnValue:
    """Makes a change of the credential once the setups in use have passed with it."""
    found, row, version = engine(), page.row, number(page.form.version.data)
    page.runs, proven, broken = try_with_setups(credential, page.used_by)
    if broken and wanted_action() != ANYWAY:
        page.refused = "With this change mail would stop: a setup in use did not pass with it. Nothing was changed."
        return page.render(422)
    with found.database.session() as database:
        try:
            changed = database.get_one(AuthObject, row.id)
            change(database, changed, version)
        except Conflict as exc:
            database.rollback()
            page.row, page.used_by = wanted(row.id)
            if _is_present(page.row, credential):
                # The button was pressed twice, or somebody else was asked to do the same.
                tell("This was done already; nothing more was changed.")
                return redirect(url_for(".auth_object", object_id=row.id))
            page.runs, page.form.version.data = [], str(page.row.version)
            page.conflict = f"{exc.by or 'Somebody'} saved a change {ago(page.row.updated_at)}."
            return page.render(409)
        good, held = note_proven(database, changed, proven)
        kind = "certificate" if credential.certificate else "client_secret"
        note(database, page.endpoint.rpartition(".")[2], credential_log.place(changed), kind)
        database.commit()
    found.connections.look_again()
    by_earlier = any(run.is_by_earlier for run in page.runs)
    tell(told)
    for connection in good:
        released = release(found, connection, tested=connection in proven)
        if by_earlier:
            tell(
                f"Connection “{connection}” works by the one before: Microsoft does not take the new one yet.",
                "warning",
            )
        else:
            tell(f"Connection “{connection}” was tested with it and works. {released}".strip())
    for connection in held:
        tell(f"Connection “{connection}” is not proven with it: its mail is held.", "warning")
    return redirect(url_for(".auth_object", object_id=row.id))


def _is_present(row: AuthObject, wanted: Credential) -> bool:
    """Whether what is stored shows Microsoft the very secret or certificate that is wanted."""
    return stored.shown_first(stored.credential_of(row, engine().vault)) == stored.shown_first(wanted)


@pages.post(f"/auth-objects/<{ID}:object_id>/secret/undo")
def undo_secret(object_id: int) -> ResponseReturnValue:
    """Back to the one before; the present one is kept in its place, so that this can be undone too."""
    demand_csrf()
    row, used_by = _with_secret(object_id)
    form = SecretForm()
    page = Page(form, row, used_by, endpoint="outmail.undo_secret")
    present = stored.credential_of(row, engine().vault)
    earlier = present.earlier
    if earlier is None:
        tell("There is no earlier one to go back to.", "warning")
        return redirect(url_for(".auth_object", object_id=object_id))

    def change(database: Session, changed: AuthObject, version: int) -> None:
        stored.undo_replacement(database, changed, engine().vault, by=actor(), version=version)

    if wanted_action() != ANYWAY:
        # The present one would stand in for it, and hide that it has been removed or has ended in the meantime.
        run = _run(earlier).finish()
        if not run.passed:
            page.runs = [run]
            page.refused = "Microsoft does not take the one before any more. Nothing was changed."
            return page.render(422)
    back = stored.with_new_secret(present, earlier)
    return _switch(page, back, change, "The one before is in use again. The other is kept beside it.")


@pages.post(f"/auth-objects/<{ID}:object_id>/secret/forget")
def forget_secret(object_id: int) -> ResponseReturnValue:
    """Deletes the one before, once it is shown that the present one serves by itself."""
    demand_csrf()
    row, used_by = _with_secret(object_id)
    form = SecretForm()
    page = Page(form, row, used_by, endpoint="outmail.forget_secret")
    if used_by and wanted_action() != ANYWAY:
        run = _run(stored.credential_of(row, engine().vault).newest).finish()
        if not run.passed:
            page.runs = [run]
            page.refused = "Microsoft does not take the present one yet. Without the one before it mail would stop."
            return page.render(422)
    with engine().database.session() as database:
        try:
            stored.forget_previous(
                database, database.get_one(AuthObject, row.id), by=actor(), version=number(form.version.data)
            )
            database.commit()
        except Conflict as exc:
            tell(f"{exc.by or 'Somebody'} saved a change in the meantime; nothing was deleted.", "warning")
        else:
            engine().connections.look_again()
            tell("The one before is deleted here. Remove it in Entra too.")
    return redirect(url_for(".auth_object", object_id=object_id))


@pages.post(f"/auth-objects/<{ID}:object_id>/secret/test")
def stream_secret_test(object_id: int) -> Response:
    row, used_by = _with_secret(object_id)
    page = Page(SecretForm(), row, used_by)
    entered = _read(page)
    if page.csrf_failed:
        return refuse("This page was open too long. Reload it and test again.", status=400)
    if entered.make_days:
        page.problems["secret_kind"] = MADE_LATER
    if page.problems:
        return refuse("Nothing was tested: the form needs attention.", page.problems, status=422)
    try:
        present = stored.credential_of(row, engine().vault)
    except OutmailError:
        return refuse(_UNREADABLE, status=422)
    return stream(_run(stored.with_new_secret(present, entered.new).newest))


def _read(page: Page) -> Wanted:
    """The form, with what is wrong with it put on the page."""
    form = page.form
    form.validate()
    page.csrf_failed = csrf_refused(form)
    page.problems = found = told_by(form)
    if days := wanted_days(form):
        if wanted_action() == "test":
            found["secret_kind"] = MADE_LATER
        return Wanted(Credential(), days)
    ends_on: date | None = form.expires_on.data
    given = read_secret(form, found)
    given = replace(given, client_secret="") if form.secret_kind.data == OWN else given
    new = providers.cleaned(replace(given, provider=CLIENT_CREDENTIALS, expires_on=ends_on))
    # Tenant and application stay as they are; only what is new here can be wrong here.
    for name, (_, sentence) in providers.problems(new).items():
        if name not in ("tenant", "client_id"):
            found.setdefault("certificate" if form.secret_kind.data == OWN else name, sentence)
    return Wanted(new)


def _run(credential: Credential) -> Run:
    checks = credential_checks(engine(), credential, person())

    def conclude(run: Run) -> None:
        run.passed = steps.passed(run.done)

    return Run([(check.key, check.title) for check in checks], lambda: steps.run(checks), conclude, kind="auth_object")


def _with_secret(object_id: int) -> tuple[AuthObject, list[Setup]]:
    row, used_by = wanted(object_id)
    if row.provider != CLIENT_CREDENTIALS:
        # There is nothing to replace.
        abort(404)
    return row, used_by


# -- the public part --------------------------------------------------------------------------------------------------


@pages.get(f"/auth-objects/<{ID}:object_id>/certificate.cer")
def certificate_cer(object_id: int) -> Response:
    found = _certificate(object_id)
    return _download(found.certificate_der, "application/pkix-cert", f"{_file_name(found)}.cer")


@pages.get(f"/auth-objects/<{ID}:object_id>/certificate.pem")
def certificate_pem(object_id: int) -> Response:
    found = _certificate(object_id)
    return _download(found.certificate_pem.encode(), "application/x-pem-file", f"{_file_name(found)}.pem")


def _certificate(object_id: int) -> ClientCertificate:
    found = stored_certificate(wanted(object_id)[0], engine())
    return found or abort(404)


def _file_name(certificate: ClientCertificate) -> str:
    return f"outmail-{certificate.thumbprint[:8].lower()}"


def _download(data: bytes, kind: str, name: str) -> Response:
    return Response(data, mimetype=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
