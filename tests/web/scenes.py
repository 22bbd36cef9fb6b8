"""Every page in every state it can be in. The tests of accessibility and the pictures walk the same list.

A stage is an application with a past; its scenes are pages of it, in the order in which a person would come to them:
what one scene does to the application the next ones see. A scene without a path goes on where the one before it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import send_from_directory
from jinja2 import ChoiceLoader, FileSystemLoader

from flask_outmail import Message
from flask_outmail.models import Base, Delivery, Worker, utc_now
from flask_outmail.simulator import Simulator
from flask_outmail.vault import generate_key

from ..conftest import engine_of, graph_setup, make_message
from .conftest import Site
from .deeds import (
    WRONG,
    Act,
    before,
    choose,
    click,
    deliver,
    edited_by_boris,
    fill,
    fill_graph,
    fill_object,
    fill_smtp,
    hold,
    in_turn,
    live,
    press_test,
    refuse_the_secret,
    reload,
    saved_by_boris,
    stay_too_long,
    try_graph,
    try_slowly,
    type_a_secret_id,
    unchecked,
    unfold,
    wait,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

OTHER = "anna@contoso.example"
HOSTS = Path(__file__).parent / "hosts"


@dataclass(frozen=True)
class Scene:
    """A page in one of its states. `act` is what a person does on it first."""

    name: str
    path: str | None = None
    act: Act | None = None
    javascript: bool = True


@dataclass
class Backstage:
    """What a stage is built with."""

    make: Callable[..., Site]
    simulator: Simulator
    closing: ExitStack


@dataclass(frozen=True)
class Stage:
    name: str
    build: Callable[[Backstage], Site]
    scenes: list[Scene] = field(default_factory=list)


STAGES: list[Stage] = []
DESK = {"width": 1280, "height": 900}


def play(stage: Stage, site: Site, base: str, new_page: Callable[..., Page]) -> Iterator[tuple[Scene, Page]]:
    """The scenes of a stage, one after the other, each with the page it is on."""
    usual = new_page(viewport=DESK)
    for scene in stage.scenes:
        page = usual if scene.javascript else new_page(viewport=DESK, java_script_enabled=False)
        if scene.path is not None:
            page.goto(f"{base}/{scene.path}")
        if scene.act is not None:
            scene.act(page, site)
        yield scene, page


def stage(*scenes: Scene) -> Callable[[Callable[[Backstage], Site]], Callable[[Backstage], Site]]:
    def add(build: Callable[[Backstage], Site]) -> Callable[[Backstage], Site]:
        STAGES.append(Stage(build.__name__, build, list(scenes)))
        return build

    return add


# -- nothing set up yet -----------------------------------------------------------------------------------------------


@stage(
    Scene("overview-empty", ""),
    Scene("overview-it-request", act=unfold),
    Scene("setup-empty", "setup"),
    Scene("setup-microsoft-smtp", act=choose("microsoft365_smtp")),
    Scene("setup-smtp", act=choose("smtp")),
    Scene("setup-smtp-without-tls", act=in_turn(click("input[name=tls][value=none]"), click("button[value=save]"))),
    Scene("setup-errors", "setup", click("button[value=save]")),
    Scene("setup-errors-of-a-test", "setup", in_turn(click("[data-test]"), wait(".om-error"))),
    Scene("setup-too-long-open", "setup", stay_too_long),
    Scene("setup-without-javascript", "setup", javascript=False),
    Scene("setup-another-connection", "setup?connection=backup"),
    Scene("objects-empty", "auth-objects/"),
    Scene("object-new", "auth-objects/new"),
    Scene("object-new-paste", act=unfold),
    Scene("object-new-made-here", act=click("input[name=secret_kind][value=made]")),
    Scene("object-new-own-certificate", act=click("input[name=secret_kind][value=own]")),
    Scene("object-new-errors", "auth-objects/new", click("button[value=save]")),
    Scene("object-new-secret-id", "auth-objects/new", type_a_secret_id),
    Scene("object-new-federated", "auth-objects/new?provider=microsoft_federated"),
    Scene("object-new-managed-identity", "auth-objects/new?provider=microsoft_managed_identity"),
    Scene("object-new-test-failed", "auth-objects/new", in_turn(partial(fill_object, client_secret=WRONG), press_test)),
    Scene("object-new-test-passed", act=in_turn(fill_object, press_test)),
    Scene("deliveries-empty", "deliveries/"),
    Scene("deliveries-nothing-found", "deliveries/?state=refused&to=ann*"),
    Scene("alerts-empty", "alerts"),
    Scene("alerts-test-without-channel", act=click("button:has-text('Send test alert')")),
    Scene("history-empty", "history"),
    Scene("domain-empty", "domain"),
    Scene("not-found", "auth-objects/4711"),
)
def empty(back: Backstage) -> Site:
    return back.make()


@stage(Scene("overview-empty-with-held-mail", ""))
def waiting(back: Backstage) -> Site:
    site = back.make()
    for number in range(3):
        hold(site, number)
    return site


# -- the test of a setup ----------------------------------------------------------------------------------------------


@stage(
    Scene("setup-object-chosen", "setup?auth_object=1"),
    Scene("setup-test-running", act=try_slowly),
    Scene("setup-test-cancelled", act=click("[data-cancel]")),
    Scene("setup-test-failed-at-sign-in", "setup", in_turn(before(refuse_the_secret), try_graph)),
    Scene("setup-test-failed-at-mailbox", "setup", partial(try_graph, username="nobody@contoso.example")),
    Scene(
        "setup-test-failed-at-smtp-log-in", "setup", in_turn(partial(fill_smtp, password="wrong-password"), press_test)
    ),
    Scene("setup-test-with-a-warning", "setup", partial(try_graph, foreign_mailbox=OTHER)),
    Scene("setup-test-passed", "setup", partial(try_graph, test_message_to="me@customers.example")),
    Scene("setup-test-unfolded", act=unfold),
    Scene("setup-test-of-other-values", act=fill(from_address="news@contoso.example")),
    Scene("setup-test-without-javascript", "setup", try_graph, javascript=False),
    Scene("setup-saved-as-draft", "setup", in_turn(fill_graph, click("button[value=save_draft]"))),
    Scene("overview-draft-only", ""),
)
def proving(back: Backstage) -> Site:
    site = back.make()
    site.post("/auth-objects/new", action="save", **site.object_fields())
    return site


# -- authentication objects -------------------------------------------------------------------------------------------


@stage(
    Scene("objects", "auth-objects/"),
    Scene("object", "auth-objects/1"),
    Scene("object-unfolded", act=unfold),
    Scene(
        "object-would-stop-mail",
        "auth-objects/1",
        in_turn(unfold, fill(client_secret=WRONG), click("button[value=save]"), wait("text=mail would stop")),
    ),
    Scene("object-replace", "auth-objects/1/secret"),
    Scene("object-replace-errors", act=click("button[value=switch]")),
    Scene(
        "object-replace-refused",
        "auth-objects/1/secret",
        in_turn(
            click("input[value=secret]"),
            fill(client_secret=WRONG),
            click("button[value=switch]"),
            wait("text=does not take"),
        ),
    ),
    Scene("object-replaced", "auth-objects/1/secret", click("input[value=made]", "button[value=switch]")),
    Scene("object-delete-in-use", "auth-objects/1/delete"),
    Scene("object-delete", "auth-objects/2/delete"),
    Scene("object-managed-identity", "auth-objects/3"),
    Scene(
        "object-conflict",
        "auth-objects/2",
        in_turn(before(edited_by_boris), fill(description="mine"), click("button[value=save]"), wait("text=Boris")),
    ),
    Scene("setup-with-objects", "setup"),
)
def objects(back: Backstage) -> Site:
    site = back.make()
    application = back.simulator.add_app(name="with objects")
    own = {"client_id": application.client_id, "client_secret": application.secret}
    day = utc_now().date()
    site.post(
        "/auth-objects/new", action="save", **site.object_fields(**own, description="For everything the shop sends")
    )
    soon = site.object_fields(name="Newsletter", expires_on=(day + timedelta(days=12)).isoformat())
    site.post("/auth-objects/new", action="save", **soon)
    site.post(
        "/auth-objects/new",
        action="save",
        provider="microsoft_managed_identity",
        name="Machine",
        cloud="simulator",
        client_id="",
    )
    past = site.object_fields(name="Of last year", expires_on=(day - timedelta(days=40)).isoformat())
    site.post("/auth-objects/new", action="save", **past)
    made = site.object_fields(name="Accounting", client_secret="", expires_on="", secret_kind="made", valid_days="180")
    site.post("/auth-objects/new", action="save", **made)
    site.save_tested(site.graph_fields())
    return site


@stage(Scene("objects-limit", "auth-objects/"), Scene("object-new-limit", "auth-objects/new"))
def full(back: Backstage) -> Site:
    site = back.make(OUTMAIL_AUTH_OBJECTS_MAX=1)
    site.post("/auth-objects/new", action="save", **site.object_fields())
    return site


# -- in use -----------------------------------------------------------------------------------------------------------


@stage(
    Scene("setup-saved", "setup?auth_object=1", in_turn(try_graph, click("button[value=save]"))),
    Scene("overview-working", "", in_turn(before(live), reload)),
    Scene("overview-unfolded", act=unfold),
    Scene("setup-in-use", "setup"),
    Scene(
        "setup-would-stop-mail", act=in_turn(partial(fill_smtp, host="mail.example.com"), click("button[value=save]"))
    ),
    Scene(
        "setup-conflict",
        "setup",
        in_turn(before(saved_by_boris), fill(from_name="Shop"), click("button[value=save]"), wait("text=Boris saved")),
    ),
    Scene("setup-test-compared", "setup", in_turn(partial(fill_smtp, password=WRONG), press_test)),
    Scene("history", "history"),
    Scene("history-use-unverified", act=click("button:has-text('Use this revision') >> nth=0")),
    Scene("history-compare", "history/compare?from=1&to=2"),
    Scene("history-compare-same", "history/compare?from=1&to=1"),
    Scene("domain", "domain"),
    Scene("domain-checked", act=press_test),
    Scene("alerts-none-open", "alerts"),
    Scene("alerts-test", act=click("button:has-text('Send test alert')")),
)
def working(back: Backstage) -> Site:
    from ..integration.test_domain import GOOD, NameServer

    server = NameServer()
    server.zone = {key: value for key, value in GOOD.items() if not key[0].startswith("_dmarc")}
    back.closing.callback(server.close)
    site = back.make(OUTMAIL_DNS_SERVERS=[server.address])
    site.post("/auth-objects/new", action="save", **site.object_fields())
    return site


# -- the log ----------------------------------------------------------------------------------------------------------

LINK = "https://shop.example/reset/0c9e6a1fb4d24a5e9d1c7f03a2b8e6d4"


@stage(
    Scene("deliveries", "deliveries/"),
    Scene("deliveries-unfolded", act=unfold),
    Scene("deliveries-found", "deliveries/?state=refused"),
    Scene("delivery-accepted", "deliveries/1"),
    Scene("delivery-message", "deliveries/1/message"),
    Scene("delivery-refused", "deliveries/2"),
    Scene("delivery-unknown", "deliveries/3"),
    Scene("delivery-again-unconfirmed", act=click("#om-again button")),
    Scene("delivery-waiting", "deliveries/4"),
    Scene("delivery-cancelled", act=click("button:has-text('Cancel it')")),
    Scene("delivery-without-content", "deliveries/5"),
    Scene("deliveries-again", "deliveries/again?state=unknown"),
    Scene("deliveries-again-unconfirmed", act=click("button:has-text('Send them again')")),
    Scene("deliveries-again-nothing", "deliveries/again?state=failed"),
    Scene("deliveries-erase", "deliveries/erase"),
    Scene("deliveries-erase-error", act=in_turn(unchecked, click("button:has-text('Erase')"))),
    Scene("overview-after-mixed-luck", ""),
)
def log(back: Backstage) -> Site:
    site = back.make(OUTMAIL_DELIVERY="outbox", OUTMAIL_WORKER_POLL_SECONDS=0.02, OUTMAIL_KEEP_BODIES_DAYS=7)
    site.save_tested(site.smtp_fields(from_name="Contoso"))
    html = f'<h1>Hello Ann</h1><p>You wanted to <a href="{LINK}">choose a new password</a>.</p>'
    welcome = {
        "subject": "Choose a new password",
        "html": html,
        "body": f"Hello Ann,\n\nyou wanted a new one: {LINK}\n",
    }
    message = make_message(**welcome)
    message.attach("terms.pdf", "application/pdf", b"%PDF-1.4 " * 900)
    deliver(site, message)
    deliver(site, make_message(subject="Your order 1018", recipients=["bob@customers.example"]), "smtp-rcpt-550")
    deliver(
        site, make_message(subject="Your order 1019", recipients=["cleo@customers.example"]), "smtp-dot-drop-delivered"
    )
    deliver(site, make_message(subject="Your order 1020", recipients=["dan@customers.example"]), "smtp-rcpt-451")
    many = [f"reader{number}@customers.example" for number in range(9)]
    deliver(site, make_message(subject="News of November", recipients=many))
    deliver(site, make_message(subject="", recipients=["eve@customers.example"]))
    for number in range(21, 29):
        deliver(
            site, make_message(subject=f"Your order 10{number}", recipients=[f"customer{number}@customers.example"])
        )
    with engine_of(site.app).database.session() as session:
        # As housekeeping leaves it after some days.
        session.get_one(Delivery, 5).content_sealed = None
        session.commit()
    return site


# -- in trouble -------------------------------------------------------------------------------------------------------


@stage(
    Scene("overview-failing", ""),
    Scene("overview-failing-unfolded", act=unfold),
    Scene("alerts-open", "alerts"),
    Scene("alerts-test-failed", act=click("button:has-text('Send test alert')")),
    Scene("alerts-acknowledged", "alerts", click("button:has-text('I know')")),
    Scene("alerts-closed", act=click("button:has-text('Dismiss')")),
)
def failing(back: Backstage) -> Site:
    site = back.make()
    site.save_tested(site.smtp_fields())
    site.simulator.faults.preset("smtp-auth-tenant", times=None)
    site.simulator.drop_smtp_connections()
    engine_of(site.app).connections.look_again()
    for number in range(2):
        hold(site, number)
    return site


@stage(
    Scene("overview-held", ""),
    Scene("setup-held", "setup"),
    Scene("deliveries-held", "deliveries/?state=held"),
    Scene("delivery-held", "deliveries/1"),
    Scene("overview-released-nothing", "", click("button:has-text('Release')")),
)
def held(back: Backstage) -> Site:
    site = back.make()
    site.save(site.smtp_fields())
    for number in range(3):
        hold(site, number)
    return site


@stage(
    Scene("overview-needs-attention", ""),
    Scene("overview-needs-attention-unfolded", act=unfold),
    Scene("setup-second-connection", "setup?connection=backup"),
    Scene("history-second-connection", "history?connection=backup"),
)
def attention(back: Backstage) -> Site:
    site = back.make(
        OUTMAIL_ALERT_WEBHOOK_URL="https://hooks.slack.example/services/T0/B0/x", OUTMAIL_ALERT_WEBHOOK_KIND="slack"
    )
    soon = (utc_now().date() + timedelta(days=9)).isoformat()
    site.post("/auth-objects/new", action="save", **site.object_fields(expires_on=soon))
    site.save_tested(site.graph_fields())
    site.save(site.smtp_fields(), query="?connection=backup")
    with engine_of(site.app).database.session() as session:
        long_ago = utc_now() - timedelta(minutes=20)
        for number, seen_at in ((1, utc_now()), (2, long_ago)):
            facts = {"host": f"app-{number}", "pid": 4710 + number, "version": "0.1.0", "setups": {"primary": 9}}
            session.add(Worker(id=f"w{number}", seen_at=seen_at, started_at=long_ago, **facts))
        session.commit()
    return site


@stage(
    Scene("setup-secret-unreadable", "setup"),
    Scene("overview-secret-unreadable", ""),
    Scene("object-unreadable", "auth-objects/1"),
)
def locked_out(back: Backstage) -> Site:
    site = back.make(OUTMAIL_ENCRYPTION_KEYS=[generate_key()])
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    return back.make(OUTMAIL_ENCRYPTION_KEYS=[generate_key()])


# -- set by configuration ---------------------------------------------------------------------------------------------


@stage(
    Scene("overview-configured", "", unfold),
    Scene("setup-locked", "setup"),
    Scene("setup-locked-tested", act=press_test),
    Scene("previews", "previews/"),
    Scene("preview", "previews/welcome"),
)
def configured(back: Backstage) -> Site:
    site = back.make(OUTMAIL_SETUP=graph_setup(back.simulator))
    site.app.debug = True

    @site.mail.preview("welcome")
    def welcome() -> Message:
        """What new customers get"""
        text = "<h1>Welcome, Ann</h1><p>Thank you for your first order. We are on it.</p>"
        return Message("Welcome", recipients=["ann@customers.example"], html=text)

    return site


def flask_mail(simulator: Simulator) -> dict[str, Any]:
    """An application as it was with Flask-Mail: a password at the simulated Microsoft 365."""
    return {
        "MAIL_SERVER": simulator.smtp_host,
        "MAIL_PORT": simulator.smtp_port,
        "MAIL_USE_TLS": True,
        "MAIL_USERNAME": simulator.mailbox,
        "MAIL_PASSWORD": simulator.smtp_password,
        "MAIL_DEFAULT_SENDER": f"Contoso <{simulator.mailbox}>",
    }


@stage(
    Scene("overview-by-mail-keys", ""),
    Scene("setup-import", "setup"),
    Scene("setup-imported", act=click("button[value=import]")),
    Scene("setup-moved-to-graph", act=click("button[value=move]")),
)
def moving(back: Backstage) -> Site:
    site = back.make(**flask_mail(back.simulator))
    site.post("/auth-objects/new", action="save", **site.object_fields())
    return site


# -- those who may not, and pages that cannot be shown ----------------------------------------------------------------


@stage(Scene("forbidden", ""))
def closed(back: Backstage) -> Site:
    site = back.make()
    site.mail.access_control(lambda: False)
    return site


@stage(
    Scene("overview-of-a-reader", ""),
    Scene("setup-of-a-reader", "setup"),
    Scene("delivery-of-a-reader", "deliveries/1"),
)
def reading(back: Backstage) -> Site:
    site = back.make()
    site.save(site.smtp_fields())
    hold(site, 1)
    site.mail.access_control(lambda action="see": action == "see")
    return site


@stage(Scene("tables-missing", ""))
def bare(back: Backstage) -> Site:
    site = back.make()
    Base.metadata.drop_all(site.app.extensions["sqlalchemy"].engine)
    return site


# -- inside the application's own pages -------------------------------------------------------------------------------


def embedded(back: Backstage, host: str, **config: Any) -> Site:
    """The pages inside a base template of `hosts`, in use."""
    site = in_host(back, host, **config)
    site.post("/auth-objects/new", action="save", **site.object_fields())
    site.save_tested(site.graph_fields())
    live(site)
    return site


def in_host(back: Backstage, host: str, **config: Any) -> Site:
    """The pages inside a base template of `hosts`. Bootstrap's styles are those that Bootstrap-Flask brings."""
    site = back.make(OUTMAIL_BASE_TEMPLATE=f"{host}.html", **{"HOST_BOOTSTRAP": 5, **config})
    loader = site.app.jinja_env.loader
    assert loader is not None
    site.app.jinja_env.loader = ChoiceLoader([FileSystemLoader(HOSTS), loader])
    found = find_spec("flask_bootstrap")
    assert found and found.origin
    bootstrap = Path(found.origin).parent / "static"
    site.app.add_url_rule("/host/<name>", "host_file", lambda name: send_from_directory(HOSTS, name))
    site.app.add_url_rule("/bootstrap/<path:name>", "bootstrap_file", lambda name: send_from_directory(bootstrap, name))
    return site


@stage(
    Scene("embedded-bootstrap-overview", ""),
    Scene("embedded-bootstrap-setup", "setup", try_graph),
    Scene("embedded-bootstrap-objects", "auth-objects/"),
)
def in_bootstrap(back: Backstage) -> Site:
    return embedded(back, "bootstrap")


@stage(Scene("embedded-bootstrap-dark-overview", ""), Scene("embedded-bootstrap-dark-setup", "setup", try_graph))
def in_dark_bootstrap(back: Backstage) -> Site:
    return embedded(back, "bootstrap", HOST_THEME="dark")


@stage(
    Scene("embedded-plain-overview", ""),
    Scene("embedded-plain-setup", "setup", try_graph),
    Scene("embedded-plain-objects", "auth-objects/"),
)
def in_plain_page(back: Backstage) -> Site:
    return embedded(back, "plain")
