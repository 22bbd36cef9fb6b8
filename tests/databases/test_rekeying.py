"""Changing the key that encrypts what is stored: mail goes on before, during and after."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from flask_outmail import setups, vault
from flask_outmail.auth_objects import Draft, create
from flask_outmail.models import Base, Setup
from flask_outmail.setup_values import Credential, SetupValues
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, make_message

OLD, NEW = vault.generate_key(), vault.generate_key()


def stored(app: Any) -> list[str]:
    """Every encrypted value there is."""
    found = []
    with engine_of(app).database.session() as session:
        for table in Base.metadata.sorted_tables:
            for column in (one for one in table.columns if one.name.endswith("_sealed")):
                values = session.scalars(select(column).where(column.is_not(None))).all()
                found += [value.decode() if isinstance(value, bytes) else value for value in values if value]
    return found


@pytest.fixture
def make(make_app: MakeApp, database_url: str, simulator: Simulator) -> Any:
    def make(*keys: str, **config: Any) -> Any:
        return make_app(db=True, SQLALCHEMY_DATABASE_URI=database_url, OUTMAIL_ENCRYPTION_KEYS=list(keys), **config)

    return make


def fill(app: Any, simulator: Simulator) -> None:
    """A verified setup with its authentication object, and a message that waits."""
    engine = engine_of(app)
    credential = Credential(
        tenant=simulator.tenant,
        client_id=simulator.client_id,
        client_secret=simulator.client_secret,
        cloud="simulator",
    )
    with engine.database.session() as session:
        row = create(session, Draft(name="Contoso", credential=credential), engine.vault, by="anna", limit=100)
        values = SetupValues(
            service="microsoft365_graph",
            username=simulator.mailbox,
            from_address=simulator.mailbox,
            auth_object="Contoso",
            credential=credential,
            tls="tls",
        )
        setup = setups.save(session, values, engine.vault, by="anna", seen_revision=0, auth_object=row)
        setups.mark_verified(setup, setups.values_of(setup, engine.vault), engine.vault, by="anna")
        setups.activate(setup, by="anna")
        session.commit()
    engine.connections.look_again()


def rotate(app: Any, *options: str) -> Any:
    return app.test_cli_runner().invoke(args=["outmail", "keys", "rotate", *options])


def test_after_a_rotation_the_older_key_may_go_and_the_setup_stays_verified(make: Any, simulator: Simulator) -> None:
    before, mail = make(OLD, OUTMAIL_DELIVERY="outbox")
    fill(before, simulator)
    mail.send(make_message())
    assert {value.partition(":")[0] for value in stored(before)} == {vault.Vault([OLD]).newest_key_id}

    both, _ = make(NEW, OLD)
    done = rotate(both)
    assert done.exit_code == 0 and "newest key" in done.output, done.output
    assert {value.partition(":")[0] for value in stored(both)} == {vault.Vault([NEW]).newest_key_id}
    assert "Nothing needed to be done" in rotate(both).output
    assert rotate(both, "--json").output == "[]\n"

    after, mail = make(NEW)
    current = engine_of(after).current()
    assert current is not None and current.verified
    assert after.test_cli_runner().invoke(args=["outmail", "worker", "--drain"]).exit_code == 0
    assert len(simulator.wait_for(1)) == 1


def test_a_rotation_proves_nothing_that_was_changed_since_its_test(make: Any, simulator: Simulator) -> None:
    before, _ = make(OLD)
    fill(before, simulator)
    with engine_of(before).database.session() as session:
        session.scalars(select(Setup)).one().from_address = "somebody@else.example"
        session.commit()
    both, _ = make(NEW, OLD)
    assert rotate(both).exit_code == 0
    current = engine_of(both).current()
    assert current is not None and not current.verified


def test_what_no_key_opens_is_left_and_told(make: Any, simulator: Simulator) -> None:
    before, _ = make(OLD)
    fill(before, simulator)
    was = stored(before)
    lost, _ = make(NEW)
    done = rotate(lost)
    assert done.exit_code == 1 and "left as they are" in done.output
    assert stored(lost) == was


def test_it_goes_on_after_an_interruption(make: Any, simulator: Simulator) -> None:
    before, mail = make(OLD, OUTMAIL_DELIVERY="outbox")
    fill(before, simulator)
    for number in range(5):
        mail.send(make_message(subject=str(number)))
    both, _ = make(NEW, OLD)
    from flask_outmail import rekeying

    going = rekeying.rotate(engine_of(both))
    next(going)
    next(going)
    going.close()
    assert len({value.partition(":")[0] for value in stored(both)}) == 2
    assert rotate(both).exit_code == 0
    assert {value.partition(":")[0] for value in stored(both)} == {vault.Vault([NEW]).newest_key_id}
