"""The pages of the delivery log in a real Chromium, at a desk and on a phone, light and dark."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from .conftest import Site
from .test_deliveries import LINK, TOKEN, MakeSite, lose, queueing_site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return queueing_site(make_site)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window_and_the_policy_stops_nothing_of_ours(
    site: Site,
    served: str,
    open_page: Callable[..., Page],
    width: int,
    mode: str,
) -> None:
    number = lose(site, subject="A-subject-without-any-space-" * 8, recipients=["a" * 60 + "@customers.example"])
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=mode)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    for path in ("", f"{number}", "erase", "again?state=unknown", "?subject=never"):
        page.goto(f"{served}/deliveries/{path}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert not complaints


def test_a_message_is_read_in_its_frame_and_nothing_in_it_runs_or_calls_home(
    site: Site, served: str, open_page: Callable[..., Page]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as home:
        home.setblocking(False)
        pixel = f"http://127.0.0.1:{home.getsockname()[1]}/p.gif"
        number = lose(site, html=f'<a href="{LINK}">reset</a><img src="{pixel}"><script>document.write("ran")</script>')
        page = open_page(java_script_enabled=False)
        page.goto(f"{served}/deliveries/{number}")
        page.click("text=Read the message")
        link = page.frame_locator("iframe").locator("a")
        assert link.inner_text() == "reset"
        assert TOKEN not in page.content() and TOKEN not in str(link.get_attribute("href"))
        page.click("text=Show whole links")
        assert TOKEN in page.content() and TOKEN in str(link.get_attribute("href"))
        assert "ran" not in page.frame_locator("iframe").locator("body").inner_text()
        page.wait_for_load_state("networkidle")
        with pytest.raises(BlockingIOError):
            home.accept()
