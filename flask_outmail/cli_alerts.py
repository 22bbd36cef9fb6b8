"""`flask outmail check` and `flask outmail alerts …`: what is wrong, and whether anybody is told."""

from __future__ import annotations

import json
from typing import Any

import click
from flask.cli import with_appcontext

from .checking import check_due
from .cli import Refusal, engine, outmail_commands, show_remedy
from .diagnosis.remedies import remedy_for
from .errors import OutmailError
from .models import Incident
from .outbox import alerts


@outmail_commands.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def check(as_json: bool) -> None:
    """Look for what is wrong without a message having failed, and tell of it. For cron, where no worker runs.

    Credentials that come to their end, mail that waits or is held, a missing worker; alerts that nobody took before,
    reminders, recoveries. Once a day (OUTMAIL_CHECK_SECONDS) each verified connection is tried too, without sending:
    a new token, a log-in. Exit code 1 when something is wrong.
    """
    try:
        for one in check_due(engine()):
            click.secho("✔ " if one.passed else "✘ ", fg="green" if one.passed else "red", nl=False, err=as_json)
            click.echo(one.words, err=as_json)
        engine().alerting.watch()
    except OutmailError as exc:
        raise Refusal(exc) from exc
    _show_open(as_json, "Nothing is wrong.")


@outmail_commands.group("alerts", help="Alerts: what is open, and whether they arrive.")
def alerts_group() -> None: ...


@alerts_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def alerts_list(as_json: bool) -> None:
    """List the open incidents. Exit code 1 when there are any."""
    _show_open(as_json, "No incident is open.")


@alerts_group.command("test")
@with_appcontext
def alerts_test() -> None:
    """Send a test alert through every channel and say what each answered. Exit code 1 unless all took it."""
    told = engine().alerting.send_test()
    for one in told:
        good = one.outcome == "accepted"
        click.secho("✔ " if good else "✘ ", fg="green" if good else "red", nl=False)
        click.echo(f"{one.channel:<10}{one.words}")
        if one.outcome == "failed":
            show_remedy(remedy_for(OutmailError("", code=one.code)))
    if not told:
        click.echo("No channel is set up: enter a failure-alert address, or set OUTMAIL_ALERT_WEBHOOK_URL.")
    if not told or any(one.outcome != "accepted" for one in told):
        raise click.exceptions.Exit(1)


def _show_open(as_json: bool, none: str) -> None:
    try:
        with engine().database.session() as session:
            rows = [_facts(one) for one in alerts.open_incidents(session)]
    except OutmailError as exc:
        raise Refusal(exc) from exc
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo(none)
    else:
        for row in rows:
            click.secho("✘ ", fg="red", nl=False)
            click.echo(f"{row['title']} ({row['about']}, code {row['code']})")
            known = f", known to {row['acknowledged_by']}" if row["acknowledged_by"] else ""
            since = row["opened_at"][:16].replace("T", " ")
            click.echo(f"    since {since} UTC, {row['count']} so far, {row['alert']}{known}")
    if rows:
        raise click.exceptions.Exit(1)


def _facts(row: Incident) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "about": row.about or row.connection,
        "code": row.code,
        "title": alerts.remedy_of(row).title,
        "count": row.count,
        "opened_at": row.opened_at.isoformat(),
        "alert": row.alert or "not told yet",
        "acknowledged_by": row.acknowledged_by,
    }
