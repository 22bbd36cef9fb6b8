"""What is measured: one `Job`, the same for every peer, small enough to travel as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kind = Literal["build", "bulk", "web", "own-layers", "graph", "memory"]

SENDER = "noreply@contoso.example"
FILE_NAME = "Rechnung.pdf"
FILE_TYPE = "application/pdf"
_TEXT = "Grüße aus dem Laden. " * 45
_HTML = "<p>Grüße aus dem Laden.</p>\n" * 38
#: What a sink must have counted for a small message, at the least: text and HTML, however they are encoded.
SMALL_BYTES = len(_TEXT) + len(_HTML)


class Order(NamedTuple):
    """What is different in every message, so that no library can answer from memory."""

    subject: str
    name: str
    address: str
    text: str
    html: str


_numbers = count(1)


def order() -> Order:
    """The next one; its number has not been used by this process."""
    number = next(_numbers)
    return Order(
        subject=f"Ihre Bestellung {number} – vielen Dank",
        name=f"Änne Müller {number}",
        address=f"ann{number}@customers.example",
        text=f"Bestellung {number}\n{_TEXT}",
        html=f"<h1>Bestellung {number}</h1>\n{_HTML}",
    )


#: The same for a peer that is not written in Python; # stands for the number.
MESSAGE = {
    "sender": SENDER,
    "file_name": FILE_NAME,
    "file_type": FILE_TYPE,
    "subject": "Ihre Bestellung # – vielen Dank",
    "name": "Änne Müller #",
    "address": "ann#@customers.example",
    "text": f"Bestellung #\n{_TEXT}",
    "html": f"<h1>Bestellung #</h1>\n{_HTML}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`count` messages, each with text and HTML of 2 KB and, if `attachment_bytes`, a file of that size.

    `kind`: "build" makes the bytes and sends nothing; "bulk" hands a batch over as the library does that best;
    "web" hands over one message after another, each as a request of its own would. `security`: "clear" has no log-in,
    "starttls" has one. `connections` is how many may be open at a time, `window` how
    many messages may be under way on one. For "graph" the JSON of `graph` tells where
    Entra and Graph are. `attachment_path` is a file for "memory".
    """

    kind: Kind
    count: int
    attachment_bytes: int = 0
    host: str = "localhost"
    port: int = 25
    security: Literal["clear", "starttls"] = "clear"
    username: str = ""
    password: str = ""
    ca_file: str = ""
    connections: int = 1
    window: int = 1
    way: str = ""
    graph: str = ""
    attachment_path: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        return cls(**json.loads(line))

    def attachment(self) -> bytes:
        """Bytes that hold every value, the same each time."""
        return (bytes(range(256)) * (self.attachment_bytes // 256 + 1))[: self.attachment_bytes]

    @property
    def path(self) -> Path:
        return Path(self.attachment_path)


def order_as(make: Callable[..., Any], data: bytes) -> Any:
    """An order in the words of Django's `EmailMultiAlternatives`, which Flask-Mailman has too."""
    one = order()
    made = make(one.subject, one.text, SENDER, [f"{one.name} <{one.address}>"])
    made.attach_alternative(one.html, "text/html")
    if data:
        made.attach(FILE_NAME, data, FILE_TYPE)
    return made


class NotOffered(Exception):
    """The peer has no way to do this job; the text says why, and stands in the table."""
