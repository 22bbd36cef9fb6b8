"""What the documentation shows is what works: every block of Python runs, from the top of its page to the bottom.

Each test here tells one page's story: it sets the scene that the page supposes (an application, a template, somebody
who is logged in), runs the page, and looks at what came of it. A page without a story fails.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from flask import Flask, render_template_string
from flask_sqlalchemy import SQLAlchemy
from jinja2 import DictLoader
from markdown_it import MarkdownIt

from flask_outmail import Mail, services
from flask_outmail.diagnosis import steps
from flask_outmail.diagnosis.gate import Gate
from flask_outmail.settings import Settings
from flask_outmail.setup_values import SetupValues
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, engine_of, graph_setup, make_message, smtp_setup, world
from ..contract.test_fields import signer
from .pages import PAGES, ROOT, blocks, run

#: Pages whose Python runs in a test of their own.
ELSEWHERE = {
    "docs/how-to/use-celery.md": "tests/distributed/test_celery.py",
    "docs/how-to/write-a-transport.md": "tests/docs/test_transport_guide.py",
}
STORIES: dict[str, Callable[..., None]] = {}


def story(page: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def tells(test: Callable[..., None]) -> Callable[..., None]:
        STORIES[page] = test
        return test

    return tells


def test_every_page_with_python_has_its_story() -> None:
    assert {block.page for block in blocks("", "python")} == {*STORIES, *ELSEWHERE}
    for page, file in ELSEWHERE.items():
        assert Path(page).name in (ROOT / file).read_text()


#: What stands in the documentation in other languages than those that run here or in `test_commands`, and why.
NOT_RUN = {
    "powershell": "Exchange Online PowerShell, which only a real tenant answers",
    "diff": "shows which line of an application changes; the lines after the change are read below",
    "ini": "systemd's; read below",
    "css": "what an application may set; put onto a page in tests/web/test_embedding.py",
    "text": "what programs print, and signatures; only on pages that are made by programs, and one line of a crontab",
}


def test_no_block_escapes_by_its_language() -> None:
    assert {block.page for block in blocks("", "jinja")} == {"docs/how-to/add-it-to-an-app.md"}, "run it in its story"
    run_here = {"python", "jinja", "sh", "console"}
    for block in blocks():
        assert block.language in {*run_here, *NOT_RUN, "{toctree}"}, f"{block.page}:{block.line}: {block.language!r}"
        if block.language == "text":
            made = "/reference/" in block.page or "do not edit" in (ROOT / block.page).read_text()
            assert made or block.text.startswith("*/5 * * * *"), f"{block.page}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_block_escapes_by_being_indented(page: Path) -> None:
    tokens = MarkdownIt().parse(page.read_text())
    assert [token.content for token in tokens if token.type == "code_block"] == []
    fences = [token for token in tokens if token.type == "fence"]
    assert len(fences) == len(blocks(page.relative_to(ROOT).as_posix()))


def test_what_is_not_run_can_be_read_at_least() -> None:
    from configparser import ConfigParser

    for block in blocks("", "diff"):
        assert all(line[:1] in "+- " for line in block.text.splitlines())
        ast.parse("\n".join(line[1:] for line in block.text.splitlines() if not line.startswith("-")))
    for block in blocks("", "ini"):
        ConfigParser().read_string(block.text)
    for block in blocks("", "powershell"):
        assert all(line.split("-")[0].isalpha() for line in block.text.splitlines())  # a verb, and nothing cut off


def configuration(names: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a page assigns; a secret that it leaves out (`…`) is filled in."""
    found = {name: value for name, value in names.items() if name.startswith(("OUTMAIL_", "MAIL_"))}
    assert found
    return {name: "a secret of 32 characters or so" if value == "…" else value for name, value in found.items()}


