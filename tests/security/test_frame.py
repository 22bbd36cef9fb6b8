"""A hostile mail in the frame of the log, in a real Chromium: it must not be able to tell that it was read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from ..web.conftest import Site, browser, make_site, open_page, serve, served
from ..web.test_deliveries import MakeSite, lose, queueing_site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

#: Each would make a connection to HOME, were it allowed.
CALLS = """
<link rel="preconnect" href="http://HOME"><link rel="dns-prefetch" href="//HOME"><link rel="prefetch" href="http://HOME/a">
<link rel="preload" as="image" href="http://HOME/b"><link rel="stylesheet" href="http://HOME/c">
<link rel="icon" href="http://HOME/d"><link rel="modulepreload" href="http://HOME/e">
<LINK/rel="manifest" href="http://HOME/f">
<meta http-equiv="refresh" content="0;url=http://HOME/g"><base href="http://HOME/">
<meta http-equiv="Content-Security-Policy" content="default-src *">
<meta http-equiv="Link" content="<http://HOME/h>; rel=preload">
<style>@import url("http://HOME/i"); body { background: url("http://HOME/j") } @font-face { font-family: x;
src: url("http://HOME/k") } p { font-family: x }</style>
<p style="background-image: url(http://HOME/l)">Words</p><img src="http://HOME/m" srcset="http://HOME/n 1x">
<picture><source srcset="http://HOME/o"><img src="p"></picture><svg><image href="http://HOME/q"/><use href="http://HOME/r#x"/></svg>
<video src="http://HOME/s" poster="http://HOME/t" autoplay></video><audio src="http://HOME/u" autoplay></audio>
<object data="http://HOME/v"></object><embed src="http://HOME/w"><iframe src="http://HOME/x"></iframe>
<iframe srcdoc="<img src='http://HOME/y'>"></iframe><script src="http://HOME/z"></script><img src="x" onerror="fetch('http://HOME/1')">
<form action="http://HOME/2"><button autofocus>Send</button></form><a href="http://HOME/3" target="_top">Home</a>
"""


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return queueing_site(make_site)


@pytest.fixture
def home() -> Iterator[tuple[str, list[bytes]]]:
    """A host of the sender's, and what it was asked: a connection without a word counts too."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            asked.append(b"connected")
            sock.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_nothing_in_a_mail_calls_home_or_leads_away(
    site: Site, served: str, open_page: Callable[..., Page], home: tuple[str, list[bytes]]
) -> None:
    host, asked = home
    number = lose(site, html=CALLS.replace("HOME", host))
    page = open_page()
    page.goto(f"{served}/deliveries/{number}/message")
    assert "Words" in page.frame_locator("iframe").locator("p").first.inner_text()
    page.wait_for_load_state("networkidle")
    assert asked == []
    # Neither a form nor a link in the frame reaches the page round it.
    page.frame_locator("iframe").locator("button").click()
    page.frame_locator("iframe").locator("a").click()
    page.wait_for_load_state("networkidle")
    assert asked == []
    assert page.url.endswith(f"/deliveries/{number}/message")


__all__ = ["browser", "make_site", "open_page", "serve", "served"]
