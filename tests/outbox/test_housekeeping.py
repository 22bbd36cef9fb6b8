"""What the log forgets, what it must never touch, and what it gives again: on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, select

from flask_outmail import Mail
from flask_outmail.errors import InvalidMessage
from flask_outmail.models import Attempt, AuditEntry, Delivery
from flask_outmail.outbox import housekeeping, log, resending
from flask_outmail.outbox.log import Filters
from flask_outmail.outbox.resending import Bulk
from flask_outmail.outbox.spool import Entry
from flask_outmail.outbox.store import NotPossible
from flask_outmail.simulator import Simulator

from ..conftest import engine_of, make_message
from .conftest import OutboxApp, commit, rows, states, work

NOW = datetime.now(timezone.utc).replace(microsecond=0)


@pytest.fixture
def shop(outbox_app: OutboxApp) -> tuple[Flask, Mail]:
    return outbox_app()


def fill(app: Flask, *lines: dict[str, Any]) -> list[int]:
    """Rows as they stand in the log after some days; `days` is their age."""
    with engine_of(app).database.session() as session:
        ids = []
        for number, line in enumerate(lines):
            line = {"state": "accepted", "days": 0, **line}
            at = NOW - timedelta(days=line.pop("days"), seconds=-number)
            values = {"message_id": f"<{number}@x>", "recipients": ["ann@customers.example"], "created_at": at}
            row = Delivery(**{**values, "updated_at": at, **line})
            row.attempts.append(Attempt(number=1, state="accepted", at=at))
            session.add(row)
            session.flush()
            ids.append(row.id)
        session.commit()
    return ids


def prune(app: Flask) -> housekeeping.Pruned:
    total = housekeeping.Pruned()
    for done in engine_of(app).keeping.prune():
        total += done
    return total


def stored(app: Flask) -> dict[int, bool]:
    """Which rows are there, and whether their content is."""
    with engine_of(app).database.session() as session:
        return {row.id: row.has for row in session.execute(
            select(Delivery.id, Delivery.content_sealed.is_not(None).label("has")).order_by(Delivery.id)
        )}  # fmt: skip


# -- pruning ---------------------------------------------------------------------------------------------------------


def test_each_kind_is_forgotten_after_its_own_time_with_its_attempts(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    kinds = {"accepted": 90, "refused": 180, "failed": 180, "unknown": 365, "cancelled": 30, "suppressed": 30}
    old = fill(app, *({"state": state, "days": days + 1} for state, days in kinds.items()))
    young = fill(app, *({"state": state, "days": days - 1} for state, days in kinds.items()))
    assert engine_of(app).keeping.would_prune().rows == len(old)
    assert list(stored(app)) == [*old, *young]
    assert prune(app).rows == len(old)
    assert list(stored(app)) == young
    with engine_of(app).database.session() as session:
        assert set(session.scalars(select(Attempt.delivery_id))) == set(young)


def test_what_has_still_to_leave_is_never_touched_however_old(outbox_app: OutboxApp) -> None:
    app, _ = outbox_app(OUTMAIL_LOG_MAX_ROWS=1, OUTMAIL_LOG_MAX_BYTES=0)
    facts = {"days": 4000, "content_sealed": b"sealed", "size_bytes": 10**6}
    waiting = [{"state": state, **facts} for state in ("queued", "waiting", "held", "claimed")]
    asked = {"state": "unknown", "due_at": NOW, **facts}
    kept = fill(app, *waiting, asked)
    prune(app)
    assert stored(app) == dict.fromkeys(kept, True)
    assert engine_of(app).keeping.erase("ann@customers.example", by="anna") == housekeeping.Erased(0, 5, kept[-1])
    assert stored(app) == dict.fromkeys(kept, True)


def test_a_message_that_waited_long_is_kept_from_when_it_was_settled(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    kept = fill(app, {"days": 200, "updated_at": NOW})
    assert not prune(app)
    assert list(stored(app)) == kept


def test_contents_go_before_the_lines_that_tell_of_them(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    body = {"content_sealed": b"sealed"}
    first, second, third = fill(
        app, {"state": "failed", "days": 15, **body}, {"state": "failed", "days": 13, **body}, {"days": 1, **body}
    )
    assert prune(app) == housekeeping.Pruned(0, 2, 0)
    assert stored(app) == {first: False, second: True, third: False}


def test_above_the_caps_the_oldest_settled_ones_go_first(outbox_app: OutboxApp) -> None:
    app, _ = outbox_app(OUTMAIL_LOG_MAX_ROWS=3, OUTMAIL_LOG_MAX_BYTES=250)
    body = {"state": "failed", "content_sealed": b"sealed", "size_bytes": 100}
    ids = fill(app, *({"days": 9 - number, **body} for number in range(6)))
    prune(app)
    assert stored(app) == {ids[3]: False, ids[4]: True, ids[5]: True}


def test_what_has_still_to_leave_stays_whole_although_it_is_above_the_cap(outbox_app: OutboxApp) -> None:
    app, _ = outbox_app(OUTMAIL_LOG_MAX_BYTES=250)
    body = {"content_sealed": b"sealed", "size_bytes": 1000}
    ids = fill(app, {"state": "failed", **body}, {"state": "queued", **body}, {"state": "held", **body})
    prune(app)
    assert stored(app) == {ids[0]: False, ids[1]: True, ids[2]: True}


def test_a_child_does_not_point_to_a_row_that_is_gone(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    [parent] = fill(app, {"days": 100})
    fill(app, {"parent_id": parent})
    prune(app)
    assert [row.parent_id for row in rows(app)] == [None]


def test_contents_are_kept_where_that_is_asked_for_and_only_there(outbox_app: OutboxApp, simulator: Simulator) -> None:
    app, mail = outbox_app(OUTMAIL_KEEP_BODIES_DAYS=3)
    mail.send(make_message())
    assert work(app) == 1
    assert list(stored(app).values()) == [True]
    with engine_of(app).database.session() as session:
        session.execute(Delivery.__table__.update().values(created_at=NOW - timedelta(days=4), updated_at=NOW - timedelta(days=4)))  # type: ignore[attr-defined]  # fmt: skip  # noqa: E501
        session.commit()
    prune(app)
    assert list(stored(app).values()) == [False]


def test_without_that_an_accepted_message_keeps_no_content(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    mail.send(make_message())
    work(app)
    assert list(stored(app).values()) == [False]


def test_the_log_has_an_end_without_a_worker(outbox_app: OutboxApp) -> None:
    app, mail = outbox_app()
    fill(app, {"days": 100}, {"days": 1})
    keeping = engine_of(app).keeping
    mail.send(make_message())
    assert len(rows(app)) == 3, "it is not time yet"
    keeping._due_at = 0.0
    mail.send(make_message())
    assert [row.state for row in rows(app)] == ["accepted", "queued", "queued"]


def test_a_transaction_of_the_application_is_not_held_up(shop: tuple[Flask, Mail]) -> None:
    app, mail = shop
    fill(app, {"days": 100})
    mail.enqueue(make_message())  # takes SQLite's lock
    engine_of(app).keeping._due_at = 0.0
    engine_of(app).keeping.now_and_then()
    commit(app)
    assert states(app) == ["queued"]


# -- erasing ---------------------------------------------------------------------------------------------------------


def everything(app: Flask) -> str:
    """All that the log holds, as text."""
    with engine_of(app).database.session() as session:
        tables = (Delivery.__table__, Attempt.__table__, AuditEntry.__table__)
        return "\n".join(str(dict(row._mapping)) for table in tables for row in session.execute(select(table)))


def test_a_person_is_erased_everywhere_and_others_stay(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    body = {"content_sealed": b"sealed", "reason": "550 ann@customers.example unknown", "state": "refused"}
    hers, shared, his = fill(
        app,
        {
            "subject": "Dear Ann",
            "recipients": ["Ann@Customers.example"],
            "key": "welcome-ann@customers.example",
            **body,
        },
        {"subject": "Dear both", "recipients": ["ann@customers.example", "bob@customers.example"], **body},
        {"subject": "Dear Joann", "recipients": ["joann@customers.example"], "state": "refused"},
    )
    with engine_of(app).database.session() as session:
        said = {"ann@customers.example": [550, "Ann is gone"], "bob@customers.example": [550, "ask Ann"]}
        session.execute(Attempt.__table__.update().values(reason="Ann", refused=said).where(Attempt.delivery_id != his))  # type: ignore[attr-defined]
        session.commit()
    done = engine_of(app).keeping.erase("ANN@customers.example", by="anna")
    assert (done.rows, done.waiting) == (2, 0)
    left = everything(app)
    assert "Ann" not in left and "'ann@" not in left and "-ann@" not in left
    assert [row.recipients for row in rows(app)] == [
        ["(erased)"], ["(erased)", "bob@customers.example"], ["joann@customers.example"]
    ]  # fmt: skip
    assert stored(app) == {hers: False, shared: False, his: False}
    assert rows(app)[2].subject == "Dear Joann"


@pytest.mark.parametrize("address", ["a_n@customers.example", "a%@customers.example", "jörg@kunden.example"])
def test_characters_that_searches_treat_in_a_special_way_are_only_themselves(
    shop: tuple[Flask, Mail], address: str
) -> None:
    app, _ = shop
    fill(app, {"recipients": [address]}, {"recipients": ["ann@customers.example"]})
    assert engine_of(app).keeping.erase(address, by="").rows == 1
    assert [row.recipients for row in rows(app)] == [["(erased)"], ["ann@customers.example"]]


def test_a_domain_outside_ascii_is_found_as_it_is_written(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    fill(app, {"recipients": ["ann@xn--bcher-kva.example"]})
    assert engine_of(app).keeping.erase("ann@bücher.example", by="").rows == 1


def test_an_outcome_that_waits_in_the_spool_is_anonymised_and_a_message_there_is_counted(
    outbox_app: OutboxApp, tmp_path: Path
) -> None:
    app, _ = outbox_app(OUTMAIL_SPOOL_DIR=str(tmp_path / "spool"))
    spool = engine_of(app).queueing.spool
    facts = {"reason": "Ann", "refused": {"ann@customers.example": [550, "Ann"]}, "again": []}
    spool.put(Entry("one", "verdict", facts))
    spool.put(Entry("two", "delivery", {"recipients": ["ann@customers.example"]}, b"sealed"))
    spool.put(Entry("six", "verdict", {"reason": "Bob", "refused": {}, "again": []}))
    assert housekeeping.erase_spool(spool, "ann@customers.example") == 1
    left = {entry.name: json.dumps(entry.facts) for entry in spool.entries()}
    assert "Ann" not in left["one"] and "ann@" not in left["one"] and "ann@" in left["two"]
    assert "Bob" in left["six"]


def test_what_is_no_address_erases_nothing(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    fill(app, {})
    for text in ("", "ann", "@", "%"):
        with pytest.raises(InvalidMessage):
            engine_of(app).keeping.erase(text, by="")
    assert "ann@customers.example" in everything(app)


# -- sending again ---------------------------------------------------------------------------------------------------


def resend(app: Flask, row_id: int, **how: Any) -> Any:
    engine = engine_of(app)
    with engine.database.session() as session:
        queued = resending.resend(session, engine.vault, row_id, **{"once": "x", **how})
        session.commit()
    return queued


def fail_one(app: Flask, mail: Mail, simulator: Simulator, preset: str = "smtp-rcpt-550", **changes: Any) -> None:
    simulator.faults.preset(preset, recipient="ann@customers.example")
    mail.send(make_message(**changes))
    work(app)


def test_a_refused_message_goes_again_as_a_delivery_of_its_own_once(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    fail_one(app, mail, simulator)
    [old] = rows(app)
    assert [resend(app, old.id).is_new for _ in range(3)] == [True, False, False]
    assert work(app) == 1
    old, new = rows(app)
    assert (old.state, new.state, new.parent_id, new.origin) == ("refused", "accepted", old.id, "resent")
    assert [one.recipient for one in simulator.delivered] == ["ann@customers.example"]


def test_another_recipient_gets_it_alone_and_the_headers_say_so(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    fail_one(app, mail, simulator)
    resend(app, rows(app)[0].id, to="me@contoso.example")
    assert work(app) == 1
    [arrived] = simulator.delivered
    assert (arrived.recipient, arrived.parsed["To"]) == ("me@contoso.example", "me@contoso.example")
    old, new = (row.message_id.partition("@")[0] for row in rows(app))
    assert old != new == arrived.parsed["Message-ID"].partition("@")[0]


def test_an_unknown_one_goes_again_only_when_that_is_said(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    simulator.faults.lose_answer("smtp.dot")
    mail.send(make_message())
    work(app)
    [old] = rows(app)
    with pytest.raises(NotPossible) as caught:
        resend(app, old.id)
    assert caught.value.code == "may_arrive_twice"
    assert resend(app, old.id, may_arrive_twice=True).is_new
    assert rows(app)[1].message_id == old.message_id, "so that its server may find the two to be one"


def test_without_content_and_while_it_waits_it_says_why_not(shop: tuple[Flask, Mail], simulator: Simulator) -> None:
    app, mail = shop
    mail.send(make_message())
    [queued] = rows(app)
    with pytest.raises(NotPossible, match="queued"):
        resend(app, queued.id)
    work(app)
    with pytest.raises(NotPossible, match="not stored"):
        resend(app, queued.id)
    with pytest.raises(NotPossible, match="no such"):
        resend(app, 17000)


def test_a_bulk_sends_each_once_however_often_and_by_whomever_the_button_is_pressed(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    engine = engine_of(app)
    for number in range(4):
        fail_one(app, mail, simulator, subject=f"Order {number}")
    code = rows(app)[0].code
    bulk = Bulk(("refused",), code=code, since=NOW - timedelta(minutes=1))
    with engine.database.session() as session:
        shown = resending.preview(session, bulk, examples=2)
    assert (shown.count, shown.gone, [one.subject for one in shown.examples]) == (4, 0, ["Order 3", "Order 2"])
    fail_one(app, mail, simulator, subject="later")
    bulk = Bulk(("refused",), code=code, last_id=shown.last_id)
    with engine.database.session() as first, engine.database.session() as second:
        ids = first.scalars(select(Delivery.id).where(bulk.condition())).all()
        assert len(ids) == 4
        assert resending.resend_bulk(first, engine.vault, bulk, limit=3) == 3
        first.commit()
        assert resending.resend_bulk(second, engine.vault, bulk, limit=500) == 1
        second.commit()
        assert resending.resend_bulk(first, engine.vault, bulk, limit=500) == 0
    assert work(app) == 4
    assert sorted(one.parsed["Subject"] for one in simulator.delivered) == [f"Order {number}" for number in range(4)]


def test_a_bulk_takes_what_was_chosen_and_no_unknown_one_without_consent(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    engine = engine_of(app)
    fail_one(app, mail, simulator)
    made_at = rows(app)[0].created_at
    chosen = {
        Bulk(("refused",), connection="primary"): 1,
        Bulk(("refused",), connection="billing"): 0,
        Bulk(("refused",), until=made_at): 0,
        Bulk(("refused",), until=made_at + timedelta(seconds=1)): 1,
    }
    with engine.database.session() as session:
        assert [resending.preview(session, one).count for one in chosen] == list(chosen.values())
        with pytest.raises(NotPossible) as caught:
            resending.resend_bulk(session, engine.vault, Bulk(("unknown",)), limit=5)
    assert caught.value.code == "may_arrive_twice"


def test_a_copy_in_bulk_is_made_once_even_if_two_have_found_the_row(
    shop: tuple[Flask, Mail], simulator: Simulator
) -> None:
    app, mail = shop
    engine = engine_of(app)
    fail_one(app, mail, simulator)
    with engine.database.session() as session:
        row = session.get_one(Delivery, rows(app)[0].id)
        made = [resending._copy(session, engine.vault, row, key=f"bulk-{row.uid}").is_new for _ in range(2)]
        session.commit()
    assert made == [True, False] and len(rows(app)) == 2


# -- pages and export ------------------------------------------------------------------------------------------------


def walk(app: Flask, filters: Filters, **how: Any) -> list[int]:
    """The numbers of all rows, page by page to the end and back to the beginning, which must be the same."""
    with engine_of(app).database.session() as session:
        page = log.page(session, filters, **how)
        seen = [row.id for row in page.rows]
        while page.older is not None:
            page = log.page(session, filters, before=page.older, **how)
            seen += [row.id for row in page.rows]
        back = [row.id for row in page.rows]
        while page.newer is not None:
            page = log.page(session, filters, after=page.newer, **how)
            fresh = [row.id for row in page.rows if row.id not in back]
            back = fresh + back
    assert back == seen
    return seen


@pytest.mark.parametrize("window", [3, 20_000])
def test_pages_show_each_message_once_newest_first_whatever_is_looked_for(
    shop: tuple[Flask, Mail], window: int
) -> None:
    app, _ = shop
    ids = fill(
        app,
        *(
            {
                "state": ("accepted", "failed")[number % 2],
                "code": ("", "550 5.1.1")[number % 2],
                "recipients": [f"{'ann' if number % 3 else 'bob'}@customers.example", "c@x.example"],
                "subject": f"Order {number}",
                # Several of the same moment.
                "created_at": NOW - timedelta(minutes=number // 3),
            }
            for number in range(13)
        ),
    )
    newest = sorted(ids, key=lambda one: (-((one - ids[0]) // 3), one), reverse=True)
    how = {"size": 2, "window": window}
    assert walk(app, Filters(), **how) == newest
    assert walk(app, Filters(state="failed"), **how) == [one for one in newest if (one - ids[0]) % 2]
    assert walk(app, Filters(code="550 5.1.1"), **how) == [one for one in newest if (one - ids[0]) % 2]
    assert walk(app, Filters(to="BOB@customers.example"), **how) == [one for one in newest if (one - ids[0]) % 3 == 0]
    assert walk(app, Filters(to="bo*"), **how) == [one for one in newest if (one - ids[0]) % 3 == 0]
    assert walk(app, Filters(to="ob@customers.example"), **how) == []
    assert walk(app, Filters(subject="ORDER 12"), **how) == [ids[12]]
    since, until = NOW - timedelta(minutes=2), NOW - timedelta(minutes=1)
    assert set(walk(app, Filters(since=since, until=until), **how)) == set(ids[6:9])


def test_the_first_page_is_whole_although_it_is_reached_from_below(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    ids = fill(app, *({} for _ in range(5)))
    with engine_of(app).database.session() as session:
        second = log.page(session, Filters(), before=log.page(session, Filters(), size=2).older, size=3)
        assert [row.id for row in second.rows] == ids[2::-1]
        assert second.newer is not None
        assert [row.id for row in log.page(session, Filters(), after=second.newer, size=3).rows] == ids[:1:-1]


def test_nothing_found_is_exported_as_the_names_of_the_columns(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    with engine_of(app).database.session() as session:
        text = "".join(log.csv_lines(lambda place: log.page(session, Filters(), before=place, size=3)))
    assert text.startswith("\ufeffid,") and text.count("\n") == 1


def test_cells_cannot_become_formulas(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "＠SUM(A1)"]
    fill(app, *({"subject": text} for text in evil), {"subject": "Order 17, “ä”"})
    engine = engine_of(app)

    def page(place: Any) -> log.Page:
        with engine.database.session() as session:
            return log.page(session, Filters(), before=place, size=3)

    text = "".join(log.csv_lines(page))
    import csv
    import io

    assert text.startswith("\ufeffid,")
    lines = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert {line["subject"] for line in lines} == {f"'{one}" for one in evil} | {"Order 17, “ä”"}
    assert len(lines) == len(evil) + 1


def test_the_commands_prune_and_erase_and_leave_a_line_of_it(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    fill(app, {"days": 100}, {"days": 1})

    def run(*words: str) -> str:
        result = app.test_cli_runner().invoke(args=["outmail", "deliveries", *words])
        return f"{result.exit_code} {result.output}"

    assert run("prune", "--dry-run").startswith("0 Would forget 1 messages")
    assert len(rows(app)) == 2
    assert run("prune").startswith("0 Forgot 1 messages")
    assert run("erase", "ann@customers.example").startswith("0 Anonymised: 1 messages")
    assert run("erase", "nonsense").startswith("1 ")
    with engine_of(app).database.session() as session:
        lines = session.execute(select(AuditEntry.who, AuditEntry.action, AuditEntry.detail)).all()
    assert [line[:2] for line in lines] == [("command line", "prune"), ("command line", "erase")]
    assert "ann@" not in str(lines)


def test_old_lines_of_the_activity_go_too(shop: tuple[Flask, Mail]) -> None:
    app, _ = shop
    with engine_of(app).database.session() as session:
        old = {"action": "cancel", "who": "anna", "object": "", "detail": ""}
        session.execute(insert(AuditEntry), [{**old, "at": NOW - timedelta(days=days)} for days in (800, 700)])
        session.commit()
    assert prune(app).audit == 1
