"""`flask outmail send`, `worker` and `simulator`: mail leaves."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..envelope import Receipt
from ..errors import ConfigurationError
from ..message import Message
from ..working import run_worker
from .group import engine, json_option, outmail_commands, show_json


@outmail_commands.command("send")
@click.option(
    "--to", "recipients", multiple=True, required=True, metavar="ADDRESS", help="Who receives it; may be repeated."
)
@click.option("--subject", default="Message from the command line", show_default=True, help="Its subject.")
@click.option("--text", default="", help="The text; read from standard input when left out.")
@click.option("--from", "sender", default=None, metavar="ADDRESS", help="Default: the setup's own From address.")
@click.option("--via", default="", help="The connection to use. Default: what the rules say.")
@json_option
def send(recipients: tuple[str, ...], subject: str, text: str, sender: str | None, via: str, as_json: bool) -> None:
    """Send one message."""
    body = text or sys.stdin.read()
    receipt = engine().deliver(Message(subject, list(recipients), body, sender=sender), via=via)
    if as_json:
        show_json(_receipt_facts(receipt))
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


@outmail_commands.command("worker")
@click.option("--once", is_flag=True, help="End when nothing can leave now.")
@click.option("--drain", is_flag=True, help="End when everything is settled, after retries too.")
@click.option("--concurrency", type=click.IntRange(min=1), default=None, help="At most so many messages at a time.")
def worker(once: bool, drain: bool, concurrency: int | None) -> None:
    """Hand over what is queued, until Ctrl-C or SIGTERM. Any number may run.

    The first signal lets it finish what is under way, the second ends it at once.
    """
    if engine().database.tables_missing():
        raise ConfigurationError("the tables are missing: run `flask outmail init-db`", code="tables_missing")
    accepted = run_worker(engine(), once=once, drain=drain, concurrency=concurrency or 0)
    click.echo(f"Messages accepted: {accepted}.")


@outmail_commands.command(
    "simulator",
    with_appcontext=False,
    add_help_option=False,  # its own parser knows the options
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def simulator(context: click.Context) -> None:
    """Run the local Microsoft 365 until Ctrl-C. Takes the options of `python -m flask_outmail.simulator`."""
    from ..simulator import main

    raise click.exceptions.Exit(main(context.args, prog=context.command_path))
