"""One message, one answer or one file that nobody expected harms no other, and stops no worker."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from flask import Flask

from flask_outmail import Mail
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.models import Delivery
from flask_outmail.simulator import Simulator
from flask_outmail.working import make_worker

from ..conftest import engine_of, make_message
from .conftest import OutboxApp, rows, states, work


@pytest.fixture
def shop(outbox_app: OutboxApp, tmp_path: Path) -> tuple[Flask, Mail]:
    return outbox_app(OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"))


class BreaksOnce:
    """A transport of a third party that raises once, before anything left."""

    name = "theirs"

    def __init__(self, error: BaseException) -> None:
        self.errors = [error]
        self.seen: list[str] = []

    def deliver(self, envelope: Envelope) -> Receipt:
        if self.errors:
            raise self.errors.pop()
        self.seen.append(envelope.message_id)
        return Receipt(accepted=True, transport=self.name, message_id=envelope.message_id)

    def close(self) -> None: ...


def test_a_server_that_takes_one_recipient_at_a_time_gets_them_all_however_many_follow(
    outbox_app: OutboxApp, simulator: Simulator
) -> None:
    app, mail = outbox_app(OUTMAIL_RETRY_CAP_SECONDS=0.01)
    simulator.behaviour.smtp_recipient_limit = 1
    everybody = [f"r{number}@customers.example" for number in range(18)]
    mail.send(make_message(recipients=everybody))
    assert work(app) == 18
    assert [one.recipient for one in simulator.delivered] == everybody
    assert len({row.uid for row in rows(app)}) == 18


@pytest.mark.parametrize("words", ["no\0way", "no \x1b[31mway", "caf\xe9 \U0001f4ec"])
def test_whatever_a_server_says_of_a_recipient_can_be_stored(
    shop: tuple[Flask, Mail], simulator: Simulator, words: str
) -> None:
    app, mail = shop
    simulator.faults.refuse("smtp.rcpt", 550, message=words, recipient="odd@x.example")
    mail.send(make_message(recipients=["ann@customers.example", "odd@x.example"]))
    mail.send(make_message())
    assert work(app) == 2
    assert states(app) == ["accepted", "accepted"]
    assert "way" in rows(app)[0].reason or "caf" in rows(app)[0].reason
    assert not any(ord(one) < 32 for row in rows(app) for one in row.reason)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
def test_a_transport_that_wants_to_end_its_thread_leaves_one_message_unknown_and_no_worker_stuck(
    shop: tuple[Flask, Mail], error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, mail = shop
    engine = engine_of(app)
    current = engine.current()
    assert current is not None
    transport = BreaksOnce(error)
    object.__setattr__(current, "transport", transport)
    monkeypatch.setattr(engine.connections, "current", lambda *_, **__: current)
    for _ in range(3):
        mail.send(make_message())
    worker, side = make_worker(engine)
    thread = threading.Thread(target=lambda: worker.run(drain=True), daemon=True)
    thread.start()
    thread.join(20)
    is_stuck = thread.is_alive()
    worker.stop()
    worker.stop()
    side.close()
    assert not is_stuck
    assert sorted(states(app)) == ["accepted", "accepted", "unknown"]


def test_content_of_a_later_version_fails_alone_and_stays_for_that_version(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    mail.send(make_message())
    mail.send(make_message())
    engine = engine_of(app)
    with engine.database.session() as session:
        first = session.query(Delivery).order_by(Delivery.id).first()
        assert first is not None and first.content_sealed is not None
        head, _, rest = engine.vault.open_bytes(first.content_sealed).partition(b"\n")
        facts = json.loads(head) | {"not_known_yet": 1}
        first.content_sealed = engine.vault.seal_bytes(json.dumps(facts).encode() + b"\n" + rest)
        session.commit()
    worker, side = make_worker(engine)
    thread = threading.Thread(target=lambda: worker.run(drain=True), daemon=True)
    thread.start()
    thread.join(20)
    is_stuck = thread.is_alive()
    worker.stop()
    worker.stop()
    side.close()
    assert not is_stuck
    assert [(row.state, row.code) for row in rows(app)] == [("failed", "content_unreadable"), ("accepted", "")]
    with engine.database.session() as session:
        assert session.query(Delivery.content_sealed).order_by(Delivery.id).first()[0]  # type: ignore[index]
