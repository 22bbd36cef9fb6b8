"""Takes the pictures of the documentation from the running pages: `python docs/screenshots.py` (needs Chromium)."""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from playwright.sync_api import Page, sync_playwright
from werkzeug.serving import make_server

from flask_outmail import Mail
from flask_outmail.checking import check_due
from flask_outmail.models import Delivery, Worker, utc_now
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


def live(app: Flask) -> None:
    """A day of an application in use: its messages, a worker, and a check."""
    dice, now = random.Random(7), utc_now()  # noqa: S311 -- the same picture each time
    with app.app_context():
        engine = app.extensions["outmail"]
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


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    IMAGES.mkdir(exist_ok=True)
    with Simulator() as simulator, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        app = application(simulator, folder)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        base = f"http://127.0.0.1:{server.port}/outmail"
        set_up(page, base, simulator)
        page.screenshot(path=IMAGES / "setup.png", full_page=True)
        page.click("text=Save and start sending")
        page.wait_for_selector("text=Mail is sent with these settings")
        live(app)
        page.goto(f"{base}/")
        page.screenshot(path=IMAGES / "overview.png", full_page=True)
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
