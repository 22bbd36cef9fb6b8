"""Django's mail. It verifies certificates, and reads the authorities again for each connection."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection

from ..job import Job, NotOffered, order_as

DISTRIBUTION = "django"
settings.configure()
django.setup()


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind not in ("build", "bulk", "web"):
        raise NotOffered("SMTP only")
    log_in = {"username": job.username, "password": job.password, "use_tls": True}
    options = {"host": job.host, "port": job.port, **(log_in if job.security == "starttls" else {})}
    backend = "django.core.mail.backends.smtp.EmailBackend"
    data = job.attachment()

    def message() -> EmailMultiAlternatives:
        return order_as(EmailMultiAlternatives, data)

    def build() -> None:
        for _ in range(job.count):
            message().message().as_bytes()

    def bulk() -> None:
        with get_connection(backend, **options) as connection:
            for _ in range(job.count):
                connection.send_messages([message()])

    def web() -> None:
        for _ in range(job.count):
            get_connection(backend, **options).send_messages([message()])

    # Where OpenSSL looks for authorities: read again for each connection.
    os.environ["SSL_CERT_FILE"] = job.ca_file
    yield {"build": build, "bulk": bulk, "web": web}[job.kind]
