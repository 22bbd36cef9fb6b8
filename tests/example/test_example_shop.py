"""The shop without its mail: who may see what, and how it is configured."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from example_app import create_app
from example_app.config import SIMULATOR_FOLDER
from example_app.extensions import db
from example_app.models import Order, User
from example_app.receipt_pdf import receipt_pdf
from example_app.world import World
from flask_outmail.simulator import Simulator


def test_the_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    first = create_app({"EXAMPLE_INSTANCE": tmp_path / "new"})
    second = create_app({"EXAMPLE_INSTANCE": tmp_path / "new"})
    assert (tmp_path / "new" / "keys.json").stat().st_mode & 0o777 == 0o600
    for key in ("SECRET_KEY", "OUTMAIL_ENCRYPTION_KEYS"):
        assert first.config[key]
        assert first.config[key] == second.config[key]


def test_the_simulators_world_is_found_again_by_other_processes(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / SIMULATOR_FOLDER
    folder.mkdir()
    World.of(simulator).save(folder)
    assert (folder / "world.json").stat().st_mode & 0o777 == 0o600
    app = create_app({"EXAMPLE_INSTANCE": tmp_path})
    assert app.config["OUTMAIL_CLOUDS"] == {"simulator": simulator.cloud}
    assert app.config["OUTMAIL_CA_FILE"] == str(simulator.ca_file)
    monkeypatch.setenv("EXAMPLE_SIMULATOR", "0")
    assert "OUTMAIL_CLOUDS" not in create_app({"EXAMPLE_INSTANCE": tmp_path}).config


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"tenant": "x"})])
def test_a_damaged_memory_of_the_world_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "world.json").write_text(content)
    assert World.load(tmp_path) is None


def test_no_secret_is_in_the_repr_of_a_world(simulator: Simulator) -> None:
    shown = repr(World.of(simulator))
    assert simulator.client_secret not in shown
    assert simulator.smtp_password not in shown


@pytest.mark.parametrize("path", ["/", "/login", "/contact"])
def test_anybody_may_open(make_shop: Any, visit: Any, path: str) -> None:
    answer = visit(make_shop()).open(path)
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/orders", "/orders/1", "/books/the-lighthouse-ledger", "/simulator", "/outmail/"])
def test_a_stranger_is_led_to_the_login_and_back(make_shop: Any, visit: Any, path: str) -> None:
    answer = visit(make_shop()).open(path)
    assert answer.status_code == 302
    assert answer.location.startswith(f"/login?next={path}")


@pytest.mark.parametrize(("name", "status"), [("clara", 403), ("admin", 200)])
@pytest.mark.parametrize("path", ["/outmail/", "/simulator"])
def test_only_an_administrator_may_see_to_the_mail(
    make_shop: Any, visit: Any, name: str, status: int, path: str
) -> None:
    answer = visit(make_shop(), name).open(path)
    assert answer.status_code == status
    # The door is shut in a layout of its own; whoever is let in stands in ours.
    assert status == 403 or "Quill &amp; Page is an invented bookshop" in answer.text


def test_the_links_to_the_mail_pages_are_there_for_an_administrator_alone(make_shop: Any, visit: Any) -> None:
    app = make_shop()
    assert 'href="/outmail/"' in visit(app, "admin").open("/").text
    assert 'href="/outmail/"' not in visit(app, "clara").open("/").text


@pytest.mark.parametrize("page", ["/outmail/setup", "/outmail/auth-objects/", "/outmail/"])
def test_the_links_on_the_simulators_page_lead_somewhere(make_shop: Any, visit: Any, page: str) -> None:
    assert visit(make_shop(), "admin").open(page).status_code == 200


def test_the_simulators_values_are_shown_only_in_its_world(make_shop: Any, visit: Any, simulator: Simulator) -> None:
    there = visit(make_shop(), "admin").open("/simulator").text
    for value in (simulator.tenant, simulator.client_id, simulator.mailbox, simulator.smtp_password):
        assert value in there
    elsewhere = visit(make_shop(EXAMPLE_WORLD=None), "admin")
    assert elsewhere.open("/simulator").status_code == 404
    assert 'href="/simulator"' not in elsewhere.open("/").text


@pytest.mark.parametrize("target", ["//elsewhere.example/", "/\\elsewhere.example", "https://elsewhere.example/", "x"])
def test_the_login_leads_nobody_to_another_site(make_shop: Any, visit: Any, target: str) -> None:
    answer = visit(make_shop()).submit("/login", name="clara", password="clara", next=target)
    assert answer.location == "/"


def test_a_wrong_password_lets_nobody_in(make_shop: Any, visit: Any) -> None:
    answer = visit(make_shop()).submit("/login", name="admin", password="clara")
    assert answer.status_code == 200
    assert "do not belong together" in answer.text


def test_logging_out_ends_the_session(make_shop: Any, visit: Any) -> None:
    clara = visit(make_shop(), "clara")
    clara.submit("/logout", page="/")
    assert clara.open("/orders").status_code == 302


@pytest.mark.parametrize(
    "path",
    ["/login", "/logout", "/contact", "/books/the-lighthouse-ledger", "/books/x/remind", "/orders/1/confirmation"],
)
def test_no_form_works_without_its_token(make_shop: Any, visit: Any, path: str) -> None:
    clara = visit(make_shop(), "clara")
    answer = clara.client.post(path, data={"quantity": 1, "email": "clara@reader.example"})
    assert answer.status_code == 400


def test_other_peoples_orders_do_not_exist(make_shop: Any, visit: Any) -> None:
    app = make_shop()
    visit(app, "admin").order()
    clara = visit(app, "clara")
    assert clara.open("/orders/1").status_code == 404
    assert clara.submit("/orders/1/confirmation", page="/").status_code == 404
    assert "QP-00001" not in clara.open("/orders").text


@pytest.mark.parametrize(
    "changes",
    [{"quantity": 0}, {"quantity": "many"}, {"email": "nobody"}, {"email": "a@b.example\r\nBcc: x@y.example"}],
)
def test_an_order_with_a_slip_is_not_taken(make_shop: Any, visit: Any, changes: dict[str, Any]) -> None:
    app = make_shop()
    fields = {"quantity": 1, "email": "clara@reader.example", **changes}
    answer = visit(app, "clara").submit("/books/the-lighthouse-ledger", **fields)
    assert answer.status_code == 200
    assert "aria-invalid" in answer.text
    with app.app_context():
        assert db.session.query(Order).count() == 0


def test_a_second_start_keeps_the_users(make_shop: Any) -> None:
    for _ in range(2):
        app = make_shop()
        with app.app_context():
            assert sorted(db.session.scalars(db.select(User.name))) == ["admin", "clara"]


def test_the_receipt_is_a_sound_pdf() -> None:
    order = Order(id=7, title=r"Of (parentheses) \ and €", price_cents=100, quantity=1)
    order.ordered_on = date(2026, 11, 24)
    content = receipt_pdf(order)
    table = int(content.rsplit(b"startxref\n", 1)[1].split()[0])
    assert content[table:].startswith(b"xref\n")
    starts = [int(start) for start in re.findall(rb"^(\d{10}) 00000 n", content[table:], re.MULTILINE)]
    assert [content[start:].split(b" ", 1)[0] for start in starts] == [b"%d" % number for number in range(1, 7)]
    assert rb"Of \(parentheses\) \\ and " + "€".encode("cp1252") in content
