"""Continuous proof: a connection is tried once a day although nobody asks, and nothing is sent.

So a secret that was deleted, a consent that was withdrawn or a password that was changed is met by the check, and not
by the first message of Monday morning. What it finds is an incident like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from . import services, setups
from .current import Current
from .diagnosis import steps
from .diagnosis.steps import Check, Seen, Step
from .engine import Engine
from .errors import OutmailError
from .frames import frames
from .models import utc_now
from .outbox import checks
from .outbox.retry import is_retryable

logger = logging.getLogger(__name__)

#: What a check leaves out: naming a sender and a recipient to a server looks like the beginning of a message.
_LEFT_OUT = frozenset({"from", "recipient", "reset", "large_messages"})


@dataclass(frozen=True)
class Checked:
    """What came of one check."""

    connection: str
    steps: Sequence[Step]
    error: OutmailError | None

    @property
    def passed(self) -> bool:
        return steps.passed(self.steps)

    @property
    def words(self) -> str:
        if self.error is None:
            return f"Connection {self.connection}: tried without sending, and it works."
        return f"Connection {self.connection}: {self.error}"


def check_due(engine: Engine, now: datetime | None = None) -> list[Checked]:
    """Tries each verified connection that has not been tried for `OUTMAIL_CHECK_SECONDS`; returns what came of it.

    A credential really gets a new token, and a password is really logged in with. Touches the network and the
    database, for as long as the time-outs allow. Any number of processes may call it: each check is done by one.

    Raises:
        OutmailError: the database does not answer, or lacks the tables.
    """
    every = timedelta(seconds=engine.settings.check_s)
    if not every or not engine.database or engine.mail_state.suppress:
        return []
    done = []
    for connection in engine.connections.names():
        try:
            current = engine.current(connection)
        except OutmailError:
            continue  # it cannot even be read: the pages say so, and whatever uses it
        if current is None or not current.verified:
            continue  # held, and told as held
        moment = now or utc_now()
        with engine.database.session() as session:
            is_ours = checks.claim(session, connection, now=moment, every=every)
            session.commit()
        if is_ours:
            try:
                done.append(_check(engine, current, moment, every))
            except (OutmailError, SQLAlchemyError):
                raise
            except Exception as exc:  # a third party's mail service may raise anything; the next is not to suffer
                logger.error("a scheduled check broke:\n%s", frames(exc), extra={"connection": connection})
    return done


def _check(engine: Engine, current: Current, now: datetime, every: timedelta) -> Checked:
    checked = _run(engine, current)
    error, name = checked.error, current.connection
    passes_by_itself = error is not None and is_retryable(error)
    with engine.database.session() as session:
        before = setups.last_proof(session, name, setups.SCHEDULED)
        setups.add_proof(
            session,
            current.values,
            engine.vault,
            passed=checked.passed,
            steps=[step.to_dict() for step in checked.steps],
            by="",
            connection=name,
            kind=setups.SCHEDULED,
        )
        checks.put_off(session, name, now + (min(checks.AGAIN, every) if passes_by_itself else every))
        session.commit()
    failed_before = before if before is not None and not before.passed else None
    if error is not None:
        logger.warning("a scheduled check did not pass", extra={"connection": name, "code": error.code})
        if passes_by_itself and failed_before is None:
            return checked  # a server that is busy, perhaps with our own messages: the next check, soon, tells more
        engine.alerting.tell(error, current, will_retry=passes_by_itself, messages=0, now=now)
        engine.connections.look_soon()
    elif failed_before is not None:
        # Only what a check found itself: what it leaves out, it cannot disprove.
        engine.alerting.mended(name, _code(failed_before.steps), now=now)
        engine.connections.look_soon()
    return checked


def _code(found: Sequence[dict[str, str]]) -> str:
    return next((step["code"] for step in found if step["state"] == "failed"), "")


def _run(engine: Engine, current: Current) -> Checked:
    met: list[OutmailError] = []

    def remembering(check: Check) -> Check:
        def run() -> Seen:
            try:
                return check.run()
            except OutmailError as exc:
                met.append(exc)
                raise

        return replace(check, run=run)

    plan = services.service(current.values.service).plan(current.values, engine.environment)
    with closing(plan):
        wanted = [remembering(check) for check in plan.checks if check.key not in _LEFT_OUT]
        done = list(steps.run(wanted))
    return Checked(current.connection, done, met[0] if met else None)
