"""An application with a database and the pages open, in the simulator's world."""

from __future__ import annotations

import base64
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from flask import Flask, Response, request, session
from flask.testing import FlaskClient
from markupsafe import escape
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


#: Fields of forms in which a person enters what must never come back.
SECRET_FIELDS = ("client_secret", "password", "certificate", "certificate_password", "pasted")
# A token, and a private key, whosever they are.
_ANYBODYS = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}|PRIVATE KEY-----")


class Leaks:
    """Looks for secrets in all that an application gives out: answers, streamed ones too, sessions and log lines.

    Known are those that were given, those of the simulated Microsoft 365, and whatever is typed into a secret field;
    each is looked for as it is and in the forms in which it travels.
    """

    def __init__(self, simulator: Simulator, *secrets: str) -> None:
        self._simulator = simulator
        self._given = {simulator.smtp_password, *secrets}
        self._shown: set[str] = set()
        self.found: list[str] = []

    def watch(self, app: Flask) -> None:
        app.before_request(self._learn)
        app.after_request(self._search)

    def look(self, data: bytes | str, where: str) -> None:
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        secrets = self._given | {one for app in self._simulator.state.apps() for one in (app.secret, *app.more_secrets)}
        # What is typed as a name too is no secret; nor is that of a managed identity, which has none.
        secrets -= {"", *self._shown}
        self.found += [f"{where} shows {one[:4]}…" for one in secrets if any(form in text for form in _forms(one))]
        self.found += [f"{where} shows {match[0][:12]}…" for match in _ANYBODYS.finditer(text)]

    def _learn(self) -> None:
        self._shown |= {text for name, text in request.form.items() if name not in SECRET_FIELDS}
        for name in SECRET_FIELDS:
            # The pieces of a key or of what was pasted are long; a word of a few letters stands in many a text.
            pieces = re.findall(r"[^\s\"',]+", request.form.get(name, "")) if name in ("certificate", "pasted") else []
            typed = {request.form.get(name, ""), *(one for one in pieces if "~" in one or len(one) == 64)}
            self._given |= {one for one in typed if len(one) >= 8}

    def _search(self, response: Response) -> Response:
        where = f"{request.method} {request.path}"
        self.look(f"{response.headers} {dict(session)}", where)
        if response.direct_passthrough:
            return response  # a file of the package
        if response.is_streamed:
            response.response = self._watched(response.response, where)
        else:
            self.look(response.get_data(), where)
        return response

    def _watched(self, parts: Any, where: str) -> Iterator[Any]:
        try:
            for part in parts:
                self.look(part, where)
                yield part
        finally:
            getattr(parts, "close", lambda: None)()


@lru_cache(maxsize=1000)
def _forms(secret: str) -> frozenset[str]:
    in_base64 = base64.b64encode(secret.encode()).decode().rstrip("=")
    return frozenset({secret, quote(secret, safe=""), str(escape(secret)), json.dumps(secret)[1:-1], in_base64})


class Listener(logging.Handler):
    """Looks for them in every log line, with its traceback and its extra fields."""

    def __init__(self, leaks: Leaks) -> None:
        super().__init__()
        self._leaks = leaks

    def emit(self, record: logging.LogRecord) -> None:
        self._leaks.look(f"{self.format(record)} {vars(record)}", f"the log of {record.name}")


@pytest.fixture
def make_site(make_app: MakeApp, simulator: Simulator) -> Iterator[Callable[..., Site]]:
    every: list[Leaks] = []
    listeners: list[Listener] = []

    def make(**config: Any) -> Site:
        app, mail = make_app(db=True, **config)
        leaks = Leaks(simulator, *(config.get("OUTMAIL_ENCRYPTION_KEYS") or []))
        leaks.watch(app)
        every.append(leaks)
        listeners.append(Listener(leaks))
        logging.getLogger().addHandler(listeners[-1])
        mail.access_control(lambda: True)
        mail.actor(lambda: "anna")
        return Site(app, mail, app.test_client(), simulator)

    yield make
    for listener in listeners:
        logging.getLogger().removeHandler(listener)
    assert [one for leaks in every for one in leaks.found] == [], "a secret was shown"


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


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The application on a port of its own; gives the address of its pages."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/outmail"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Site], str]]:
    """Serves a site over HTTP; returns the address of its pages."""
    with ExitStack() as stack:
        yield lambda site: stack.enter_context(serving(site.app))


@pytest.fixture
def served(site: Site, serve: Callable[[Site], str]) -> str:
    return serve(site)


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
