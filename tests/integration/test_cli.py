from __future__ import annotations

import json

from flask import Flask
from flask.testing import FlaskCliRunner

from flask_outmail.models import Base
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message, smtp_setup
from .test_holding import activate, smtp_values


def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


def test_init_db_creates_the_tables_and_may_run_again(make_app: MakeApp) -> None:
    app, _ = make_app(db=True)
    for _ in range(2):
        result = runner(app).invoke(args=["outmail", "init-db", "--no-wal"])
        assert (result.exit_code, result.output) == (0, "The tables are there.\n")
    told = json.loads(runner(app).invoke(args=["outmail", "init-db", "--json"]).output)
    assert told == {"added": [], "switched_to_wal": True}
    assert not engine_of(app).database.tables_missing()


def test_init_db_without_a_database_says_what_is_missing(make_app: MakeApp) -> None:
    app, _ = make_app()
    result = runner(app).invoke(args=["outmail", "init-db"])
    assert result.exit_code == 1
    assert "Flask-SQLAlchemy" in result.output


def test_the_test_command_shows_every_step_and_ends_with_0(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(graph_setup(simulator))
    result = runner(app).invoke(args=["outmail", "test", "--to", "me@customers.example"])
    assert result.exit_code == 0
    assert "Token obtained" in result.output and "The setup works." in result.output
    assert [one.recipient for one in simulator.delivered] == ["me@customers.example"]
    assert simulator.client_secret not in result.output


def test_a_passed_test_hands_over_what_was_held(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    activate(app, smtp_values(simulator))
    mail.send_many([make_message(subject="held")])
    assert simulator.delivered == []
    result = runner(app).invoke(args=["outmail", "test"])
    assert result.exit_code == 0, result.output
    assert "1 accepted" in result.output
    assert [one.subject for one in simulator.delivered] == ["held"]


def test_the_test_command_shows_the_remedy_and_ends_with_1(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(smtp_setup(simulator, password="wrong"))
    result = runner(app).invoke(args=["outmail", "test", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["passed"] is False
    assert [one["state"] for one in told["steps"]].count("failed") == 1
    result = runner(app).invoke(args=["outmail", "test"])
    assert "Who:" in result.output and "535 5.7.3" in result.output


def test_wrong_usage_ends_with_2(make_app: MakeApp) -> None:
    app, _ = make_app()
    assert runner(app).invoke(args=["outmail", "send"]).exit_code == 2


def test_send_reads_the_text_from_standard_input(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(graph_setup(simulator))
    result = runner(app).invoke(
        args=["outmail", "send", "--to", "ann@customers.example", "--subject", "Hi"], input="from a pipe\n"
    )
    assert result.exit_code == 0, result.output
    assert simulator.delivered[0].text.strip() == "from a pipe"


def test_a_send_that_is_refused_tells_the_remedy_and_ends_with_1(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(graph_setup(simulator))
    simulator.faults.refuse("sendMail", 403, "ErrorAccessDenied")
    result = runner(app).invoke(args=["outmail", "send", "--to", "ann@customers.example", "--text", "x"])
    assert result.exit_code == 1
    assert "ErrorAccessDenied" in result.output


def test_status_follows_the_setup(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(db=True)
    result = runner(app).invoke(args=["outmail", "status", "--json"])
    assert (result.exit_code, json.loads(result.output)["state"]) == (1, "not set up")
    activate(app, smtp_values(simulator))
    mail.send_many([make_message()])
    result = runner(app).invoke(args=["outmail", "status", "--json"])
    facts = json.loads(result.output)
    assert (facts["state"], facts["held"]) == ("held", 1)
    activate(app, smtp_values(simulator), verified=True)
    assert runner(app).invoke(args=["outmail", "status"]).exit_code == 0


def test_status_needs_no_database(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(smtp_setup(simulator))
    result = runner(app).invoke(args=["outmail", "status", "--json"])
    facts = json.loads(result.output)
    assert (result.exit_code, facts["state"], facts["source"]) == (0, "working", "OUTMAIL_SETUP")
    assert "last_test" not in facts


def test_a_generated_key_is_one_that_the_configuration_takes(make_app: MakeApp) -> None:
    app, _ = make_app()
    key = runner(app).invoke(args=["outmail", "keys", "generate"]).output.strip()
    other, _ = make_app(OUTMAIL_ENCRYPTION_KEYS=[key])
    assert engine_of(other).vault.open(engine_of(other).vault.seal("secret")) == "secret"


def test_auth_list_shows_no_secret(make_app: MakeApp, simulator: Simulator) -> None:
    from flask_outmail import auth_objects
    from flask_outmail.setup_values import Credential

    app, _ = make_app(db=True)
    assert "no authentication object yet" in runner(app).invoke(args=["outmail", "auth", "list"]).output
    engine = engine_of(app)
    credential = Credential(simulator.tenant, simulator.client_id, simulator.client_secret)
    with engine.database.session() as session:
        draft = auth_objects.Draft(name="Contoso mailer", credential=credential)
        auth_objects.create(session, draft, engine.vault, by="ann", limit=100)
        session.commit()
    for arguments in ([], ["--json"]):
        result = runner(app).invoke(args=["outmail", "auth", "list", *arguments])
        assert result.exit_code == 0
        assert "Contoso mailer" in result.output and simulator.client_secret not in result.output


def test_send_says_what_became_of_the_message(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(graph_setup(simulator), db=True, OUTMAIL_DELIVERY="outbox")
    to = ["--to", "ann@customers.example", "--text", "x"]
    queued = app.test_cli_runner().invoke(args=["outmail", "send", *to])
    assert queued.exit_code == 0 and queued.output.startswith("Queued as ")
    direct, _ = make_app(graph_setup(simulator))
    read = json.loads(direct.test_cli_runner().invoke(args=["outmail", "send", *to, "--json"]).output)
    assert (read["accepted"], read["transport"], read["refused"]) == (True, "microsoft365_graph", {})
    staging, _ = make_app(graph_setup(simulator), OUTMAIL_ALLOWED_RECIPIENTS=["@contoso.example"])
    assert "Held back: ann@customers.example" in staging.test_cli_runner().invoke(args=["outmail", "send", *to]).output


def test_a_send_of_which_one_recipient_is_refused_names_it_and_ends_with_1(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app, _ = make_app(smtp_setup(simulator))
    simulator.faults.preset("smtp-rcpt-550", recipient="gone@customers.example")
    to = ["--to", "ann@customers.example", "--to", "gone@customers.example"]
    result = runner(app).invoke(args=["outmail", "send", *to, "--text", "x"])
    assert result.exit_code == 1
    assert "Accepted by smtp" in result.output and "Refused: gone@customers.example (550 " in result.output
    assert [one.recipient for one in simulator.delivered] == ["ann@customers.example"]


def test_a_worker_without_tables_says_how_to_make_them(make_app: MakeApp) -> None:
    app, _ = make_app(db=True)
    Base.metadata.drop_all(app.extensions["sqlalchemy"].engine)
    result = runner(app).invoke(args=["outmail", "worker", "--once"])
    assert result.exit_code == 1 and "flask outmail init-db" in result.output


def test_a_test_alert_is_told_to_machines_too(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app(db=True)
    activate(app, smtp_values(simulator), verified=True)
    result = runner(app).invoke(args=["outmail", "alerts", "test", "--json"])
    [told] = json.loads(result.output)
    assert (result.exit_code, told["outcome"]) == (0, "accepted")
    assert [one.recipient for one in simulator.delivered] == ["ops@elsewhere.example"]


def test_the_simulator_starts_from_the_command_line_or_says_why_not(make_app: MakeApp, simulator: Simulator) -> None:
    app, _ = make_app()
    ports = ["--https-port", "0", "--smtp-port", str(simulator.smtp_port), "--smtps-port", "0", "--web-port", "0"]
    result = runner(app).invoke(args=["outmail", "simulator", *ports])
    assert result.exit_code == 1 and "Another port may be free" in result.output


def test_the_shell_completes_our_commands(make_app: MakeApp, simulator: Simulator) -> None:
    from click.shell_completion import BashComplete

    app, _ = make_app(graph_setup(simulator))
    names = [one.value for one in BashComplete(app.cli, {}, "flask", "_F").get_completions(["outmail"], "de")]
    assert names == ["deliveries"]


def test_the_simulator_tells_its_options_by_help(make_app: MakeApp) -> None:
    app, _ = make_app()
    result = runner(app).invoke(args=["outmail", "simulator", "--help"])
    assert result.exit_code == 0
    assert "outmail simulator [-h]" in result.output and "--https-port N" in result.output
    assert runner(app).invoke(args=["outmail", "simulator", "--no-such-option"]).exit_code == 2
