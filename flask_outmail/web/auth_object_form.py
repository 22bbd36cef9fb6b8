"""Between the form of an authentication object and what is stored: reading it, and what is wrong with it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace

from .. import auth_objects, certificates, entra, providers
from ..auth_objects import Draft
from ..engine import Engine
from ..errors import OutmailError, SecretUnreadable
from ..models import AuthObject
from ..providers import PROVIDERS
from ..setup_values import CLIENT_CREDENTIALS, Credential
from . import pasted
from .blueprint import days_until
from .forms import AuthObjectForm, SecretForm, told_by

_FILE_MAX_BYTES = 100_000
#: What shows Microsoft who the application is, where something is stored for that.
SECRET, MADE_HERE, OWN = "secret", "made", "own"
#: How long a certificate made here may last, in days. Microsoft's advice is half a year or less.
LIFETIMES = {"90": "3 months", "180": "6 months", "365": "1 year", "730": "2 years"}
USUAL_LIFETIME = "365"


@dataclass
class Entered:
    """What the form says: the draft to store, and the credential it makes together with a stored secret."""

    draft: Draft
    credential: Credential
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    #: A key and certificate are to be made when this is saved, and to last so many days.
    make_days: int = 0

    def make_certificate(self) -> None:
        """Makes what is to be made, once nothing else stands against saving. Takes about a second."""
        if self.make_days:
            made = certificates.make(self.draft.name, self.make_days)
            self.credential = replace(self.credential, client_secret="", certificate=made, certificate_password="")
            given = replace(self.draft.credential, client_secret="", certificate=made, certificate_password="")
            ends_on = certificates.load(made).not_after.date()
            self.draft = replace(self.draft, credential=given, expires_on=ends_on, expiry_applies_to="certificate")


def read(form: AuthObjectForm, row: AuthObject | None, engine: Engine) -> Entered:
    """The form, cleaned of what pasting adds. `row` is the stored object when one is edited."""
    found = told_by(form)
    provider = row.provider if row is not None else form.provider.data or next(iter(PROVIDERS))
    if row is None and form.pasted.data and "tenant" in getattr(PROVIDERS.get(provider), "fields", ()):
        _sort_in(form, found)
    make_days = wanted_days(form) if row is None and provider == CLIENT_CREDENTIALS else 0
    secret = Credential() if make_days else read_secret(form, found)
    credential = providers.cleaned(
        replace(
            secret,
            tenant=form.tenant.data or "",
            client_id=form.client_id.data or "",
            cloud=form.cloud.data or "global",
            provider=provider,
            token_file=form.token_file.data or "",
            token_function=form.token_function.data or "",
        )
    )
    if credential.provider not in PROVIDERS:
        found["provider"] = "Choose one of the providers."
    if credential.cloud not in engine.environment.clouds:
        found["cloud"] = "Choose one of the clouds."
    stored = bool(make_days or (row and (row.client_secret_sealed or row.certificate_sealed)))
    for name, (_, sentence) in providers.problems(credential, stored=stored).items():
        found.setdefault(name, sentence)
    draft = Draft(
        name=form.name.data or "",
        description=(form.description.data or "").replace("\r\n", "\n"),
        credential=credential,
        expires_on=form.expires_on.data,
        expiry_applies_to=form.expiry_applies_to.data or "",
    )
    entered = Entered(draft, credential, found, make_days=make_days)
    if row is not None:
        try:
            entered.credential = auth_objects.merged(draft, row, engine.vault)
        except SecretUnreadable:
            found.setdefault("client_secret", "The stored secret cannot be read with the present keys. Enter it again.")
    _date_of_certificate(entered)
    _show_cleaned(form, entered)
    return entered


def _sort_in(form: AuthObjectForm, found: dict[str, str]) -> None:
    """Puts what was pasted into the fields that are empty; what was typed stays."""
    given = pasted.sort(form.pasted.data or "")
    for name in ("tenant", "client_id", "client_secret"):
        if not form[name].data:
            form[name].data = getattr(given, name)
    if given.problem:
        found.setdefault("pasted", given.problem)


def read_secret(form: AuthObjectForm | SecretForm, found: dict[str, str]) -> Credential:
    """The secret or certificate that a form gives, with nothing else."""
    return Credential(
        client_secret=form.client_secret.data or "",
        certificate=_certificate(form, found),
        certificate_password=form.certificate_password.data or "",
    )


def wanted_days(form: AuthObjectForm | SecretForm) -> int:
    """How long a certificate made here is to last; 0 when none is wanted."""
    if form.secret_kind.data != MADE_HERE:
        return 0
    return int(form.valid_days.data if form.valid_days.data in LIFETIMES else USUAL_LIFETIME)


def offer_choices(form: AuthObjectForm | SecretForm) -> None:
    """The answers to choose from, and the usual one where none was given."""
    form.valid_days.choices = list(LIFETIMES.items())
    form.valid_days.data = form.valid_days.data if form.valid_days.data in LIFETIMES else USUAL_LIFETIME
    form.secret_kind.data = form.secret_kind.data if form.secret_kind.data in (MADE_HERE, OWN) else SECRET
    if isinstance(form, AuthObjectForm):
        names = dict.fromkeys([*entra.token_functions(), *filter(None, [form.token_function.data])])
        form.token_function.choices = [("", "None: use the file"), *((name, name) for name in names)]


def _certificate(form: AuthObjectForm | SecretForm, found: dict[str, str]) -> str:
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
    # Of an unknown kind nobody has looked at the certificate yet.
    if given.certificate and not entered.problems.keys() & {"certificate", "provider"}:
        # The certificate knows when it ends better than anybody who types.
        ends = certificates.load(given.certificate, given.certificate_password).not_after.date()
        entered.draft = replace(entered.draft, expires_on=ends)
    ends_on = entered.draft.expires_on
    if ends_on is not None and days_until(ends_on) < 0:
        entered.warnings["expires_on"] = "This date has passed."
    elif ends_on is None and given.provider == CLIENT_CREDENTIALS and not entered.make_days:
        entered.warnings["expires_on"] = "Without a date nobody is reminded before it ends. Entra shows it."


def _show_cleaned(form: AuthObjectForm, entered: Entered) -> None:
    form.tenant.data, form.client_id.data = entered.draft.credential.tenant, entered.draft.credential.client_id
    form.expires_on.data = entered.draft.expires_on


def show(form: AuthObjectForm, row: AuthObject) -> None:
    """Puts a stored object into the form, secrets left out."""
    shown = ("name", "description", "provider", "tenant", "client_id", "cloud", "expires_on", "expiry_applies_to")
    for name in (*shown, "token_file", "token_function"):
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


def stored_certificate(row: AuthObject, engine: Engine) -> certificates.ClientCertificate | None:
    """The certificate that is stored; None without one, and when it cannot be read."""
    if not row.certificate_sealed:
        return None
    try:
        credential = auth_objects.credential_of(row, engine.vault)
        return certificates.load(credential.certificate, credential.certificate_password)
    except OutmailError:
        return None
