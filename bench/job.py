"""What is measured: one `Job`, the same for every peer, small enough to travel as one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["build", "bulk", "web", "own-layers", "graph", "memory"]

SUBJECT = "Ihre Bestellung – vielen Dank"
SENDER = "noreply@contoso.example"
RECIPIENT_NAME = "Änne Müller"
RECIPIENT = "ann@customers.example"
TEXT = "Grüße aus dem Laden. " * 45
HTML = "<p>Grüße aus dem Laden.</p>\n" * 38
FILE_NAME = "Rechnung.pdf"
FILE_TYPE = "application/pdf"
#: The same for peers that are not written in Python.
MESSAGE = {
    "subject": SUBJECT,
    "sender": SENDER,
    "recipient_name": RECIPIENT_NAME,
    "recipient": RECIPIENT,
    "text": TEXT,
    "html": HTML,
    "file_name": FILE_NAME,
    "file_type": FILE_TYPE,
}
#: What a sink must have counted for a small message, at the least: text and HTML, however they are encoded.
SMALL_BYTES = len(TEXT) + len(HTML)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`count` messages, each with text and HTML of 2 KB and, if `attachment_bytes`, a file of that size.

    `kind`: "build" makes the bytes and sends nothing; "bulk" hands a batch over as the library does that best;
    "web" hands over one message after another, each as a request of its own would. `security`: "clear" has no log-in,
    "starttls" has one. `connections` is how many may be open at a time. For "graph" the JSON of `graph` tells where
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


class NotOffered(Exception):
    """The peer has no way to do this job; the text says why, and stands in the table."""
