from __future__ import annotations

from typing import Any

import pytest

from flask_outmail.envelope import Envelope
from flask_outmail.errors import BadHeaderError, InvalidMessage, MissingRecipients, MissingSender
from flask_outmail.message import Address, Attachment, Message


def message(**changes: Any) -> Message:
    fields: dict[str, Any] = {"recipients": ["ann@x.example"], "sender": "shop@x.example", "body": "Hi"}
    return Message(**{**fields, **changes})


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("ann@x.example", "", "ann@x.example"),
        ("  ann@x.example ", "", "ann@x.example"),
        ("Ann <ann@x.example>", "Ann", "ann@x.example"),
        ("Doe, Ann <ann@x.example>", "Doe, Ann", "ann@x.example"),
        ('"Doe, \\"Ann\\"" <ann@x.example>', 'Doe, "Ann"', "ann@x.example"),
        ("Ann <ann@x.example>>", "Ann", "ann@x.example"),
        ("<ann@x.example>", "", "ann@x.example"),
        ("Ann <a> <ann@x.example>", "Ann <a>", "ann@x.example"),
        (("Ann", "ann@x.example"), "Ann", "ann@x.example"),
        ((None, "ann@x.example"), "", "ann@x.example"),
        (("Ann", "ann@x.example>"), "Ann", "ann@x.example"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: Any, name: str, address: str) -> None:
    assert Address.parse(text) == Address(name, address)


