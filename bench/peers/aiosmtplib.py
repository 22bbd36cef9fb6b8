"""aiosmtplib, with the standard library's `EmailMessage`, which is what it sends. It verifies certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import localtime, make_msgid
from typing import Any

from aiosmtplib import SMTP, send

from ..job import FILE_NAME, FILE_TYPE, SENDER, Job, NotOffered, order

DISTRIBUTION = "aiosmtplib"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind not in ("build", "bulk", "web"):
        raise NotOffered("SMTP only")
    options: dict[str, Any] = {"hostname": job.host, "port": job.port, "start_tls": job.security == "starttls"}
    if job.security == "starttls":
        context = ssl.create_default_context(cafile=job.ca_file)
        options |= {"username": job.username, "password": job.password, "tls_context": context}
    data = job.attachment()

    def message() -> EmailMessage:
        made = EmailMessage(policy=SMTP_POLICY)
        one = order()
        made["Subject"], made["From"], made["To"] = one.subject, SENDER, Address(one.name, addr_spec=one.address)
        made["Date"], made["Message-ID"] = localtime(), make_msgid(domain="contoso.example")
        made.set_content(one.text)
        made.add_alternative(one.html, subtype="html")
        if data:
            maintype, _, subtype = FILE_TYPE.partition("/")
            made.add_attachment(data, maintype=maintype, subtype=subtype, filename=FILE_NAME)
        return made

    def build() -> None:
        for _ in range(job.count):
            message().as_bytes()

    async def bulk() -> None:
        async with SMTP(**options) as connection:
            for _ in range(job.count):
                await connection.send_message(message())

    async def web() -> None:
        for _ in range(job.count):
            await send(message(), **options)

    yield {"build": build, "bulk": lambda: asyncio.run(bulk()), "web": lambda: asyncio.run(web())}[job.kind]
