"""Whether mail flows, in one sentence and in facts: for the overview, and for machines that watch."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flask import Response, jsonify, request
from sqlalchemy.orm import Session

from .. import credential_log, setups
from ..current import Current
from ..diagnosis.remedies import Remedy, remedy_for
from ..engine import Engine
from ..errors import ConfigurationError, OutmailError
from ..models import PRIMARY, Incident, Proof, Setup, Worker, utc_now
from ..outbox import alerts, roster, states, statistics, store
from ..outbox.conditions import Condition
from ..outbox.facts import Facts
from ..proving import last_proof
from ..services import service
from .blueprint import engine, pages

WORKING, HELD, NOT_SET_UP, FAILING, BROKEN = "working", "held", "not_set_up", "failing", "broken"
_REASONS = {
    WORKING: "Mail is working.",
    HELD: "Mail is held: the setup has not been verified.",
    NOT_SET_UP: "No mail service yet.",
}
_UNTRIED = "Mail is set up, and nothing has been tried yet."
#: From how many days before its end a credential is an issue.
REMIND_DAYS = 30
#: How long a worker may take to notice a revision that was put into use.
NOTICE = timedelta(minutes=1)


@dataclass(frozen=True)
class Issue:
    """Something that needs a person. What machines read of it holds no address and no subject.

    `about` names the credential it concerns. `remedy` is set where it is not simply that of the code.
    """

    code: str
    severity: str
    title: str
    since: datetime | None = None
    connection: str = PRIMARY
    about: str = ""
    incident_id: int | None = None
    remedy: Remedy | None = None


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
    counts: Mapping[str, int] = field(default_factory=dict)
    conditions: Sequence[Condition] = ()
    facts: Facts = field(default_factory=Facts)
    last_proof: Proof | None = None
    last_check: Proof | None = None
    last_accepted_at: datetime | None = None
    #: Authentication objects whose newest secret or certificate Microsoft refuses: the one before serves.
    by_earlier: Sequence[str] = ()
    workers: Sequence[Worker] = ()
    has_database: bool = True
    checked_at: datetime = field(default_factory=utc_now)

    @property
    def primary(self) -> Line:
        return self.lines[0]

    @property
    def held_count(self) -> int:
        return self.counts.get(store.HELD, 0)

    @property
    def failures(self) -> list[Incident]:
        """The open incidents of messages that failed; what is watched is judged anew each time, in `conditions`."""
        return [one for one in self.incidents if one.kind in (alerts.FAILING, alerts.MESSAGE)]

    @property
    def stuck(self) -> Condition | None:
        """What keeps queued mail from leaving, if something does."""
        return next((one for one in self.conditions if one.kind in (alerts.WORKER, alerts.QUEUE)), None)

    @property
    def under_way_count(self) -> int:
        """How many messages wait to leave, or to be tried again."""
        return sum(self.counts.get(state, 0) for state in (states.QUEUED, states.CLAIMED, states.WAITING))

    @property
    def waiting_count(self) -> int:
        """How many messages wait for whatever reason."""
        return self.under_way_count + self.held_count

    def is_behind(self, worker: Worker, line: Line) -> bool:
        """Whether a worker says that it uses another revision of a connection than the one in force."""
        if line.current is None or line.name not in (worker.setups or {}):
            return False
        return bool(worker.setups[line.name] != line.current.setup_id)

    @property
    def behind(self) -> list[Worker]:
        """Workers that live, and have had the time to notice what is in force."""
        since = self.checked_at - NOTICE
        settled = [one for one in self.lines if one.row is None or (one.row.activated_at or since) <= since]
        alive = [one for one in self.workers if one.seen_at >= since and not one.is_stopping]
        return [worker for worker in alive if any(self.is_behind(worker, line) for line in settled)]

    @property
    def failing_since(self) -> datetime | None:
        """When the oldest open failure of the primary connection began."""
        mine = (one for one in self.incidents if one.connection == PRIMARY and one.kind == alerts.FAILING)
        return min((one.opened_at for one in mine), default=None)

    @property
    def state(self) -> str:
        state = self.primary.state
        return FAILING if state == WORKING and (self.failing_since or self.stuck) else state

    @property
    def is_tried(self) -> bool:
        """Whether anything speaks for it that mail leaves; without a database nobody can know."""
        passed = any(one is not None and one.passed for one in (self.last_proof, self.last_check))
        current, row = self.primary.current, self.primary.row
        is_saved = current is not None and current.source == "database"
        tested = is_saved and row is not None and row.verified_by != setups.TAKEN_OVER
        return passed or tested or self.last_accepted_at is not None or not self.has_database

    @property
    def reason(self) -> str:
        """One sentence of truth."""
        if self.state == FAILING and self.failing_since:
            began, waiting = self.failing_since, self.waiting_count
            day = "" if began.date() == self.checked_at.date() else f"{began:%Y-%m-%d} "
            return f"Mail has been failing since {day}{began:%H:%M} UTC" + (f", {waiting} waiting." if waiting else ".")
        if self.state == FAILING and self.stuck:
            return f"{_remedy(self.stuck.code).title}."
        if self.primary.error is not None:
            return f"Mail cannot be sent: {self.primary.error.title[0].lower()}{self.primary.error.title[1:]}."
        count = len(self.issues)
        if self.state == WORKING and count:
            return f"Mail works, but needs attention: {'1 item' if count == 1 else f'{count} items'}."
        return _UNTRIED if self.state == WORKING and not self.is_tried else _REASONS[self.state]

    @property
    def issues(self) -> list[Issue]:
        found = [_issue_of(one) for one in self.failures]
        found += [_issue(one) for one in self.conditions if not one.is_symptom and _is_near(one)]
        for name in self.by_earlier:
            remedy = _remedy("credential_fallback")
            title = f"Credential “{name}”: {remedy.title}."
            found.append(Issue("credential_fallback", "warning", title, about=name, remedy=remedy))
        for worker in self.behind:
            title = f"The worker on {worker.host}, process {worker.pid}, uses another revision."
            found.append(Issue("worker_behind", "warning", title))
        for line in self.lines:
            if line.error is not None:
                title = f"Connection “{line.name}”: {line.error.title}"
                found.append(Issue(line.error.code, "error", title, connection=line.name, remedy=line.error))
            elif line.state == HELD:
                title = f"Connection “{line.name}” is not verified."
                found.append(Issue("setup_not_verified", "error", title, connection=line.name))
        held_told = any(one.kind == alerts.HELD for one in self.conditions)
        if self.held_count and self.primary.state == WORKING and not held_told:
            found.append(Issue("messages_held", "warning", f"Messages are held: {self.held_count}."))
        return found


def _issue_of(incident: Incident) -> Issue:
    remedy = alerts.remedy_of(incident)
    return Issue(
        incident.code,
        "warning" if incident.kind == alerts.MESSAGE else "error",
        remedy.title,
        incident.opened_at,
        incident.connection,
        incident_id=incident.id,
        remedy=remedy,
    )


def _remedy(code: str) -> Remedy:
    return remedy_for(OutmailError("", code=code))


def _is_near(condition: Condition) -> bool:
    return condition.days_left is None or condition.days_left <= REMIND_DAYS


def _issue(condition: Condition) -> Issue:
    severity = "warning" if (condition.days_left or 0) > 0 else "error"
    if condition.days_left is not None:
        title = _ends(condition.about, condition.days_left)
        return Issue(condition.code, severity, title, about=condition.about)
    title = f"{_remedy(condition.code).title}."
    return Issue(condition.code, severity, title, condition.since, condition.connection)


def _ends(name: str, days_left: int) -> str:
    if days_left < 0:
        return f"Credential “{name}” has expired."
    if days_left == 0:
        return f"Credential “{name}” expires today."
    return f"Credential “{name}” expires in {days_left} day{'' if days_left == 1 else 's'}."


def health(engine: Engine) -> Health:
    """Looks at everything once. Reads the database, if there is one.

    Raises:
        OutmailError: the database does not answer, or lacks the tables.
    """
    if not engine.database and not engine.settings.configured and engine.settings.fallback is None:
        # Without either there is nothing a page could say; the remedy names the database.
        raise ConfigurationError(
            "this needs a database: give Mail the application's Flask-SQLAlchemy object", code="database_missing"
        )
    if not engine.database:
        return Health([_line(engine, PRIMARY, None)], has_database=False)
    with engine.database.session() as session:
        rows = {name: setups.active(session, name) for name in (PRIMARY, *setups.connections(session))}
        incidents = alerts.open_incidents(session)
        counts = store.counts(session)
        facts = engine.alerting.look(session, utc_now())
        conditions = engine.alerting.judge(session, facts, utc_now())
        workers = roster.listed(session)
        check = setups.last_proof(session, PRIMARY, setups.SCHEDULED)
        accepted_at = statistics.last_accepted_at(session)
        by_earlier = _by_earlier(engine, session, rows.values())
    lines = [_line(engine, name, row) for name, row in rows.items()]
    proof = last_proof(engine, lines[0].current)
    return Health(
        lines, incidents, counts, conditions, facts, proof, check, accepted_at, by_earlier=by_earlier, workers=workers
    )


def _by_earlier(engine: Engine, session: Session, rows: Iterable[Setup | None]) -> list[str]:
    objects = {row.auth_object_id: row.auth_object for row in rows if row is not None and row.auth_object}
    found = []
    for one in objects.values():
        with suppress(OutmailError):  # what cannot be read is told as that
            found += [one.name] if credential_log.serves_earlier(session, one, engine.vault) else []
    return found


def _line(engine: Engine, name: str, row: Setup | None) -> Line:
    try:
        return Line(name, engine.current(name, fresh=True), row=row)
    except OutmailError as exc:
        if exc.code == "connection_unknown":
            # It has drafts only; nothing of it is in use yet.
            return Line(name)
        return Line(name, error=remedy_for(exc), row=row)


# -- for machines ----------------------------------------------------------------------------------------------------


def bears_token() -> bool:
    """Whether the request shows the monitor's token (`OUTMAIL_HEALTH_TOKEN`).

    In the header only: an address stands in the logs of every proxy on the way.
    """
    wanted = engine().settings.health_token
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return bool(wanted) and scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), wanted.encode())


@pages.get("/health.json")
def health_json() -> Response:
    """Whether mail flows: 200 when it does, 503 when it does not. Without addresses and subjects."""
    try:
        found = health(engine())
    except OutmailError as exc:
        answer = jsonify(_broken(remedy_for(exc)))
        answer.status_code = 503
        return answer
    answer = jsonify(_facts(found))
    # Before anybody has set mail up nothing fails, unless something is sent already.
    nothing_yet = found.state == NOT_SET_UP and not found.held_count
    answer.status_code = 200 if found.state == WORKING or nothing_yet else 503
    return answer


def _broken(remedy: Remedy) -> dict[str, Any]:
    return {
        "status": BROKEN,
        "reason": f"{remedy.title}.",
        "checked_at": utc_now().isoformat(),
        "remedy": {"meaning": remedy.meaning, "steps": list(remedy.steps), "who": remedy.who},
        "issues": [{"code": remedy.code, "severity": "error", "title": remedy.title, "since": None}],
    }


def _facts(found: Health) -> dict[str, Any]:
    now, oldest_at = found.checked_at, found.facts.oldest_at
    heartbeat_at = found.facts.last_heartbeat_at
    return {
        "status": found.state,
        # A person may have given a connection or a credential an address for a name.
        "reason": alerts.scrubbed(found.reason),
        "checked_at": now.isoformat(),
        "held": found.held_count,
        "counts": dict(found.counts),
        "oldest_waiting_seconds": max(0, int((now - oldest_at).total_seconds())) if oldest_at else None,
        "incidents": [one.code for one in found.incidents],
        "kept_alerts": sum(one.alert == alerts.KEPT for one in found.incidents),
        "credentials": [
            {"connections": [alerts.scrubbed(name) for name in one.connections], "days_left": one.days_left(now)}
            for one in found.facts.credentials
        ],
        "workers": {
            "count": found.facts.worker_count,
            "last_heartbeat_at": heartbeat_at.isoformat() if heartbeat_at else None,
        },
        "issues": [
            {
                "code": issue.code,
                "severity": issue.severity,
                "title": alerts.scrubbed(issue.title),
                "since": issue.since.isoformat() if issue.since else None,
            }
            for issue in found.issues
        ],
    }
