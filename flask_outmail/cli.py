"""`flask outmail …`. Exit codes: 0 good, 1 the thing asked about is bad, 2 wrong usage."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext

from . import rekeying, vault
from .auth_objects import by_expiry, usage
from .diagnosis import steps
from .diagnosis.remedies import WHO_LABELS, Remedy, remedy_for
from .diagnosis.report import not_proven, proven
from .diagnosis.steps import Step
from .engine import Engine
from .envelope import Receipt
from .errors import ConfigurationError, OutmailError
from .message import Message
from .models import utc_now
from .outbox import alerts, store
from .proving import domain_check, last_proof, trial
from .settings import PRIMARY
from .working import run_worker

outmail_commands = AppGroup("outmail", help="Outbound mail: set it up, prove it, watch it.")

_MARKS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "red"), "skipped": ("·", "white")}


class Refusal(click.ClickException):
    """Tells of an error of ours with its remedy, and ends with exit code 1."""

    def __init__(self, error: OutmailError) -> None:
        super().__init__(str(error))
        self.remedy = remedy_for(error)

    def show(self, file: Any = None) -> None:
        click.secho(f"✘ {self.message}", fg="red", err=True)
        show_remedy(self.remedy, err=True)


def engine() -> Engine:
    found: Engine = current_app.extensions["outmail"]
    return found


def show_remedy(remedy: Remedy, *, err: bool = False) -> None:
    click.echo(f"    {remedy.title}", err=err)
    if remedy.meaning:
        click.echo(f"    {remedy.meaning}", err=err)
    for number, step in enumerate(remedy.steps, 1):
        click.echo(f"      {number}. {step}", err=err)
    click.echo(f"    Who: {WHO_LABELS[remedy.who]} · Code: {remedy.code}", err=err)


def show_step(step: Step) -> None:
    mark, colour = _MARKS[step.state]
    took = "" if step.state == "skipped" else f"{step.elapsed_s * 1000:6.0f} ms"
    click.secho(f"{mark} ", fg=colour, nl=False)
    click.echo(f"{step.title:<52} {step.state:<8}{took}")
    if step.seen:
        click.echo(f"    {step.seen}")
    if step.remedy is not None:
        show_remedy(step.remedy)


@outmail_commands.command("init-db")
@click.option("--wal/--no-wal", default=True, help="Let an SQLite file be read while it is written (the default).")
@with_appcontext
def init_db(wal: bool) -> None:
    """Create the tables, or bring those of an earlier version up to this one. Rows stay as they are."""
    try:
        added = engine().database.create_tables()
        wal_is_new = wal and engine().database.use_wal()
    except OutmailError as exc:
        raise Refusal(exc) from exc
    for name in added:
        click.echo(f"Added {name}")
    if wal_is_new:
        click.echo("Switched the SQLite file to its write-ahead log.")
    click.echo("The tables are there.")


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
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON.")
@with_appcontext
def test(to: str, via: str, foreign_mailbox: str, transcript: bool, as_json: bool) -> None:
    """Prove the setup in force, step by step. Sends nothing without --to."""
    try:
        run = trial(engine(), via, by="command line", test_message_to=to, foreign_mailbox=foreign_mailbox)
    except OutmailError as exc:
        raise Refusal(exc) from exc
    for step in run.steps():
        if not as_json:
            show_step(step)
    said = [{"who": who, "line": line} for who, line in run.transcript]
    if as_json:
        told: dict[str, Any] = {"passed": run.passed, "steps": [step.to_dict() for step in run.done]}
        told |= {"proven": proven(run.done), "not_proven": not_proven(run.done)}
        click.echo(json.dumps({**told, "transcript": said} if transcript else told, indent=2))
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
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON.")
@with_appcontext
def domain(name: str, via: str, as_json: bool) -> None:
    """Check MX, SPF, DKIM and DMARC of the From address's domain (or NAME). Exit code 1 when something is missing."""
    try:
        checks = domain_check(engine(), name, via).checks()
    except OutmailError as exc:
        raise Refusal(exc) from exc
    done = []
    for step in steps.run(checks):
        done.append(step)
        if not as_json:
            show_step(step)
    if as_json:
        click.echo(json.dumps({"steps": [step.to_dict() for step in done]}, indent=2))
    if any(step.state != "passed" for step in done):
        raise click.exceptions.Exit(1)


