"""Postfix's smtp-source: a message that is made already, over and over, from C. The practical limit of SMTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask_outmail.envelope import Envelope
from flask_outmail.message import Attachment, Message

from ..job import FILE_NAME, FILE_TYPE, SENDER, Job, NotOffered, order

PROGRAM = shutil.which("smtp-source", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/postfix/sbin")


def version() -> str:
    if PROGRAM is None:
        raise NotOffered("smtp-source is not installed (Debian: apt-get install postfix)")
    postconf = shutil.which("postconf", path=os.path.dirname(PROGRAM))
    if postconf is None:
        return ""
    said = subprocess.run([postconf, "-d", "-h", "mail_version"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind not in ("bulk", "web"):
        raise NotOffered("sends only what is made already")
    if job.security != "clear":
        raise NotOffered("no TLS")
    assert PROGRAM is not None  # noqa: S101
    attachments = [Attachment(FILE_NAME, FILE_TYPE, job.attachment())] if job.attachment_bytes else []
    one = order()
    message = Message(
        one.subject,
        [(one.name, one.address)],
        one.text,
        one.html,
        sender=SENDER,
        attachments=attachments,
        date=1_780_000_000,
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(Envelope.for_message(message).content).replace(b"\r\n", b"\n"))
        file.flush()
        command = [PROGRAM, "-F", file.name, "-f", SENDER, "-t", one.address, "-m", str(job.count)]
        command += ["-s", str(job.connections), *(["-d"] if job.kind == "bulk" else [])]
        command.append(f"{job.host}:{job.port}")
        yield lambda: subprocess.run(command, check=True, capture_output=True)
