"""What a worker begins: for each connection, as much as its setup, its server, its pauses and its rate allow now.

Nothing here leaves: the caller commits, and gives the jobs to its threads only after that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from ..errors import OutmailError
from ..transports.failover import Failover
from . import claims, finishing, lanes
from .claims import Begun
from .hands import InForce, Job, can_ask
from .lanes import LaneState
from .store import has_held
from .surroundings import Surroundings, WorkerSettings

logger = logging.getLogger(__name__)

#: Messages claimed ahead: enough that a claim is a small part of the work, few enough to give back.
AHEAD = 20


@dataclass
class OpenLane:
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
    #: Until when the other workers wait for the probe that this one makes.
    probed_until: datetime | None = None
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


@dataclass
class Turn:
    """One round of a worker: its transaction, the moment that it stands for, and the jobs that it begins.

    `clock` is monotonic seconds; `peers` counts the workers there are, this one among them; `out` are the messages
    that were given to a thread and whose outcome is not committed yet.
    """

    session: Session
    worker_id: str
    clock: float
    now: datetime
    peers: int
    out: Collection[int]
    #: Whether it also looks at what has come due, was released or is to be asked about: not in every round.
    sweeps: bool = False
    jobs: list[Job] = field(default_factory=list)


class Starter:
    """The connections as one worker sees them, and what it may begin on each."""

    def __init__(self, surroundings: Surroundings, settings: WorkerSettings) -> None:
        self._around = surroundings
        self._settings = settings
        self._policy = settings.policy
        self._swept_at = float("-inf")
        self.lanes: dict[str, OpenLane] = {}

    # -- what there is -----------------------------------------------------------------------------------------------

    @property
    def has_claimed(self) -> bool:
        """Whether anything is claimed that has not begun."""
        return any(lane.claimed for lane in self.lanes.values())

    @property
    def can_begin(self) -> bool:
        """Whether something that is claimed has a place to begin in."""
        return any(lane.claimed and lane.room > 0 for lane in self.lanes.values())

    def is_anything_there(self, session: Session, now: datetime) -> bool:
        """Whether there is a reason to begin a transaction that writes. Only reads."""
        if claims.has_work(session, list(self.lanes), now=now):
            return True
        return any(lane.slots or self._is_released(session, lane) for lane in self.lanes.values())

    @staticmethod
    def _is_released(session: Session, lane: OpenLane) -> bool:
        """Whether messages are held on a connection whose setup has passed its test since."""
        return lane.now is not None and lane.now.verified and has_held(session, lane.name)

    def look_up(self) -> None:
        """Which connections there are, and what is in force for each."""
        names = self._around.connections()
        for name in names:
            lane = self.lanes.setdefault(name, OpenLane(name))
            try:
                lane.now, lane.trouble = self._around.in_force(name), None
            except OutmailError as exc:
                # Its setup cannot be read (a key is gone): nothing is begun, and the others go on.
                if lane.trouble is None or lane.trouble.code != exc.code:
                    logger.error("a connection cannot be used", extra={"connection": name, "code": exc.code})
                lane.now, lane.trouble = None, exc

    # -- beginning ---------------------------------------------------------------------------------------------------

    def begin(self, turn: Turn) -> int:
        """Begins as much as every connection allows; fills `turn.jobs`. Returns how many rows were moved otherwise."""
        moved = 0
        turn.sweeps = turn.clock - self._swept_at >= min(self._settings.poll_s, 1.0)
        if turn.sweeps:
            self._swept_at = turn.clock
            moved += claims.promote(turn.session, now=turn.now)
        states = lanes.read(turn.session)
        board = self._around.board()
        for name in sorted(self.lanes):
            lane = self.lanes[name]
            lane.state = states.get(name, LaneState())
            board.load(name, lane.state.fault_count, lane.state.pause_left_s(turn.now))
        for name in sorted(self.lanes):
            lane = self.lanes[name]
            moved += self._begin_on(lane, turn)
        return moved

    def _begin_on(self, lane: OpenLane, turn: Turn) -> int:
        if lane.trouble is not None:
            return 0
        if lane.now is None or not lane.now.verified:
            self._give_back(lane, turn)
            return claims.hold(turn.session, lane.name)
        if lane.slot_count < lane.allowed:
            lanes.ensure(turn.session, lane.name, slot_count=lane.allowed)
            lane.slot_count = lane.allowed
        if lane.state.fault_count and lane.state.stamp != lane.now.stamp:
            # The setup was changed since it failed: what was known of it says nothing about this one.
            lanes.clear(turn.session, lane.name, stamp=lane.now.stamp)
            lane.state = LaneState()
        if self._pauses(lane, turn.now):
            self._give_back(lane, turn)
            return 0
        released = self._release(lane, turn) if turn.sweeps else 0
        asked = self._unknown(lane, turn) if turn.sweeps else []
        self._take_slots(lane, turn, wanted=bool(asked))
        room = lane.room
        for row in asked[: max(0, room)]:
            # Put off, so that no other worker asks meanwhile.
            finishing.answered(turn.session, row.id, None, now=turn.now, ask_again_s=60.0)
            begun = Begun(row.id, "", row.attempt_count, lane.name, b"", (), row.updated_at, None)
            turn.jobs.append(Job(lane.name, begun, lane.now, ask=row.message_id))
            room -= 1
        if room <= 0:
            return released
        if lane.state.is_probing(self._policy.breaker_faults) and not self._has_other_way(lane):
            # Failing until shown otherwise: one message, of one worker, finds out.
            self._claim(lane, turn, at_most=1 - len(lane.claimed))
            if lane.under_way > lane.ending or not lane.claimed:
                return released
            hold_s = max(60.0, self._settings.lease_s)
            lane.probed_until = lanes.take_probe(turn.session, lane.name, now=turn.now, hold_s=hold_s)
            if lane.probed_until is None:
                self._give_back(lane, turn)
                return released
            room = 1
        elif len(lane.claimed) < room:
            self._claim(lane, turn, at_most=max(AHEAD, 2 * room) - len(lane.claimed))
        wanted = [lane.claimed.popleft() for _ in range(min(room, len(lane.claimed)))]
        started = claims.begin(
            turn.session,
            turn.worker_id,
            wanted,
            now=turn.now,
            transport=lane.now.transport.name,
            setup_id=lane.now.setup_id,
        )
        turn.jobs += [Job(lane.name, one, lane.now) for one in started]
        if started:
            lane.busy_at = turn.clock
        # Some were expired or taken: there may be others behind them.
        return released + len(wanted) - len(started)

    def _pauses(self, lane: OpenLane, now: datetime) -> bool:
        """Whether nothing may begin on a connection now: it failed, or its server asked to wait."""
        if not lane.state.is_paused(now):
            return False
        # What a server asked for is kept; a connection that fails may have another beside it.
        return not (lane.state.is_probing(self._policy.breaker_faults) and self._has_other_way(lane))

    @staticmethod
    def _has_other_way(lane: OpenLane) -> bool:
        transport = lane.now.transport if lane.now is not None else None
        return isinstance(transport, Failover) and transport.is_possible()

    def _claim(self, lane: OpenLane, turn: Turn, *, at_most: int) -> None:
        rates = self._settings.rate_per_minute
        per_minute = rates.get(lane.name, rates.get("", 0))
        if per_minute and at_most > 0:
            at_most = lanes.allow(turn.session, lane.name, per_minute=per_minute, wanted=at_most, now=turn.now)
        if at_most > 0:
            lane.claimed += claims.claim(turn.session, turn.worker_id, lane.name, limit=at_most, now=turn.now)

    @staticmethod
    def _give_back(lane: OpenLane, turn: Turn) -> None:
        if lane.claimed:
            claims.give_back(turn.session, turn.worker_id, list(lane.claimed))
            lane.claimed.clear()

    def _take_slots(self, lane: OpenLane, turn: Turn, *, wanted: bool) -> None:
        most = min(lane.allowed, self._settings.concurrency or lane.allowed)
        is_busy = len(lane.slots) == most and lane.under_way > 0
        wanted = wanted or bool(lane.claimed) or is_busy or claims.is_queued(turn.session, lane.name)
        surplus = {number for number in lane.slots if number >= lane.allowed}
        if not (wanted or lane.under_way) and turn.clock - lane.busy_at > self._settings.poll_s:
            surplus = set(lane.slots)
        lanes.free_slots(turn.session, lane.name, turn.worker_id, sorted(surplus))
        lane.slots -= surplus
        if wanted and len(lane.slots) < most:
            missing = most - len(lane.slots)
            lane.slots |= lanes.take_slots(
                turn.session, lane.name, turn.worker_id, wanted=missing, slot_count=lane.allowed
            )
            lane.busy_at = turn.clock

    def _release(self, lane: OpenLane, turn: Turn) -> int:
        """Lets held messages follow at the pace that the settings name, shared by the workers there are."""
        if not self._is_released(turn.session, lane):
            lane.released_at = turn.clock
            return 0
        per_s = self._settings.release_per_minute / 60.0 / turn.peers
        due = int(min(1.0 + per_s, (turn.clock - lane.released_at) * per_s))
        if due < 1:
            return 0
        lane.released_at = turn.clock
        return claims.release(turn.session, lane.name, limit=due, now=turn.now)

    def _unknown(self, lane: OpenLane, turn: Turn) -> list[Any]:
        """Unknown messages about which the server is to be asked."""
        if lane.now is not None and can_ask(lane.now.transport):
            rows = finishing.unknown_to_ask(turn.session, lane.name, now=turn.now, limit=lane.allowed)
            return [row for row in rows if row.id not in turn.out]
        finishing.ask_nobody(turn.session, lane.name, now=turn.now)
        return []

    def has_more(self, session: Session, now: datetime, *, waits: bool) -> bool:
        """Whether something could leave now; with `waits` whether something will, by itself, after a retry too."""
        for lane in self.lanes.values():
            if lane.trouble is not None or lane.now is None or not lane.now.verified:
                continue
            if waits and claims.is_unsettled(session, lane.name):
                return True
            if not lane.state.is_paused(now) and claims.is_queued(session, lane.name):
                return True
        return False

    def drop_claims(self) -> None:
        """Forgets what is claimed and has not begun: it is somebody else's, or given back in the database."""
        for lane in self.lanes.values():
            lane.claimed.clear()
