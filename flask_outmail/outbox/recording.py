"""What came of a worker's attempts: judged once, written down, and made known to all workers. The caller commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from ..envelope import Receipt
from ..errors import DeliveryUnknown, OutmailError, Throttled
from ..transports.failover import Board, Failover
from . import finishing, lanes, retry, verdicts
from .hands import Outcome, can_ask
from .lanes import LaneState
from .retry import Policy
from .starting import OpenLane
from .states import ACCEPTED, QUEUED, UNKNOWN
from .verdicts import Verdict

#: After how many seconds the server is asked about an unknown message, and again: it may not be visible at once.
ASK_FIRST_S, ASK_AGAIN_S = 5.0, 60.0
#: For how long it is asked.
ASK_FOR = timedelta(hours=1)


class Recorder:
    """Writes down the outcomes of one worker. `spread` gives a number from 0 to 1 for the jitter of retries."""

    def __init__(
        self,
        policy: Policy,
        open_lanes: Mapping[str, OpenLane],
        board: Callable[[], Board],
        spread: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._lanes = open_lanes
        self._board = board
        self._spread = spread
        self._verdicts: dict[int, Verdict] = {}

    def forget(self, one: Outcome) -> None:
        """The verdict on an outcome is committed."""
        self._verdicts.pop(one.job.begun.id, None)

    def record(self, session: Session, outcomes: Iterable[Outcome], now: datetime) -> list[tuple[Outcome, Verdict]]:
        """Writes the outcomes; returns each attempt's with its verdict."""
        judged = []
        for one in outcomes:
            begun = one.job.begun
            if one.job.ask:
                wait_s = ASK_AGAIN_S if now - begun.queued_at < ASK_FOR else 0.0
                finishing.answered(session, begun.id, one.answer, now=now, ask_again_s=wait_s)
                continue
            judged.append((one, self.judge(one, now)))
        finishing.finish(session, [verdict for _, verdict in judged], now=now)
        for one, _ in judged:
            self._note_on_lane(session, one, now)
        for name, error in self._board().news():
            self._note_news(session, name, error, now)
        return judged

    def judge(self, one: Outcome, now: datetime) -> Verdict:
        """Decided once: an outcome that is written again must say the same."""
        begun = one.job.begun
        known = self._verdicts.get(begun.id)
        if known is not None:
            return known
        ids: dict[str, Any] = {"delivery_id": begun.id, "number": begun.number, "now": now, "spread": self._spread()}
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
                verdict = replace(verdict, due_at=now + timedelta(seconds=ASK_FIRST_S))
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
        told: dict[str, Any] = {"code": error.code, "reason": verdicts.words(str(error), 500), "stamp": stamp}
        lane = self._lanes[name]
        probed_until, lane.probed_until = lane.probed_until, None
        lanes.pause(session, name, now=now, pause_s=pause_s, fault_count=faults, probed_until=probed_until, **told)
        lane.state = replace(lane.state, fault_count=faults)
