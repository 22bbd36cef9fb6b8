"""Authentication objects: credentials that are stored, encrypted, and replaced without a gap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from . import certificates
from .errors import OutmailError
from .models import PRIMARY, AuthObject, Setup, utc_now
from .setup_values import Credential
from .vault import Vault

NAME_MAX_CHARS = 200
DESCRIPTION_MAX_CHARS = 500


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


def credential_of(row: AuthObject, vault: Vault) -> Credential:
    """The stored credential, decrypted.

    Raises:
        SecretUnreadable: the key it was encrypted with is missing.
    """
    previous = _previous(row, vault)
    return Credential(
        tenant=row.tenant,
        client_id=row.client_id,
        client_secret=vault.open(row.client_secret_sealed),
        certificate=vault.open(row.certificate_sealed),
        certificate_password=vault.open(row.certificate_password_sealed),
        cloud=row.cloud,
        provider=row.provider,
        token_file=row.token_file or "",
        token_function=row.token_function or "",
        previous_client_secret=previous.get("client_secret", ""),
        previous_certificate=previous.get("certificate", ""),
        previous_certificate_password=previous.get("certificate_password", ""),
        expires_on=row.expires_on,
    )


def _previous(row: AuthObject, vault: Vault) -> dict[str, str]:
    """The secret before the present one: what of it is set, with its date as text; empty when none is kept."""
    found: dict[str, str] = json.loads(vault.open(row.previous_sealed) or "{}")
    return found


def previous_ends_on(row: AuthObject, vault: Vault) -> date | None:
    """The day on which the secret before the present one ends; None when none is kept, or nobody noted the day.

    Raises:
        SecretUnreadable: it cannot be read.
    """
    ends_on = _previous(row, vault).get("expires_on", "")
    return date.fromisoformat(ends_on) if ends_on else None


def merged(draft: Draft, row: AuthObject, vault: Vault) -> Credential:
    """The draft's credential, with the stored secret where the draft gives none."""
    new = replace(draft.credential, provider=row.provider, expires_on=draft.expires_on)
    if new.client_secret or new.certificate:
        return new
    old = credential_of(row, vault)
    same_app = (new.tenant, new.client_id, new.cloud) == (old.tenant, old.client_id, old.cloud)
    return replace(
        old if same_app else old.newest,
        tenant=new.tenant,
        client_id=new.client_id,
        cloud=new.cloud,
        token_file=new.token_file,
        token_function=new.token_function,
        expires_on=new.expires_on,
    )


def usage(session: Session) -> dict[int, list[Setup]]:
    """The setups that use each authentication object, by id: the active and the newest revision of each connection."""
    in_use: dict[int, list[Setup]] = {}
    for setup in _setups_in_force(session):
        if setup.auth_object_id is not None:
            in_use.setdefault(setup.auth_object_id, []).append(setup)
    return in_use


def by_expiry(session: Session) -> list[AuthObject]:
    """All authentication objects: the one that expires first at the top, those without a date last."""
    rows = session.scalars(select(AuthObject).order_by(AuthObject.name)).all()
    return sorted(rows, key=lambda row: (row.expires_on is None, row.expires_on or date.max))


def _setups_in_force(session: Session) -> Sequence[Setup]:
    rows = session.scalars(select(Setup).order_by(Setup.connection, Setup.revision)).all()
    force: dict[int, Setup] = {}
    for connection in sorted({row.connection for row in rows}, key=lambda name: (name != PRIMARY, name)):
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
    _count_up(session, row, version)
    _write(row, draft, vault, by=by)
    _flush(session, draft.name)
    return row


def _count_up(session: Session, row: AuthObject, version: int) -> None:
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


# -- rotation: a new secret beside the old one ------------------------------------------------------------------------


def shown_first(credential: Credential) -> tuple[str, str]:
    """The secret or the certificate that Microsoft is shown first."""
    return credential.client_secret, credential.certificate


def with_new_secret(old: Credential, new: Credential) -> Credential:
    """The old credential with the secret or certificate of the new one, and its own kept as the one before."""
    return replace(
        old,
        client_secret=new.client_secret,
        certificate=new.certificate,
        certificate_password=new.certificate_password,
        previous_client_secret=old.client_secret,
        previous_certificate=old.certificate,
        previous_certificate_password=old.certificate_password,
        expires_on=new.expires_on,
    )


def replace_secret(
    session: Session, row: AuthObject, new: Credential, vault: Vault, *, by: str, version: int
) -> AuthObject:
    """Puts a new secret or certificate in place. The present one is kept: it serves while Entra refuses the new one.

    One that was kept before is given up. Flushes; the caller commits.

    Raises:
        Conflict: somebody changed the object since `version`.
        SecretUnreadable: the present secret cannot be read, so it cannot be kept.
    """
    old = credential_of(row, vault)
    _count_up(session, row, version)
    _keep_previous(row, old, vault)
    _write_secret(row, new, vault)
    row.expiry_applies_to = "certificate" if new.certificate else "client secret"
    row.replaced_at = row.updated_at = utc_now()
    row.replaced_by = row.updated_by = by
    session.flush()
    return row


