"""The worker: claims what is queued, hands it over, records what came of it. Any number may run, on any machines.

One thread speaks with the database; the others each hand one message over at a time. So everything that happened
since the last transaction (outcomes, the next attempts, the heart's beat) goes into the next one, and the database is
asked about once for each message. The order that makes it safe: an attempt is committed before its message is given
to a thread, and after a commit that failed nothing is given to anybody.
"""

from __future__ import annotations

import logging
import queue
import random
import signal
import time
from collections.abc import Callable
from datetime import datetime
from types import FrameType
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..envelope import Receipt
from ..errors import OutmailError
from ..models import utc_now
from . import claims, roster
from .hands import Hands, Job, Outcome
from .recording import Recorder
from .spool import Spool, verdict_entry
from .starting import Starter, Turn
from .surroundings import Surroundings, WorkerSettings
from .verdicts import Verdict

logger = logging.getLogger(__name__)

#: Longest pause between two tries to reach a database that does not answer.
DATABASE_PAUSE_S = 5.0
#: How long a stopping worker waits for a database that does not answer, before it leaves outcomes in the spool.
LEAVE_WITHIN_S = 10.0
#: How often connections are looked up, and how often there is a look at what no longer may leave.
LOOK_S = 1.0
EXPIRE_S = 30.0


