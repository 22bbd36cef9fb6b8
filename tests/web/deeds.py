"""What people do on the pages, and what happens meanwhile: the ways into the states that `scenes` lists."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from flask_outmail import Message, OutmailError
from flask_outmail.checking import check_due
from flask_outmail.models import Delivery, Worker, utc_now

from ..conftest import engine_of, make_message
from ..outbox.conftest import work
from .conftest import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

WRONG = "wrong~value.of-a-secret-0123456789abcd"

Act = Callable[["Page", Site], None]


# -- what people do ---------------------------------------------------------------------------------------------------


def click(*selectors: str) -> Act:
    def act(page: Page, site: Site) -> None:
        for selector in selectors:
            page.click(selector)
            page.wait_for_load_state("load")

    return act


def wait(selector: str) -> Act:
    def act(page: Page, site: Site) -> None:
        page.wait_for_selector(selector)

    return act


def fill(**values: str) -> Act:
    def act(page: Page, site: Site) -> None:
        for name, value in values.items():
            page.fill(f"#{name}", value)

    return act


def before(deed: Callable[[Site], None]) -> Act:
    """What happens meanwhile, elsewhere than on the page."""
    return lambda page, site: deed(site)


def unfold(page: Page, site: Site) -> None:
    """Every part that can be folded out."""
    page.evaluate("document.querySelectorAll('.outmail details').forEach((one) => { one.open = true; })")


def choose(service: str) -> Act:
    return click(f"input[name=service][value={service}]")


def fill_graph(page: Page, site: Site, **changes: str) -> None:
    page.select_option("#auth_object", label=page.inner_text("#auth_object option:has-text('Contoso mailer')"))
    page.fill("#username", site.simulator.mailbox)
    for name, value in {"from_name": "Contoso", "failure_alerts_to": "ops@elsewhere.example", **changes}.items():
        page.fill(f"#{name}", value)


def fill_smtp(page: Page, site: Site, **changes: str) -> None:
    choose("smtp")(page, site)
    fields = {name: value for name, value in site.smtp_fields().items() if name not in ("service", "tls")}
    for name, value in {**fields, **changes}.items():
        page.fill(f"#{name}", value)


def fill_object(page: Page, site: Site, **changes: str) -> None:
    fields = site.object_fields(**changes)
    page.select_option("#cloud", fields.pop("cloud"))
    fields.pop("provider")
    for name, value in fields.items():
        page.fill(f"#{name}", value)


def press_test(page: Page, site: Site) -> None:
    page.evaluate("document.querySelectorAll('.om-verdict').forEach((one) => one.remove())")
    page.click("[data-test]")
    page.wait_for_selector(".om-verdict")


def try_graph(page: Page, site: Site, **changes: str) -> None:
    page.evaluate("document.querySelector('.om-foreign').open = true")
    fill_graph(page, site, **changes)
    press_test(page, site)


def try_slowly(page: Page, site: Site) -> None:
    """The token is long in coming: what had to be tried before it has passed."""
    site.simulator.faults.hang("token", 30)
    engine_of(site.app).connections.look_again()
    fill_graph(page, site)
    page.click("[data-test]")
    page.wait_for_selector(".om-is-passed >> nth=3")


def reload(page: Page, site: Site) -> None:
    page.reload()


def unchecked(page: Page, site: Site) -> None:
    """As a browser that checks no field."""
    page.evaluate("document.querySelectorAll('form').forEach((one) => { one.noValidate = true; })")


def stay_too_long(page: Page, site: Site) -> None:
    page.context.clear_cookies()
    page.click("button[value=save]")
    page.wait_for_load_state("load")


def type_a_secret_id(page: Page, site: Site) -> None:
    fill_object(page, site, client_secret=site.simulator.secret_id)
    page.click("button[value=save]")


def refuse_the_secret(site: Site) -> None:
    """Another secret than the one that Microsoft knows, as it seems; no token is at hand any more."""
    site.simulator.faults.clear()
    site.simulator.faults.preset("token-7000215")
    engine_of(site.app).connections.look_again()


def in_turn(*acts: Act) -> Act:
    def act(page: Page, site: Site) -> None:
        for one in acts:
            one(page, site)

    return act


# -- what happens without them --------------------------------------------------------------------------------------


def hold(site: Site, number: int) -> None:
    with suppress(OutmailError):  # it is held, and says so
        site.mail.send(make_message(subject=f"Order {number}", sender="shop@contoso.example"))


def edited_by_boris(site: Site) -> None:
    site.mail.actor(lambda: "Boris")
    fields = {**site.object_fields(name="Newsletter", description="of Boris"), "client_secret": "", "version": "1"}
    site.post("/auth-objects/2", action="save", **fields)
    site.mail.actor(lambda: "anna")


def saved_by_boris(site: Site) -> None:
    site.mail.actor(lambda: "Boris")
    site.save(site.smtp_fields(from_name="From Boris"), action="save_draft")
    site.mail.actor(lambda: "anna")


def live(site: Site) -> None:
    """A day of an application in use: its messages, a worker, and a check."""
    dice = random.Random(7)  # noqa: S311 -- the same picture each time
    now, engine = utc_now(), engine_of(site.app)
    with engine.database.session() as session:
        for hours in reversed(range(24)):
            # Few at night, many by day.
            busy = 4 + 40 * (6 <= (now - timedelta(hours=hours)).hour <= 20)
            met = {("accepted", ""): dice.randint(busy // 2, busy), ("refused", "550 5.1.1"): dice.randint(0, 2)}
            met["unknown", "answer_lost"] = int(hours == 9)
            for (state, code), count in met.items():
                at = now - timedelta(hours=hours)
                facts = {"state": state, "code": code, "created_at": at, "updated_at": at}
                session.add_all(Delivery(message_id="m", recipients=[], **facts) for _ in range(count))
        worker = {"host": "app-1", "pid": 4711, "version": "0.1.0", "setups": {"primary": 1}, "accepted_count": 612}
        session.add(Worker(id="picture", **worker))
        session.commit()
    check_due(engine)


def deliver(site: Site, message: Message, fault: str = "") -> None:
    if fault:
        site.simulator.faults.preset(fault)
    site.mail.send(message)
    work(site.app, once=True)
