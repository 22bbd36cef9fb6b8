"""What is done does not slow down what is to be done: every look of a worker is a short range of an index."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, insert, text

from flask_outmail import Mail
from flask_outmail.models import Delivery
from flask_outmail.outbox import claims, finishing, roster

from ..conftest import engine_of
from .conftest import OutboxApp

NOW = datetime.now(timezone.utc)
ROWS = 3000


@pytest.fixture
def filled(outbox_app: OutboxApp) -> tuple[Flask, Mail]:
    """Many rows that are done, few that are queued, waiting or held."""
    app, mail = outbox_app()
    states = {"accepted": ROWS, "failed": 200, "queued": 30, "waiting": 20, "held": 20}
    rows = [
        {
            "state": state,
            "message_id": f"<{state}-{number}@x>",
            "recipients": [],
            "connection": "primary",
            "due_at": NOW,
        }
        for state, count in states.items()
        for number in range(count)
    ]
    with engine_of(app).database.session() as session:
        session.execute(insert(Delivery), rows)
        session.commit()
        dialect = session.get_bind().dialect.name
        session.execute(
            text("analyze outmail_deliveries" if dialect != "mysql" else "analyze table outmail_deliveries")
        )
        session.commit()
    return app, mail


def plans(app: Flask, work: Any) -> list[tuple[str, str]]:
    """Every statement about deliveries that `work(session)` executes, with the database's plan for it."""
    seen: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "outmail_deliveries" in statement and not many and not statement.lower().startswith(("insert", "explain")):
            seen.append((statement, parameters))

    engine = app.extensions["sqlalchemy"].engine
    event.listen(engine, "before_cursor_execute", listen)
    with engine_of(app).database.session() as session:
        work(session)
        session.rollback()
    event.remove(engine, "before_cursor_execute", listen)
    found = []
    explain = "explain query plan " if engine.dialect.name == "sqlite" else "explain "
    with engine.connect() as connection:
        for statement, parameters in seen:
            lines = connection.exec_driver_sql(explain + statement, parameters).all()
            found.append((statement, "\n".join(" | ".join(map(str, line)) for line in lines)))
    return found


WORK = {
    "claim": lambda session: claims.claim(session, "me", "primary", limit=10, now=NOW),
    "promote": lambda session: claims.promote(session, now=NOW),
    "has_work": lambda session: claims.has_work(session, ["primary"], now=NOW),
    "release": lambda session: claims.release(session, "primary", limit=5, now=NOW),
    "hold": lambda session: claims.hold(session, "primary"),
    "bury": lambda session: claims.bury(session, "somebody", now=NOW),
    "bury_expired": lambda session: claims.bury_expired(session, now=NOW),
    "bury_strays": lambda session: roster.bury_strays(session, now=NOW, at_least_once=False),
    "ask_nobody": lambda session: finishing.ask_nobody(session, "primary", now=NOW),
    "is_unsettled": lambda session: claims.is_unsettled(session, "primary"),
}


@pytest.mark.parametrize("name", WORK)
def test_no_look_of_a_worker_reads_the_whole_table_or_sorts_it(filled: tuple[Flask, Mail], name: str) -> None:
    app, _ = filled
    found = plans(app, WORK[name])
    assert found
    for statement, plan in found:
        whole = r"SCAN outmail_deliveries(?! USING (COVERING )?INDEX)|Seq Scan on outmail_deliveries"
        assert not re.search(whole, plan), f"{statement}\n{plan}"
        if name in ("claim", "has_work"):
            assert "TEMP B-TREE" not in plan and "Using filesort" not in plan and "Sort " not in plan, plan
    if app.extensions["sqlalchemy"].engine.dialect.name in ("mysql", "mariadb"):
        for statement, plan in found:
            assert " ALL " not in plan.replace("|", " "), f"{statement}\n{plan}"
