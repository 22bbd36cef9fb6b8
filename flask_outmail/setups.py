"""Setups: append-only revisions of a connection's settings.

History, who, when, what changed, restore, the check for two people saving at once, and the way other processes notice
a change all come from that one idea. The active revision of a connection is the one activated last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from . import auth_objects
from .auth_objects import Conflict
from .errors import SecretUnreadable
from .models import PRIMARY, AuthObject, Proof, Setup, utc_now
from .setup_values import SetupValues, Tls
from .vault import Vault

#: What a revision says, in the order in which differences are shown. Secrets are compared but never shown.
FIELDS = ("service", "auth_object", "host", "port", "tls", "username", "password", "from_address", "from_name",
          "failure_alerts_to")  # fmt: skip
#: Who has verified what was imported from the configuration: nobody by a test, but it carried mail already.
TAKEN_OVER = "(configuration)"
#: The kind of proof that nobody asked for.
SCHEDULED = "scheduled"
#: How many proofs of a connection are kept, of each kind.
PROOFS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs between two revisions. For secrets `before` and `after` are empty."""

    field: str
    before: str
    after: str


def values_of(row: Setup, vault: Vault) -> SetupValues:
    """A revision as values, secrets decrypted, with the credential of its authentication object.

    Raises:
        SecretUnreadable: a secret was encrypted with a key that is missing.
    """
    credential = auth_objects.credential_of(row.auth_object, vault) if row.auth_object else None
    return SetupValues(
        service=row.service,
        host=row.host,
        port=row.port,
        tls=cast(Tls, row.tls),
        username=row.username,
        password=vault.open(row.password_sealed),
        from_address=row.from_address,
        from_name=row.from_name,
        failure_alerts_to=row.failure_alerts_to,
        auth_object=row.auth_object.name if row.auth_object else "",
        credential=credential,
    )


def latest(session: Session, connection: str = PRIMARY) -> Setup | None:
    """The newest revision, active or not."""
    return session.scalars(
        select(Setup).where(Setup.connection == connection).order_by(Setup.revision.desc()).limit(1)
    ).first()


def active(session: Session, connection: str = PRIMARY) -> Setup | None:
    """The revision in use, or None when none was ever activated."""
    return session.scalars(
        select(Setup)
        .where(Setup.connection == connection, Setup.activated_at.is_not(None))
        .order_by(Setup.activated_at.desc(), Setup.revision.desc())
        .limit(1)
    ).first()


def last_verified(session: Session, connection: str = PRIMARY) -> Setup | None:
    """The revision that was verified last, whether it is in use or not; None when none ever was."""
    return session.scalars(
        select(Setup)
        .where(Setup.connection == connection, Setup.verified_at.is_not(None))
        .order_by(Setup.verified_at.desc(), Setup.revision.desc())
        .limit(1)
    ).first()


def find(session: Session, connection: str, revision: int) -> Setup | None:
    """A revision by its number."""
    return session.scalars(select(Setup).where(Setup.connection == connection, Setup.revision == revision)).first()


def connections(session: Session) -> list[str]:
    """The names of all connections that have a revision, `primary` first."""
    names = session.scalars(select(Setup.connection).distinct()).all()
    return sorted(names, key=lambda name: (name != PRIMARY, name))


def history(session: Session, connection: str = PRIMARY, *, limit: int = 100, before: int = 0) -> Sequence[Setup]:
    """Revisions, newest first; with `before`, those behind the one of this number."""
    query = select(Setup).where(Setup.connection == connection).order_by(Setup.revision.desc()).limit(limit)
    return session.scalars(query.where(Setup.revision < before) if before else query).all()


def numbers(session: Session, connection: str = PRIMARY) -> Sequence[int]:
    """The numbers of all revisions, newest first."""
    query = select(Setup.revision).where(Setup.connection == connection)
    return session.scalars(query.order_by(Setup.revision.desc())).all()


def using(session: Session, auth_object: AuthObject) -> list[Setup]:
    """The active setups that use this authentication object."""
    rows = (active(session, name) for name in connections(session))
    return [row for row in rows if row is not None and row.auth_object_id == auth_object.id]


