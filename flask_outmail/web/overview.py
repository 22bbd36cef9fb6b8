"""The overview: one sentence of truth, what needs a person, and the facts behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import date, datetime, timedelta

from flask import redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from .. import services, setups
from ..diagnosis.it_request import it_request
from ..diagnosis.remedies import Remedy, is_listed, remedy_for
from ..engine import Engine
from ..errors import OutmailError
from ..models import PRIMARY, AuthObject, Lane, Proof, Setup, Worker, utc_now
from ..outbox import backlog, lanes, statistics
from ..outbox.backlog import Slot
from ..outbox.conditions import next_step
from ..outbox.facts import Credential
from ..outbox.lanes import LaneState
from ..outbox.statistics import OUTCOMES, Hour
from . import charts
from .alerts import CHANNEL_LABELS
from .blueprint import engine, pages, tell
from .forms import ActionForm, demand_csrf
from .health import FAILING, WORKING, Health, Issue, Line, health
from .setup_saving import release
from .sources import Source, keys_set, sources_of
from .texts import clock, said, t, words


@dataclass(frozen=True)
class Item:
    """Something that needs a person, with the page where it is mended and, if one is known, the remedy."""

    issue: Issue
    link: str
    label: str
    remedy: Remedy | None


@dataclass(frozen=True)
class CredentialLine:
    """A credential that is in use. `remind_on` is when somebody is told of its end next."""

    credential: Credential
    days_left: int | None
    remind_on: date | None
    link: str
    #: Since when the secret before the present one is kept beside it, if it is.
    kept_since: datetime | None


@dataclass
class Facts:
    """What the database says beside the state of health."""

    checks: dict[str, Proof | None] = field(default_factory=dict)
    checks_due: dict[str, datetime] = field(default_factory=dict)
    next_try_at: datetime | None = None
    hours: list[Hour] = field(default_factory=list)
    backlog: Sequence[Slot] = ()
    #: Connections that pause after a fault, or because their server asked for it.
    pauses: dict[str, LaneState] = field(default_factory=dict)
    causes: Sequence[tuple[str, int]] = ()
    #: Revision numbers by the id of the setup, for what workers say they use.
    revisions: dict[int, int] = field(default_factory=dict)


@pages.get("/")
def overview() -> ResponseReturnValue:
    found = engine()
    state = health(found)
    facts = _facts(found, state)
    return render_template(
        "outmail/overview.html",
        health=state,
        truth=_truth(state),
        items=[_item(state, issue) for issue in sorted(state.issues, key=lambda one: one.severity != "error")],
        facts=facts,
        chart=_chart(facts.hours) if state.has_database else None,
        backlog=_backlog_chart(facts.backlog) if state.has_database else None,
        causes=[(code, count, _title_of(code)) for code, count in facts.causes],
        title_of=_title_of,
        taken_over=setups.TAKEN_OVER,
        credentials=[_credential_line(state, one) for one in state.facts.credentials],
        channels=found.alerting.channels.described(),
        channel_labels=CHANNEL_LABELS,
        sources={line.name: _sources(found, line) for line in state.lines},
        keys_set=keys_set(found.app.config),
        uses=lambda worker: _uses(state, facts, worker),
        is_gone=lambda worker: state.checked_at - worker.seen_at > timedelta(seconds=found.settings.alert_worker_s),
        check_s=found.settings.check_s,
        domain=_domain(state),
        requests=_requests(found) if state.primary.current is None and state.primary.error is None else {},
        form=ActionForm(),
    )


def _truth(state: Health) -> str:
    """The sentence at the top; a moment in it is one in the zone of the pages."""
    began, waiting = state.failing_since, state.waiting_count
    if state.state != FAILING or began is None:
        return said(state.reason)
    if waiting:
        return t("Mail has been failing since %(when)s, %(count)s waiting.", when=clock(began), count=waiting)
    return t("Mail has been failing since %(when)s.", when=clock(began))


def _facts(engine: Engine, state: Health) -> Facts:
    if not state.has_database:
        return Facts()
    now = utc_now()
    with engine.database.session() as session:
        hours = statistics.last_hours(session, now=now)
        used = {number for worker in state.workers for number in (worker.setups or {}).values() if number}
        rows = session.execute(select(Setup.id, Setup.revision).where(Setup.id.in_(used))).all() if used else []
        due = session.execute(select(Lane.connection, Lane.check_due_at).where(Lane.check_due_at.is_not(None)))
        return Facts(
            checks={line.name: setups.last_proof(session, line.name, setups.SCHEDULED) for line in state.lines},
            checks_due={name: due_at for name, due_at in due if due_at is not None},
            next_try_at=statistics.next_try_at(session),
            hours=hours,
            backlog=backlog.last_day(session, now=now),
            pauses={name: lane for name, lane in lanes.read(session).items() if lane.is_paused(now)},
            causes=statistics.causes(session, since=hours[0].start),
            revisions={row.id: row.revision for row in rows},
        )


def _chart(hours: Sequence[Hour]) -> charts.Chart:
    rows = [(f"{hour.start:%H:%M}", list(hour.counts.values())) for hour in hours]
    return charts.stacked([t(outcome) for outcome in OUTCOMES], rows)


def _backlog_chart(slots: Sequence[Slot]) -> charts.Chart:
    words = [t("ready to leave"), t("waiting for a later try"), t("held")]
    rows = [(f"{slot.start:%H:%M}", astuple(slot.most) if slot.most is not None else None) for slot in slots]
    # The colours of what is under way, what deserves a look, and what is not handed over.
    return charts.stacked(words, rows, label_every=12, colours=(1, 2, 4), is_level=True)


def _item(state: Health, issue: Issue) -> Item:
    connection = None if issue.connection == PRIMARY else issue.connection
    setup = url_for(".setup", connection=connection)
    places = {
        "setup_not_verified": (setup, "Test the setup"),
        "messages_held": (url_for(".deliveries", state="held"), "See them"),
        "backlog_held": (setup, "Test the setup"),
        "queue_old": (url_for(".deliveries", state="queued"), "See what waits"),
        "worker_missing": ("#om-workers", "See the workers"),
        "worker_behind": ("#om-workers", "See the workers"),
    }
    if issue.incident_id is not None:
        link, label = url_for(".alerts", _anchor=f"om-incident-{issue.incident_id}"), "See the alert"
    elif issue.about:
        link, label = _credential_link(state, issue.about) or "#om-credentials", "See the credential"
    else:
        link, label = places.get(issue.code, (setup, "Open the set-up"))
    error = OutmailError("", code=issue.code)
    return Item(issue, link, label, issue.remedy or (remedy_for(error) if is_listed(error) else None))


def _title_of(code: str) -> str:
    """What a code means, in a few words; "" for one that the catalogue does not know."""
    error = OutmailError("", code=code)
    return remedy_for(error).title if is_listed(error) else ""


def _credential_line(state: Health, credential: Credential) -> CredentialLine:
    left = credential.days_left(state.checked_at)
    step = next_step(left) if left is not None else None
    remind_on = credential.ends_at.date() - timedelta(days=step) if credential.ends_at and step is not None else None
    row = _credential_row(state, credential.name)
    link = _credential_link(state, credential.name)
    return CredentialLine(credential, left, remind_on, link, row.replaced_at if row and row.previous_sealed else None)


def _credential_link(state: Health, name: str) -> str:
    """The page of the authentication object of this name; "" when configuration holds the credential."""
    row = _credential_row(state, name)
    return url_for(".auth_object", object_id=row.id) if row is not None else ""


def _credential_row(state: Health, name: str) -> AuthObject | None:
    objects = [line.row.auth_object for line in state.lines if line.row is not None and line.row.auth_object]
    return next((one for one in objects if one.name == name), None)


def _sources(engine: Engine, line: Line) -> list[Source]:
    return sources_of(line.current, line.row, engine.app.config) if line.current is not None else []


def _uses(state: Health, facts: Facts, worker: Worker) -> list[tuple[str, str, bool]]:
    """What a worker uses: connection, words, and whether that is another revision than the one in force."""
    told, is_late = [], worker in state.behind
    for line in state.lines:
        if line.name in (worker.setups or {}):
            number = worker.setups[line.name]
            words = f"revision {facts.revisions[number]}" if number in facts.revisions else "configuration"
            told.append((line.name, words, is_late and state.is_behind(worker, line)))
    return told


def _domain(state: Health) -> str:
    current = state.primary.current
    return current.values.from_address.rpartition("@")[2] if current is not None else ""


def _requests(engine: Engine) -> dict[str, tuple[str, str]]:
    """The ready request for the IT department, for each service that needs their help."""
    texts = {}
    for service in services.services():
        try:
            text = it_request(service=service.name, mailbox="", app_name=engine.app.name, words=words())
        except ValueError:
            continue
        texts[service.name] = (service.label, text)
    return texts


@pages.post("/release")
def release_held() -> ResponseReturnValue:
    """Lets held messages go. Touches the network."""
    demand_csrf()
    found = engine()
    lines = [line for line in health(found).lines if line.state == WORKING]
    told = [sentence for line in lines if (sentence := release(found, line.name))]
    for sentence in told:
        tell(sentence)
    if not lines:
        tell("Nothing was handed over: no connection is verified. Test the setup first.", "warning")
    elif not told:
        tell("Nothing is held any more.")
    return redirect(url_for(".overview"))
