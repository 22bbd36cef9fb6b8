"""The tutorial, done as it is written: with the program that `make run` starts, its printed address, and its forms."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import requests

from ..example.test_example_run import Run, shop

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/tutorial/first-mail.md").read_text()
#: The same steps in fewer words.
SHORT = (ROOT / "README.md").read_text().partition("## Try it")[2].partition("\n## ")[0]


class Form(HTMLParser):
    """The fields of the form that has a field of this name, with what stands in them."""

    def __init__(self, page: str, field: str) -> None:
        super().__init__()
        self.action, self.fields, self._select = "", {}, ""
        [form] = [one for one in re.findall(r"<form.*?</form>", page, re.DOTALL) if f'name="{field}"' in one]
        self.feed(form)

    action: str
    fields: dict[str, str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and (self._select not in self.fields or "selected" in given):
            self.fields[self._select] = given.get("value", "")
        elif tag == "textarea" or (tag == "input" and given.get("type") not in ("radio", "checkbox", "submit")):
            self.fields[given.get("name", "")] = given.get("value", "")
        elif tag == "input" and "checked" in given:
            self.fields[given["name"]] = given.get("value", "on")


class Reader:
    """Somebody with a browser, who types what the tutorial says."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False

    def open(self, path: str) -> str:
        answer = self.session.get(self.url + path, timeout=20)
        assert answer.status_code == 200, path
        return answer.text

    def fill(self, path: str, field: str, *, page: str = "", **typed: str) -> str:
        """Fills in the form on `page`, which is opened unless it is given, and returns the page that follows."""
        form = Form(page or self.open(path), field)
        answer = self.session.post(
            self.url + (form.action or path), data={**form.fields, **typed}, timeout=30, allow_redirects=True
        )
        assert answer.status_code in (200, 422), answer.text  # 422: the form comes back with what is to be mended
        return answer.text

    def values(self) -> dict[str, str]:
        """What the page Simulator shows: the first value of each name."""
        rows = re.findall(r"<dt>(.*?)</dt><dd><code[^>]*>(.*?)</code>", self.open("/simulator"))
        return {html.unescape(name): html.unescape(value) for name, value in reversed(rows)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    running = Run(*shop(tmp_path_factory.mktemp("tutorial"))).wait_until_started()
    yield running
    running.stop()


def test_from_the_printed_address_to_a_mail_that_is_read(run: Run) -> None:
    address, mailboxes = run.urls
    reader = Reader(address)
    reader.fill("/login", "password", name="admin", password="admin")
    values = reader.values()

    # 2. Create an authentication object
    typed = {
        "name": "Contoso mailer",
        "tenant": values["Directory (tenant) ID"],
        "client_id": values["Application (client) ID"],
        "client_secret": values["Client secret (value)"],
        "cloud": "simulator",
    }
    reader.fill("/outmail/auth-objects/new", "client_secret", action="save", **typed)
    assert "Contoso mailer" in reader.open("/outmail/auth-objects/")

    # 3. Set up outbound mail, and prove it
    mailbox = values["Username"]
    assert f"`{mailbox}`" in TUTORIAL
    graph = {"service": "microsoft365_graph", "auth_object": "1", "username": mailbox, "from_address": mailbox}
    wrong = reader.fill("/outmail/setup", "username", action="test", **{**graph, "username": f"x{mailbox}"})
    assert "Who" in wrong and "steps passed" not in wrong
    tested = reader.fill("/outmail/setup", "username", action="test", **graph)
    assert re.search(r"All \d+ steps passed", tested)
    saved = reader.fill("/outmail/setup", "username", action="save", **graph)
    assert "Mail is sent with these settings" in saved

    # 4. Send
    order = reader.fill("/books/the-lighthouse-ledger", "email", quantity="1", email="ann@reader.example")
    assert "has taken over the confirmation" in order
    inbox = Reader(mailboxes)
    assert "Your order QP-00001" in inbox.open("/")

    # 5. The same over SMTP
    # Without JavaScript, the fields of another service are asked for by a button.
    chosen = reader.fill("/outmail/setup", "username", action="choose", service="smtp")
    smtp = {
        "service": "smtp",
        "host": values["Host"],
        "port": values["Port"],
        "tls": "starttls",
        "username": values["Username"],
        "password": values["Password"],
        "from_address": mailbox,
    }
    tested = reader.fill("/outmail/setup", "username", page=chosen, action="test", **smtp)
    assert re.search(r"All \d+ steps passed", tested)
    saved = reader.fill("/outmail/setup", "username", page=tested, action="save", **smtp)
    assert "Mail is sent with these settings" in saved
    reader.fill("/books/the-lighthouse-ledger", "email", quantity="1", email="ann@reader.example")
    assert "Your order QP-00002" in inbox.open("/")


def test_the_tutorial_names_what_the_pages_name(run: Run) -> None:
    reader = Reader(run.urls[0])
    reader.fill("/login", "password", name="admin", password="admin")
    pages = reader.open("/outmail/setup") + reader.open("/outmail/auth-objects/new") + reader.open("/")
    words = html.unescape(re.sub(r"<[^>]+>", " ", pages))
    words = " ".join(words.split())
    for name in re.findall(r"\*\*([^*]+)\*\*", TUTORIAL + SHORT):
        for part in " ".join(name.split()).split(" → "):
            assert part in words, f"the tutorial or the README speaks of {part}, and no page does"