def save(
    session: Session,
    values: SetupValues,
    vault: Vault,
    *,
    by: str,
    seen_revision: int,
    connection: str = PRIMARY,
    auth_object: AuthObject | None = None,
    restored_from: int | None = None,
) -> Setup:
    """Adds a revision. `seen_revision` is the newest one its author knew (0 for none). Commits nothing; flushes.

    Raises:
        Conflict: somebody saved a revision in the meantime; nothing was stored.
    """
    row = row_of(values, vault)
    row.connection, row.created_by, row.restored_from = connection, by, restored_from
    row.auth_object_id = auth_object.id if auth_object else None
    newest = session.scalar(select(func.max(Setup.revision)).where(Setup.connection == connection)) or 0
    # Where nothing is stored, as in a database that was made anew, nobody's work is in the way.
    if newest in (0, seen_revision):
        row.revision = newest + 1
        session.add(row)
        try:
            session.flush()
        except IntegrityError:
            # Two saves at the same moment: the unique (connection, revision) let one of them through.
            session.rollback()
        else:
            session.refresh(row)
            return row
    other = latest(session, connection)
    raise Conflict("somebody saved these settings in the meantime", by=other.created_by if other else "")


def row_of(values: SetupValues, vault: Vault) -> Setup:
    """These values as a revision that is not saved; which authentication object they use is left out."""
    return Setup(
        service=values.service,
        host=values.host,
        port=values.port,
        tls=values.tls,
        username=values.username,
        password_sealed=vault.seal(values.password),
        from_address=values.from_address,
        from_name=values.from_name,
        failure_alerts_to=values.failure_alerts_to,
    )


def restore(session: Session, old: Setup, vault: Vault, *, by: str, seen_revision: int) -> Setup:
    """A new revision with the values of an old one. What was proven of exactly those values stays proven."""
    row = save(
        session,
        values_of(old, vault),
        vault,
        by=by,
        seen_revision=seen_revision,
        connection=old.connection,
        auth_object=old.auth_object,
        restored_from=old.revision,
    )
    row.verified_at, row.verified_by = old.verified_at, old.verified_by
    row.verified_fingerprint = old.verified_fingerprint
    return row


def activate(row: Setup, *, by: str) -> None:
    """Puts a revision into use. The caller commits."""
    row.activated_at, row.activated_by = utc_now(), by


def mark_verified(row: Setup, values: SetupValues, vault: Vault, *, by: str) -> None:
    """Notes that exactly these values passed a test. The caller commits."""
    row.verified_at, row.verified_by = utc_now(), by
    row.verified_fingerprint = vault.fingerprints(values.canonical())[0]


def is_verified(row: Setup, values: SetupValues, vault: Vault) -> bool:
    """Whether a test passed for exactly these values, secrets included."""
    return bool(row.verified_fingerprint) and row.verified_fingerprint in vault.fingerprints(values.canonical())


def changes(before: Setup | None, after: Setup, vault: Vault) -> list[Change]:
    """What differs in `after`, field by field. A secret is "set" or "changed", and never shown."""
    found = []
    for name in FIELDS:
        old_text, new_text = shown(before, name), shown(after, name)
        if name == "password" and before is not None and old_text == new_text == "set":
            new_text = "set" if _is_same_secret(before, after, vault) else "changed"
        if old_text != new_text:
            found.append(Change(name, old_text, new_text))
    return found


def differences(before: Setup, values: SetupValues, vault: Vault) -> list[Change]:
    """What differs in values that are not saved, like `changes`."""
    after = row_of(values, vault)
    after.auth_object = AuthObject(name=values.auth_object) if values.auth_object else None
    return changes(before, after, vault)


def _is_same_secret(before: Setup, after: Setup, vault: Vault) -> bool:
    # Sealed texts differ each time, so they must be opened to be compared.
    try:
        return vault.open(before.password_sealed) == vault.open(after.password_sealed)
    except SecretUnreadable:
        return False  # it cannot be told, and "the same" would be a promise