@story("README.md")
def test_the_readme_from_its_ten_lines_to_leaving_flask_mail(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    environment = {**world(simulator), "OUTMAIL_SETUP": graph_setup(simulator)}
    environment |= {"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/shop.sqlite"}
    for name, value in environment.items():
        monkeypatch.setenv(f"FLASK_{name}", json.dumps(value))
    ten_lines, sends, by_configuration, leaving = blocks("README.md", "python")

    names: dict[str, Any] = {"__name__": "shop"}
    ten_lines.run(names)
    app = names["create_app"]()
    assert app.test_cli_runner().invoke(args=["outmail", "init-db"]).exit_code == 0
    client = app.test_client()
    assert client.get("/outmail/setup").status_code == 403
    with client.session_transaction() as session:
        session["is_admin"] = True
    assert client.get("/outmail/setup").status_code == 200
    with app.app_context():
        sends.run(names)
        names["db"].engine.dispose()
    assert simulator.delivered[-1].recipient == "ann@example.com"

    by_configuration.run(names)
    in_force(make_app, configuration(names)["OUTMAIL_SETUP"])

    flask_mail = {"MAIL_SERVER": simulator.smtp_host, "MAIL_PORT": simulator.smtp_port, "MAIL_USE_TLS": True}
    flask_mail |= {"MAIL_USERNAME": simulator.mailbox, "MAIL_PASSWORD": simulator.smtp_password}
    moved = Flask("moved")
    moved.config.update(world(simulator), MAIL_DEFAULT_SENDER=simulator.mailbox, **flask_mail)
    with moved.app_context():
        leaving.run({"app": moved})
    assert simulator.delivered[-1].subject == "Hello"


@story("docs/index.md")
def test_the_first_page_sends(simulator: Simulator) -> None:
    app = Flask("shop")
    app.config.update(world(simulator), OUTMAIL_SETUP=graph_setup(simulator), SQLALCHEMY_DATABASE_URI="sqlite://")
    with app.app_context():
        run("docs/index.md", {"app": app, "db": SQLAlchemy(app)})
    assert simulator.delivered[0].subject == "Your order"


@story("docs/how-to/add-it-to-an-app.md")
def test_an_application_of_ones_own_learns_what_became_of_its_mail(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**world(simulator), "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/shop.sqlite"}.items():
        monkeypatch.setenv(f"FLASK_{name}", json.dumps(value))
    names = run("docs/how-to/add-it-to-an-app.md", {"__name__": "shop"})
    order = SimpleNamespace(number=7, email="ann@example.com")
    for setup, said in ((None, "It follows later."), (graph_setup(simulator), "It was accepted.")):
        monkeypatch.setenv("FLASK_OUTMAIL_SETUP", json.dumps(setup))
        app = names["create_app"]()
        with app.app_context():
            engine_of(app).database.create_tables()
            assert names["confirm"](order) == said
            simulator.faults.lose_answer()
            lost = names["confirm"](order)
            assert lost == (said if setup is None else "It may have arrived; we do not send it twice.")
            simulator.faults.refuse("sendMail", 403, "ErrorAccessDenied")
            assert setup is None or names["confirm"](order).startswith("It was not sent: ")
            [jinja] = blocks("docs/how-to/add-it-to-an-app.md", "jinja")
            user = {"email": "ann@example.com"}
            simulator.faults.clear()
            page = render_template_string(jinja.text, user=user).strip()
            assert page.startswith("We could not write to you: ") if setup is None else page == ""
            names["db"].engine.dispose()


@story("docs/reference/api.md")
def test_the_examples_in_docstrings_run(make_app: MakeApp) -> None:
    from flask_outmail.testing_contract import TransportContract

    app, _ = make_app()
    names = run("docs/reference/api.md", {"app": app, "pytest": pytest, "TransportContract": TransportContract})
    assert issubclass(names["TestPostbox"], TransportContract)


@story("docs/how-to/async-and-servers.md")
def test_an_async_view_answers_with_its_receipt(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator))
    run("docs/how-to/async-and-servers.md", {"app": app, "mail": mail})
    assert app.test_client().post("/invite").get_json() == {"accepted": True}


