"""Flask-Mail. It does not verify certificates; it connects anew for each `send`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Flask
from flask_mail import Mail, Message

from ..job import FILE_NAME, FILE_TYPE, SENDER, Job, NotOffered, order

DISTRIBUTION = "flask-mail"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    app = Flask("bench")
    app.config.update(MAIL_SERVER=job.host, MAIL_PORT=job.port)
    if job.security == "starttls":
        app.config.update(MAIL_USE_TLS=True, MAIL_USERNAME=job.username, MAIL_PASSWORD=job.password)
    mail = Mail(app)
    data = job.attachment()

    def message() -> Message:
        one = order()
        made = Message(one.subject, [(one.name, one.address)], one.text, one.html, sender=SENDER)
        if data:
            made.attach(FILE_NAME, FILE_TYPE, data)
        return made

    def build() -> None:
        for _ in range(job.count):
            message().as_bytes()

    def bulk() -> None:
        with mail.connect() as connection:
            for _ in range(job.count):
                connection.send(message())

    def web() -> None:
        for _ in range(job.count):
            with app.app_context():
                mail.send(message())

    def memory() -> None:
        made = message()
        made.attach(FILE_NAME, FILE_TYPE, job.path.read_bytes())
        mail.send(made)

    ways = {"build": build, "bulk": bulk, "web": web, "memory": memory}
    if job.kind not in ways:
        raise NotOffered("SMTP only")
    if job.kind == "web":
        yield web
        return
    with app.app_context():
        if job.kind == "memory":
            mail.send(Message("first", [order().address], "first", sender=SENDER))
        yield ways[job.kind]
