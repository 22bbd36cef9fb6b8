"""Takes the pictures of the documentation from the running pages: `python docs/screenshots.py` (needs Chromium)."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from playwright.sync_api import Page, sync_playwright
from werkzeug.serving import make_server

from flask_outmail import Mail
from flask_outmail.simulator import Simulator

IMAGES = Path(__file__).parent / "images"


def application(simulator: Simulator, folder: str) -> Flask:
    app = Flask("Contoso orders")
    app.config.update(
        SECRET_KEY="pictures",  # noqa: S106 -- opens nothing
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder}/pictures.sqlite",
        OUTMAIL_CLOUDS={"simulator": simulator.cloud},
        OUTMAIL_CA_FILE=str(simulator.ca_file),
    )
    mail = Mail(app, SQLAlchemy(app))
    mail.access_control(lambda: True)
    mail.actor(lambda: "anna")
    with app.app_context():
        app.extensions["outmail"].database.create_tables()
    return app


def set_up(page: Page, base: str, simulator: Simulator) -> None:
    """Walks to a set-up whose test has passed, as an administrator would."""
    page.goto(f"{base}/auth-objects/new?next=setup")
    page.fill("#name", "Contoso mailer")
    page.fill("#tenant", simulator.tenant)
    page.fill("#client_id", simulator.client_id)
    page.fill("#client_secret", simulator.client_secret)
    page.select_option("#cloud", "simulator")
    page.fill("#expires_on", "2027-04-15")
    page.click("button:has-text('Save')")
    page.goto(f"{base}/setup?auth_object=1")
    page.fill("#username", simulator.mailbox)
    page.fill("#from_name", "Contoso")
    page.fill("#failure_alerts_to", "ops@elsewhere.example")
    page.click("[data-test]")
    page.wait_for_selector(".om-verdict")


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    IMAGES.mkdir(exist_ok=True)
    with Simulator() as simulator, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = make_server("127.0.0.1", 0, application(simulator, folder), threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        set_up(page, f"http://127.0.0.1:{server.port}/outmail", simulator)
        page.screenshot(path=IMAGES / "setup.png", full_page=True)
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
