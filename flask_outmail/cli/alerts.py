"""`flask outmail check` and `flask outmail alerts …`: what is wrong, and whether anybody is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from ..alert_channels import Told
from ..checking import check_due
from ..diagnosis.remedies import remedy_for
from ..errors import OutmailError
from ..models import Incident
from ..outbox import alerts
from .group import engine, json_option, outmail_commands, show_json, show_remedy


@outmail_commands.command("check")
@json_option
def check(as_json: bool) -> None:
    """Look for what is wrong without a message having failed, and tell of it. For cron, where no worker runs.

    Credentials that come to their end, mail that waits or is held, a missing worker; alerts that nobody took before,
    reminders, recoveries. Once a day (OUTMAIL_CHECK_SECONDS) each verified connection is tried too, without sending:
    a new token, a log-in. Exit code 1 when something is wrong.
    """
    for one in check_due(engine()):
        click.secho("✔ " if one.passed else "✘ ", fg="green" if one.passed else "red", nl=False, err=as_json)
        click.echo(one.words, err=as_json)
    engine().alerting.watch()
    _show_open(as_json, "Nothing is wrong.")


@outmail_commands.group("alerts", help="Alerts: what is open, and whether they arrive.")
def alerts_group() -> None: ...


@alerts_group.command("list")
@json_option
def alerts_list(as_json: bool) -> None:
    """List the open incidents. Exit code 1 when there are any."""
    _show_open(as_json, "No incident is open.")


@alerts_group.command("test")
@json_option
def alerts_test(as_json: bool) -> None:
    """Send a test alert through every channel and say what each answered. Exit code 1 unless all took it."""
    told = engine().alerting.send_test()
    if as_json:
        show_json([asdict(one) for one in told])
    else:
        _show_told(told)
    if not told or any(one.outcome != "accepted" for one in told):
        raise click.exceptions.Exit(1)


def _show_told(told: Sequence[Told]) -> None:
    for one in told:
        good = one.outcome == "accepted"
        click.secho("✔ " if good else "✘ ", fg="green" if good else "red", nl=False)
        click.echo(f"{one.channel:<10}{one.words}")
        if one.outcome == "failed":
            show_remedy(remedy_for(OutmailError("", code=one.code)))
    if not told:
        click.echo("No channel is set up: enter a failure-alert address, or set OUTMAIL_ALERT_WEBHOOK_URL.")


def _show_open(as_json: bool, none: str) -> None:
    with engine().database.session() as session:
        rows = [_facts(one) for one in alerts.open_incidents(session)]
    if as_json:
        show_json(rows)
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
