"""What is known of an authentication object's past: when it was last proven, and who changed what about it.

It is proven by a test of its own, and by every test and scheduled check of a setup in force that uses it: what counts
there is how far the credential came, and not what the mailbox said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from . import auth_objects, setups
from .errors import OutmailError
from .models import AuditEntry, AuthObject, Proof, Setup
from .setup_values import SetupValues
from .vault import Vault

#: The kind of proof that a credential gets by itself, and the steps that say something about a credential.
KIND = "credential"
STEPS = ("secret", "sign_in_name", "sign_in_tls", "token")


@dataclass(frozen=True, slots=True)
class Checked:
    """One check of a credential. `connection` is the one whose test it was, "" for a test of the credential alone.

    `by` is empty for a check that ran by itself. `told` is what did not pass, or what deserves a look.
    """

    at: datetime
    by: str
    connection: str
    passed: bool
    told: str = ""

    @property
    def is_by_earlier(self) -> bool:
        """Whether it passed only because the secret before the present one is still kept."""
        return self.passed and bool(self.told)


def place(row: AuthObject) -> str:
    """Where its page stands below the prefix: the name under which proofs and changes are noted."""
    return f"/auth-objects/{row.id}"


def add(session: Session, row: AuthObject, vault: Vault, *, passed: bool, steps: Any, by: str) -> None:
    """Notes a test of what is stored. The caller commits.

    Raises:
        SecretUnreadable: what is stored cannot be read.
    """
    values = SetupValues(service="", credential=auth_objects.credential_of(row, vault))
    setups.add_proof(session, values, vault, passed=passed, steps=steps, by=by, connection=place(row), kind=KIND)


def checks(session: Session, row: AuthObject, vault: Vault, *, since: datetime, limit: int = 20) -> list[Checked]:
    """Its checks since a moment, newest first."""
    wanted = or_(_own([row]), *(_of_setup(one, vault) for one in setups.using(session, row)))
    rows = session.scalars(
        select(Proof)
        .where(wanted, Proof.created_at >= max(since, row.created_at))
        .order_by(Proof.created_at.desc())
        .limit(limit)
    )
    return [found for proof in rows if (found := _checked(proof)) is not None]


def last_checks(session: Session, rows: Sequence[AuthObject], vault: Vault) -> dict[int, Checked]:
    """The newest check of each, by id."""
    newest = (
        select(Proof.connection, func.max(Proof.created_at).label("at"))
        .where(_own(rows))
        .group_by(Proof.connection)
        .subquery()
    )
    own = select(Proof).join(newest, and_(Proof.connection == newest.c.connection, Proof.created_at == newest.c.at))
    by_place = {proof.connection: proof for proof in session.scalars(own.where(_own(rows)))}
    found: dict[int, Checked] = {}
    for row in rows:
        _keep(found, row, by_place.get(place(row)))
    for connection in setups.connections(session):
        setup = setups.active(session, connection)
        if setup is not None and setup.auth_object is not None:
            proofs = select(Proof).where(_of_setup(setup, vault)).order_by(Proof.created_at.desc()).limit(1)
            _keep(found, setup.auth_object, session.scalar(proofs))
    return found


def of_present(session: Session, row: AuthObject, vault: Vault) -> Checked | None:
    """The newest check of exactly the secret or certificate that is stored now; None when there is none.

    Raises:
        SecretUnreadable: what is stored cannot be read.
    """
    known = vault.fingerprints(SetupValues(service="", credential=auth_objects.credential_of(row, vault)).canonical())
    mine = and_(_own([row]), Proof.fingerprint.in_(known))
    wanted = or_(mine, *(_of_setup(one, vault) for one in setups.using(session, row)))
    rows = session.scalars(select(Proof).where(wanted).order_by(Proof.created_at.desc()).limit(20))
    return next((found for proof in rows if (found := _checked(proof)) is not None), None)


def serves_earlier(session: Session, row: AuthObject, vault: Vault) -> bool:
    """Whether the secret before the present one is kept, and the newest check passed only because of it.

    Raises:
        SecretUnreadable: what is stored cannot be read.
    """
    checked = of_present(session, row, vault) if row.previous_sealed else None
    return checked is not None and checked.is_by_earlier


def changes(session: Session, row: AuthObject, *, limit: int = 20) -> Sequence[AuditEntry]:
    """Who did what to it, newest first. Fields are named, values are not."""
    here = place(row)
    # An id may be given a second time after the newest object was deleted.
    mine = and_(AuditEntry.at >= row.created_at, or_(AuditEntry.object == here, AuditEntry.object.like(f"{here}/%")))
    return session.scalars(select(AuditEntry).where(mine).order_by(AuditEntry.id.desc()).limit(limit)).all()


def _own(rows: Iterable[AuthObject]) -> ColumnElement[bool]:
    return and_(Proof.kind == KIND, Proof.connection.in_([place(row) for row in rows]))


def _of_setup(setup: Setup, vault: Vault) -> ColumnElement[bool]:
    """The proofs of exactly what a setup says now; a test of values that were only tried is none."""
    try:
        known = vault.fingerprints(setups.values_of(setup, vault).canonical())
    except OutmailError:
        known = []
    return and_(Proof.connection == setup.connection, Proof.fingerprint.in_(known))


def _keep(found: dict[int, Checked], row: AuthObject, proof: Proof | None) -> None:
    checked = _checked(proof) if proof is not None and proof.created_at >= row.created_at else None
    if checked is not None and (row.id not in found or checked.at > found[row.id].at):
        found[row.id] = checked


def _checked(proof: Proof) -> Checked | None:
    """What a test says about the credential; None when it ended before the credential was asked for."""
    by_key = {step["key"]: step for step in proof.steps}
    steps = [by_key[key] for key in STEPS if key in by_key]
    failed = next((step for step in steps if step["state"] == "failed"), None)
    token = by_key.get("token", {}).get("state")
    if failed is None and token not in ("passed", "warning"):
        return None
    worth = failed or next((step for step in steps if step["state"] == "warning"), None)
    told = ((worth or {}).get("remedy") or {}).get("title", "")
    connection = "" if proof.kind == KIND else proof.connection
    return Checked(proof.created_at, proof.created_by, connection, failed is None, told)