@pytest.mark.parametrize(
    "address",
    ["", "ann", "@x.example", "ann@", "a b@x.example", "ann@x.example, bob@x.example", "a@b@c.example", "ann@x example",
     "ann;bob@x.example", "Ann <ann>", "ann@x.example\x00"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["recipients", "cc", "bcc"])
def test_what_is_not_one_address_is_refused_and_its_field_named(field: str, address: str) -> None:
    bad = message(**{field: [address]})
    if field != "recipients":
        bad.recipients = ["ann@x.example"]
    with pytest.raises(InvalidMessage, match=field):
        bad.check()


BREAKS = ["\r\nBcc: evil@x.example", "\nX: y", "\rX: y", "x\r\n", "\r\n\r\nbody"]


@pytest.mark.parametrize("poison", BREAKS)
@pytest.mark.parametrize(
    "field",
    ["subject", "sender", "sender name", "recipients", "recipient name", "cc", "bcc", "reply_to", "reply_to list",
     "header name", "header value", "filename", "content_type", "disposition", "attachment header", "mail_options",
     "rcpt_options"],
)  # fmt: skip
def test_a_line_break_in_any_field_is_refused(field: str, poison: str) -> None:
    made = {
        "subject": lambda: message(subject="Hi" + poison),
        "sender": lambda: message(sender="shop@x.example" + poison),
        "sender name": lambda: message(sender=("Shop" + poison, "shop@x.example")),
        "recipients": lambda: message(recipients=["ann@x.example" + poison]),
        "recipient name": lambda: message(recipients=[("Ann" + poison, "ann@x.example")]),
        "cc": lambda: message(cc=["ann@x.example" + poison]),
        "bcc": lambda: message(bcc=["ann@x.example" + poison]),
        "reply_to": lambda: message(reply_to="ann@x.example" + poison),
        "reply_to list": lambda: message(reply_to=["a@x.example", "ann@x.example" + poison]),
        "header name": lambda: message(extra_headers={"X-A" + poison: "b"}),
        "header value": lambda: message(extra_headers={"X-A": "b" + poison}),
        "filename": lambda: message(attachments=[Attachment("a.txt" + poison, "text/plain", b"x")]),
        "content_type": lambda: message(attachments=[Attachment("a.txt", "text/plain" + poison, b"x")]),
        "disposition": lambda: message(attachments=[Attachment("a.txt", "text/plain", b"x", "inline" + poison)]),
        "attachment header": lambda: message(
            attachments=[Attachment("a.txt", "text/plain", b"x", headers={"Content-ID": "<a>" + poison})]
        ),
        "mail_options": lambda: message(mail_options=["SIZE=1" + poison]),
        "rcpt_options": lambda: message(rcpt_options=["NOTIFY=NEVER" + poison]),
    }[field]()
    with pytest.raises(BadHeaderError):
        made.check()


def test_a_well_folded_subject_passes() -> None:
    message(subject="one\r\n two\r\n\tthree").check()


@pytest.mark.parametrize("header", ["Bcc", "to", "From", "Subject", "Content-Type", "MIME-Version"])
def test_a_header_that_the_message_makes_itself_cannot_be_given_twice(header: str) -> None:
    with pytest.raises(InvalidMessage, match=header):
        message(extra_headers={header: "x"}).check()


def test_a_message_needs_a_recipient_and_a_sender() -> None:
    with pytest.raises(MissingRecipients):
        message(recipients=[]).check()
    with pytest.raises(MissingSender):
        message(sender=None).check()
    message(recipients=[], bcc=["ann@x.example"]).check()


def test_one_address_in_place_of_a_list_is_one_recipient() -> None:
    assert message(recipients="ann@x.example").send_to == {"ann@x.example"}


def test_html_given_as_an_alternative_is_kept() -> None:
    assert message(alts={"html": "<p>Hi</p>"}).html == "<p>Hi</p>"


def test_an_attachment_without_data_is_refused() -> None:
    with pytest.raises(ValueError, match="data"):
        Attachment("a.txt")


def test_a_repr_shows_neither_addresses_nor_subject() -> None:
    shown = repr(message(subject="Your diagnosis"))
    assert "diagnosis" not in shown and "ann@" not in shown


def test_the_message_id_is_of_the_senders_domain_and_names_no_machine() -> None:
    assert message().msgId.endswith("@x.example>")
    later = message(sender=None)
    later.sent_by("Shop <shop@shop.example>")
    assert later.msgId.endswith("@shop.example>")


def test_recipients_and_attachments_that_can_be_read_once_are_read_once() -> None:
    once = message(
        recipients=(f"{name}@x.example" for name in ("ann", "bob")),
        attachments=(Attachment(name, "text/plain", b"x") for name in ("a.txt", "b.txt")),
    )
    envelope = Envelope.for_message(once)
    assert envelope.recipients == ("ann@x.example", "bob@x.example")
    assert [file.name for file in envelope.content.files] == ["a.txt", "b.txt"]


@pytest.mark.parametrize("data", [5, 10**9, ["x"], object()])
def test_an_attachment_of_no_kind_of_bytes_is_refused(data: Any) -> None:
    with pytest.raises(InvalidMessage):
        Envelope.for_message(message(attachments=[Attachment("a", "text/plain", data)]))


@pytest.mark.parametrize(
    "changes",
    [
        {"importance": "urgent"},
        {"in_reply_to": "<a b@x.example>"},
        {"in_reply_to": "<1@x.example>\r\nBcc: spy@x.example"},
        {"references": ["<1@x.example>", "two words"]},
        {"unsubscribe": "javascript:alert(1)"},
        {"unsubscribe": ["https://x.example/a>, <https://evil.example"]},
        {"unsubscribe": "mailto:leave@x.example", "unsubscribe_post": True},
        {"unsubscribe_post": True},
        {"auto_submitted": "auto-generated\r\nBcc: spy@x.example"},
        {"read_receipt_to": "nobody"},
        {"envelope_from": "a@x.example, b@x.example"},
        {"alts": {"calendar; charset=x": "x"}},
        {"alts": {"calendar; method": "x"}},
        {"entity": b"Subject: spy\r\n\r\nx"},
        {"entity": b"Content-Type: text/plain\r\nBcc: spy@x.example\r\n\r\nx", "body": None},
        {"entity": b"no headers", "body": None},
        {"entity": "Content-Type: text/plain\r\n\r\nx", "body": None},
        {"entity": b"Content-Type: text/plain\r\n\r\n" + b"x" * 999, "body": None},
        {"entity": b"Content-Type: text/plain\r\n\r\nx", "html": "<p>"},
    ],
)
def test_a_field_that_cannot_say_what_it_holds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        Envelope.for_message(message(**changes))


def test_a_thread_may_be_given_as_it_stands_in_the_header() -> None:
    assert message(references="<1@x.example> <2@x.example>").thread == ["<1@x.example>", "<2@x.example>"]
