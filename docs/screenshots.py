"""Takes pictures of the running pages; needs Chromium.

    python docs/screenshots.py            the pictures of the documentation, into docs/images
    python docs/screenshots.py --all DIR  every page in every state, on a phone and at a desk, light and dark
    python docs/screenshots.py --all DIR PATTERN …  of these only the scenes whose names match, as in *setup*

The states are those of `tests/web/scenes.py`, which the tests of accessibility walk too.
"""

from __future__ import annotations

import fnmatch
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT))

from flask_outmail import Mail  # noqa: E402
from flask_outmail.simulator import Simulator  # noqa: E402
from tests.conftest import engine_of, world  # noqa: E402
from tests.web.conftest import Site, serving  # noqa: E402
from tests.web.scenes import DESK, STAGES, Backstage, Stage, play  # noqa: E402


@dataclass(frozen=True)
class Picture:
    """One of the documentation. `of`: what it shows, from the first of these elements to the last; "" is the page."""

    file: str
    scene: str
    of: str = ""
    size: tuple[int, int] = (1000, 800)


WIDE = (1160, 800)
PICTURES = [
    Picture("setup.png", "setup-test-passed"),
    Picture("setup-graph.png", "setup-test-passed", "h1, .om-numbered"),
    Picture("setup-smtp.png", "setup-smtp", "h1, .om-numbered"),
    Picture("setup-failed.png", "setup-test-failed-at-mailbox", ".om-steps, .om-verdict"),
    Picture("setup-move.png", "setup-imported", "#om-move"),
    Picture("credentials.png", "objects", "h1, .om-table", WIDE),
    Picture("credential-replaced.png", "object-replaced", "[aria-labelledby=om-secret]"),
    Picture("deliveries.png", "deliveries", "h1, .om-table tr:nth-child(9)", WIDE),
    Picture("delivery.png", "delivery-refused", ".om-back, .om-steps"),
    Picture("alert.png", "alerts-open", "article"),
    Picture("overview.png", "overview-working"),
    Picture("overview-attention.png", "overview-needs-attention", ".om-truth, .om-items"),
    Picture("embedded-bootstrap.png", "embedded-bootstrap-overview", "window"),
    Picture("embedded-plain.png", "embedded-plain-setup", "window"),
]
BOX = """among => {
  const boxes = [...document.querySelectorAll(among)].map(one => one.getBoundingClientRect()).filter(one => one.height);
  const [left, top] = [Math.min(...boxes.map(one => one.left)), Math.min(...boxes.map(one => one.top))];
  const [right, bottom] = [Math.max(...boxes.map(one => one.right)), Math.max(...boxes.map(one => one.bottom))];
  return {x: left - 16, y: scrollY + top - 16, width: right - left + 32, height: bottom - top + 32};
}"""
WIDTHS = (390, 1280)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@contextmanager
def on_stage(stage: Stage, simulator: Simulator) -> Iterator[tuple[Site, str]]:
    """The application of a stage, and the address of its pages."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:

        def make(**config: Any) -> Site:
            app = Flask("Contoso orders")
            app.config.update(world(simulator), SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder}/pictures.sqlite")
            app.config.update(config)
            mail = Mail(app, SQLAlchemy(app))
            mail.access_control(lambda: True)
            mail.actor(lambda: "anna")
            closing.enter_context(app.app_context())
            engine_of(app).database.create_tables()
            return Site(app, mail, app.test_client(), simulator)

        simulator.clear()
        site = stage.build(Backstage(make, simulator, closing))
        yield site, closing.enter_context(serving(site.app))


def take_all(browser: Browser, simulator: Simulator, folder: Path, patterns: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        if not any(fnmatch.fnmatch(scene.name, one) for scene in stage.scenes for one in patterns):
            continue
        with on_stage(stage, simulator) as (site, base):
            for scene, page in play(stage, site, base, browser.new_page):
                if any(fnmatch.fnmatch(scene.name, one) for one in patterns):
                    take(page, folder / scene.name)


def take(page: Page, path: Path) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        # Chromium paints no frame that has never been in the window: the whole page has to be.
        whole = page.evaluate("Math.max(innerHeight, document.documentElement.scrollHeight)")
        page.set_viewport_size({"width": width, "height": whole})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=f"{path}-{width}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESK)


def take_picture(page: Page, picture: Picture) -> None:
    page.set_viewport_size({"width": picture.size[0], "height": picture.size[1]})
    page.evaluate("scrollTo(0, 0)")
    path = IMAGES / picture.file
    if picture.of == "window":
        page.screenshot(path=path)
    else:
        page.screenshot(path=path, full_page=True, clip=page.evaluate(BOX, picture.of) if picture.of else None)
    page.set_viewport_size(DESK)


def take_documented(browser: Browser, simulator: Simulator) -> None:
    for stage in STAGES:
        if {scene.name for scene in stage.scenes} & {one.scene for one in PICTURES}:
            with on_stage(stage, simulator) as (site, base):
                for scene, page in play(stage, site, base, browser.new_page):
                    for picture in PICTURES:
                        if picture.scene == scene.name:
                            take_picture(page, picture)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with Simulator() as simulator, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if sys.argv[1:2] == ["--all"]:
            take_all(browser, simulator, Path(sys.argv[2]), sys.argv[3:] or ["*"])
        else:
            take_documented(browser, simulator)
        browser.close()


if __name__ == "__main__":
    main()