@story("docs/how-to/credentials.md")
def test_the_credentials_in_configuration_are_taken(make_app: MakeApp, tmp_path: Path) -> None:
    from flask_outmail import entra

    certificate, key = signer()
    try:
        names = run("docs/how-to/credentials.md", {})
        setup = configuration(names)["OUTMAIL_SETUP"]
        lock = serialization.BestAvailableEncryption(setup["certificate_password"].encode())
        (tmp_path / "outmail.pfx").write_bytes(
            pkcs12.serialize_key_and_certificates(b"outmail", key, certificate, None, lock)
        )
        in_force(make_app, {**setup, "certificate": str(tmp_path / Path(setup["certificate"]).name)})
        assert "cluster" in entra.token_functions()
    finally:
        entra._functions.pop("cluster", None)


def in_force(make_app: MakeApp, setup: dict[str, Any]) -> None:
    app, _ = make_app(setup)
    current = engine_of(app).current()
    assert current is not None and current.verified and current.values.username == "noreply@contoso.com"


@pytest.mark.parametrize("page", ["docs/how-to/move-from-basic-auth.md", "docs/how-to/rotate-a-secret.md"])
def test_a_setup_in_configuration_is_in_force(make_app: MakeApp, page: str) -> None:
    in_force(make_app, configuration(run(page, {}))["OUTMAIL_SETUP"])


STORIES["docs/how-to/move-from-basic-auth.md"] = test_a_setup_in_configuration_is_in_force
STORIES["docs/how-to/rotate-a-secret.md"] = test_a_setup_in_configuration_is_in_force


@story("docs/how-to/embed-the-pages.md")
def test_each_person_may_do_what_the_rule_says(make_app: MakeApp) -> None:
    app, mail = make_app(db=True)
    person = SimpleNamespace(roles={"support"})
    person.has_role = lambda role: role in person.roles
    run("docs/how-to/embed-the-pages.md", {"mail": mail, "current_user": person})
    page = app.test_client().get("/outmail/setup")
    assert page.status_code == 200 and "Test settings" not in page.text
    person.roles = {"mail-admin", "support"}
    assert "Test settings" in app.test_client().get("/outmail/setup").text
    person.roles = set()
    assert app.test_client().get("/outmail/setup").status_code == 403


@story("docs/how-to/leave-flask-mail.md")
def test_packages_that_import_flask_mail_get_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "flask_mail"]:
        monkeypatch.delitem(sys.modules, name)
    # Whatever the page puts there is taken out again.
    monkeypatch.setitem(sys.modules, "flask_mail", ModuleType("flask_mail"))
    monkeypatch.delitem(sys.modules, "flask_mail")
    run("docs/how-to/leave-flask-mail.md", {})
    assert sys.modules["flask_mail"].Mail is Mail


@story("docs/how-to/mail-from-templates.md")
def test_the_mail_welcome_leaves_by_name_and_by_class(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator))
    app.jinja_loader = DictLoader(
        {"mail/welcome.html": "<p>Hello {{ name }}</p>", "mail/welcome.de.html": "<p>Hallo {{ name }}</p>",
         "mail/welcome.subject.txt": "Welcome"}
    )  # fmt: skip
    names = run("docs/how-to/mail-from-templates.md", {"mail": mail})
    assert [(one.subject, one.text.strip()) for one in simulator.delivered] == [
        ("Welcome", "Hallo Ann"), ("Welcome, Ann", "Hello Ann")
    ]  # fmt: skip
    assert names["welcome"]().message(recipients=["ann@example.com"]).subject == "Welcome, Ann"