class Worker:
    """Hands over what is queued until it is told to stop. `run` is called once, and blocks.

    `stop` may be called from any thread and from signal handlers: once to finish what is under way, twice to end.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        settings: WorkerSettings,
        spool: Spool,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        spread: Callable[[], float] = random.random,
        watch: roster.Watch | None = None,
    ) -> None:
        self._around = surroundings
        self._settings = settings
        self._policy = settings.policy
        self._spool = spool
        self._clock, self._now = clock, now
        self.id = ""
        self.accepted_count = 0
        self._stops = 0
        self._stopped_at = 0.0
        self._inbox: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._hands = Hands(surroundings.vault, self._inbox.put)
        self._starter = Starter(surroundings, settings)
        self._lanes = self._starter.lanes
        self._recorder = Recorder(settings.policy, self._lanes, surroundings.board, spread)
        self._watch = watch or roster.Watch(settings.lease_s)
        #: Every message that was given to a thread and whose outcome is not committed yet.
        self._out: dict[int, Job] = {}
        self._unwritten: list[Outcome] = []
        self._must_take_back = False
        self._beat_at = self._look_at = self._expire_at = float("-inf")
        self._spooled: set[int] = set()
        self._peers = 1
        surroundings.board().collects = True

    # -- from outside ------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Gently the first time: nothing new is begun. The second time: at once."""
        self._stops += 1
        self._stopped_at = self._clock()
        self._inbox.put(None)

    def wake(self) -> None:
        """Makes an idle worker look now."""
        self._inbox.put(None)

    def stop_on_signals(self) -> None:
        """The first SIGTERM or SIGINT stops gently, the second at once."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self, *, once: bool = False, drain: bool = False) -> int:
        """Works until it is stopped; returns how many messages were accepted.

        `once` ends when nothing can leave now; `drain` when nothing is left that could leave by itself.
        """
        pause_s, worked = 0.0, True
        while self._stops < 2:
            self._gather(pause_s or (0.0 if self._goes_on(worked) else self._settings.poll_s))
            try:
                worked = self._turn()
                pause_s = 0.0
            except (OutmailError, SQLAlchemyError) as exc:
                pause_s = min(DATABASE_PAUSE_S, (pause_s or 0.05) * 2)
                self._database_failed(exc)
                if self._may_leave_without_database():
                    break
                continue
            if self._stops and not self._out:
                break
            if (once or drain) and not worked and not self._out and not self._has_more(waits=drain):
                break
        self._end()
        return self.accepted_count

    def _goes_on(self, worked: bool) -> bool:
        """Whether there is something to do before anything new happens."""
        if self._stops:
            return False
        return (worked and not self._out) or self._starter.can_begin

    def _gather(self, wait_s: float) -> None:
        """Takes in the outcomes that are there, and waits for the first one for at most `wait_s` seconds."""
        try:
            one = self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait()
            while True:
                if one is not None:
                    self._unwritten.append(one)
                one = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _turn(self) -> bool:
        """One round: at most one look and one transaction; returns whether there was anything to do."""
        clock, now = self._clock(), self._now()
        if clock - self._look_at >= LOOK_S:
            self._look_at = clock
            self._around.move_spool()
            self._starter.look_up()
        beating = clock - self._beat_at >= self._settings.lease_s / 4
        must_write = beating or self._unwritten or not self.id or self._must_take_back
        with self._around.session() as session:
            if not (must_write or (self._starter.has_claimed and not self._stops)):
                if self._stops or not self._starter.is_anything_there(session, now):
                    return False
                # The look is over; what follows begins with a change, so that nobody comes in between.
                session.rollback()
            if not self.id:
                self._register(session, now)
            outcomes = list(self._unwritten)
            for lane in self._lanes.values():
                lane.ending = sum(one.job.connection == lane.name for one in outcomes)
            accepted = sum(isinstance(one.result, Receipt) for one in outcomes)
            if not roster.beat(session, self.id, now=now, accepted=accepted, **self._told(beating)):
                session.rollback()
                self._declared_dead(session, now)
            if self._must_take_back:
                claims.take_back(session, self.id, keep=list(self._out))
                self._starter.drop_claims()
            written = self._recorder.record(session, outcomes, now)
            if beating:
                self._look_around(session, clock, now)
            turn = Turn(session, self.id, clock, now, peers=self._peers, out=self._out.keys())
            moved = 0 if self._stops else self._starter.begin(turn)
            session.commit()
        self._must_take_back = False
        if beating:
            self._beat_at = clock
        self._after_commit(outcomes, written, accepted)
        for job in turn.jobs:
            self._dispatch(job)
        return bool(outcomes or turn.jobs or moved)

    def _told(self, beating: bool) -> dict[str, Any]:
        if not beating:
            return {}
        setups = {lane.name: lane.now.setup_id for lane in self._lanes.values() if lane.now is not None}
        return {"setups": setups, "is_stopping": bool(self._stops)}

    # -- who is there ------------------------------------------------------------------------------------------------

    def _register(self, session: Session, now: datetime) -> None:
        self.id = roster.register(session, version=self._settings.version, now=now)
        roster.bury_strays(session, now=now, at_least_once=self._policy.at_least_once)
        session.commit()
        logger.info("worker started", extra={"worker": self.id})

    def _declared_dead(self, session: Session, now: datetime) -> None:
        """The others gave our claims away. What is under way stays ours to report; all else is theirs."""
        logger.warning("this worker was taken for dead; it goes on under another name", extra={"worker": self.id})
        self._starter.drop_claims()
        for lane in self._lanes.values():
            lane.slots.clear()
        self._register(session, now)
        roster.beat(session, self.id, now=now)

    def _look_around(self, session: Session, clock: float, now: datetime) -> None:
        """Settles what dead workers left, and what no longer may leave."""
        beats = {name: beat for name, beat in roster.beats(session).items() if name != self.id}
        self._peers = len(beats) + 1
        for name, beat in self._watch.dead(beats, clock).items():
            settled = roster.bury(session, name, beat, now=now, at_least_once=self._policy.at_least_once)
            if settled is not None:
                told = {"worker": name, "queued_count": settled[0], "unknown_count": settled[1]}
                logger.warning("a worker is dead; its claims are settled", extra=told)
        claims.bury_expired(session, now=now, at_least_once=self._policy.at_least_once)
        if clock - self._expire_at >= EXPIRE_S:
            self._expire_at = clock
            claims.expire(session, now=now)

    def _dispatch(self, job: Job) -> None:
        self._out[job.begun.id] = job
        self._lanes[job.connection].under_way += 1
        self._hands.take(job, under_way=len(self._out))

    def _after_commit(self, outcomes: list[Outcome], written: list[tuple[Outcome, Verdict]], accepted: int) -> None:
        self.accepted_count += accepted
        self._unwritten = self._unwritten[len(outcomes) :]
        for one in outcomes:
            if self._out.pop(one.job.begun.id, None) is not None:
                self._lanes[one.job.connection].under_way -= 1
            self._recorder.forget(one)
            if one.job.begun.id in self._spooled:
                self._spooled.discard(one.job.begun.id)
                self._spool.done(verdict_entry(one.job.begun.id, one.job.begun.number, {}).name)
        for one, verdict in written:
            self._around.settled(one.job.connection, one.job.begun, one.result, verdict.state)

    # -- when the database does not answer ---------------------------------------------------------------------------

    def _database_failed(self, exc: Exception) -> None:
        """Keeps what is known where it survives: in memory, and in the spool in case this process ends too."""
        # Whether the last commit happened is not known; nothing of it was given to a thread, so it can be undone.
        self._must_take_back = bool(self.id)
        self._starter.drop_claims()
        for lane in self._lanes.values():
            lane.slot_count = 0
        logger.warning("the database did not answer the worker", extra={"error": type(exc).__name__})
        self._left_in_spool()

    def _may_leave_without_database(self) -> bool:
        """Whether a stopping worker has waited long enough, and has left all outcomes where they survive it."""
        if not self._stops or self._clock() - self._stopped_at < LEAVE_WITHIN_S:
            return False
        return len(self._unwritten) == len(self._out) and self._left_in_spool()

    def _left_in_spool(self) -> bool:
        """Writes outcomes that the database does not take into the spool; whether all of them are there."""
        self._gather(0.0)
        for one in self._unwritten:
            if one.job.ask or one.job.begun.id in self._spooled:
                continue
            try:
                verdict = self._recorder.judge(one, self._now())
                self._spool.put(verdict_entry(one.job.begun.id, one.job.begun.number, verdict.to_dict()))
                self._spooled.add(one.job.begun.id)
            except OutmailError:
                return False  # a full disk takes nothing; memory has it
        return True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _has_more(self, *, waits: bool) -> bool:
        with self._around.session() as session:
            return self._starter.has_more(session, self._now(), waits=waits)

    def _end(self) -> None:
        self._hands.rest()
        try:
            with self._around.session() as session:
                if self.id and roster.beat(session, self.id, now=self._now()):
                    self._gather(0.0)
                    self._recorder.record(session, self._unwritten, self._now())
                    done = {one.job.begun.id for one in self._unwritten}
                    left = [number for number in self._out if number not in done]
                    if left:
                        claims.bury(session, self.id, now=self._now(), at_least_once=self._policy.at_least_once)
                    roster.leave(session, self.id)
                    session.commit()
        except (OutmailError, SQLAlchemyError) as exc:
            # The others find this worker dead, and settle what it had.
            logger.warning("the worker could not sign off", extra={"error": type(exc).__name__})
        logger.info("worker stopped", extra={"worker": self.id, "accepted_count": self.accepted_count})
