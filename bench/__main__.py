"""`make bench`: the time a message costs, beside Flask-Mail, both measured in this run, interleaved.

Absolute figures drift with the machine; the ratios are what to look at.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import flask_mail
from flask import Flask

import flask_outmail
from flask_outmail.simulator import Simulator

ROUNDS = 7


def fields() -> dict[str, Any]:
    return {
        "subject": "Ihre Bestellung – vielen Dank",
        "recipients": ["Änne Müller <ann@customers.example>"],
        "sender": "noreply@contoso.example",
        "body": "Grüße aus dem Laden. " * 50,
        "html": "<p>Grüße aus dem Laden.</p>" * 40,
        "date": 1_780_000_000.0,
    }


def message(library: Any, attachment_bytes: int) -> Any:
    made = library.Message(**fields())
    if attachment_bytes:
        made.attach("file.bin", "application/octet-stream", bytes(attachment_bytes))
    return made


def building(app: Flask, attachment_bytes: int) -> dict[str, Callable[[], None]]:
    def build(library: Any) -> Callable[[], None]:
        def once() -> None:
            with app.app_context():
                message(library, attachment_bytes).as_bytes()

        return once

    return {"flask-mail": build(flask_mail), "flask-outmail": build(flask_outmail)}


def sending(simulator: Simulator) -> dict[str, Callable[[], None]]:
    config = {
        "MAIL_SERVER": simulator.smtp_host,
        "MAIL_PORT": simulator.smtp_port,
        "MAIL_USE_TLS": True,
        "MAIL_USERNAME": simulator.mailbox,
        "MAIL_PASSWORD": simulator.smtp_password,
        "OUTMAIL_CA_FILE": str(simulator.ca_file),
    }

    def send(library: Any) -> Callable[[], None]:
        app = Flask("bench")
        app.config.update(config)
        mail = library.Mail(app)

        def once() -> None:
            with app.app_context():
                mail.send(message(library, 0))

        return once

    return {"flask-mail": send(flask_mail), "flask-outmail": send(flask_outmail)}


def measure(title: str, runs: dict[str, Callable[[], None]], repeat: int) -> str:
    """Medians over interleaved rounds, so that a slow moment of the machine hits both."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            for _ in range(repeat):
                run()
            times[name].append((time.perf_counter() - started) / repeat)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["flask-mail"] / medians["flask-outmail"]
    cells = " | ".join(f"{median * 1000:.2f} ms" for median in medians.values())
    return f"| {title} | {cells} | {ratio:.1f} × |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=30, help="messages in each round (default 30)")
    repeat = parser.parse_args().repeat
    app = Flask("bench")
    app.config["TESTING"] = True
    flask_mail.Mail(app)
    print("| what | Flask-Mail | Flask-Outmail | faster by |")
    print("| --- | --- | --- | --- |")
    print(measure("build 2 KB text and HTML", building(app, 0), repeat))
    print(measure("build with a 1 MB attachment", building(app, 1_000_000), max(1, repeat // 10)))
    with Simulator() as simulator:
        print(measure("send over STARTTLS with log-in (ours verifies)", sending(simulator), max(1, repeat // 3)))


if __name__ == "__main__":
    main()
