"""Between the form of an authentication object and what is stored: reading it, and what is wrong with it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace

from .. import auth_objects, certificates
from ..auth_objects import PROVIDERS, Draft
from ..engine import Engine
from ..errors import OutmailError, SecretUnreadable
from ..models import AuthObject
from ..settings import Credential
from .blueprint import days_until
from .forms import AuthObjectForm

_FILE_MAX_BYTES = 100_000


@dataclass
class Entered:
    """What the form says: the draft to store, and the credential it makes together with a stored secret."""

    draft: Draft
    credential: Credential
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


def read(form: AuthObjectForm, row: AuthObject | None, engine: Engine) -> Entered:
    """The form, cleaned of what pasting adds. `row` is the stored object when one is edited."""
    found = {name: str(errors[0]) for name, errors in form.errors.items() if name and errors and name != "csrf_token"}
    credential = auth_objects.cleaned(
        Credential(
            tenant=form.tenant.data or "",
            client_id=form.client_id.data or "",
            client_secret=form.client_secret.data or "",
            certificate=_certificate(form, found),
            certificate_password=form.certificate_password.data or "",
            cloud=form.cloud.data or "global",
            provider=row.provider if row is not None else form.provider.data or next(iter(PROVIDERS)),
        )
    )
    if credential.provider not in PROVIDERS:
        found["provider"] = "Choose one of the providers."
    if credential.cloud not in engine.environment.clouds:
        found["cloud"] = "Choose one of the clouds."
    stored = bool(row and (row.client_secret_sealed or row.certificate_sealed))
    for name, (_, sentence) in auth_objects.problems(credential, stored=stored).items():
        found.setdefault(name, sentence)
    draft = Draft(
        name=form.name.data or "",
        description=(form.description.data or "").replace("\r\n", "\n"),
        credential=credential,
        expires_on=form.expires_on.data,
        expiry_applies_to=form.expiry_applies_to.data or "",
    )
    entered = Entered(draft, credential, found)
    if row is not None:
        try:
            entered.credential = auth_objects.merged(draft, row, engine.vault)
        except SecretUnreadable:
            found.setdefault("client_secret", "The stored secret cannot be read with the present keys. Enter it again.")
    _date_of_certificate(entered)
    _show_cleaned(form, entered)
    return entered


def _certificate(form: AuthObjectForm, found: dict[str, str]) -> str:
    """The text that was pasted, or the file that was chosen: PEM as it is, PFX as base64."""
    upload = form.certificate_file.data
    if not upload:
        return str(form.certificate.data or "")
    data = upload.read(_FILE_MAX_BYTES + 1)
    if len(data) > _FILE_MAX_BYTES:
        found["certificate"] = "This file is too large for a key and its certificate."
        return ""
    if b"-----BEGIN" in data:
        return str(data.decode("ascii", "replace"))
    return base64.b64encode(data).decode()


def _date_of_certificate(entered: Entered) -> None:
    given = entered.draft.credential
    if given.certificate and "certificate" not in entered.problems:
        # The certificate knows when it ends better than anybody who types.
        ends = certificates.load(given.certificate, given.certificate_password).not_after.date()
        entered.draft = replace(entered.draft, expires_on=ends)
    ends_on = entered.draft.expires_on
    if ends_on is not None and days_until(ends_on) < 0:
        entered.warnings["expires_on"] = "This date has passed."
    elif ends_on is None:
        entered.warnings["expires_on"] = "Without a date nobody is reminded before it ends. Entra shows it."


def _show_cleaned(form: AuthObjectForm, entered: Entered) -> None:
    form.tenant.data, form.client_id.data = entered.draft.credential.tenant, entered.draft.credential.client_id
    form.expires_on.data = entered.draft.expires_on


def show(form: AuthObjectForm, row: AuthObject) -> None:
    """Puts a stored object into the form, secrets left out."""
    for name in ("name", "description", "provider", "tenant", "client_id", "cloud", "expires_on", "expiry_applies_to"):
        form[name].data = getattr(row, name)
    form.version.data = str(row.version)


def is_changed(entered: Entered, row: AuthObject, engine: Engine) -> bool:
    """Whether the credential itself differs from the stored one, so that what was proven with it is proven no more."""
    try:
        stored = auth_objects.credential_of(row, engine.vault)
    except OutmailError:
        return True
    # A date is only a note.
    return replace(entered.credential, expires_on=None) != replace(stored, expires_on=None)