@story("docs/how-to/prove-a-setup.md")
def test_the_guide_to_proving_shows_each_step(
    make_app: MakeApp, simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    _, mail = make_app(graph_setup(simulator))
    names = run("docs/how-to/prove-a-setup.md", {"mail": mail})
    assert "may send as other mailboxes too" in capsys.readouterr().out
    assert names["said"]


@story("docs/how-to/run-the-worker.md")
def test_an_order_and_its_mail_are_stored_together(make_app: MakeApp, simulator: Simulator) -> None:
    app, mail = make_app(graph_setup(simulator), db=True)
    db = app.extensions["sqlalchemy"]

    class Order(db.Model):  # type: ignore[misc, name-defined]
        number = db.Column(db.Integer, primary_key=True)

    db.create_all()
    names = run("docs/how-to/run-the-worker.md", {})
    assert Settings.from_config(configuration(names)).delivery == "outbox"
    names["place_order"](db, mail, Order(number=7), make_message())
    names["remind"](db, mail, make_message())
    listed = app.test_cli_runner().invoke(args=["outmail", "deliveries", "list", "--json"])
    assert sorted(one["state"] for one in json.loads(listed.output)) == ["queued", "waiting"]


@story("docs/how-to/see-it-run.md")
def test_a_message_is_counted_and_has_its_span(make_app: MakeApp, simulator: Simulator) -> None:
    from prometheus_client import REGISTRY

    app, mail = make_app(graph_setup(simulator), db=True)
    before = set(REGISTRY._collector_to_names)
    try:
        run("docs/how-to/see-it-run.md", {"app": app})
        mail.send(make_message())
        scraped = app.test_client().get("/metrics").text
        assert 'outmail_messages_total{connection="primary",outcome="accepted"} 1.0' in scraped
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)


@story("docs/how-to/send-large-attachments.md")
def test_a_file_is_attached_by_its_path() -> None:
    message = make_message()
    run("docs/how-to/send-large-attachments.md", {"message": message})
    assert message.attachments[0].data == Path("/srv/plans/plan.pdf")


