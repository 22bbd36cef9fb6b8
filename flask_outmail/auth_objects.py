"""Authentication objects: stored credentials, and the mistakes that are caught before any network is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from . import certificates
from .errors import ConfigurationError, OutmailError
from .models import AuthObject, Setup, utc_now
from .settings import Credential
from .vault import Vault

#: Which kinds of credential there are. Others can be added here with the form fields they need.
PROVIDERS: Mapping[str, str] = {"microsoft_client_credentials": "Microsoft client credentials"}
NAME_MAX_CHARS = 200
DESCRIPTION_MAX_CHARS = 500

_DOMAIN = re.compile(r"^(?=.{4,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$")
# Tenants that mean "any"; a client-credentials request needs a certain one (Entra: AADSTS9001023, 50194).
_SHARED_TENANTS = {"common", "organizations", "consumers"}


class NotUnique(OutmailError):
    """There is already an authentication object of this name."""


class InUse(OutmailError):
    """The authentication object is used by a setup, so it cannot be deleted."""


class LimitReached(OutmailError):
    """As many authentication objects are stored as the configuration allows."""


class Conflict(OutmailError):
    """Somebody else saved in the meantime. `by` is who."""

    def __init__(self, message: str, *, by: str = "") -> None:
        super().__init__(message, code="conflict")
        self.by = by


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a form says about an authentication object. An empty secret or certificate keeps the stored one."""

    name: str
    description: str = ""
    credential: Credential
    expires_on: date | None = None
    expiry_applies_to: str = ""


def cleaned(credential: Credential) -> Credential:
    """The credential without what pasting adds: blanks and line ends around and, where none can belong, inside."""
    certificate = credential.certificate.replace("\r\n", "\n").strip()
    return replace(
        credential,
        tenant=_one_word(credential.tenant),
        client_id=_one_word(credential.client_id),
        client_secret=_one_word(credential.client_secret),
        certificate=certificate,
    )


def _one_word(text: str) -> str:
    # Also zero-width and no-break blanks, which browsers and mail programs put into copied text.
    return re.sub(r"[\s\u200b\u200c\u200d\u2060\ufeff\u00ad]+", "", text)


def problems(credential: Credential, *, stored: bool = False) -> dict[str, tuple[str, str]]:
    """What is plainly wrong with a credential: field → (code, sentence). Touches nothing.

    `stored` says that a secret or certificate is stored already, so that none need be given.
    """
    found: dict[str, tuple[str, str]] = {}
    if not credential.tenant:
        found["tenant"] = ("credential_incomplete", "Enter the Directory (tenant) ID.")
    elif credential.tenant.lower() in _SHARED_TENANTS:
        found["tenant"] = ("tenant_shared", f"“{credential.tenant}” is no certain tenant. Enter the tenant's own ID.")
    elif not is_guid(credential.tenant) and not _DOMAIN.match(credential.tenant):
        found["tenant"] = ("tenant_invalid", "This is neither an ID (8-4-4-4-12 characters) nor a domain.")
    if not credential.client_id:
        found["client_id"] = ("credential_incomplete", "Enter the Application (client) ID.")
    elif not is_guid(credential.client_id):
        found["client_id"] = ("client_id_invalid", "An Application (client) ID has the form 8-4-4-4-12 characters.")
    elif credential.client_id.lower() == credential.tenant.lower():
        found["client_id"] = (
            "tenant_is_client_id",
            "This is the tenant ID again. The Application (client) ID stands beside it on the app's Overview page.",
        )
    if credential.client_secret and credential.certificate:
        found["client_secret"] = ("credential_incomplete", "Give a secret or a certificate, not both.")
    elif is_guid(credential.client_secret):
        found["client_secret"] = (
            "secret_is_id",
            "This looks like the secret's ID, not its value. Copy the column Value; it is shown only once.",
        )
    elif not (credential.client_secret or credential.certificate or stored):
        found["client_secret"] = ("credential_incomplete", "Give a client secret or a certificate.")
    if credential.certificate:
        try:
            certificates.load(credential.certificate, credential.certificate_password)
        except ConfigurationError as exc:
            found["certificate"] = (exc.code, str(exc))
    return found


def is_guid(text: str) -> bool:
    try:
        return len(text) == 36 and str(UUID(text)) == text.lower()
    except ValueError:
        return False


def credential_of(row: AuthObject, vault: Vault) -> Credential:
    """The stored credential, decrypted.

    Raises:
        SecretUnreadable: the key it was encrypted with is missing.
    """
    return Credential(
        tenant=row.tenant,
        client_id=row.client_id,
        client_secret=vault.open(row.client_secret_sealed),
        certificate=vault.open(row.certificate_sealed),
        certificate_password=vault.open(row.certificate_password_sealed),
        cloud=row.cloud,
        provider=row.provider,
    )


