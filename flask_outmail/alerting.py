"""Telling a person that mail does not flow: once for each cause, by a way that works, and again when it is over.

`tell` and `recovered` are called where messages are handed over, `watch` by each worker once a minute and by
`flask outmail check`. All of them may run in many processes at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, time, timedelta, timezone
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from . import auth_objects, certificates, credential_log, setups
from .alert_channels import Channels, OnAlert, Told, summary
from .current import Current
from .database import Database
from .diagnosis.remedies import remedy_for
from .errors import OutmailError
from .frames import frames
from .models import PRIMARY, Incident, utc_now
from .outbox import alerts, backlog, checks, facts, telling
from .outbox.alerts import Cause
from .outbox.conditions import Condition, Limits, conditions
from .outbox.notices import Event, Notice
from .settings import Settings
from .setup_values import Credential as SetupCredential
from .vault import Vault
from .words import Words

logger = logging.getLogger(__name__)

#: How long after a recovery the notice waits while messages still leave, so that it can say how many did.
SETTLE = timedelta(minutes=1)
#: Reminders of messages that are at fault themselves: they are for reading, not for getting up at night.
MESSAGE_PAUSE = timedelta(days=1)
#: What a failover says when each of its connections failed a moment ago (`transports.failover`).
CONNECTIONS_PAUSE = "connections_pause"
_WATCHED = (alerts.CREDENTIAL, alerts.QUEUE, alerts.WORKER, alerts.HELD)


class Alerting:
    """The alerts of one application."""

    def __init__(
        self,
        application: str,
        database: Database,
        settings: Settings,
        look_up: Callable[[str], Current | None],
        callbacks: Sequence[OnAlert],
        is_suppressed: Callable[[], bool],
        vault: Callable[[], Vault],
        words: Callable[[], Words] = Words,
    ) -> None:
        self._application = application
        self._words = words
        self._vault = vault
        self._database = database
        self._settings = settings
        self._look_up = look_up
        self.channels = Channels(database, settings, look_up, callbacks, is_suppressed)
        self._pause = timedelta(seconds=settings.alert_pause_s)
        self._grace = timedelta(seconds=settings.alert_grace_s)
        self._limits = Limits(
            queue=timedelta(minutes=settings.alert_queue_minutes), worker=timedelta(seconds=settings.alert_worker_s)
        )
        self._page = f"{settings.base_url.rstrip('/')}{settings.url_prefix}/alerts" if settings.base_url else ""
        #: Incidents that no database can keep, by the key of their cause.
        self._remembered: dict[str, Incident] = {}
        self.look_every_s = 600.0
        self._looked_at = monotonic()

    # -- where messages are handed over ------------------------------------------------------------------------------

    def tell(
        self,
        error: OutmailError,
        failed: Current,
        *,
        will_retry: bool = False,
        messages: int = 1,
        now: datetime | None = None,
    ) -> None:
        """Counts a failure and, when its cause is new or has lasted, tells of it. May touch the network.

        `will_retry` says that the message is tried again by itself: then a cause is told only once it has lasted.
        `messages` is 0 when no message met it, but a check did.
        With a database the incident is kept there, and shown on the pages when nobody could be told. Never raises.
        """
        now = now or utc_now()
        own = {failed.values.from_address.lower(), failed.values.username.lower()}
        cause = Cause.of(error, failed.connection, messages=messages, senders=own)
        if will_retry and cause.kind == alerts.MESSAGE:
            return  # a recipient's server is busy, perhaps: what becomes of the message is not known yet
        try:
            if self._keeps(failed):
                with self._database.session() as session:
                    if error.code == CONNECTIONS_PAUSE and alerts.has_open(session, cause.connection):
                        return  # it pauses because of what is an incident already
                    incident = alerts.note(session, cause, now=now, pause=self._pause)
                    self._tell_if_due(session, incident, now, will_retry)
                return
        except (OutmailError, SQLAlchemyError) as exc:
            # A database that is down must not keep the alert from being told.
            logger.error("an incident could not be recorded", extra={"error": type(exc).__name__, "code": cause.code})
        self._tell_from_memory(cause, now, will_retry)

    def recovered(self, connection: str, *, is_proven: bool = False, now: datetime | None = None) -> None:
        """Closes what an accepted message has disproved, and tells of it. May touch the network. Never raises.

        What only a check has met stays open until the next one, which is then soon: the message left with a token, or
        over a connection, from before. A test that passed (`is_proven`) disproves that too.
        """
        now = now or utc_now()
        self._recover_from_memory(connection, now)
        if not self._database:
            return
        try:
            with self._database.session() as session:
                counts = alerts.open_counts(session, connection)
                if 0 in counts and not is_proven:
                    checks.sooner(session, connection, now=now)
                    session.commit()
                if not (counts if is_proven else any(counts)):
                    return
                waits = any(one.count for one in facts.waiting(session, now=now) if one.connection == connection)
                settle = SETTLE if waits else timedelta()
                alerts.recover(session, connection, is_proven=is_proven, now=now, pause=self._pause, settle=settle)
                self._tell_recoveries(session, now, is_patient=False)
        except (OutmailError, SQLAlchemyError) as exc:
            # Not the exception itself: a database's text quotes the values of the statement.
            logger.error("an incident could not be closed", extra={"error": type(exc).__name__})

    def mended(self, connection: str, code: str, *, now: datetime) -> None:
        """Closes what a check has disproved: failures of the connection with this code. The watch tells of it."""
        with self._database.session() as session:
            mine = (Incident.connection == connection, Incident.kind == alerts.FAILING, Incident.code == code)
            alerts.close(session, *mine, now=now, pause=self._pause)

    def remembers(self, connection: str) -> bool:
        """Whether a failure of this connection is known to this process alone."""
        return any(one.connection == connection for one in self._remembered.values())

    def _keeps(self, failed: Current) -> bool:
        return bool(self._database) and (failed.source == "database" or not self._database.tables_missing())

    def _tell_if_due(self, session: Session, incident: Incident, now: datetime, will_retry: bool) -> None:
        if not self._is_worth_telling(incident):
            return
        grace = self._grace if will_retry and incident.alerted_at is None else timedelta()
        pause = self._pause_of(incident)
        if incident.alerted_at is not None and now - incident.alerted_at < pause:
            return  # asked first without a write: of a thousand failures, nearly all end here
        if telling.claim_alert(session, incident.id, now=now, pause=pause, grace=grace):
            self._carry(session, incident, "reminder" if incident.alerted_at else "opened", now, is_patient=False)

    def _is_worth_telling(self, incident: Incident) -> bool:
        return incident.kind != alerts.MESSAGE or incident.count >= self._settings.alert_repeats

    def _pause_of(self, incident: Incident) -> timedelta:
        return max(MESSAGE_PAUSE, self._pause) if incident.kind == alerts.MESSAGE else self._pause

    # -- without a database ------------------------------------------------------------------------------------------

    def _tell_from_memory(self, cause: Cause, now: datetime, will_retry: bool) -> None:
        incident = self._remembered.get(cause.key)
        if incident is None:
            incident = Incident(
                id=len(self._remembered) + 1, connection=cause.connection, code=cause.code, fault=cause.fault,
                kind=cause.kind, about=cause.about, remedy=asdict(cause.remedy), request_id=cause.request_id,
                opened_at=now, count=0, alert="",
            )  # fmt: skip
            self._remembered[cause.key] = incident
        incident.count += 1
        incident.last_at = now
        grace = self._grace if will_retry else timedelta()
        is_due = incident.alerted_at is None or now - incident.alerted_at >= self._pause_of(incident)
        if not is_due or not self._is_worth_telling(incident) or now - incident.opened_at < grace:
            return
        event: Event = "reminder" if incident.alerted_at else "opened"
        incident.alerted_at = now
        told = self.channels.tell(self._notice(event, incident, now), avoid=_broken(incident), is_patient=False)
        incident.alert = summary(told)

    def _recover_from_memory(self, connection: str, now: datetime) -> None:
        for key, incident in list(self._remembered.items()):
            if incident.connection == connection and incident.kind == alerts.FAILING:
                del self._remembered[key]
                if incident.alert:
                    incident.closed_at = now
                    self.channels.tell(self._notice("recovered", incident, now), is_patient=False)

    # -- where nobody else watches ------------------------------------------------------------------------------------

    def look_now_and_then(self) -> None:
        """Watches, in a thread of its own, if this process has not done so for ten minutes. Returns at once.

        For applications without a worker and without cron: their credentials come to an end as well.
        """
        if monotonic() - self._looked_at < self.look_every_s or not self._database:
            return
        self._looked_at = monotonic()
        if not isinstance(self._database.db.engine.pool, StaticPool):
            # A database in memory has one connection, and the thread would commit what the application has not.
            threading.Thread(target=self._look_quietly, name="outmail-watch", daemon=True).start()

    def _look_quietly(self) -> None:
        try:
            self.watch()
        except Exception as exc:  # whatever it is, it is nobody's who is waiting
            logger.warning("the watch could not look:\n%s", frames(exc), extra={"error": type(exc).__name__})

    # -- the watch ---------------------------------------------------------------------------------------------------

    def watch(self, now: datetime | None = None) -> list[Condition]:
        """Looks for what is wrong without a message having failed, tells what is due, and returns what was found.

        Also tells again what nobody took, reminds, and tells of recoveries. Touches the database, and the network
        when there is something to tell. To be called about once a minute; any number of processes may do so.

        Raises:
            OutmailError: the database does not answer, or lacks the tables.
        """
        now = now or utc_now()
        with self._database.session() as session:
            found = self.judge(session, self.look(session, now), now)
            if not self.channels.is_suppressed:
                self._tell_what_is_due(session, found, now)
            backlog.note(session, now=now)
        return found

    def _tell_what_is_due(self, session: Session, found: list[Condition], now: datetime) -> None:
        self._follow(session, found, now)
        for incident in telling.due_alerts(session, now=now, pause=self._pause, grace=self._grace):
            if telling.claim_alert(session, incident.id, now=now, pause=self._pause, grace=self._grace):
                self._carry(session, incident, "reminder" if incident.alerted_at else "opened", now)
        for incident in telling.due_retries(session, now=now):
            if telling.claim_retry(session, incident.id, now=now):
                done = [name for name, said in (incident.channels or {}).items() if said["outcome"] == "accepted"]
                # As of when it should have been told: a receiver that has it already knows it by its id.
                at, left = incident.alerted_at or now, _days_left(found, incident)
                self._carry(session, incident, "opened", at, skip=done, days_left=left)
        self._tell_recoveries(session, now)
        alerts.tidy(session, now=now)

    def expect_no_workers(self) -> None:
        """Where something else carries the deliveries, none on the list is no alarm; mail that waits still is one."""
        self._limits = replace(self._limits, worker=timedelta.max)

    def judge(self, session: Session, seen: facts.Facts, now: datetime) -> list[Condition]:
        """What is wrong now without a message having failed. Reads the database."""
        return conditions(seen, self._limits, failing=alerts.failing_connections(session), now=now)

    def look(self, session: Session, now: datetime) -> facts.Facts:
        """What the watch looks at. Reads the database."""
        count, seen_at = facts.workers(session)
        waiting = facts.waiting(session, now=now)
        return facts.Facts(waiting, self._credentials(session), worker_count=count, last_heartbeat_at=seen_at)

    def _credentials(self, session: Session) -> tuple[facts.Credential, ...]:
        found: dict[str, facts.Credential] = {}
        for connection in dict.fromkeys([PRIMARY, *setups.connections(session)]):
            try:
                current = self._look_up(connection)
            except OutmailError:
                continue  # it is broken, and told as such when it is used
            if current is None or current.values.credential is None:
                continue
            name = current.values.auth_object or current.source
            credential = self._serving(session, connection, current.values.credential)
            noted = credential.expires_on
            ends_at = None if noted is None else datetime.combine(noted, time.max, timezone.utc)
            if credential.certificate:
                # What the certificate itself says is the truth, whatever was noted beside it.
                try:
                    ends_at = certificates.load(credential.certificate, credential.certificate_password).not_after
                except OutmailError:
                    logger.warning("a certificate cannot be read", extra={"connection": connection})
            known = found.get(name)
            connections = (*(known.connections if known else ()), connection)
            found[name] = facts.Credential(name, connections, ends_at, bool(credential.certificate))
        return tuple(found.values())

    def _serving(self, session: Session, connection: str, credential: SetupCredential) -> SetupCredential:
        """The one of a credential's two secrets by which mail leaves: that is the one whose end matters."""
        setup = setups.active(session, connection)
        row = setup.auth_object if setup is not None else None
        earlier = credential.earlier
        try:
            if row is None or earlier is None or not credential_log.serves_earlier(session, row, self._vault()):
                return credential
            return replace(earlier, expires_on=auth_objects.previous_ends_on(row, self._vault()))
        except OutmailError:
            return credential  # it cannot be read, and is told as such when it is used

    def _follow(self, session: Session, found: Sequence[Condition], now: datetime) -> None:
        """Makes the open incidents of what is watched agree with what is wrong."""
        watched = [one for one in alerts.open_incidents(session, limit=1000) if one.kind in _WATCHED]
        open_ones = {one.open_key: one for one in watched}
        causes = {_cause(one).key: one for one in found}
        for key, incident in open_ones.items():
            if key not in causes:
                self._end(session, incident, found, now)
        for key, condition in causes.items():
            if condition.is_symptom:
                continue  # neither opened nor reminded of, and not over either
            known = open_ones.get(key)
            if known is None:
                since = condition.since if condition.since and condition.kind != alerts.CREDENTIAL else now
                known = alerts.note(session, _cause(condition), now=now, pause=self._pause, since=since)
            alerts.touch(session, known.id, now=now, count=condition.count)
            known.count = condition.count
            if condition.level is not None and telling.claim_level(session, known.id, condition.level, now=now):
                known.level = condition.level
                self._carry(session, known, "opened", now, days_left=condition.days_left)

    def _end(self, session: Session, incident: Incident, found: Sequence[Condition], now: datetime) -> None:
        if any(one.kind == incident.kind and one.about == incident.about != "" for one in found):
            # "Will expire" gave way to "has expired": nothing has recovered.
            alerts.dismiss(session, incident, by="what followed it", now=now)
            session.commit()
        else:
            alerts.close(session, Incident.id == incident.id, now=now, pause=self._pause)

    def _tell_recoveries(self, session: Session, now: datetime, *, is_patient: bool = True) -> None:
        for incident in telling.due_recoveries(session, now=now):
            if not telling.claim_recovery(session, incident.id, now=now):
                continue
            notice = self._notice("recovered", incident, now, session)
            told = self.channels.tell(notice, is_patient=is_patient)
            if any(one.is_good for one in told.values()):
                telling.recovery_told(session, incident.id)

    # -- telling -----------------------------------------------------------------------------------------------------

    def _carry(
        self,
        session: Session,
        incident: Incident,
        event: Event,
        now: datetime,
        *,
        skip: Collection[str] = (),
        is_patient: bool = True,
        days_left: int | None = None,
    ) -> None:
        notice = self._notice(event, incident, now, session, days_left=days_left)
        told = self.channels.tell(notice, avoid=_broken(incident), skip=skip, is_patient=is_patient)
        said = {**{name: incident.channels[name] for name in skip}, **{name: _said(one) for name, one in told.items()}}
        everything = {**{name: Told(name, "accepted", "") for name in skip}, **told}
        telling.record(session, incident.id, alert=summary(everything), channels=said)
        if summary(everything) == alerts.KEPT:
            logger.error("nobody could be told of an incident", extra={"code": incident.code, "kind": incident.kind})

    def _notice(
        self,
        event: Event,
        incident: Incident,
        now: datetime,
        session: Session | None = None,
        *,
        days_left: int | None = None,
    ) -> Notice:
        waiting_count = accepted_count = 0
        if event == "recovered" and session is not None and incident.closed_at is not None:
            waiting_count = sum(
                one.count for one in facts.waiting(session, now=now) if one.connection == incident.connection
            )
            accepted_count = alerts.accepted_since(session, incident)
        return Notice.of(
            event,
            incident,
            application=self._application,
            at=now,
            waiting_count=waiting_count,
            accepted_count=accepted_count,
            days_left=days_left,
            page=self._page,
            words=self._words(),
        )

    def send_test(self, now: datetime | None = None) -> list[Told]:
        """Tells a test on every channel and returns what each said; empty when no channel is set up.

        Touches the network. Records no incident.
        """
        now = now or utc_now()
        remedy = remedy_for(OutmailError("a test", code="alert_test"))
        notice = Notice.test(remedy, application=self._application, at=now, page=self._page, words=self._words())
        return list(self.channels.tell(notice).values())


def _broken(incident: Incident) -> tuple[str, ...]:
    # Only a fault of the connection itself makes it a bad messenger.
    return (incident.connection,) if incident.kind == alerts.FAILING else ()


def _cause(condition: Condition) -> Cause:
    return Cause(
        kind=condition.kind,
        connection=condition.connection,
        code=condition.code,
        about=condition.about[:200],
        remedy=remedy_for(OutmailError("", code=condition.code)),
    )


def _days_left(found: Sequence[Condition], incident: Incident) -> int | None:
    return next((one.days_left for one in found if one.kind == incident.kind and one.about == incident.about), None)


def _said(told: Told) -> Mapping[str, str]:
    return {"outcome": told.outcome, "words": told.words, "code": told.code}