@story("docs/how-to/test-your-app.md")
def test_the_tests_that_the_guide_shows_pass(simulator: Simulator, request: pytest.FixtureRequest) -> None:
    made = []

    def create_app(config: dict[str, Any]) -> Flask:
        app = Flask("shop")
        app.config.update(config)
        mail = Mail(app)

        @app.post("/orders")
        def order() -> str:
            place_order()
            return "ordered"

        def place_order() -> None:
            message = make_message(subject="Your order 7", recipients=["ann@example.com"])
            message.body, message.html = "Thank you.", "<p>Thank you.</p>"
            message.attach("receipt.pdf", data=b"%PDF-1.7")
            mail.send(message)

        made.append(place_order)
        return app

    app = create_app({**world(simulator), "TESTING": True, "MAIL_DEFAULT_SENDER": "shop@example.com"})
    client, mail = app.test_client(), app.extensions["mail"]
    names = {"create_app": create_app, "place_order": lambda: made[-1](), "client": client, "mail": mail}
    with app.app_context():
        run("docs/how-to/test-your-app.md", names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
        test(*(client if name == "client" else request.getfixturevalue(name) for name in wanted))


@story("docs/how-to/use-several-connections.md")
def test_each_message_goes_over_the_connection_that_is_chosen(
    make_app: MakeApp, simulator: Simulator, request: pytest.FixtureRequest
) -> None:
    names: dict[str, Any] = {"current_tenant": SimpleNamespace(mail_connection=None)}
    connections, chooses, routes = blocks("docs/how-to/use-several-connections.md", "python")
    connections.run(names)
    routes.run(names)
    shown = configuration(names)
    assert set(Settings.from_config(shown).configured) == {"billing", "bulk"}

    # The same, with servers that are there, and a mailbox that may send the news. The simulator is other tests' too.
    mailbox = simulator.state.mailbox(simulator.mailbox)
    assert mailbox is not None
    simulator.state.add_mailbox(replace(mailbox, send_as=frozenset({"news@news.example.com"})))
    request.addfinalizer(lambda: simulator.state.add_mailbox(mailbox))
    here = dict.fromkeys(shown["OUTMAIL_CONNECTIONS"], smtp_setup(simulator))
    _, mail = make_app(graph_setup(simulator), **{**shown, "OUTMAIL_CONNECTIONS": here})
    chooses.run({**names, "mail": mail})
    assert mail.send(make_message()).connection == "primary"
    assert mail.send(make_message(tag="invoice")).connection == "billing"
    assert mail.send(make_message(sender="news@news.example.com")).connection == "bulk"
    names["current_tenant"].mail_connection = "bulk"
    assert mail.send(make_message()).connection == "bulk"


@story("docs/how-to/watch-it.md")
def test_alerts_reach_a_webhook_a_function_and_a_monitor(make_app: MakeApp, simulator: Simulator) -> None:
    triggered: list[str] = []
    pager = SimpleNamespace(trigger=lambda headline, details: triggered.append(headline))
    app, mail = make_app(graph_setup(simulator), db=True)
    names = run("docs/how-to/watch-it.md", {"mail": mail, "pager": pager})
    settings = Settings.from_config(configuration(names))
    assert (settings.alert_webhook_kind, bool(settings.health_token)) == ("slack", True)
    engine_of(app).alerting.send_test()
    assert triggered == ["Test alert: alerts arrive"]


@story("docs/how-to/write-a-mail-service.md")
def test_the_mail_service_of_the_guide_sends(make_app: MakeApp) -> None:
    try:
        run("docs/how-to/write-a-mail-service.md", {})
        app, mail = make_app({"service": "postbox", "host": "relay.invalid", "from_address": "shop@x.example"})
        assert mail.send(make_message()).transport == "postbox"
        *_, step = mail.diagnose()
        assert (step.title, step.state, step.code) == ("relay.invalid answers", "failed", "dns_not_found")
        on_the_page = replace(engine_of(app).environment, gate=Gate())
        inside = SetupValues(service="postbox", host="127.0.0.1", port=443)
        [step] = steps.run(services.service("postbox").plan(inside, on_the_page).checks)
        assert step.code == "address_not_allowed"
    finally:
        services._registry.pop("postbox", None)


@story("docs/how-to/write-a-message.md")
def test_the_guide_to_messages_sends_each_of_them(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.csv").write_text("a;b\n")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    _, mail = make_app(graph_setup(simulator))
    names = run("docs/how-to/write-a-message.md", {"mail": mail})
    ann = [one for one in simulator.delivered if one.recipient == "ann@example.com"]
    assert [one.subject for one in ann] == [
        "Ihre Bestellung – 17 € ✓", "Your invoice", "Welcome", "Fitting", "News", "Re: Order 17"
    ]  # fmt: skip
    names["send_signed"]("Grüße", *signer())
    assert simulator.delivered[-1].parsed.get_content_type() == "multipart/signed"
    assert names["newsletter"].envelope_from == "bounces@shop.example"


def test_the_guides_check_of_a_signature_takes_ours_and_no_other() -> None:
    from flask_outmail.outbox.webhook import signature

    [block] = [one for one in blocks("docs/how-to/watch-it.md", "python") if "def is_genuine" in one.text]
    names: dict[str, Any] = {}
    block.run(names)
    is_genuine = names["is_genuine"]
    at = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
    header, now = signature("s3cret", b'{"id": "7"}', at), at.timestamp()
    assert is_genuine("s3cret", header, b'{"id": "7"}', now=now + 60)
    assert not is_genuine("s3cret", header, b'{"id": "8"}', now=now)
    assert not is_genuine("other", header, b'{"id": "7"}', now=now)
    assert not is_genuine("s3cret", header, b'{"id": "7"}', now=now + 3600), "an old one sent again"
    for wrong in ("", "t=x,v1=y", "v1=y", header.partition(",")[0]):
        assert not is_genuine("s3cret", wrong, b'{"id": "7"}', now=now)


def test_the_guides_list_of_a_notices_fields_is_whole() -> None:
    from flask_outmail.diagnosis.remedies import remedy_for
    from flask_outmail.errors import OutmailError
    from flask_outmail.outbox.notices import Notice

    at = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
    notice = Notice.test(remedy_for(OutmailError("", code="alert_test")), application="shop", at=at)
    page = (ROOT / "docs/how-to/watch-it.md").read_text()
    assert [name for name in notice.to_dict() if f"`{name}`" not in page and name != "version"] == []
