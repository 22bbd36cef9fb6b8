"""Flask-Mailman. It does not verify certificates; a batch goes over one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Flask
from flask_mailman import EmailMultiAlternatives, Mail

from ..job import Job, NotOffered, order_as

DISTRIBUTION = "flask-mailman"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind not in ("build", "bulk", "web"):
        raise NotOffered("SMTP only")
    app = Flask("bench")
    app.config.update(MAIL_SERVER=job.host, MAIL_PORT=job.port)
    if job.security == "starttls":
        app.config.update(MAIL_USE_TLS=True, MAIL_USERNAME=job.username, MAIL_PASSWORD=job.password)
    mail = Mail(app)
    data = job.attachment()

    def message() -> EmailMultiAlternatives:
        return order_as(EmailMultiAlternatives, data)

    def build() -> None:
        for _ in range(job.count):
            message().message().as_bytes()

    def bulk() -> None:
        with mail.get_connection() as connection:
            for _ in range(job.count):
                connection.send_messages([message()])

    def web() -> None:
        for _ in range(job.count):
            with app.app_context():
                message().send()

    with app.app_context():
        yield {"build": build, "bulk": bulk, "web": web}[job.kind]
