"""Saving a setup: what was proven goes into use, and what was not never replaces by accident what works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from .. import services, setups
from ..diagnosis.remedies import remedy_for
from ..engine import Engine
from ..errors import OutmailError
from ..models import AuthObject, Setup
from ..outbox import store
from ..setup_values import SetupValues
from .activity import note
from .setup_form import Entered, Known

#: How long a page may take to hand over what was held; the rest leaves later.
RELEASE_BUDGET_S = 5.0


@dataclass(frozen=True)
class Saved:
    """What became of a revision.

    `is_proven`: a test passed for exactly its values; `is_tested`: just now, and something else was in use.
    """

    revision: int
    is_in_use: bool
    is_proven: bool
    is_tested: bool


@dataclass(frozen=True)
class Clash:
    """Two people saved: `theirs` was first. `rows` are (field, what both began with, theirs, mine) where we differ."""

    theirs: Setup
    rows: Sequence[tuple[str, str, str, str]]

    @property
    def who(self) -> str:
        return self.theirs.created_by or "Somebody"


def clash(engine: Engine, session: Session, known: Known, mine: Entered, *, seen_revision: int) -> Clash:
    """What somebody saved since `seen_revision`, beside what was typed here."""
    theirs = setups.latest(session, known.connection)
    assert theirs is not None  # noqa: S101 -- without a revision nothing stands in the way
    base = setups.find(session, known.connection, seen_revision)
    ours = setups.row_of(mine.values, engine.vault)
    ours.auth_object = mine.auth_object
    changed = setups.changes(theirs, ours, engine.vault)
    return Clash(theirs, [(one.field, setups.shown(base, one.field), one.before, one.after) for one in changed])


class WouldStopMail(Exception):
    """The values are not proven, and something proven carries mail now; nothing was saved."""


def save(
    engine: Engine,
    session: Session,
    known: Known,
    values: SetupValues,
    auth_object: AuthObject | None,
    *,
    action: str,
    by: str,
    seen_revision: int,
) -> Saved:
    """Saves the values as a new revision and, unless `action` is "save_draft", puts it into use. Commits.

    Raises:
        WouldStopMail: see there; with the action "save_anyway" it is done all the same.
        Conflict: somebody else saved in the meantime; nothing was saved.
    """
    # What is in use and verified may be the same but for its names; such a save says nothing new of it.
    same = known.active is not None and setups.is_verified(known.active, values, engine.vault)
    tested = not same and setups.is_proven(session, values, engine.vault, valid_s=engine.settings.test_valid_s)
    proven = same or tested
    into_use = action != "save_draft"
    if into_use and not proven and known.in_use_verified and action != "save_anyway":
        raise WouldStopMail
    row = setups.save(
        session,
        values,
        engine.vault,
        by=by,
        seen_revision=seen_revision,
        connection=known.connection,
        auth_object=auth_object,
    )
    if proven:
        setups.mark_verified(row, values, engine.vault, by=by)
    if into_use:
        setups.activate(row, by=by)
    became = "draft" if not into_use else "in use" if proven else "in use, mail is held"
    note(session, "save_setup", revision_words(row), became)
    session.commit()
    engine.connections.look_again()
    return Saved(row.revision, into_use, proven, tested)


def import_configured(engine: Engine, session: Session, known: Known, *, by: str) -> None:
    """Saves the configuration in force as a revision and puts it into use, proven as it was. Commits.

    Raises:
        Conflict: somebody saved in the meantime; nothing was saved.
    """
    assert known.stored is not None  # noqa: S101 -- the caller has looked
    values = services.service(known.stored.service).complete(known.stored, engine.environment)
    row = setups.save(
        session, values, engine.vault, by=by, seen_revision=known.newest_revision, connection=known.connection
    )
    setups.mark_verified(row, values, engine.vault, by=setups.TAKEN_OVER)
    setups.activate(row, by=by)
    note(session, "import_setup", revision_words(row), "in use")
    session.commit()
    engine.connections.look_again()


def revision_words(row: Setup) -> str:
    """A revision as the activity names it."""
    return f"revision {row.revision} of {row.connection}"


def is_revision_proven(engine: Engine, row: Setup) -> bool:
    """Whether a test passed for exactly what this revision says today; false when it cannot be read."""
    try:
        return setups.is_verified(row, setups.values_of(row, engine.vault), engine.vault)
    except OutmailError:
        return False


def release(engine: Engine, connection: str, *, tested: bool = False) -> str:
    """Lets held messages go, for a short while; returns sentences about it, or "" when there were none.

    `tested`: what is in use has just passed a test, so the failures that were open are over.
    """
    if tested:
        engine.alerting.recovered(connection, is_proven=True)
    try:
        accepted, refused = engine.releasing.release(connection, budget_s=RELEASE_BUDGET_S)
        with engine.database.session() as session:
            left, code = store.still_held(session, connection)
    except OutmailError as exc:
        return f"Held messages could not be handed over: {exc}."
    told = []
    if accepted:
        told.append(_counted(accepted, *_ACCEPTED))
    if refused:
        told.append(_counted(refused, *_REFUSED))
    if left:
        told.append(f"Still held: {_counted(left, *_MESSAGES)}.")
        told.append(f"{remedy_for(OutmailError('', code=code)).title}; see Deliveries." if code else _FOLLOW)
    return " ".join(told)


_ACCEPTED = ("1 message that had been held: accepted.", "{count} messages that had been held: accepted.")
_REFUSED = (
    "1 message that had been held: not accepted; see Deliveries.",
    "{count} messages that had been held: not accepted; see Deliveries.",
)
_MESSAGES = ("1 message", "{count} messages")
_FOLLOW = "They follow one after another."


def _counted(count: int, one: str, many: str) -> str:
    return one if count == 1 else many.format(count=count)
