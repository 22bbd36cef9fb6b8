"""Values that cannot be meant, and a database that does not take what it is given: each is said, in its own words."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import SQLAlchemyError

from flask_outmail import ConfigurationError, Mail, MessageRejected, UnsupportedFeature, services
from flask_outmail.envelope import Envelope, Receipt
from flask_outmail.errors import InvalidMessage, MissingSender
from flask_outmail.message import Address
from flask_outmail.message import Message as PlainMessage
from flask_outmail.models import Delivery
from flask_outmail.proving import trial
from flask_outmail.services import Environment
from flask_outmail.settings import Settings
from flask_outmail.setup_values import SetupValues
from flask_outmail.simulator import Simulator
from flask_outmail.transports.base import deliver_many
from flask_outmail.transports.graph import GraphTransport
from flask_outmail.transports.guarded import Safety, guarded

from ..conftest import MakeApp, engine_of, make_message, smtp_setup
from .test_holding import smtp_values

# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"port": 70000}, "port", "port from 1 to 65535"),
        ({"username": ""}, "username", "a password but no user name"),
    ],
)
def test_a_setup_says_at_the_field_what_is_wrong(
    simulator: Simulator, changes: dict[str, object], field: str, words: str
) -> None:
    environment = Environment.of(Settings.from_config({}))
    assert words in services.service("smtp").problems(smtp_values(simulator, **changes), environment)[field]


def test_several_addresses_in_one_field_are_told_apart_from_no_address() -> None:
    assert "One address" in services.address_problem("ann@x.example, bob@x.example")
    assert "not an email address" in services.address_problem("ann")


def test_a_microsoft_setup_without_a_credential_or_with_an_impossible_port_says_so() -> None:
    environment = Environment.of(Settings.from_config({}))
    values = SetupValues(service="microsoft365_smtp", port=0, username="shop@x.example", host="smtp.x.example")
    found = services.service("microsoft365_smtp").problems(values, environment)
    assert "65535" in found["port"] and "authentication object" in found["auth_object"]


@pytest.mark.parametrize("facts", [{"key": ""}, {"key": "k" * 201}, {"priority": 1_000_001}])
def test_what_cannot_be_stored_is_refused_when_it_is_queued(
    make_app: MakeApp, simulator: Simulator, facts: dict[str, object]
) -> None:
    app, mail = make_app(smtp_setup(simulator), db=True)
    with pytest.raises(ValueError, match=r"key|priority"):
        mail.enqueue(make_message(), **facts)  # type: ignore[arg-type]
    with engine_of(app).database.session() as session:
        assert session.query(Delivery).count() == 0


def test_a_key_of_a_newer_version_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flask_outmail"):
        Settings.from_config({"OUTMAIL_OF_TOMORROW": 1})
    assert "unknown configuration key" in caplog.text


@pytest.mark.parametrize(
    "config", [{"OUTMAIL_TEST_NETWORKS": ["10.0.0.0/99"]}, {"OUTMAIL_CLOUDS": {"mine": "x"}}, {"OUTMAIL_CLOUDS": ["x"]}]
)
def test_a_value_of_the_wrong_kind_names_its_key(config: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(config))):
        Settings.from_config(config)


def test_a_rate_is_for_all_connections_or_for_the_named_ones() -> None:
    assert Settings.from_config({"OUTMAIL_RATE_PER_MINUTE": 30}).rate_per_minute == {"": 30}
    assert Settings.from_config({"OUTMAIL_RATE_PER_MINUTE": {"billing": 5}}).rate_per_minute == {"billing": 5}


def test_what_is_not_set_up_cannot_be_tested(make_app: MakeApp) -> None:
    app, _ = make_app(db=True)
    with pytest.raises(ConfigurationError) as caught:
        trial(engine_of(app))
    assert caught.value.code == "setup_missing"


@pytest.mark.parametrize("date", [1e30, float("inf")])
def test_a_date_that_no_calendar_has_is_refused(date: float) -> None:
    message = PlainMessage("x", ["ann@x.example"], "x", sender="shop@x.example", date=date)
    with pytest.raises(InvalidMessage):
        Envelope.for_message(message)


def test_without_any_sender_nothing_is_completed() -> None:
    envelope = Envelope.for_message(PlainMessage("x", ["ann@x.example"], "x"), sender_later=True)
    with pytest.raises(MissingSender):
        envelope.sent_from(Address("", ""), "")


def test_a_from_of_its_own_gets_the_mailbox_as_sender() -> None:
    envelope = Envelope.for_message(PlainMessage("x", ["ann@x.example"], "x", sender="shop@x.example"))
    assert b"Sender: box@x.example\r\n" in bytes(envelope.sent_from(Address("", ""), "box@x.example").content)
    assert b"Sender:" not in bytes(envelope.sent_from(Address("", ""), "Shop@x.example").content)


# -- transports ------------------------------------------------------------------------------------------------------


class OneByOne:
    """A third party's transport: no bulk, and a `check`."""

    name = "one"

    def deliver(self, envelope: Envelope) -> Receipt:
        if "bad@x.example" in envelope.recipients:
            raise MessageRejected("no")
        return Receipt(accepted=True, transport=self.name)

    def check(self, message_id: str) -> bool | None:
        return message_id == "<17@x.example>"

    def close(self) -> None:
        """Holds nothing."""


