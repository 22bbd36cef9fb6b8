"""What may have left is asked about, where a server can be asked; and a connection that failed is tried by one message.

A mail service of somebody else's, as anybody may register one: it does what its list says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_outmail import DeliveryUnknown, Mail, MessageRejected, TransportUnavailable, services
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.models import Delivery, Lane, utc_now
from flask_outmail.working import make_worker

from ..conftest import MakeApp, engine_of, make_message
from .conftest import QUICK, attempts, rows, states, work
from .test_lanes import CountingService

SETUP = {"service": "asked", "from_address": "shop@x.example"}
CONFIG: dict[str, Any] = {"OUTMAIL_DELIVERY": "outbox", **QUICK, "OUTMAIL_RETRY_FIRST_SECONDS": 60}
LOST = DeliveryUnknown("no answer came", code="answer_lost")
DOWN = TransportUnavailable("nobody listens", code="port_closed")


class Asked:
    """Raises what its list says, or accepts; and answers questions in their order, with None when nothing is left."""

    name = "asked"

    def __init__(self) -> None:
        self.script: list[Exception] = []
        self.answers: list[Any] = []
        self.questions: list[str] = []
        self.accepted: list[str] = []

    def deliver(self, envelope: Envelope) -> Receipt:
        if self.script:
            raise self.script.pop(0)
        self.accepted.append(envelope.message_id)
        return Receipt(accepted=True, transport=self.name, message_id=envelope.message_id)

    def check(self, message_id: str) -> bool | None:
        self.questions.append(message_id)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """Holds nothing."""


class AskedService(CountingService):
    name, label = "asked", "Asked"  # type: ignore[assignment]
    asked = Asked()

    def transport(self, values: Any, environment: Any) -> Any:
        return self.asked


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def server() -> Iterator[Asked]:
    AskedService.asked = Asked()
    services.register(AskedService())  # type: ignore[arg-type]
    yield AskedService.asked
    services._registry.pop("asked")


@pytest.fixture
def shop(make_app: MakeApp, server: Asked, tmp_path: Path) -> tuple[Flask, Mail]:
    return make_app(SETUP, db=True, **CONFIG, OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"))


def later(seconds: float) -> Callable[[], datetime]:
    return lambda: utc_now() + timedelta(seconds=seconds)


def work_at(app: Flask, seconds: float) -> int:
    """One round of a worker whose clock is so far ahead."""
    worker, side = make_worker(engine_of(app), now=later(seconds))
    try:
        return worker.run(once=True)
    finally:
        side.close()


def lane(app: Flask) -> Lane:
    with engine_of(app).database.session() as session:
        return session.get_one(Lane, "primary")


# -- asked at once ---------------------------------------------------------------------------------------------------


def test_one_that_the_server_has_is_accepted_and_not_repeated(shop: tuple[Flask, Mail], server: Asked) -> None:
    app, mail = shop
    server.script, server.answers = [LOST], [True]
    mail.send(make_message())
    work(app)
    [row] = rows(app)
    assert (row.state, server.accepted, server.questions) == ("accepted", [], [row.message_id])
    assert "the server has it" in row.reason


def test_one_that_the_server_certainly_does_not_have_goes_again(shop: tuple[Flask, Mail], server: Asked) -> None:
    app, mail = shop
    server.script, server.answers = [LOST], [False]
    mail.send(make_message())
    work(app)
    assert states(app) == ["accepted"]
    assert len(server.accepted) == 1 and len(attempts(app)) == 2


# -- asked later -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_first", [None, OSError("no route")], ids=["nothing known", "no answer"])
@pytest.mark.parametrize(
    ("then", "state", "times"), [(True, "accepted", 0), (False, "accepted", 1), (None, "unknown", 0)], ids=str
)
def test_one_about_which_nothing_is_known_is_asked_about_again(
    shop: tuple[Flask, Mail], server: Asked, at_first: Any, then: bool | None, state: str, times: int
) -> None:
    app, mail = shop
    server.script, server.answers = [LOST], [at_first, then]
    mail.send(make_message())
    work(app, once=True)
    assert states(app) == ["unknown"] and len(server.questions) == 1
    work_at(app, 10)
    work_at(app, 10)
    assert states(app) == [state]
    assert len(server.questions) == 2 and len(server.accepted) == times
    if then:
        assert rows(app)[0].code == "found"
        with engine_of(app).database.session() as session:
            assert session.query(Delivery.content_sealed).one()[0] is None, "there is no need for it any more"


def test_after_an_hour_nobody_is_asked_any_more(shop: tuple[Flask, Mail], server: Asked) -> None:
    app, mail = shop
    server.script = [LOST]
    mail.send(make_message())
    work(app, once=True)
    for seconds in (10, 4000, 8000):
        work_at(app, seconds)
    assert states(app) == ["unknown"]
    assert len(server.questions) == 3, "at once, after some seconds, and a last time"


def test_what_somebody_elses_transport_raises_leaves_its_message_unknown(
    shop: tuple[Flask, Mail], server: Asked
) -> None:
    app, mail = shop
    server.script = [ZeroDivisionError()]
    mail.send(make_message())
    mail.send(make_message())
    work(app, once=True)
    assert sorted(states(app)) == ["accepted", "unknown"]


# -- a connection that failed ----------------------------------------------------------------------------------------


def fail_until_it_pauses(app: Flask, mail: Mail, server: Asked) -> None:
    server.script = [DOWN] * 3
    for _ in range(3):
        mail.send(make_message())
    work(app, once=True)
    assert lane(app).fault_count >= 3 and server.script == []


def test_a_message_that_is_refused_for_itself_shows_that_the_connection_is_well(
    shop: tuple[Flask, Mail], server: Asked
) -> None:
    app, mail = shop
    fail_until_it_pauses(app, mail, server)
    server.script = [MessageRejected("looks like spam")]
    work_at(app, 4000)
    assert sorted(states(app)) == ["accepted", "accepted", "refused"]
    assert lane(app).fault_count == 0


def test_a_rate_limits_what_a_worker_begins(make_app: MakeApp, server: Asked) -> None:
    app, mail = make_app(SETUP, db=True, **CONFIG, OUTMAIL_RATE_PER_MINUTE=6)
    for _ in range(3):
        mail.send(make_message())
    worker, side = make_worker(engine_of(app))
    thread = threading.Thread(target=worker.run)
    thread.start()
    while not server.accepted:
        assert thread.is_alive()
    worker.stop()
    thread.join(20)
    side.close()
    assert sorted(states(app)) == ["accepted", "queued", "queued"]