def undo_replacement(session: Session, row: AuthObject, vault: Vault, *, by: str, version: int) -> AuthObject:
    """Puts the kept secret back in place and keeps the present one instead. Flushes; the caller commits.

    Raises:
        Conflict: somebody changed the object since `version`, or deleted the one that was kept.
        SecretUnreadable: a secret cannot be read.
    """
    earlier = credential_of(row, vault).earlier
    if earlier is None:
        raise Conflict("there is no earlier secret to go back to any more", by=row.updated_by)
    earlier = replace(earlier, expires_on=previous_ends_on(row, vault))
    return replace_secret(session, row, earlier, vault, by=by, version=version)


def forget_previous(session: Session, row: AuthObject, *, by: str, version: int) -> AuthObject:
    """Deletes the kept secret. Flushes; the caller commits.

    Raises:
        Conflict: somebody changed the object since `version`.
    """
    _count_up(session, row, version)
    row.previous_sealed = row.replaced_at = row.replaced_by = None
    row.updated_at, row.updated_by = utc_now(), by
    session.flush()
    return row


def _keep_previous(row: AuthObject, old: Credential, vault: Vault) -> None:
    kept = {
        "client_secret": old.client_secret,
        "certificate": old.certificate,
        "certificate_password": old.certificate_password,
        "expires_on": old.expires_on.isoformat() if old.expires_on else "",
    }
    row.previous_sealed = vault.seal(json.dumps({name: value for name, value in kept.items() if value}))


def delete(session: Session, row: AuthObject) -> None:
    """Deletes an authentication object that no setup in force uses. Flushes; the caller commits.

    Old revisions of the history that used it keep their other values. When it is in use after all, what the session
    had not committed is rolled back.

    Raises:
        InUse: a setup uses it.
    """
    if usage(session).get(row.id):
        raise _in_use(row.name)
    object_id, name = row.id, row.name
    chosen = Setup.auth_object_id == object_id
    seen = session.scalars(select(Setup.id).where(chosen)).all()
    session.execute(update(Setup).where(Setup.id.in_(seen)).values(auth_object_id=None))
    session.delete(row)
    try:
        session.flush()
    except IntegrityError:
        session.rollback()
        raise _in_use(name) from None
    # From the first change on nobody else writes; who was quicker than that, and chose it, is seen now.
    if session.scalar(select(func.count(Setup.id)).where(chosen)):
        session.rollback()
        raise _in_use(name)


def _in_use(name: str) -> InUse:
    return InUse(f"“{name}” is used by a setup", code="in_use")


def changed_fields(draft: Draft, row: AuthObject) -> list[str]:
    """The names of the fields in which a draft differs from what is stored. A secret that is given counts as one."""
    new = draft.credential
    wanted = {
        "name": draft.name,
        "description": draft.description,
        "tenant": new.tenant,
        "client_id": new.client_id,
        "cloud": new.cloud,
        "token_file": new.token_file or None,
        "token_function": new.token_function or None,
        "expires_on": draft.expires_on,
        "expiry_applies_to": draft.expiry_applies_to,
    }
    found = [name for name, value in wanted.items() if value != getattr(row, name)]
    return [*found, *(name for name in ("client_secret", "certificate") if getattr(new, name))]


def _write(row: AuthObject, draft: Draft, vault: Vault, *, by: str) -> None:
    new = draft.credential
    row.name = draft.name
    row.description = draft.description
    same_app = (row.tenant, row.client_id, row.cloud) == (new.tenant, new.client_id, new.cloud)
    if not same_app or new.client_secret or new.certificate:
        # What was kept belongs to another application, or was given up by entering another here.
        row.previous_sealed = row.replaced_at = row.replaced_by = None
    row.tenant, row.client_id, row.cloud = new.tenant, new.client_id, new.cloud
    row.token_file, row.token_function = new.token_file or None, new.token_function or None
    row.expiry_applies_to = draft.expiry_applies_to
    row.expires_on = draft.expires_on
    if new.client_secret or new.certificate:
        _write_secret(row, replace(new, expires_on=draft.expires_on), vault)
    row.updated_at, row.updated_by = utc_now(), by


def _write_secret(row: AuthObject, new: Credential, vault: Vault) -> None:
    row.client_secret_sealed = vault.seal(new.client_secret)
    row.certificate_sealed = vault.seal(new.certificate)
    row.certificate_password_sealed = vault.seal(new.certificate_password)
    row.expires_on = new.expires_on
    if new.certificate:
        # A certificate says itself when it ends.
        row.expires_on = certificates.load(new.certificate, new.certificate_password).not_after.date()


def _flush(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError as exc:
        session.rollback()
        raise NotUnique(f"there is already an authentication object named “{name}”", code="name_taken") from exc
