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
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..envelope import Receipt
from ..errors import DeliveryUnknown, OutmailError, Throttled
from ..models import utc_now
from ..transports.failover import Failover
from . import claims, lanes, retry, roster, verdicts
from .claims import Begun
from .hands import Hands, InForce, Job, Outcome, can_ask
from .lanes import LaneState
from .spool import Entry, Spool
from .states import ACCEPTED, QUEUED, UNKNOWN
from .store import has_held
from .surroundings import Surroundings, WorkerSettings
from .verdicts import Verdict

logger = logging.getLogger(__name__)

#: Messages claimed ahead: enough that a claim is a small part of the work, few enough to give back.
AHEAD = 20
#: Longest pause between two tries to reach a database that does not answer.
DATABASE_PAUSE_S = 5.0
#: How long a stopping worker waits for a database that does not answer, before it leaves outcomes in the spool.
LEAVE_WITHIN_S = 10.0
#: After how many seconds the server is asked about an unknown message again: it may not be visible at once.
ASK_AGAIN_S = (5.0, 60.0, 600.0)
#: How often connections are looked up, and how often there is a look at what no longer may leave.
LOOK_S = 1.0
EXPIRE_S = 30.0


@dataclass
class _Lane:
    """One connection, as this worker sees it."""

    name: str
    now: InForce | None = None
    state: LaneState = field(default_factory=LaneState)
    slots: set[int] = field(default_factory=set)
    slot_count: int = 0
    claimed: deque[int] = field(default_factory=deque)
    under_way: int = 0
    busy_at: float = 0.0
    released_at: float = 0.0
    trouble: OutmailError | None = None
    #: Of those under way, how many have come to their end in the transaction that is being written.
    ending: int = 0

    @property
    def room(self) -> int:
        """How many more may begin."""
        return len(self.slots) - self.under_way + self.ending

    @property
    def allowed(self) -> int:
        """How many messages the server takes at a time."""
        return max(1, int(getattr(self.now.transport, "concurrency", 1))) if self.now is not None else 1


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
        self._clock, self._now, self._spread = clock, now, spread
        self.id = ""
        self.accepted_count = 0
        self._stops = 0
        self._stopped_at = 0.0
        self._inbox: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._hands = Hands(surroundings.vault, self._inbox.put)
        self._lanes: dict[str, _Lane] = {}
        self._watch = watch or roster.Watch(settings.lease_s)
        #: Every message that was given to a thread and whose outcome is not committed yet.
        self._out: dict[int, Job] = {}
        self._unwritten: list[Outcome] = []
        self._verdicts: dict[int, Verdict] = {}
        self._must_take_back = False
        self._beat_at = self._look_at = self._expire_at = self._swept_at = float("-inf")
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
        return (worked and not self._out) or any(lane.claimed and lane.room > 0 for lane in self._lanes.values())

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
            self._look_up()
        beating = clock - self._beat_at >= self._settings.lease_s / 4
        jobs: list[Job] = []
        with self._around.session() as session:
            if not (beating or self._unwritten or self._wants_to_begin() or not self.id or self._must_take_back):
                if not self._is_anything_there(session, now):
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
                for lane in self._lanes.values():
                    lane.claimed.clear()
            written = self._record(session, outcomes, now)
            if beating:
                self._look_around(session, clock, now)
            moved = 0 if self._stops else self._begin_all(session, clock, now, jobs)
            session.commit()
        self._must_take_back = False
        if beating:
            self._beat_at = clock
        self._after_commit(outcomes, written, accepted)
        for job in jobs:
            self._dispatch(job)
        return bool(outcomes or jobs or moved)

    def _told(self, beating: bool) -> dict[str, Any]:
        if not beating:
            return {}
        setups = {lane.name: lane.now.setup_id for lane in self._lanes.values() if lane.now is not None}
        return {"setups": setups, "is_stopping": bool(self._stops)}

    def _wants_to_begin(self) -> bool:
        return not self._stops and any(lane.claimed for lane in self._lanes.values())

    def _is_anything_there(self, session: Session, now: datetime) -> bool:
        if self._stops or not self._lanes:
            return False
        if claims.has_work(session, list(self._lanes), now=now):
            return True
        return any(lane.slots or self._is_released(session, lane) for lane in self._lanes.values())

    @staticmethod
    def _is_released(session: Session, lane: _Lane) -> bool:
        """Whether messages are held on a connection whose setup has passed its test since."""
        return lane.now is not None and lane.now.verified and has_held(session, lane.name)

    # -- who is there ------------------------------------------------------------------------------------------------

    def _register(self, session: Session, now: datetime) -> None:
        self.id = roster.register(session, version=self._settings.version, now=now)
        roster.bury_strays(session, now=now, at_least_once=self._policy.at_least_once)
        session.commit()
        logger.info("worker started", extra={"worker": self.id})

    def _declared_dead(self, session: Session, now: datetime) -> None:
        """The others gave our claims away. What is under way stays ours to report; all else is theirs."""
        logger.warning("this worker was taken for dead; it goes on under another name", extra={"worker": self.id})
        for lane in self._lanes.values():
            lane.claimed.clear()
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

    def _look_up(self) -> None:
        """Which connections there are, and what is in force for each."""
        names = self._around.connections()
        for name in names:
            lane = self._lanes.setdefault(name, _Lane(name))
            try:
                lane.now, lane.trouble = self._around.in_force(name), None
            except OutmailError as exc:
                # Its setup cannot be read (a key is gone): nothing is begun, and the others go on.
                if lane.trouble is None or lane.trouble.code != exc.code:
                    logger.error("a connection cannot be used", extra={"connection": name, "code": exc.code})
                lane.now, lane.trouble = None, exc

    # -- beginning ---------------------------------------------------------------------------------------------------

    def _begin_all(self, session: Session, clock: float, now: datetime, jobs: list[Job]) -> int:
        """Begins as much as every connection allows; fills `jobs`. Returns how many rows were moved otherwise."""
        moved = 0
        sweeps = clock - self._swept_at >= min(self._settings.poll_s, 1.0)
        if sweeps:
            self._swept_at = clock
            moved += claims.promote(session, now=now)
        states = lanes.read(session)
        board = self._around.board()
        for name in sorted(self._lanes):
            lane = self._lanes[name]
            lane.state = states.get(name, LaneState())
            board.load(name, lane.state.fault_count, lane.state.pause_left_s(now))
        for name in sorted(self._lanes):
            lane = self._lanes[name]
            moved += self._begin(session, lane, clock, now, jobs, sweeps)
        return moved

    def _begin(self, session: Session, lane: _Lane, clock: float, now: datetime, jobs: list[Job], sweeps: bool) -> int:
        if lane.trouble is not None:
            return 0
        if lane.now is None or not lane.now.verified:
            self._give_back(session, lane)
            return claims.hold(session, lane.name)
        if lane.slot_count < lane.allowed:
            lanes.ensure(session, lane.name, slot_count=lane.allowed)
            lane.slot_count = lane.allowed
        if lane.state.fault_count and lane.state.stamp != lane.now.stamp:
            # The setup was changed since it failed: what was known of it says nothing about this one.
            lanes.clear(session, lane.name, stamp=lane.now.stamp)
            lane.state = LaneState()
        if self._pauses(lane, now):
            self._give_back(session, lane)
            return 0
        released = self._release(session, lane, clock, now) if sweeps else 0
        asked = self._unknown(session, lane, now) if sweeps else []
        self._take_slots(session, lane, clock, wanted=bool(asked))
        room = lane.room
        for row in asked[: max(0, room)]:
            # Put off, so that no other worker asks meanwhile.
            claims.answered(session, row.id, None, now=now, ask_again_s=60.0)
            begun = Begun(row.id, "", row.attempt_count, lane.name, b"", (), row.updated_at, None)
            jobs.append(Job(lane.name, begun, lane.now, ask=row.message_id))
            room -= 1
        if room <= 0:
            return released
        if lane.state.is_probing(self._policy.breaker_faults) and not self._has_other_way(lane):
            # Failing until shown otherwise: one message, of one worker, finds out.
            self._claim(session, lane, now, at_most=1 - len(lane.claimed))
            if lane.under_way > lane.ending or not lane.claimed:
                return released
            if not lanes.take_probe(session, lane.name, now=now, hold_s=max(60.0, self._settings.lease_s)):
                self._give_back(session, lane)
                return released
            room = 1
        elif len(lane.claimed) < room:
            self._claim(session, lane, now, at_most=max(AHEAD, 2 * room) - len(lane.claimed))
        wanted = [lane.claimed.popleft() for _ in range(min(room, len(lane.claimed)))]
        started = claims.begin(
            session, self.id, wanted, now=now, transport=lane.now.transport.name, setup_id=lane.now.setup_id
        )
        jobs += [Job(lane.name, one, lane.now) for one in started]
        if started:
            lane.busy_at = clock
        # Some were expired or taken: there may be others behind them.
        return released + len(wanted) - len(started)

    def _pauses(self, lane: _Lane, now: datetime) -> bool:
        """Whether nothing may begin on a connection now: it failed, or its server asked to wait."""
        if not lane.state.is_paused(now):
            return False
        # What a server asked for is kept; a connection that fails may have another beside it.
        return not (lane.state.is_probing(self._policy.breaker_faults) and self._has_other_way(lane))

    @staticmethod
    def _has_other_way(lane: _Lane) -> bool:
        transport = lane.now.transport if lane.now is not None else None
        return isinstance(transport, Failover) and transport.is_possible()

    def _claim(self, session: Session, lane: _Lane, now: datetime, *, at_most: int) -> None:
        rates = self._settings.rate_per_minute
        per_minute = rates.get(lane.name, rates.get("", 0))
        if per_minute and at_most > 0:
            at_most = lanes.allow(session, lane.name, per_minute=per_minute, wanted=at_most, now=now)
        if at_most > 0:
            lane.claimed += claims.claim(session, self.id, lane.name, limit=at_most, now=now)

    def _give_back(self, session: Session, lane: _Lane) -> None:
        if lane.claimed:
            claims.give_back(session, self.id, list(lane.claimed))
            lane.claimed.clear()

    def _take_slots(self, session: Session, lane: _Lane, clock: float, *, wanted: bool) -> None:
        most = min(lane.allowed, self._settings.concurrency or lane.allowed)
        is_busy = len(lane.slots) == most and lane.under_way > 0
        wanted = wanted or bool(lane.claimed) or is_busy or claims.is_queued(session, lane.name)
        surplus = {number for number in lane.slots if number >= lane.allowed}
        if not (wanted or lane.under_way) and clock - lane.busy_at > self._settings.poll_s:
            surplus = set(lane.slots)
        lanes.free_slots(session, lane.name, self.id, sorted(surplus))
        lane.slots -= surplus
        if wanted and len(lane.slots) < most:
            missing = most - len(lane.slots)
            lane.slots |= lanes.take_slots(session, lane.name, self.id, wanted=missing, slot_count=lane.allowed)
            lane.busy_at = clock

    def _release(self, session: Session, lane: _Lane, clock: float, now: datetime) -> int:
        """Lets held messages follow at the pace that the settings name, shared by the workers there are."""
        if not self._is_released(session, lane):
            lane.released_at = clock
            return 0
        per_s = self._settings.release_per_minute / 60.0 / self._peers
        due = int(min(1.0 + per_s, (clock - lane.released_at) * per_s))
        if due < 1:
            return 0
        lane.released_at = clock
        return claims.release(session, lane.name, limit=due, now=now)

    def _unknown(self, session: Session, lane: _Lane, now: datetime) -> list[Any]:
        """Unknown messages about which the server is to be asked."""
        if lane.now is not None and can_ask(lane.now.transport):
            rows = claims.unknown_to_ask(session, lane.name, now=now, limit=lane.allowed)
            return [row for row in rows if row.id not in self._out]
        claims.ask_nobody(session, lane.name, now=now)
        return []

    def _dispatch(self, job: Job) -> None:
        self._out[job.begun.id] = job
        self._lanes[job.connection].under_way += 1
        self._hands.take(job, under_way=len(self._out))

    # -- recording ---------------------------------------------------------------------------------------------------

    def _record(self, session: Session, outcomes: Iterable[Outcome], now: datetime) -> list[tuple[Outcome, Verdict]]:
        judged = []
        for one in outcomes:
            begun = one.job.begun
            if one.job.ask:
                wait_s = ASK_AGAIN_S[1] if (now - begun.queued_at).total_seconds() < 3600 else 0.0
                claims.answered(session, begun.id, one.answer, now=now, ask_again_s=wait_s)
                continue
            judged.append((one, self._judge(one, now)))
        claims.finish(session, [verdict for _, verdict in judged], now=now)
        for one, _ in judged:
            self._note_on_lane(session, one, now)
        for name, error in self._around.board().news():
            self._note_news(session, name, error, now)
        return judged

    def _judge(self, one: Outcome, now: datetime) -> Verdict:
        """Decided once: an outcome that is written again must say the same."""
        begun = one.job.begun
        known = self._verdicts.get(begun.id)
        if known is not None:
            return known
        ids: dict[str, Any] = {
            "delivery_id": begun.id,
            "number": begun.number,
            "now": now,
            "spread": self._spread(),
        }
        if isinstance(one.result, Receipt):
            connection = one.result.connection or begun.connection
            verdict = verdicts.of_receipt(one.result, one.tried, self._policy, connection=connection, **ids)
        else:
            verdict = verdicts.of_error(
                one.result, one.tried, self._policy, connection=begun.connection, elapsed_s=one.elapsed_s, **ids
            )
            if isinstance(one.result, DeliveryUnknown) and one.answer is not None:
                state, told = (ACCEPTED, "has it") if one.answer else (QUEUED, "does not have it")
                reason = verdicts.words(f"{one.result}; asked, the server {told}", 500)
                verdict = replace(verdict, state=state, due_at=None, reason=reason)
            elif verdict.state == UNKNOWN and can_ask(one.job.now.transport):
                verdict = replace(verdict, due_at=_after(now, ASK_AGAIN_S[0]))
        self._verdicts[begun.id] = verdict
        return verdict

    def _note_on_lane(self, session: Session, one: Outcome, now: datetime) -> None:
        """Lets all workers know what this outcome says about the connection."""
        lane, result = self._lanes[one.job.connection], one.result
        if isinstance(one.job.now.transport, Failover) and not isinstance(result, Throttled):
            return  # which of its connections failed or passed, it has told the board
        known = lanes.read(session).get(lane.name, LaneState()) if lane.state.fault_count else lane.state
        if isinstance(result, Receipt):
            # A pause without faults is one that the server asked for: what was under way then does not end it.
            if known.fault_count:
                lanes.clear(session, lane.name, stamp=one.job.now.stamp)
                lane.state = LaneState()
            return
        if retry.is_connections_fault(result, one.tried):
            self._fault(session, lane.name, result, known.fault_count + 1, one.job.now.stamp, now)
        elif isinstance(result, Throttled):
            self._fault(session, lane.name, result, known.fault_count, one.job.now.stamp, now)
        elif known.is_probing(self._policy.breaker_faults):
            # The probe reached the server, which said no to this message only: the connection is well.
            lanes.clear(session, lane.name, stamp=one.job.now.stamp)
            lane.state = LaneState()

    def _note_news(self, session: Session, name: str, error: OutmailError | None, now: datetime) -> None:
        """What a failover found out about one of its connections."""
        lane = self._lanes.get(name)
        if lane is None or lane.now is None:
            return
        if error is None:
            lanes.clear(session, name, stamp=lane.now.stamp)
            return
        faults = lanes.read(session).get(name, LaneState()).fault_count + 1
        self._fault(session, name, error, faults, lane.now.stamp, now)

    def _fault(self, session: Session, name: str, error: OutmailError, faults: int, stamp: str, now: datetime) -> None:
        if not retry.is_retryable(error):  # only a person can mend it
            faults = max(faults, self._policy.breaker_faults)
        pause_s = retry.pause_s(error, faults, self._policy, spread=self._spread())
        told = {"code": error.code, "reason": verdicts.words(str(error), 500), "stamp": stamp}
        lanes.pause(session, name, now=now, pause_s=pause_s, fault_count=faults, **told)
        self._lanes[name].state = replace(self._lanes[name].state, fault_count=faults)

    def _after_commit(self, outcomes: list[Outcome], written: list[tuple[Outcome, Verdict]], accepted: int) -> None:
        self.accepted_count += accepted
        self._unwritten = self._unwritten[len(outcomes) :]
        for one in outcomes:
            if self._out.pop(one.job.begun.id, None) is not None:
                self._lanes[one.job.connection].under_way -= 1
            self._verdicts.pop(one.job.begun.id, None)
            if one.job.begun.id in self._spooled:
                self._spooled.discard(one.job.begun.id)
                self._spool.done(_spool_name(one.job.begun))
        for one, verdict in written:
            self._around.settled(one.job.connection, one.job.begun, one.result, verdict.state)

    # -- when the database does not answer ---------------------------------------------------------------------------

    def _database_failed(self, exc: Exception) -> None:
        """Keeps what is known where it survives: in memory, and in the spool in case this process ends too."""
        # Whether the last commit happened is not known; nothing of it was given to a thread, so it can be undone.
        self._must_take_back = bool(self.id)
        for lane in self._lanes.values():
            lane.claimed.clear()
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
                verdict = self._judge(one, self._now())
                self._spool.put(Entry(_spool_name(one.job.begun), "verdict", verdict.to_dict()))
                self._spooled.add(one.job.begun.id)
            except OutmailError:
                return False  # a full disk takes nothing; memory has it
        return True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _has_more(self, *, waits: bool) -> bool:
        """Whether something could leave now; with `waits` whether something will, by itself, after a retry too."""
        with self._around.session() as session:
            for lane in self._lanes.values():
                if lane.trouble is not None or lane.now is None or not lane.now.verified:
                    continue
                if waits and claims.is_unsettled(session, lane.name):
                    return True
                if not lane.state.is_paused(self._now()) and claims.is_queued(session, lane.name):
                    return True
        return False

    def _end(self) -> None:
        self._hands.rest()
        try:
            with self._around.session() as session:
                if self.id and roster.beat(session, self.id, now=self._now()):
                    self._gather(0.0)
                    self._record(session, self._unwritten, self._now())
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


def _spool_name(begun: Begun) -> str:
    return f"outcome-{begun.id}-{begun.number}"


def _after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
