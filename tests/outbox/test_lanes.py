"""What all workers share: a server's limit of messages at a time, its rate, and the pause that it asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_outmail import Mail, Throttled, services
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.models import Lane, utc_now
from flask_outmail.outbox import lanes
from flask_outmail.outbox.lanes import LaneState
from flask_outmail.setup_values import SetupValues
from flask_outmail.working import make_worker

from ..conftest import MakeApp, engine_of, make_message
from .conftest import QUICK, states, work


class Counting:
    """A transport that takes its time, knows how many messages it had at once, and may ask to wait once."""

    name = "counting"
    concurrency = 2
    takes_s = 0.03

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.accepted: list[float] = []
        self.asks_to_wait: float = 0.0

    def deliver(self, envelope: Envelope) -> Receipt:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            asked, self.asks_to_wait = self.asks_to_wait, 0.0
        time.sleep(self.takes_s)
        with self._lock:
            self.now -= 1
            if asked:
                raise Throttled("slowly", retry_after_s=asked)
            self.accepted.append(time.monotonic())
        return Receipt(accepted=True, transport=self.name)

    def close(self) -> None:
        """Holds nothing."""


class CountingService:
    name, label, summary = "counting", "Counting", ""
    recommended = needs_auth_object = False
    locked: frozenset[str] = frozenset()
    #: One transport for all applications, as there is one server.
    server = Counting()

    def complete(self, values: SetupValues, environment: Any) -> SetupValues:
        return values

    def problems(self, values: SetupValues, environment: Any) -> dict[str, str]:
        return {}

    def mailbox(self, values: SetupValues) -> str:
        return ""

    def transport(self, values: SetupValues, environment: Any) -> Counting:
        return self.server

    def plan(self, values: SetupValues, environment: Any) -> Any:
        raise AssertionError("nobody tests this one")


@pytest.fixture
def server() -> Iterator[Counting]:
    CountingService.server = Counting()
    services.register(CountingService())  # type: ignore[arg-type]
    yield CountingService.server
    services._registry.pop("counting")


@pytest.fixture
def shop(make_app: MakeApp, server: Counting, tmp_path: Path) -> tuple[Flask, Mail]:
    setup = {"service": "counting", "from_address": "shop@x.example"}
    config = {"OUTMAIL_DELIVERY": "outbox", "OUTMAIL_SPOOL_DIR": str(tmp_path / "spool"), **QUICK}
    return make_app(setup, db=True, **config)


def several(app: Flask, count: int) -> None:
    """So many workers, each with a session of its own, until everything is settled."""

    def run() -> None:
        worker, side = make_worker(engine_of(app))
        worker.run(drain=True)
        side.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_all_workers_together_keep_to_what_the_server_takes_at_a_time(
    shop: tuple[Flask, Mail], server: Counting
) -> None:
    app, mail = shop
    for _ in range(20):
        mail.send(make_message())
    several(app, 3)
    assert states(app) == ["accepted"] * 20
    assert len(server.accepted) == 20
    assert server.most == 2


def test_when_the_server_asks_to_wait_nothing_is_lost_or_sent_twice(shop: tuple[Flask, Mail], server: Counting) -> None:
    app, mail = shop
    server.asks_to_wait = 0.5
    for _ in range(8):
        mail.send(make_message())
    several(app, 2)
    assert states(app) == ["accepted"] * 8 and len(server.accepted) == 8


def test_a_message_that_passes_does_not_end_the_pause_that_another_was_asked_for(
    shop: tuple[Flask, Mail], server: Counting
) -> None:
    app, mail = shop
    server.asks_to_wait = 300.0
    for _ in range(6):
        mail.send(make_message())
    work(app, once=True)
    assert states(app).count("accepted") <= 2
    with engine_of(app).database.session() as session:
        assert lanes.read(session)["primary"].pause_left_s(utc_now()) > 200


def test_a_rate_counts_for_all_workers_and_lets_its_share_through(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    with engine_of(app).database.session() as session:
        lanes.ensure(session, "primary", slot_count=1)
        now = utc_now()
        granted = [lanes.allow(session, "primary", per_minute=60, wanted=8, now=now) for _ in range(3)]
        assert granted == [8, 2, 0]
        session.commit()
        lane = session.get(Lane, "primary", populate_existing=True)
        assert lane is not None and lane.allowance == 0


def test_a_longer_pause_is_not_shortened_by_a_later_one(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    now = utc_now()
    told = {"fault_count": 0, "code": "429", "reason": "slowly", "stamp": ""}
    with engine_of(app).database.session() as session:
        lanes.ensure(session, "primary", slot_count=1)
        lanes.pause(session, "primary", now=now, pause_s=60, **told)  # type: ignore[arg-type]
        lanes.pause(session, "primary", now=now, pause_s=5, **told)  # type: ignore[arg-type]
        session.commit()
        state = lanes.read(session)["primary"]
    assert 59 < state.pause_left_s(now) <= 60
    assert LaneState().pause_left_s(now) == 0


def test_a_failing_connection_is_tried_again_by_one_worker_only(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    now = utc_now()
    with engine_of(app).database.session() as session:
        lanes.ensure(session, "primary", slot_count=1)
        assert lanes.take_probe(session, "primary", now=now, hold_s=60)
        assert not lanes.take_probe(session, "primary", now=now, hold_s=60)
        session.commit()


def test_a_probe_that_fails_makes_the_others_wait_for_the_pause_that_follows_and_not_for_the_probe(
    make_app: MakeApp, simulator: object
) -> None:
    app, _ = make_app(db=True)
    now = utc_now()
    told = {"fault_count": 4, "code": "timeout", "reason": "", "stamp": "s"}
    with engine_of(app).database.session() as session:
        lanes.ensure(session, "primary", slot_count=1)
        probed_until = lanes.take_probe(session, "primary", now=now, hold_s=60)
        lanes.pause(session, "primary", now=now, pause_s=5, probed_until=probed_until, **told)  # type: ignore[arg-type]
        assert lanes.read(session)["primary"].pause_left_s(now) == 5
        # What a server asked another worker for meanwhile stands.
        lanes.pause(session, "primary", now=now, pause_s=300, **told)  # type: ignore[arg-type]
        lanes.pause(session, "primary", now=now, pause_s=5, probed_until=probed_until, **told)  # type: ignore[arg-type]
        assert lanes.read(session)["primary"].pause_left_s(now) == 300


def test_a_message_that_was_throttled_waits_and_is_accepted_in_the_end(
    shop: tuple[Flask, Mail], server: Counting
) -> None:
    app, mail = shop
    server.asks_to_wait = 0.2
    mail.send(make_message())
    assert work(app) == 1
    assert states(app) == ["accepted"]
