"""The scenarios: each takes a field of so many messages through one kind of trouble. All end with the comparison."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from flask_outmail import auth_objects, setups
from flask_outmail.auth_objects import Draft
from flask_outmail.models import Setup
from flask_outmail.setup_values import Credential, SetupValues

from .field import Field, Report

WORKERS = 3
#: As slow as a real server: otherwise no kill would find a message under way.
SERVER_S = {"smtp.dot": 0.1, "sendMail": 0.1}
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

Scenario = Callable[[Field, int, int], Report]


def killed_workers(field: Field, messages: int, kills: int) -> Report:
    """`kill -9` of a random worker, again and again, at random moments."""
    _slow(field)
    field.start_workers(WORKERS)
    field.enqueue(messages)
    field.kill_workers(kills)
    return _end(field)


def lost_answers(field: Field, messages: int, kills: int) -> Report:
    """The network is cut after the data: sometimes the server has the message, sometimes not. 503 and 504 lie too."""
    names = {"smtp": ["smtp-dot-drop-delivered", "smtp-dot-drop-lost", "smtp-drop-before-dot"],
             "graph": ["graph-504-delivered", "graph-500-unknown-delivered", "graph-reset-delivered",
                       "graph-reset-lost", "graph-503-json", "graph-503-html"]}[field.kind]  # fmt: skip
    field.enqueue(messages)
    for _ in range(messages // 5):
        changes = {"after": field.random.randrange(3)} | ({"retry_after": 1} if field.kind == "graph" else {})
        field.server.post("faults", preset=field.random.choice(names), **changes)
    field.start_workers(WORKERS)
    field.kill_workers(kills)
    return _end(field)


def throttled(field: Field, messages: int, kills: int) -> Report:
    """A storm of 429 (Graph) or 432 (SMTP): all workers slow down together, and nothing is given up."""
    preset = {"smtp": "smtp-concurrent", "graph": "graph-429"}[field.kind]
    field.enqueue(messages)
    storms = 2 + messages // 200
    for number in range(storms):
        changes = {"retry_after": 1} if field.kind == "graph" else {}
        # Few in a row: pauses double with each, as they should.
        field.server.post("faults", preset=preset, times=6, after=number * messages // storms, **changes)
    field.start_workers(WORKERS)
    field.kill_workers(kills)
    return _end(field)


def no_tokens(field: Field, messages: int, kills: int) -> Report:
    """The token endpoint is down for a while, in three ways, and every token known by then is no longer taken."""
    _slow(field)
    field.enqueue(messages)
    field.start_workers(WORKERS)
    field.wait_for_some(messages // 4)
    field.server.clear_faults()
    for preset in ("token-503-html", "token-reset", "token-429"):
        field.server.post("faults", preset=preset, times=2, **({"retry_after": 1} if "429" in preset else {}))
    field.server.post("expire-tokens")
    field.kill_workers(kills)
    return _end(field)


def expired_secret(field: Field, messages: int, kills: int) -> Report:
    """The secret expires half-way; a person replaces it in the authentication object, and nothing needs a restart."""
    _slow(field)
    _save_setup(field, "graph", seen_revision=0)
    field.configure(OUTMAIL_SETUP=None)
    field.enqueue(messages)
    field.start_workers(WORKERS)
    field.wait_for_some(messages // 4)
    field.server.clear_faults()
    field.server.post("faults", preset="token-7000222", times=None)
    field.server.post("expire-tokens")
    field.kill_workers(kills)
    # Nothing shows when the new workers have met the refusal; the rules checked at the end hold wherever this falls.
    time.sleep(2)
    field.server.clear_faults()
    with field.engine.database.session() as session:
        auth = auth_objects.by_expiry(session)[0]
        auth_objects.edit(session, auth, _draft(field), field.engine.vault, by="bo", version=auth.version)
        row = setups.active(session)
        assert row is not None
        setups.mark_verified(row, setups.values_of(row, field.engine.vault), field.engine.vault, by="bo")
        session.commit()
    return _end(field)


def switched_setups(field: Field, messages: int, kills: int) -> Report:
    """Two revisions, one over SMTP and one over Graph, are activated in turn while mail leaves."""
    _slow(field)
    rows = [_save_setup(field, kind, seen_revision=number) for number, kind in enumerate(("smtp", "graph"))]
    field.configure(OUTMAIL_SETUP=None)
    field.enqueue(messages)
    field.start_workers(WORKERS)
    for switch in range(1000):
        if switch >= kills and field.is_settled():
            break
        with field.engine.database.session() as session:
            setups.activate(session.get_one(Setup, rows[switch % 2]), by="ann")
            session.commit()
        if switch < kills:
            field.kill_one()
        time.sleep(field.random.uniform(0.2, 1.5))
    return _end(field)


def full_disk(field: Field, messages: int, kills: int) -> Report:
    """Nothing more can be written: not by the database (SQLite), not by the spool. Then there is room again."""
    _slow(field)
    field.enqueue(messages)
    field.start_workers(WORKERS)
    for _ in range(3):
        field.wait_for_some(field.settled_count() + messages // 8)
        for worker in field.pids():
            _limit_files(worker, "1024")
        time.sleep(field.random.uniform(0.5, 2.0))
        if kills > field.report.kills:
            field.kill_one()
        for worker in field.pids():
            _limit_files(worker, "unlimited")
    return _end(field)


def clock_set_back(field: Field, messages: int, kills: int) -> Report:
    """The clock of the machine that the workers run on jumps back an hour while they work."""
    _slow(field)
    clock = field.folder / "clock"
    clock.write_text("+1h\n")
    faketime = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    field.enqueue(messages)
    field.start_workers(WORKERS, **faketime)
    field.wait_for_some(messages // 4)
    clock.write_text("+0\n")
    field.kill_workers(kills)
    return _end(field)


def restarted_database(restart: Callable[[], None]) -> Scenario:
    """The database server is killed and started again, by `restart`, while mail leaves."""

    def scenario(field: Field, messages: int, kills: int) -> Report:
        _slow(field)
        field.enqueue(messages)
        field.start_workers(WORKERS)
        for part in (1, 2, 3):
            field.wait_for_some(part * messages // 5)
            field.forget_connections()
            restart()
        field.kill_workers(kills)
        return _end(field)

    return scenario


# -- parts -----------------------------------------------------------------------------------------------------------


def _slow(field: Field) -> None:
    for endpoint, delay_s in SERVER_S.items():
        field.server.post("faults", endpoint=endpoint, delay_s=delay_s, times=None)


def _end(field: Field) -> Report:
    # A connection that failed is tried again by one worker; when that one is killed, a minute passes before the next.
    field.settle(150 + field.report.messages / 4)
    field.stop_workers()
    return field.compare()


def _draft(field: Field) -> Draft:
    facts = field.server.facts
    credential = Credential(facts["tenant"], facts["client_id"], facts["client_secret"], cloud="simulator")
    return Draft(name="Contoso mailer", credential=credential)


def _save_setup(field: Field, kind: str, *, seen_revision: int) -> int:
    """Saves a setup as the page does, verified and active; returns its id."""
    facts, vault = field.server.facts, field.engine.vault
    with field.engine.database.session() as session:
        auth = None
        values = SetupValues(
            service="smtp",
            host=facts["cloud"]["smtp_host"],
            port=facts["cloud"]["smtp_port"],
            username=facts["mailbox"],
            password=facts["smtp_password"],
            from_address=facts["mailbox"],
        )
        if kind == "graph":
            auth = auth_objects.create(session, _draft(field), vault, by="ann", limit=10)
            session.flush()
            values = SetupValues(service="microsoft365_graph", username=facts["mailbox"], from_address=facts["mailbox"])
        row = setups.save(session, values, vault, by="ann", seen_revision=seen_revision, auth_object=auth)
        setups.mark_verified(row, setups.values_of(row, vault), vault, by="ann")
        setups.activate(row, by="ann")
        session.commit()
        return row.id


def _limit_files(pid: int, size: str) -> None:
    # What a process then writes beyond `size` bytes of any file fails, as on a full disk (RLIMIT_FSIZE).
    subprocess.run(["/usr/bin/prlimit", "--pid", str(pid), f"--fsize={size}:unlimited"], timeout=10)