def shown(row: Setup | None, name: str) -> str:
    """A field of a revision as it is shown; a password is "set" or not."""
    if row is None:
        return ""
    if name == "password":
        return "set" if row.password_sealed else ""
    if name == "auth_object":
        return row.auth_object.name if row.auth_object else ""
    value = getattr(row, name)
    return "" if value in (None, 0) else str(value)


# -- proofs ----------------------------------------------------------------------------------------------------------


def add_proof(
    session: Session,
    values: SetupValues,
    vault: Vault,
    *,
    passed: bool,
    steps: Any,
    by: str,
    connection: str = PRIMARY,
    kind: str | None = None,
) -> Proof:
    """Records a test run, and drops the oldest ones of its kind. The caller commits."""
    proof = Proof(
        id=uuid4().hex,
        connection=connection,
        fingerprint=vault.fingerprints(values.canonical())[0],
        passed=passed,
        steps=steps,
        host=values.host,
        port=values.port,
        username=values.username,
        # Nobody saves by a check that ran by itself.
        password_sealed=vault.seal(values.password) if kind is None else "",
        created_by=by,
        kind=kind,
    )
    session.add(proof)
    session.flush()
    mine = (Proof.connection == connection, _is_of(kind))
    keep = list(session.scalars(select(Proof.id).where(*mine).order_by(Proof.created_at.desc()).limit(PROOFS_KEPT)))
    session.execute(delete(Proof).where(*mine, Proof.id.not_in(keep)))
    return proof


def last_proof(
    session: Session,
    connection: str = PRIMARY,
    kind: str | None = None,
    *,
    of: SetupValues | None = None,
    vault: Vault | None = None,
) -> Proof | None:
    """The newest test run of a person; with `kind` the newest check of that kind.

    With values (`of`) and the vault, the newest of exactly these.
    """
    found = select(Proof).where(Proof.connection == connection, _is_of(kind))
    if of is not None and vault is not None:
        found = found.where(Proof.fingerprint.in_(vault.fingerprints(of.canonical())))
    return session.scalars(found.order_by(Proof.created_at.desc()).limit(1)).first()


def _is_of(kind: str | None) -> ColumnElement[bool]:
    return Proof.kind.is_(None) if kind is None else Proof.kind == kind


def tested_password(session: Session, values: SetupValues, proof_id: str, vault: Vault, *, valid_s: int) -> str:
    """The password that was just tested with the same server and user; "" when there is none or it is too old."""
    proof = session.get(Proof, proof_id) if proof_id else None
    if proof is None or utc_now() - proof.created_at > timedelta(seconds=valid_s):
        return ""
    if (proof.host, proof.port, proof.username) != (values.host, values.port, values.username):
        return ""
    password = vault.open(proof.password_sealed)
    if values.tls == "none" and proof.fingerprint not in vault.fingerprints(
        replace(values, password=password).canonical()
    ):
        return ""  # tested with TLS: not to be sent without it
    return password


def is_proven(session: Session, values: SetupValues, vault: Vault, *, valid_s: int) -> bool:
    """Whether the newest recent test of exactly these values passed. A scheduled check proves less, and counts not."""
    since = utc_now() - timedelta(seconds=valid_s)
    known = vault.fingerprints(values.canonical())
    proof = session.scalars(
        select(Proof)
        .where(Proof.fingerprint.in_(known), Proof.created_at >= since, _is_of(None))
        .order_by(Proof.created_at.desc())
        .limit(1)
    ).first()
    return proof is not None and proof.passed


def with_stored_password(values: SetupValues, stored: SetupValues | None) -> SetupValues:
    """An empty password means "the stored one", but only for the server and user it was stored for, and with TLS if so.

    Otherwise whoever may open the page could point it at a server of his own, or have it sent in the clear, and read
    the password.
    """
    if values.password or stored is None:
        return values
    if values.tls == "none" != stored.tls:
        return values
    if (stored.host.lower(), stored.port, stored.username) != (values.host.lower(), values.port, values.username):
        return values
    return replace(values, password=stored.password)