@outmail_commands.command("send")
@click.option("--to", "recipients", multiple=True, required=True, metavar="ADDRESS", help="May be repeated.")
@click.option("--subject", default="Message from the command line", show_default=True)
@click.option("--text", default="", help="The text; read from standard input when left out.")
@click.option("--from", "sender", default=None, metavar="ADDRESS", help="Default: the setup's own From address.")
@click.option("--via", default="", help="The connection to use. Default: what the rules say.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
@with_appcontext
def send(recipients: tuple[str, ...], subject: str, text: str, sender: str | None, via: str, as_json: bool) -> None:
    """Send one message."""
    body = text or sys.stdin.read()
    try:
        receipt = engine().deliver(Message(subject, list(recipients), body, sender=sender), via=via)
    except OutmailError as exc:
        raise Refusal(exc) from exc
    if as_json:
        click.echo(json.dumps(_receipt_facts(receipt), indent=2))
    elif receipt.queued:
        click.echo(f"Queued as {receipt.delivery_id}; a worker hands it over. Message-ID {receipt.message_id}")
    elif receipt.is_suppressed:
        click.echo(f"Held back: {', '.join(receipt.suppressed)} may not receive mail from here.")
    else:
        click.echo(f"Accepted by {receipt.transport} in {receipt.elapsed_s:.2f} s. Message-ID {receipt.message_id}")
    for address, refusal in receipt.refused.items():
        click.secho(f"Refused: {address} ({refusal.code} {refusal.text})", fg="red", err=True)
    if receipt.refused:
        raise click.exceptions.Exit(1)


def _receipt_facts(receipt: Receipt) -> dict[str, Any]:
    return {
        "accepted": receipt.accepted,
        "queued": receipt.queued,
        "suppressed": list(receipt.suppressed),
        "delivery_id": receipt.delivery_id,
        "message_id": receipt.message_id,
        "transport": receipt.transport,
        "connection": receipt.connection,
        "request_id": receipt.request_id,
        "elapsed_s": round(receipt.elapsed_s, 3),
        "refused": {address: [refusal.code, refusal.text] for address, refusal in receipt.refused.items()},
    }


@outmail_commands.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def status(as_json: bool) -> None:
    """Say which setup is in force and whether mail flows. Exit code 1 when it does not."""
    try:
        facts = _status(engine())
    except OutmailError as exc:
        raise Refusal(exc) from exc
    if as_json:
        click.echo(json.dumps(facts, indent=2))
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


@outmail_commands.command("worker")
@click.option("--once", is_flag=True, help="End when nothing can leave now.")
@click.option("--drain", is_flag=True, help="End when everything is settled, after retries too.")
@click.option("--concurrency", type=click.IntRange(min=1), default=None, help="At most so many messages at a time.")
@with_appcontext
def worker(once: bool, drain: bool, concurrency: int | None) -> None:
    """Hand over what is queued, until Ctrl-C or SIGTERM. Any number may run.

    The first signal lets it finish what is under way, the second ends it at once.
    """
    try:
        if engine().database.tables_missing():
            raise ConfigurationError("the tables are missing: run `flask outmail init-db`", code="tables_missing")
        accepted = run_worker(engine(), once=once, drain=drain, concurrency=concurrency or 0)
    except OutmailError as exc:
        raise Refusal(exc) from exc
    click.echo(f"Messages accepted: {accepted}.")


@outmail_commands.command("simulator", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.pass_context
def simulator(context: click.Context) -> None:
    """Run the local Microsoft 365 until Ctrl-C. Options: --directory, --https-port, --smtp-port, --web-port …"""
    from .simulator import main

    raise click.exceptions.Exit(main(context.args) or 0)


@outmail_commands.group("keys", help="Keys that encrypt stored secrets.")
def keys() -> None: ...


@keys.command("generate")
def generate() -> None:
    """Print a new key for OUTMAIL_ENCRYPTION_KEYS."""
    click.echo(vault.generate_key())


@keys.command("rotate")
@with_appcontext
def rotate() -> None:
    """Encrypt everything stored with the newest key, so that older ones may be removed. May be run again."""
    unreadable: dict[str, int] = {}
    try:
        last = ""
        for one in rekeying.rotate(engine()):
            unreadable[one.table] = one.unreadable_count
            if one.done_count == one.total_count or one.done_count % 100 == 0:
                click.echo(f"{one.table:<28} {one.done_count} of {one.total_count}")
            last = one.table
    except OutmailError as exc:
        raise Refusal(exc) from exc
    lost = sum(unreadable.values())
    if lost:
        click.secho(f"{lost} values cannot be read with any key and were left as they are.", fg="red", err=True)
        raise click.exceptions.Exit(1)
    click.echo("Everything is encrypted with the newest key." if last else "Nothing needed to be done.")


@outmail_commands.group("auth", help="Authentication objects.")
def auth() -> None: ...


@auth.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def auth_list(as_json: bool) -> None:
    """List the authentication objects, the one that expires first at the top. Never shows a secret."""
    try:
        with engine().database.session() as session:
            in_use = usage(session)
            rows = [
                {
                    "name": row.name,
                    "tenant": row.tenant,
                    "client_id": row.client_id,
                    "credential": row.credential_words.removeprefix("client "),
                    "expires_on": row.expires_on.isoformat() if row.expires_on else None,
                    "days_left": row.days_left(utc_now().date()),
                    "used_by": in_use.get(row.id, 0),
                }
                for row in by_expiry(session)
            ]
    except OutmailError as exc:
        raise Refusal(exc) from exc
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("There is no authentication object yet.")
    for row in rows:
        ends = f"{row['days_left']} days left" if row["expires_on"] else "no expiry date given"
        click.echo(f"{row['name']:<32} {row['tenant']:<38} {row['credential']:<12} {ends:<22} used by {row['used_by']}")


# Further commands, in a file of their own; importing it is what adds them.
from . import cli_alerts, cli_deliveries  # noqa: E402, F401
