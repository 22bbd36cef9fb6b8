"""A `backup` connection carries mail when it is certain that nothing left by the primary one, and only then."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from flask import Flask

from flask_outmail import DeliveryUnknown, Mail, RecipientsRefused, TransportUnavailable
from flask_outmail.connections import LOOK_S
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import AuthenticationFailed, ConnectionRefused, Throttled
from flask_outmail.message import Message as PlainMessage
from flask_outmail.models import PRIMARY, Base, Lane
from flask_outmail.simulator import Simulator
from flask_outmail.simulator.mail import DeliveredMail
from flask_outmail.transports.failover import Board, Failover, Way

from ..conftest import MakeApp, engine_of, make_message
from ..integration.test_holding import activate, smtp_values
from .conftest import QUICK, attempts, rows, states, work


@pytest.fixture
def app_database_url(sqlite_url: str) -> str:
    return sqlite_url


def two_ways(
    make_app: MakeApp, simulator: Simulator, delivery: str, tmp_path: Path, *, broken: bool = True
) -> tuple[Flask, Mail]:
    """A primary connection, to a port where nobody listens when it is `broken`, and a backup with another From."""
    app, mail = make_app(db=True, OUTMAIL_DELIVERY=delivery, OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"), **QUICK)
    port = 1 if broken else simulator.smtp_port
    activate(app, smtp_values(simulator, port=port, from_name="Primary"), verified=True)
    activate(app, smtp_values(simulator, from_name="Backup"), connection="backup", verified=True)
    return app, mail


def copies(simulator: Simulator) -> list[DeliveredMail]:
    """What the customer received; the alert goes to somebody else."""
    return [one for one in simulator.delivered if one.recipient == "ann@customers.example"]


@pytest.mark.parametrize("delivery", ["direct", "outbox"])
def test_the_backup_carries_what_the_primary_cannot_with_its_own_from(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, delivery: str
) -> None:
    app, mail = two_ways(make_app, simulator, delivery, tmp_path)
    receipt = mail.send(make_message())
    if delivery == "outbox":
        assert work(app) == 1
    else:
        assert receipt.connection == "backup"
        assert [name for name, _ in receipt.tried] == [PRIMARY]
    [copy] = copies(simulator)
    assert str(copy.parsed["From"]).startswith("Backup")
    assert copy.parsed.get_all("From") is not None and len(copy.parsed.get_all("From", [])) == 1
    [row] = rows(app)
    assert row.state == "accepted"
    assert row.message_id == copy.parsed["Message-ID"], "people look for it at the server"
    with engine_of(app).database.session() as session:
        from flask_outmail.models import Attempt

        assert session.query(Attempt).one().connection == "backup"


@pytest.mark.parametrize("delivery", ["direct", "outbox"])
def test_a_from_that_somebody_chose_is_kept_on_every_way(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, delivery: str
) -> None:
    app, mail = two_ways(make_app, simulator, delivery, tmp_path)
    mail.send(make_message(sender=("Shop", simulator.mailbox)))
    if delivery == "outbox":
        work(app)
    assert str(copies(simulator)[0].parsed["From"]) == f"Shop <{simulator.mailbox}>"


def test_a_fault_of_the_message_does_not_go_to_the_backup(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    _, mail = two_ways(make_app, simulator, "direct", tmp_path, broken=False)
    simulator.faults.preset("smtp-rcpt-550", recipient="ann@customers.example")
    with pytest.raises(RecipientsRefused):
        mail.send(make_message())
    assert copies(simulator) == []


def test_what_may_have_left_does_not_go_to_the_backup(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    _, mail = two_ways(make_app, simulator, "direct", tmp_path, broken=False)
    simulator.faults.lose_answer("smtp.dot")
    with pytest.raises(DeliveryUnknown):
        mail.send(make_message())
    assert len(copies(simulator)) == 1


def test_what_was_accepted_is_told_as_such_although_the_database_has_gone_meanwhile(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    """An error would make its caller send it a second time."""
    app, mail = two_ways(make_app, simulator, "direct", tmp_path)
    simulator.faults.hang("smtp.dot", LOOK_S + 0.3)

    def drop_the_tables() -> None:
        while simulator.faults.active():
            threading.Event().wait(0.01)
        with app.app_context():
            Base.metadata.drop_all(app.extensions["sqlalchemy"].engine)

    thread = threading.Thread(target=drop_the_tables)
    thread.start()
    assert mail.send(make_message()).accepted
    thread.join()
    assert len(copies(simulator)) == 1


def test_after_some_faults_the_primary_is_passed_by_and_other_workers_know_it(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = two_ways(make_app, simulator, "outbox", tmp_path)
    for _ in range(12):
        mail.send(make_message())
    assert work(app) == 12
    assert states(app) == ["accepted"] * 12
    with engine_of(app).database.session() as session:
        lane = session.get(Lane, PRIMARY)
        assert lane is not None and lane.fault_count >= 3
        assert lane.paused_until is not None and lane.paused_until > datetime.now(timezone.utc) - timedelta(seconds=5)
        assert session.get(Lane, "backup").fault_count == 0  # type: ignore[union-attr]
    assert len(attempts(app)) == 12


def test_without_a_way_that_works_the_first_failure_is_told(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    app, mail = two_ways(make_app, simulator, "direct", tmp_path)
    activate(app, smtp_values(simulator, port=1, from_name="Backup"), connection="backup", verified=True)
    with pytest.raises(ConnectionRefused):
        mail.send(make_message())


def test_a_backup_that_is_not_verified_carries_nothing(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    app, mail = two_ways(make_app, simulator, "direct", tmp_path)
    activate(app, smtp_values(simulator), connection="backup")
    with pytest.raises(ConnectionRefused):
        mail.send(make_message())
    assert copies(simulator) == []


# -- the transport alone ---------------------------------------------------------------------------------------------


class Scripted:
    """A transport that does what its list says: accepts (None), or raises."""

    name = "scripted"

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.envelopes: list[Envelope] = []

    def deliver(self, envelope: Envelope) -> Receipt:
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error
        self.envelopes.append(envelope)
        return Receipt(accepted=True, transport=self.name)

    def close(self) -> None:
        """Holds nothing."""


ENVELOPE = Envelope.for_message(PlainMessage("Order 17", ["ann@x.example"], "Thanks."), sender_later=True)
REFUSED = ConnectionRefused("nobody listens")


def failover(first: Scripted, second: Scripted, board: Board | None = None) -> Failover:
    ways = [Way("primary", first, "p@x.example"), Way("backup", second, "b@y.example")]
    return Failover(ways, board or Board(3))


def test_the_message_is_not_changed_by_the_first_try() -> None:
    second = Scripted()
    failover(Scripted(REFUSED), second).deliver(ENVELOPE)
    [envelope] = second.envelopes
    assert envelope.from_address == "b@y.example"
    assert b"p@x.example" not in bytes(envelope.content)
    assert ENVELOPE.from_address == ""


def test_a_server_that_asks_to_wait_is_waited_for() -> None:
    second = Scripted()
    with pytest.raises(Throttled):
        failover(Scripted(Throttled("wait", retry_after_s=9)), second).deliver(ENVELOPE)
    assert second.envelopes == []


def test_when_the_pause_is_over_one_message_tries_the_first_way_again() -> None:
    clock = [0.0]
    board = Board(2, clock=lambda: clock[0])
    first, second = Scripted(REFUSED, REFUSED), Scripted()
    both = failover(first, second, board)
    for _ in range(4):
        both.deliver(ENVELOPE)
    assert first.script == [] and len(second.envelopes) == 4, "after two faults it is not asked any more"
    clock[0] = 31.0
    assert board.may_try("primary") and not board.may_try("primary"), "one is let through"
    clock[0] = 100.0
    assert both.deliver(ENVELOPE).connection == "primary"
    assert both.deliver(ENVELOPE).connection == "primary"


def test_a_credential_that_is_refused_opens_at_once() -> None:
    first, second = Scripted(AuthenticationFailed("no"), None), Scripted()
    both = failover(first, second)
    assert both.deliver(ENVELOPE).connection == "backup"
    assert both.deliver(ENVELOPE).connection == "backup"
    assert first.envelopes == []


def test_when_every_way_pauses_nothing_is_tried() -> None:
    both = failover(Scripted(AuthenticationFailed("no")), Scripted(AuthenticationFailed("no")))
    with pytest.raises(AuthenticationFailed):
        both.deliver(ENVELOPE)
    with pytest.raises(TransportUnavailable) as caught:
        both.deliver(ENVELOPE)
    assert caught.value.code == "connections_pause"


class Asked(Scripted):
    """One that can be asked what became of a message."""

    def __init__(self, answer: bool | None) -> None:
        super().__init__()
        self.answer = answer
        self.is_closed = False

    def check(self, message_id: str) -> bool | None:
        return self.answer

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("answers", "together"),
    [((True, None), True), ((False, True), True), ((False, None), None), ((None, None), None), ((False, False), False)],
)
def test_a_message_is_certainly_nowhere_only_if_each_way_says_so(
    answers: tuple[bool | None, bool | None], together: bool | None
) -> None:
    both = failover(Asked(answers[0]), Asked(answers[1]))
    assert both.check("<17@x.example>") is together
    assert not hasattr(failover(Asked(True), Scripted()), "check"), "one that cannot be asked leaves it open"


def test_closing_closes_every_way() -> None:
    first, second = Asked(None), Asked(None)
    failover(first, second).close()
    assert first.is_closed and second.is_closed


def test_others_are_told_when_a_way_fails_and_when_it_works_again() -> None:
    clock = [0.0]
    board = Board(1, clock=lambda: clock[0])
    board.collects = True
    both = failover(Scripted(REFUSED), Scripted(), board)
    both.deliver(ENVELOPE)
    clock[0] = 100.0
    both.deliver(ENVELOPE)
    both.deliver(ENVELOPE)
    assert list(board.news()) == [("primary", REFUSED), ("primary", None)]