def merged(draft: Draft, row: AuthObject, vault: Vault) -> Credential:
    """The draft's credential, with the stored secret where the draft gives none."""
    new = draft.credential
    if new.client_secret or new.certificate:
        return replace(new, provider=row.provider)
    old = credential_of(row, vault)
    return replace(old, tenant=new.tenant, client_id=new.client_id, cloud=new.cloud)


def usage(session: Session) -> dict[int, int]:
    """How many setups use each authentication object, by id: active and newest revisions of each connection count."""
    in_use: dict[int, int] = {}
    for setup in _setups_in_force(session):
        if setup.auth_object_id is not None:
            in_use[setup.auth_object_id] = in_use.get(setup.auth_object_id, 0) + 1
    return in_use


def users(session: Session, row: AuthObject) -> list[Setup]:
    """The setups that keep an authentication object from being deleted: those that `usage` counts."""
    return [setup for setup in _setups_in_force(session) if setup.auth_object_id == row.id]


def by_expiry(session: Session) -> list[AuthObject]:
    """All authentication objects: the one that expires first at the top, those without a date last."""
    rows = session.scalars(select(AuthObject).order_by(AuthObject.name)).all()
    return sorted(rows, key=lambda row: (row.expires_on is None, row.expires_on or date.max))


def _setups_in_force(session: Session) -> Sequence[Setup]:
    rows = session.scalars(select(Setup).order_by(Setup.connection, Setup.revision)).all()
    force: dict[int, Setup] = {}
    for connection in {row.connection for row in rows}:
        own = [row for row in rows if row.connection == connection]
        activated = [row for row in own if row.activated_at is not None]
        if activated:
            active = max(activated, key=lambda row: (row.activated_at, row.revision))
            force[active.id] = active
        force[own[-1].id] = own[-1]
    return list(force.values())


def create(session: Session, draft: Draft, vault: Vault, *, by: str, limit: int) -> AuthObject:
    """Stores a new authentication object. Flushes; the caller commits.

    Raises:
        NotUnique, LimitReached: nothing was stored.
    """
    if (session.scalar(select(func.count(AuthObject.id))) or 0) >= limit:
        raise LimitReached(f"there are already {limit} authentication objects", code="limit_reached")
    row = AuthObject(provider=draft.credential.provider, created_by=by, version=1)
    _write(row, draft, vault, by=by)
    session.add(row)
    _flush(session, draft.name)
    return row


def edit(session: Session, row: AuthObject, draft: Draft, vault: Vault, *, by: str, version: int) -> AuthObject:
    """Changes an authentication object that the caller saw in `version`. Flushes; the caller commits.

    Raises:
        NotUnique: the name is taken.
        Conflict: somebody changed it since.
    """
    # The database decides who was first: the update finds the row only in the version that was seen.
    found = session.execute(
        update(AuthObject)
        .where(AuthObject.id == row.id, AuthObject.version == version)
        .values(version=version + 1)
        .execution_options(synchronize_session=False)
    )
    if found.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("this authentication object was changed in the meantime", by=row.updated_by)
    session.refresh(row)
    _write(row, draft, vault, by=by)
    _flush(session, draft.name)
    return row


def delete(session: Session, row: AuthObject) -> None:
    """Deletes an authentication object that no setup in force uses. Flushes; the caller commits.

    Old revisions of the history that used it keep their other values.

    Raises:
        InUse: a setup uses it.
    """
    if usage(session).get(row.id):
        raise InUse(f"“{row.name}” is used by a setup", code="in_use")
    session.execute(update(Setup).where(Setup.auth_object_id == row.id).values(auth_object_id=None))
    session.delete(row)
    session.flush()


def _write(row: AuthObject, draft: Draft, vault: Vault, *, by: str) -> None:
    new = draft.credential
    row.name = draft.name
    row.description = draft.description
    row.tenant, row.client_id, row.cloud = new.tenant, new.client_id, new.cloud
    row.expiry_applies_to = draft.expiry_applies_to
    row.expires_on = draft.expires_on
    if new.client_secret:
        row.client_secret_sealed = vault.seal(new.client_secret)
        row.certificate_sealed = row.certificate_password_sealed = ""
    elif new.certificate:
        row.client_secret_sealed = ""
        row.certificate_sealed = vault.seal(new.certificate)
        row.certificate_password_sealed = vault.seal(new.certificate_password)
        # A certificate says itself when it ends.
        row.expires_on = certificates.load(new.certificate, new.certificate_password).not_after.date()
    row.updated_at, row.updated_by = utc_now(), by


def _flush(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError as exc:
        session.rollback()
        raise NotUnique(f"there is already an authentication object named “{name}”", code="name_taken") from exc
