"""`flask outmail test`, `domain` and `status`: whether mail works, and what shows it."""

from __future__ import annotations

from typing import Any

import click

from ..diagnosis import steps
from ..diagnosis.report import not_proven, proven
from ..engine import Engine
from ..outbox import alerts, store
from ..proving import domain_check, last_proof, trial
from ..settings import PRIMARY
from .group import engine, json_option, outmail_commands, show_json, show_step


@outmail_commands.command("test")
@click.option("--to", "to", default="", metavar="ADDRESS", help="Also send a real test message to this address.")
@click.option("--via", default=PRIMARY, show_default=True, help="The connection to test.")
@click.option(
    "--foreign-mailbox",
    default="",
    metavar="ADDRESS",
    help="Also prove that this application may not send as this other mailbox.",
)
@click.option("--transcript", is_flag=True, help="Also print what was said to the servers, without secrets.")
@json_option
def test(to: str, via: str, foreign_mailbox: str, transcript: bool, as_json: bool) -> None:
    """Prove the setup in force, step by step. Sends nothing without --to."""
    run = trial(engine(), via, by="command line", test_message_to=to, foreign_mailbox=foreign_mailbox)
    for step in run.steps():
        if not as_json:
            show_step(step)
    said = [{"who": who, "line": line} for who, line in run.transcript]
    if as_json:
        told: dict[str, Any] = {"passed": run.passed, "steps": [step.to_dict() for step in run.done]}
        told |= {"proven": proven(run.done), "not_proven": not_proven(run.done)}
        show_json({**told, "transcript": said} if transcript else told)
    else:
        if transcript:
            click.echo("\n".join(f"{'→' if one['who'] == 'client' else '←'} {one['line']}" for one in said))
        click.secho("The setup works." if run.passed else "The setup does not work yet.", bold=True)
        click.echo(f"Proven: {', '.join(proven(run.done)) or 'nothing that mail needs'}.")
        if run.passed:
            click.echo(f"Not proven: {', '.join(not_proven(run.done))}.")
    if not run.passed:
        raise click.exceptions.Exit(1)
    if engine().database:
        # What waited for this proof has no reason to wait any longer.
        released, not_accepted = engine().releasing.release(via)
        if released or not_accepted:
            click.echo(f"Held messages handed over: {released} accepted, {not_accepted} not accepted.", err=as_json)


@outmail_commands.command("domain")
@click.argument("name", default="")
@click.option("--via", default=PRIMARY, show_default=True, help="The connection whose From address is meant.")
@json_option
def domain(name: str, via: str, as_json: bool) -> None:
    """Check MX, SPF, DKIM and DMARC of the From address's domain (or NAME). Exit code 1 when something is missing."""
    checks = domain_check(engine(), name, via).checks()
    done = []
    for step in steps.run(checks):
        done.append(step)
        if not as_json:
            show_step(step)
    if as_json:
        show_json({"steps": [step.to_dict() for step in done]})
    if any(step.state != "passed" for step in done):
        raise click.exceptions.Exit(1)


@outmail_commands.command("status")
@json_option
def status(as_json: bool) -> None:
    """Say which setup is in force and whether mail flows. Exit code 1 when it does not."""
    facts = _status(engine())
    if as_json:
        show_json(facts)
    else:
        for name, value in facts.items():
            value = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' '):<16} {value}")
    if facts["state"] != "working":
        raise click.exceptions.Exit(1)


def _status(found: Engine) -> dict[str, Any]:
    current = found.current(fresh=True)
    facts: dict[str, Any] = {"state": "not set up", "service": "", "source": "", "held": 0, "open_incidents": 0}
    if current is not None:
        facts["state"] = "working" if current.verified else "held"
        facts["service"], facts["source"] = current.values.service, current.source
    if found.database and not found.database.tables_missing():
        with found.database.session() as session:
            facts["held"] = store.counts(session).get(store.HELD, 0)
            incidents = alerts.open_incidents(session)
            facts["open_incidents"] = len(incidents)
            facts["incidents"] = [one.code for one in incidents]
            stops_mail = (alerts.FAILING, alerts.QUEUE, alerts.WORKER)
            if any(one.kind in stops_mail for one in incidents) and facts["state"] == "working":
                facts["state"] = "failing"
        proof = last_proof(found, current)
        facts["last_test"] = f"{proof.created_at:%Y-%m-%d %H:%M} UTC" if proof else "never"
    return facts
