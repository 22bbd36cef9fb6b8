"""Red Mail. It does not verify certificates; used as a context manager it keeps one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redmail import EmailSender

from ..job import FILE_NAME, SENDER, Job, NotOffered, order

DISTRIBUTION = "redmail"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind not in ("build", "bulk", "web"):
        raise NotOffered("SMTP only")
    log_in = {"username": job.username, "password": job.password} if job.security == "starttls" else {}
    sender = EmailSender(job.host, job.port, use_starttls=job.security == "starttls", **log_in)
    data = job.attachment()

    def message() -> dict[str, Any]:
        one = order()
        return {
            "subject": one.subject,
            "sender": SENDER,
            "receivers": [f"{one.name} <{one.address}>"],
            "text": one.text,
            "html": one.html,
            "attachments": {FILE_NAME: data} if data else None,
        }

    def build() -> None:
        for _ in range(job.count):
            sender.get_message(**message()).as_bytes()

    def web() -> None:
        for _ in range(job.count):
            sender.send(**message())

    def bulk() -> None:
        with sender:
            web()

    yield {"build": build, "bulk": bulk, "web": web}[job.kind]
