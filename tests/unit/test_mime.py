from __future__ import annotations

import base64
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

import pytest

from flask_outmail import mime
from flask_outmail.envelope import Envelope
from flask_outmail.errors import InvalidMessage
from flask_outmail.message import Attachment, Message


def build(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"recipients": ["ann@x.example"], "sender": "shop@x.example", "body": "Hi", "date": 0.0}
    return bytes(mime.build(Message(**{**fields, **changes})))


def read(data: bytes) -> EmailMessage:
    return cast(EmailMessage, message_from_bytes(data, policy=policy.default))


SUBJECTS = [
    "Order 17",
    "Größe",
    "表題 " * 40,
    "word " * 60 + "end",
    "x" * 200,
    "x" * 2000,
    "Ё" * 300,
    "👩‍👩‍👧 family " * 20,
    "a\tb",
    "trailing ",
    "two  blanks",
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_is_read_back_as_it_was_written(subject: str) -> None:
    assert read(build(subject=subject))["Subject"] == subject


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_line_is_longer_than_the_standard_allows_and_every_line_ends_in_crlf(subject: str) -> None:
    data = build(subject=subject, body="y" * 5000, html="ü" * 5000, recipients=[f"r{i}@x.example" for i in range(99)])
    lines = data.split(b"\r\n")
    assert max(map(len, lines)) <= mime.MAX_LINE_BYTES
    assert not any(b"\n" in line or b"\r" in line for line in lines)


BODIES = [
    "",
    "Hi",
    "Hi\n",
    "a\nb\r\nc\rd",
    ".\n..\nFrom me\n",
    "ü\n" * 10,
    "日本語" * 500,
    " trailing \n\t\n",
    "=3D=\n",
    "x" * 3000,
]


@pytest.mark.parametrize("body", BODIES)
def test_text_is_read_back_as_it_was_written_whatever_its_line_ends(body: str) -> None:
    part = read(build(body=body, html=body)).get_body(("plain",))
    assert part is not None
    expected = body.replace("\r\n", "\n").replace("\r", "\n")
    assert part.get_content().replace("\r\n", "\n").rstrip("\n") == expected.rstrip("\n")


def test_the_bytes_are_the_same_on_every_build() -> None:
    message = Message("Hi", ["ann@x.example"], "text", html="<p>", sender="shop@x.example", date=1.0)
    message.attach("a.txt", "text/plain", b"x")
    assert mime.build(message) == mime.build(message)


def test_an_inline_image_stands_beside_the_html_that_shows_it() -> None:
    logo = Attachment("logo.png", "image/png", b"png", "inline", {"Content-ID": "<logo>"})
    invoice = Attachment("invoice.pdf", "application/pdf", b"pdf")
    mail = read(build(html='<img src="cid:logo">', attachments=[logo, invoice]))

    assert mail.get_content_type() == "multipart/mixed"
    alternative, attached = mail.iter_parts()
    text, related = alternative.iter_parts()
    html, image = related.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert (html.get_content_type(), image["Content-ID"]) == ("text/html", "<logo>")
    assert attached.get_filename() == "invoice.pdf"


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        'quo"te\\.txt',
        "Ünï cödé – ✓.pdf",
        "名" * 120 + ".txt",
        "a" * 300 + ".txt",
        "semi;colon=.txt",
        "%41.txt",
    ],
)
def test_a_file_name_is_read_back_as_it_was_written(name: str) -> None:
    data = build(attachments=[Attachment(name, "application/pdf", b"x")])
    [part] = read(data).iter_attachments()
    assert part.get_filename() == name
    assert max(map(len, data.split(b"\r\n"))) <= mime.MAX_LINE_BYTES


def test_text_attached_as_str_arrives_as_utf_8() -> None:
    [part] = read(build(attachments=[Attachment("a.txt", "text/plain", "中文é")])).iter_attachments()
    assert part.get_payload(decode=True) == "中文é".encode()


def test_an_attached_message_is_not_base64() -> None:
    inner = build(subject="inner")
    [part] = read(build(attachments=[Attachment("m.eml", "message/rfc822", inner)])).iter_attachments()
    assert part["Content-Transfer-Encoding"] == "7bit"
    assert part.get_content()["Subject"] == "inner"


def test_a_domain_outside_ascii_is_written_in_ascii() -> None:
    assert b"ann@xn--bcher-kva.example" in build(recipients=["ann@bücher.example"])
    with pytest.raises(InvalidMessage, match="domain"):
        build(recipients=["ann@b\u2024.example.-x"])


def test_half_a_character_is_refused_not_mangled() -> None:
    for field in ("body", "subject", "html"):
        with pytest.raises(InvalidMessage):
            build(**{field: "\ud83d"})


def test_a_charset_that_cannot_say_the_text_gives_way_to_utf_8() -> None:
    part = read(build(body="ünï", charset="us-ascii"))
    assert (part.get_content_charset(), part.get_content().strip()) == ("utf-8", "ünï")


def test_bcc_is_in_no_header_unless_a_service_needs_it_there() -> None:
    envelope = Envelope.for_message(
        Message("Hi", ["ann@x.example"], "x", bcc=["bob@x.example"], sender="shop@x.example")
    )
    assert b"bob@x.example" not in bytes(envelope.content)
    assert envelope.recipients == ("ann@x.example", "bob@x.example")
    assert read(bytes(mime.with_bcc(envelope.content, ["bob@x.example"])))["Bcc"] == "bob@x.example"


def test_the_mailbox_is_named_as_sender_only_when_from_is_another() -> None:
    same = mime.build(Message("Hi", ["ann@x.example"], sender="Shop <Shop@x.example>"), mailbox="shop@X.example")
    other = mime.build(Message("Hi", ["ann@x.example"], sender="news@x.example"), mailbox="shop@x.example")
    assert read(bytes(same))["Sender"] is None
    assert str(read(bytes(other))["Sender"]) == "shop@x.example"


def test_several_reply_to_addresses_may_be_given() -> None:
    assert read(build(reply_to=["a@x.example", ("B", "b@x.example")]))["Reply-To"] == "a@x.example, B <b@x.example>"


def test_an_envelope_is_the_same_after_storage() -> None:
    message = Message(
        "Hi", ["ann@x.example"], "ü\n", cc=["cy@x.example"], bcc=["bob@x.example"], sender="shop@x.example"
    )
    envelope = Envelope.for_message(message)
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope


def test_base64_lines_have_at_most_76_characters() -> None:
    data = build(attachments=[Attachment("a.bin", "application/octet-stream", bytes(1000))])
    assert base64.b64encode(bytes(57)) + b"\r\n" in data


def test_a_text_that_guesses_the_delimiter_opens_no_part_of_its_own() -> None:
    message = Message("Hi", ["ann@x.example"], "x", html="<p>x", sender="shop@x.example", date=0.0)
    message.msgId = "<order-17@x.example>"
    found = re.search(rb'boundary="([^"]+)"', bytes(mime.build(message)))
    assert found is not None
    message.body = f"--{found[1].decode()}\n\ninjected\n--{found[1].decode()}--\n"
    message.attach("inner.eml", "message/rfc822", bytes(mime.build(message)))
    mail = read(bytes(mime.build(message)))
    text = mail.get_body(("plain",))
    assert text is not None and text.get_content().replace("\r\n", "\n") == message.body
    assert [part.get_content_type() for part in mail.iter_attachments()] == ["message/rfc822"]
