"""An application with a database and the pages open, in the simulator's world."""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from flask_outmail import Mail
from flask_outmail.simulator import Simulator

from ..conftest import STRICT, MakeApp, engine_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


@dataclass
class Site:
    """The pages as a browser without JavaScript uses them."""

    app: Flask
    mail: Mail
    client: FlaskClient
    simulator: Simulator

    def get(self, path: str) -> TestResponse:
        return self.client.get(f"/outmail{path}", follow_redirects=True)

    def post(self, path: str, token_from: str = "", **fields: Any) -> TestResponse:
        """Posts a form with its CSRF token, read from the page it stands on, and follows the redirect."""
        page = self.get(token_from or path)
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        token = {"csrf_token": found[1]} if found else {}
        return self.client.post(f"/outmail{path}", data={**token, **fields}, follow_redirects=True)

    def object_fields(self, **changes: Any) -> dict[str, Any]:
        sim = self.simulator
        return {
            "name": "Contoso mailer",
            "provider": "microsoft_client_credentials",
            "tenant": sim.tenant,
            "client_id": sim.client_id,
            "client_secret": sim.client_secret,
            "cloud": "simulator",
            "expires_on": "2027-04-15",
            **changes,
        }

    def graph_fields(self, **changes: Any) -> dict[str, Any]:
        return {
            "service": "microsoft365_graph",
            "auth_object": "1",
            "username": self.simulator.mailbox,
            "from_name": "Contoso",
            "failure_alerts_to": "ops@elsewhere.example",
            **changes,
        }

    def smtp_fields(self, **changes: Any) -> dict[str, Any]:
        sim = self.simulator
        return {
            "service": "smtp",
            "host": sim.smtp_host,
            "port": str(sim.smtp_port),
            "tls": "starttls",
            "username": sim.mailbox,
            "password": sim.smtp_password,
            "from_address": sim.mailbox,
            "failure_alerts_to": "ops@elsewhere.example",
            **changes,
        }

    def save(self, fields: dict[str, Any], action: str = "save", query: str = "") -> TestResponse:
        """Saves the set-up as a person does: with the newest revision on the page."""
        page = self.get(f"/setup{query}")
        revision = re.search(r'name="revision" value="(\d+)"', page.text)
        assert revision
        return self.post(f"/setup{query}", **{"revision": revision[1], "action": action, **fields})

    def save_tested(self, fields: dict[str, Any], query: str = "") -> TestResponse:
        """Tests, then saves what has passed."""
        self.save(fields, action="test", query=query)
        return self.save(fields, query=query)

    def test(self, fields: dict[str, Any]) -> TestResponse:
        return self.save(fields, action="test")


def titles(page: TestResponse) -> list[str]:
    """The text of the page's headings of the first rank."""
    found = re.findall(r"<h1.*?</h1>", page.text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in found]


def search_answers(app: Flask, secrets: list[str], leaked: list[str]) -> None:
    """Looks for the secrets in everything that the application answers from now on, streamed answers too."""

    def look(data: bytes | str, where: str) -> None:
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        leaked.extend(f"{where} shows {secret[:4]}…" for secret in secrets if secret in text)

    def watched(parts: Any, where: str) -> Iterator[Any]:
        try:
            for part in parts:
                look(part, where)
                yield part
        finally:
            getattr(parts, "close", lambda: None)()

    @app.after_request
    def search(response: Response) -> Response:
        where = f"{request.method} {request.path}"
        look(str(response.headers), where)
        if response.direct_passthrough:
            return response  # a file of the package
        if response.is_streamed:
            response.response = watched(response.response, where)
        else:
            look(response.get_data(), where)
        return response


@pytest.fixture
def make_site(make_app: MakeApp, simulator: Simulator) -> Iterator[Callable[..., Site]]:
    leaked: list[str] = []

    def make(**config: Any) -> Site:
        app, mail = make_app(db=True, **config)
        keys = config.get("OUTMAIL_ENCRYPTION_KEYS") or []
        search_answers(app, [simulator.client_secret, simulator.smtp_password, *keys], leaked)
        mail.access_control(lambda: True)
        mail.actor(lambda: "anna")
        return Site(app, mail, app.test_client(), simulator)

    yield make
    assert leaked == [], "a page showed a secret"


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


# -- Chromium --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM and not STRICT:
        pytest.skip("there is no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def served(site: Site) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/outmail"
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    contexts = []

    def make(**options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


def create_object(page: Page, site: Site, *, client_id: str = "", client_secret: str = "") -> None:
    """From the set-up page and back to it, with the new object chosen."""
    page.click("text=New authentication object…")
    page.fill("#name", "Contoso mailer")
    page.fill("#tenant", site.simulator.tenant)
    page.fill("#client_id", client_id or site.simulator.client_id)
    page.fill("#client_secret", client_secret or site.simulator.client_secret)
    page.select_option("#cloud", "simulator")
    page.click("button:has-text('Save')")
    page.wait_for_selector("text=is stored")


__all__ = ["Site", "create_object", "engine_of", "titles"]
