"""`flask outmail deliveries …`: what became of messages, and what a person may do about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from sqlalchemy.orm import Session

from .. import audit
from ..diagnosis.remedies import remedy_for
from ..errors import OutmailError
from ..models import Attempt, Delivery
from ..outbox import store
from ..outbox.housekeeping import Pruned
from ..outbox.states import FINAL, STATES
from .group import engine, json_option, outmail_commands, show_json, show_remedy

#: Who acts, in the activity.
_WHO = "command line"


@outmail_commands.group("deliveries", help="Messages: what became of them; try again, cancel, prune, erase.")
def deliveries() -> None: ...


@deliveries.command("list")
@click.option("--state", type=click.Choice(sorted(STATES)), default=None, help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@json_option
def deliveries_list(state: str | None, limit: int, as_json: bool) -> None:
    """List deliveries, the newest first."""
    with engine().database.session() as session:
        rows = [_facts(row) for row in store.newest(session, state=state or "", limit=limit)]
    if as_json:
        show_json(rows)
        return
    if not rows:
        click.echo("There is no such delivery." if state else "There is no delivery yet.")
    for row in rows:
        to = ", ".join(row["recipients"])
        shown = f"{to[:37]}…" if len(to) > 38 else to
        click.echo(f"{row['id']:>8}  {row['created_at'][:16]}  {row['state']:<10}  {shown:<38}  {row['subject'][:40]}")


@deliveries.command("show")
@click.argument("name")
@json_option
def deliveries_show(name: str, as_json: bool) -> None:
    """Show one delivery with its attempts. NAME is its number, or what `enqueue` gave."""
    with engine().database.session() as session:
        row = _found(store.find(session, name))
        facts = _facts(row)
        facts["attempts"] = [_attempt(one) for one in row.attempts]
    if as_json:
        show_json(facts)
        return
    tries = facts.pop("attempts")
    for key, value in facts.items():
        click.echo(f"{key.replace('_', ' '):<14} {', '.join(value) if isinstance(value, list) else value or '–'}")
    click.echo(f"{'':<14} {STATES[facts['state']]}")
    for one in tries:
        told = " · ".join(str(part) for part in (one["code"], one["reason"], one["request_id"]) if part)
        click.echo(f"  {one['number']}. {one['at'][:19]}  {one['connection']:<10}  {one['state']:<9}  {told}")
    if facts["code"] and facts["state"] != "accepted":
        show_remedy(remedy_for(OutmailError(facts["reason"], code=facts["code"], detail=facts["reason"])))


@deliveries.command("retry")
@click.argument("name")
@click.option("--may-arrive-twice", is_flag=True, help="Also one of which nobody knows whether it has arrived.")
@json_option
def deliveries_retry(name: str, may_arrive_twice: bool, as_json: bool) -> None:
    """Queue one again that was not accepted, or that waits for its time."""
    retry = partial(store.retry, may_arrive_twice=may_arrive_twice)
    _change(name, "retry", retry, "It is queued, and leaves as soon as a worker is free.", as_json)


@deliveries.command("cancel")
@click.argument("name")
@json_option
def deliveries_cancel(name: str, as_json: bool) -> None:
    """Cancel one that has not left yet, and drop its content."""
    _change(name, "cancel", store.cancel, "It is cancelled.", as_json)


def _change(name: str, action: str, change: Callable[[Session, int], object], said: str, as_json: bool) -> None:
    """Changes one delivery, and notes it among the activity."""
    with engine().database.session() as session:
        row = _found(store.find(session, name))
        change(session, row.id)
        _note(session, action, row)
        session.commit()
        facts = _facts(row)
    if as_json:
        show_json(facts)
    else:
        click.echo(said)


@deliveries.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten.")
@json_option
def deliveries_prune(dry_run: bool, as_json: bool) -> None:
    """Forget what is over its time or above a cap, as the OUTMAIL_KEEP_… and OUTMAIL_LOG_MAX_… keys say."""
    found = engine()
    total = Pruned()
    if dry_run:
        total = found.keeping.would_prune()
    else:
        for done in found.keeping.prune():
            total += done
        if total:
            told = f"{total.rows} messages, {total.bodies} contents, {total.audit} lines of activity"
            with found.database.session() as session:
                audit.record(session, who=_WHO, action="prune", object="deliveries", detail=told)
                session.commit()
    if as_json:
        show_json({"dry_run": dry_run, "messages": total.rows, "contents": total.bodies, "activity": total.audit})
        return
    verb = "Would forget" if dry_run else "Forgot"
    click.echo(f"{verb} {total.rows} messages, the contents of {total.bodies}, and {total.audit} lines of activity.")


@deliveries.command("erase")
@click.argument("address")
@json_option
def deliveries_erase(address: str, as_json: bool) -> None:
    """Take a person's ADDRESS out of the log, with subjects and contents. What has still to leave is left alone."""
    done = engine().keeping.erase(address, by=_WHO)
    if as_json:
        show_json({"anonymised": done.rows, "still_to_leave": done.waiting})
        return
    click.echo(f"Anonymised: {done.rows} messages.")
    if done.waiting:
        click.echo(f"Still to leave, and left as they are: {done.waiting}.")


def _note(session: Session, action: str, row: Delivery) -> None:
    audit.record(session, who=_WHO, action=action, object=f"delivery {row.id}")


def _found(row: Delivery | None) -> Delivery:
    if row is None:
        raise store.NotPossible("there is no such delivery")
    return row


def _facts(row: Delivery) -> dict[str, Any]:
    due_at = row.due_at.isoformat() if row.due_at and row.state not in FINAL else None
    return {
        "id": row.id,
        "delivery_id": row.uid,
        "state": row.state,
        "connection": row.connection,
        "recipients": list(row.recipients or []),
        "subject": row.subject,
        "message_id": row.message_id,
        "created_at": row.created_at.isoformat(),
        "due_at": due_at,
        "attempt_count": row.attempt_count,
        "code": row.code,
        "reason": row.reason,
    }


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "number": one.number,
        "at": one.at.isoformat(),
        "connection": one.connection,
        "state": one.state,
        "code": one.code,
        "reason": one.reason,
        "request_id": one.request_id,
        "elapsed_s": one.elapsed_s,
    }
