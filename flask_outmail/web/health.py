"""Whether mail flows, in one sentence and in facts: for the overview, and for machines that watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .. import setups
from ..current import Current
from ..diagnosis.remedies import Remedy, remedy_for
from ..engine import Engine
from ..errors import ConfigurationError, OutmailError
from ..models import PRIMARY, Incident, Proof, Setup, utc_now
from ..outbox import alerts, store
from ..services import service
from .blueprint import days_until, expiry_words

WORKING, HELD, NOT_SET_UP, FAILING, BROKEN = "working", "held", "not_set_up", "failing", "broken"
_REASONS = {
    WORKING: "Mail is working.",
    HELD: "Mail is held: the setup has not been verified.",
    NOT_SET_UP: "Mail is not set up yet.",
}
#: From how many days before its end a credential is an issue.
REMIND_DAYS = 30


@dataclass(frozen=True)
class Issue:
    """Something that needs a person. Holds no address and no subject, so that machines may read it."""

    code: str
    severity: str
    title: str
    since: datetime | None = None


@dataclass(frozen=True)
class Line:
    """One connection: what carries its mail and how it is. `error` says why that cannot be told."""

    name: str
    current: Current | None = None
    error: Remedy | None = None
    row: Setup | None = None

    @property
    def state(self) -> str:
        if self.error is not None:
            return BROKEN
        if self.current is None:
            return NOT_SET_UP
        return WORKING if self.current.verified else HELD

    @property
    def service_label(self) -> str:
        return service(self.current.values.service).label if self.current is not None else ""


@dataclass
class Health:
    """How outbound mail is. The first of `lines` is the primary connection."""

    lines: list[Line]
    incidents: Sequence[Incident] = ()
    held_count: int = 0
    last_proof: Proof | None = None
    has_database: bool = True
    checked_at: datetime = field(default_factory=utc_now)

    @property
    def primary(self) -> Line:
        return self.lines[0]

    @property
    def failing_since(self) -> datetime | None:
        """When the oldest open failure of the primary connection began."""
        mine = [one.opened_at for one in self.incidents if one.connection == PRIMARY and one.fault != "message"]
        return min(mine, default=None)

    @property
    def state(self) -> str:
        state = self.primary.state
        return FAILING if state == WORKING and self.failing_since else state

    @property
    def reason(self) -> str:
        """One sentence of truth."""
        if self.state == FAILING and self.failing_since:
            return f"Mail is failing since {self.failing_since:%Y-%m-%d %H:%M} UTC."
        if self.primary.error is not None:
            return f"Mail cannot be sent: {self.primary.error.title[0].lower()}{self.primary.error.title[1:]}."
        count = len(self.issues)
        if self.state == WORKING and count:
            return f"Mail is working, and {'1 thing needs' if count == 1 else f'{count} things need'} attention."
        return _REASONS[self.state]

    @property
    def issues(self) -> list[Issue]:
        found = [
            Issue(
                one.code, "warning" if one.fault == "message" else "error", alerts.remedy_of(one).title, one.opened_at
            )
            for one in self.incidents
        ]
        for line in self.lines:
            if line.error is not None:
                found.append(Issue(line.error.code, "error", f"Connection “{line.name}”: {line.error.title}"))
            elif line.state == HELD:
                found.append(Issue("setup_not_verified", "error", f"Connection “{line.name}” is not verified."))
            found += _expiry_issues(line)
        if self.held_count and self.primary.state == WORKING:
            found.append(Issue("messages_held", "warning", f"Messages are held: {self.held_count}."))
        return found


def _expiry_issues(line: Line) -> list[Issue]:
    row = line.row.auth_object if line.row is not None else None
    if row is None or row.expires_on is None or days_until(row.expires_on) > REMIND_DAYS:
        return []
    ended = days_until(row.expires_on) < 0
    verb = "expired" if ended else "expires"
    severity = "error" if ended else "warning"
    return [Issue("credential_expires", severity, f"Credential “{row.name}” {verb} {expiry_words(row.expires_on)}.")]


def health(engine: Engine) -> Health:
    """Looks at everything once. Reads the database, if there is one.

    Raises:
        OutmailError: the database does not answer, or lacks the tables.
    """
    if not engine.database and engine.settings.setup is None and engine.settings.fallback is None:
        # Without either there is nothing a page could say; the remedy names the database.
        raise ConfigurationError(
            "this needs a database: give Mail the application's Flask-SQLAlchemy object", code="database_missing"
        )
    if not engine.database:
        return Health([_line(engine, PRIMARY, None)], has_database=False)
    with engine.database.session() as session:
        rows = {name: setups.active(session, name) for name in (PRIMARY, *setups.connections(session))}
        incidents = alerts.open_incidents(session)
        held = store.counts(session).get(store.HELD, 0)
        proof = setups.last_proof(session)
    lines = [_line(engine, name, row) for name, row in rows.items()]
    return Health(lines, incidents, held, proof)


def _line(engine: Engine, name: str, row: Setup | None) -> Line:
    try:
        return Line(name, engine.current(name, fresh=True), row=row)
    except OutmailError as exc:
        if exc.code == "connection_unknown":
            # It has drafts only; nothing of it is in use yet.
            return Line(name)
        return Line(name, error=remedy_for(exc), row=row)