def to(address: str) -> Envelope:
    return Envelope.for_message(PlainMessage("x", [address], "x", sender="shop@x.example"))


def test_a_refusal_is_one_outcome_among_the_others_where_a_transport_knows_no_bulk() -> None:
    outcomes = list(deliver_many(OneByOne(), [to("bad@x.example"), to("ann@x.example")]))
    assert [type(one) for one in outcomes] == [MessageRejected, Receipt]


def test_a_guarded_transport_can_be_asked_where_the_other_can() -> None:
    safe = guarded(OneByOne(), Safety(redirect_to=("dev@x.example",)))
    assert safe.check("<17@x.example>") is True  # type: ignore[attr-defined]
    assert safe.deliver(to("bad@x.example")).accepted, "it went to the developer"


def test_graph_refuses_what_its_lack_of_an_envelope_would_send_elsewhere(transport: GraphTransport) -> None:
    message = PlainMessage("x", ["ann@x.example", "bob@x.example"], "x", sender="noreply@contoso.example")
    envelope = Envelope.for_message(message)
    with pytest.raises(UnsupportedFeature, match="To and Cc"):
        transport.deliver(replace(envelope, recipients=("ann@x.example",)))
    with pytest.raises(UnsupportedFeature, match="ASCII"):
        transport.deliver(replace(envelope, smtputf8=True))


# -- the database ----------------------------------------------------------------------------------------------------


def test_a_database_that_is_initialised_after_the_mail_is_found(simulator: Simulator, tmp_path: Path) -> None:
    app = Flask("late")
    app.config.update(OUTMAIL_SETUP=smtp_setup(simulator), SECRET_KEY="x", SQLALCHEMY_DATABASE_URI="sqlite://")
    Mail(app)
    database = SQLAlchemy(app)
    with app.app_context():
        assert engine_of(app).database
        assert "outmail_deliveries" in database.metadata.tables
        database.engine.dispose()


def test_a_database_that_may_only_be_read_says_why_there_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "app.sqlite"
    sqlite3.connect(path).close()
    app = Flask("readonly")
    app.config.update(SECRET_KEY="x", SQLALCHEMY_DATABASE_URI=f"sqlite:///file:{path}?mode=ro&uri=true")
    database = SQLAlchemy(app)
    Mail(app, database)
    with app.app_context():
        with pytest.raises(ConfigurationError, match="readonly") as caught:
            engine_of(app).database.create_tables()
        database.engine.dispose()
    assert caught.value.code == "tables_refused"


def test_a_file_that_is_in_use_stays_without_the_log_until_it_is_free(
    make_app: MakeApp, simulator: Simulator, app_database_url: str
) -> None:
    impatient = {"connect_args": {"timeout": 0.1}}
    app, _ = make_app(smtp_setup(simulator), db=True, SQLALCHEMY_ENGINE_OPTIONS=impatient)
    reader = sqlite3.connect(app_database_url.removeprefix("sqlite:///"))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM outmail_deliveries").fetchone()
    with pytest.raises(ConfigurationError):
        engine_of(app).database.use_wal()
    reader.close()
    assert engine_of(app).database.use_wal()
    assert not engine_of(app).database.use_wal(), "it stays with the file"


def test_a_connection_that_cannot_be_given_back_as_it_was_is_not_given_back(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, _ = make_app(smtp_setup(simulator), db=True)
    database = engine_of(app).database
    with database.connection(0.0) as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.close()
        with pytest.raises(SQLAlchemyError):
            connection.exec_driver_sql("SELECT 1")
    with database.connection(0.0) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
