"""SMTP smuggling: whatever a program between takes for a line end, a message ends once, and is one message."""

from __future__ import annotations

import itertools
import re
from email import message_from_bytes
from typing import Any

import pytest

from flask_outmail import Attachment, InvalidMessage, Message
from flask_outmail.envelope import Envelope

from ..smtp.scripted import Server, transport_to
from ..smtp.test_smtp_pipelining import CHUNKING, PIPELINING, PLAIN

BREAKS = ("\r\n", "\n", "\r", "\n\r", "\r\r\n", "\r\0\n", "\x0b", "\x0c", "\x85", "\u2028")
#: The end of a message and the beginning of another, with every mixture of what may be taken for a line end.
POISON = "".join(
    f"x{before}.{after}MAIL FROM:<eve@contoso.example>{after}" for before, after in itertools.product(BREAKS, BREAKS)
)


def written(**fields: Any) -> Message:
    everyday = {"subject": "Order", "sender": "noreply@contoso.example", "recipients": ["ann@customers.example"]}
    return Message(**{**everyday, "body": "Thank you.", **fields})


MESSAGES = {
    "text": written(body=POISON),
    "html": written(html=POISON),
    "calendar": written(alts={"calendar": POISON}),
    "another charset": written(body=POISON.replace("\u2028", ""), charset="iso-8859-1"),
    "file": written(attachments=[Attachment("a.txt", "text/plain", POISON)]),
    "bytes": written(attachments=[Attachment("a.bin", "application/octet-stream", POISON.encode())]),
    "forwarded": written(attachments=[Attachment("a.eml", "message/rfc822", f"Subject: x\n\n{POISON}".encode())]),
    "entity": written(body=None, entity=f"Content-Type: text/plain\n\n{POISON}".replace("\0", "").encode()),
}


@pytest.mark.parametrize("offers", [PLAIN, PIPELINING, CHUNKING], ids=["data", "pipelining", "chunking"])
@pytest.mark.parametrize("name", MESSAGES)
def test_no_line_end_but_crlf_leaves_and_the_message_is_one(name: str, offers: tuple[str, ...]) -> None:
    with Server(offers=offers) as server, transport_to(server) as transport:
        for _ in range(2):
            assert transport.deliver(Envelope.for_message(MESSAGES[name])).accepted
        assert len(server.accepted) == 2
        for one in server.accepted:
            assert not re.search(rb"\r(?!\n)|(?<!\r)\n", one.content)
            assert message_from_bytes(one.content)["Subject"] == "Order"
            assert one.sender == "noreply@contoso.example"


@pytest.mark.parametrize("field", ["subject", "sender", "reply_to", "body_of_a_header"])
@pytest.mark.parametrize("separator", ["\r\n", "\n", "\r", "\n\r", "\0"])
def test_no_header_carries_a_line_end_out(field: str, separator: str) -> None:
    value = f"x{separator}.{separator}MAIL FROM:<eve@contoso.example>"
    fields: dict[str, Any] = {field: value}
    if field == "body_of_a_header":
        fields = {"extra_headers": {"X-Note": value}}
    elif field != "subject":
        fields = {field: (value, "noreply@contoso.example")}
    with pytest.raises(InvalidMessage):
        Envelope.for_message(written(**fields))
