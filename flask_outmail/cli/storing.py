"""`flask outmail init-db`, `keys …` and `auth …`: what is stored, and what encrypts it."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import rekeying, vault
from ..auth_objects import by_expiry, usage
from ..models import utc_now
from .group import engine, json_option, outmail_commands, show_json


@outmail_commands.command("init-db")
@click.option("--wal/--no-wal", default=True, help="Let an SQLite file be read while it is written (the default).")
@json_option
def init_db(wal: bool, as_json: bool) -> None:
    """Create the tables, or bring those of an earlier version up to this one. Rows stay as they are."""
    added = engine().database.create_tables()
    wal_is_new = wal and engine().database.use_wal()
    if as_json:
        show_json({"added": added, "switched_to_wal": wal_is_new})
        return
    for name in added:
        click.echo(f"Added {name}")
    if wal_is_new:
        click.echo("Switched the SQLite file to its write-ahead log.")
    click.echo("The tables are there.")


@outmail_commands.group("keys", help="Keys that encrypt stored secrets.")
def keys() -> None: ...


@keys.command("generate")
def generate() -> None:
    """Print a new key for OUTMAIL_ENCRYPTION_KEYS."""
    click.echo(vault.generate_key())


@keys.command("rotate")
@json_option
def rotate(as_json: bool) -> None:
    """Encrypt everything stored with the newest key, so that older ones may be removed. May be run again."""
    tables: dict[str, rekeying.Done] = {}
    for one in rekeying.rotate(engine()):
        tables[one.table] = one
        if not as_json and (one.done_count == one.total_count or one.done_count % 100 == 0):
            click.echo(f"{one.table:<28} {one.done_count} of {one.total_count}")
    lost = sum(one.unreadable_count for one in tables.values())
    if as_json:
        show_json([asdict(one) for one in tables.values()])
    elif not lost:
        click.echo("Everything is encrypted with the newest key." if tables else "Nothing needed to be done.")
    if lost:
        click.secho(f"{lost} values cannot be read with any key and were left as they are.", fg="red", err=True)
        raise click.exceptions.Exit(1)


@outmail_commands.group("auth", help="Authentication objects.")
def auth() -> None: ...


@auth.command("list")
@json_option
def auth_list(as_json: bool) -> None:
    """List the authentication objects, the one that expires first at the top. Never shows a secret."""
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
                "used_by": len(in_use.get(row.id, ())),
            }
            for row in by_expiry(session)
        ]
    if as_json:
        show_json(rows)
        return
    if not rows:
        click.echo("There is no authentication object yet.")
    for row in rows:
        ends = f"{row['days_left']} days left" if row["expires_on"] else "no expiry date given"
        click.echo(f"{row['name']:<32} {row['tenant']:<38} {row['credential']:<12} {ends:<22} used by {row['used_by']}")
