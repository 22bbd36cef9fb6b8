"""`flask outmail …`: the group that all commands belong to, and how they tell of errors, remedies and steps.

Exit codes: 0 good, 1 the thing asked about is bad, 2 wrong usage.
"""

from __future__ import annotations

import json
from typing import Any

import click
from flask.cli import AppGroup

from ..diagnosis.remedies import WHO_LABELS, Remedy, remedy_for
from ..diagnosis.steps import Step
from ..engine import engine_of_current_app
from ..errors import OutmailError

_MARKS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "red"), "skipped": ("·", "white")}


engine = engine_of_current_app


class Refusal(click.ClickException):
    """Tells of an error of ours with its remedy, and ends with exit code 1."""

    def __init__(self, error: OutmailError) -> None:
        super().__init__(str(error))
        self.remedy = remedy_for(error)

    def show(self, file: Any = None) -> None:
        click.secho(f"✘ {self.message}", fg="red", err=True)
        show_remedy(self.remedy, err=True)


class OutmailGroup(AppGroup):
    """Every command in it tells an error of ours with its remedy, and ends with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OutmailError as exc:
            raise Refusal(exc) from exc


outmail_commands = OutmailGroup("outmail", help="Outbound mail: set it up, prove it, watch it.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show_json(facts: Any) -> None:
    click.echo(json.dumps(facts, indent=2))


def show_remedy(remedy: Remedy, *, err: bool = False) -> None:
    click.echo(f"    {remedy.title}", err=err)
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
