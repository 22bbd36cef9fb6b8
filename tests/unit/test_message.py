from __future__ import annotations

import re
from pathlib import Path
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
    with pytest.raises(InvalidMessage, match=rf"^{field}\b"):
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


def test_a_message_of_which_nothing_is_said_says_nothing() -> None:
    made = Message()
    assert (made.subject, made.tag, made.alts, made.sender) == ("", "", {}, None)
    assert [made.recipients, made.cc, made.bcc, made.attachments, made.thread] == [[], [], [], [], []]
    assert [made.mail_options, made.rcpt_options, made.unsubscribe_links] == [[], [], ()]
    assert not made.has_more_headers and not made.unsubscribe_post


def test_lists_are_kept_and_what_can_be_read_once_becomes_one() -> None:
    given: list[Any] = [["ann@x.example"], ["cy@x.example"], ["bob@x.example"], [NOTE]]
    kept = Message(recipients=given[0], cc=given[1], bcc=given[2], attachments=given[3])
    for ours, theirs in zip([kept.recipients, kept.cc, kept.bcc, kept.attachments], given, strict=True):
        assert ours is theirs
    empty: list[Any] = []
    filled_later = Message(recipients=empty, cc=empty, bcc=empty, attachments=empty)
    assert filled_later.recipients is filled_later.cc is filled_later.bcc is filled_later.attachments is empty
    filled_later.add_recipient("ann@x.example")
    tuples = Message(recipients=("ann@x.example",))
    tuples.add_recipient("bob@x.example")
    assert tuples.recipients == ["ann@x.example", "bob@x.example"]
    read = Message(recipients=iter(given[0]), cc=iter(given[1]), bcc=iter(given[2]), attachments=iter(given[3]))  # type: ignore[arg-type]
    assert [read.recipients, read.cc, read.bcc, read.attachments] == given
    assert Message(cc="cy@x.example", bcc="bob@x.example").send_to == {"cy@x.example", "bob@x.example"}


def test_who_stands_in_for_a_sender_can_be_told_from_one_that_was_given() -> None:
    class Ours(Message):
        def _default_sender(self) -> tuple[str | None, str]:
            return ("Shop", "shop@x.example")

    assert (Ours().sender, Ours().default_sender_used) == ("Shop <shop@x.example>", "Shop <shop@x.example>")
    given = Ours(sender=(None, "ann@x.example"))
    assert (given.sender, given.default_sender_used) == ("ann@x.example", None)


@pytest.mark.parametrize(
    ("calendar", "subtype"),
    [
        ("BEGIN:VCALENDAR\r\nmethod:Request \r\n", "calendar; method=REQUEST"),
        ("BEGIN:VCALENDAR\nX-METHOD:REQUEST\n", "calendar"),
    ],
)
def test_an_invitation_says_the_method_of_its_text_and_html_given_apart_wins(calendar: str, subtype: str) -> None:
    made = message(html="<p>Hi</p>", alts=[("html", "<p>other</p>")], calendar=calendar)
    assert made.alts == {"html": "<p>Hi</p>", subtype: calendar}


def test_html_may_be_assigned_and_taken_away() -> None:
    made = message(alts={"x-amp": "x"})
    made.html = "<p>Hi</p>"
    assert made.alts == {"x-amp": "x", "html": "<p>Hi</p>"}
    made.html = None
    made.html = None
    assert (made.html, made.alts) == (None, {"x-amp": "x"})


def test_an_attachment_without_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^an attachment needs data"):
        Attachment("a.txt")


def test_a_repr_shows_neither_addresses_nor_subject() -> None:
    shown = repr(message(subject="Your diagnosis"))
    assert "diagnosis" not in shown and "ann@" not in shown


def test_date_and_charset_stand_as_they_were_given() -> None:
    made = message(date=1_780_000_000.0, charset="iso-8859-1", body="Grüße")
    content = bytes(Envelope.for_message(made).content)
    assert b"28 May 2026" in content and b'charset="iso-8859-1"' in content


def test_the_message_id_is_of_the_senders_domain_and_names_no_machine() -> None:
    assert re.fullmatch(r"<\d{16}\.[0-9a-f]{18}@x\.example>", message().msgId)
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


NOTE = Attachment("a.txt", "text/plain", b"x")


def attached(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"filename": "a.txt", "content_type": "text/plain", "data": b"x", **changes}
    return {"attachments": [Attachment(**given)]}


@pytest.mark.parametrize(
    ("changes", "kind", "code", "said"),
    [
        ({"recipients": []}, MissingRecipients, "recipients_missing", "the message has no recipients"),
        ({"sender": None}, MissingSender, "sender_missing", "the message has no sender"),
        ({"subject": "a\nb"}, BadHeaderError, "header_line_break", "subject holds a line break"),
        ({"subject": "a\0b"}, BadHeaderError, "header_control", "subject holds a control character"),
        ({"sender": "a\n@x.example"}, BadHeaderError, "header_line_break", "sender holds"),
        ({"reply_to": ["a@x.example", "b"]}, InvalidMessage, "address_invalid", "reply_to: 'b' is not"),
        ({"reply_to": ("A", "b")}, InvalidMessage, "address_invalid", "reply_to: 'b' is not"),
        ({"envelope_from": "b"}, InvalidMessage, "address_invalid", "envelope_from: 'b' is not"),
        ({"read_receipt_to": "b"}, InvalidMessage, "address_invalid", "read_receipt_to: 'b' is not"),
        ({"extra_headers": {"X A": "b"}}, BadHeaderError, "header_name", "extra_headers: 'X A' is not"),
        ({"extra_headers": {"Bcc": "b"}}, InvalidMessage, "header_computed", "extra_headers: Bcc is made"),
        ({"extra_headers": {"X-A": "b\nc"}}, BadHeaderError, "header_line_break", "extra_headers['X-A'] holds"),
        ({"alts": {"calendar; method": "x"}}, BadHeaderError, "header_name", "alts: 'calendar; method' is not"),
        ({"alts": {"calendar; CHARSET=x": "x"}}, BadHeaderError, "header_name", "alts: 'calendar; CHARSET=x' is"),
        ({"alts": {"HTML\n": "x"}}, BadHeaderError, "header_name", "alts: 'HTML\\n' is not"),
        ({"mail_options": ["SIZE=1\n"]}, BadHeaderError, "header_control", "an ESMTP option holds"),
        ({"mail_options": ["SIZE=ü"]}, BadHeaderError, "header_control", "an ESMTP option holds"),
        ({"rcpt_options": ["NOTIFY=\0"]}, BadHeaderError, "header_control", "an ESMTP option holds"),
        (attached(filename="a\n"), BadHeaderError, "header_line_break", "attachment filename holds"),
        (attached(filename="a\0"), BadHeaderError, "header_line_break", "attachment filename holds"),
        (attached(content_type="a/b\n"), BadHeaderError, "header_line_break", "attachment content_type holds"),
        (attached(content_type="pdf"), InvalidMessage, "attachment_type", "attachment content_type 'pdf' is not"),
        (attached(content_type="a/b;" + "x" * 497), InvalidMessage, "attachment_type", "attachment content_type 'a/b;"),
        (attached(disposition="inline\n"), BadHeaderError, "header_line_break", "attachment disposition holds"),
        (attached(disposition="form-data"), BadHeaderError, "header_name", "attachment disposition must be"),
        (attached(headers={"X A": "b"}), BadHeaderError, "header_name", "attachment header 'X A' is not"),
        (attached(headers={"Content-Type": "b"}), BadHeaderError, "header_name", "attachment header 'Content-Type'"),
        (attached(headers={"X-A": "b\nc"}), BadHeaderError, "header_line_break", "attachment header X-A holds"),
        ({"importance": "urgent"}, InvalidMessage, "field_invalid", "importance is high"),
        ({"in_reply_to": "a b"}, InvalidMessage, "field_invalid", "in_reply_to, references: 'a b' is not"),
        ({"references": ["<1@x>", "a b"]}, InvalidMessage, "field_invalid", "in_reply_to, references: 'a b' is not"),
        ({"auto_submitted": "by a robot"}, InvalidMessage, "field_invalid", "auto_submitted is a keyword"),
        ({"unsubscribe": "ftp://x"}, InvalidMessage, "field_invalid", "unsubscribe: 'ftp://x' is not"),
        ({"unsubscribe_post": True}, InvalidMessage, "field_invalid", "unsubscribe_post needs an https link"),
    ],
)
def test_a_refusal_names_the_field_and_has_the_code_of_its_remedy(
    changes: dict[str, Any], kind: type[InvalidMessage], code: str, said: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        message(**changes).check()
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "changes",
    [
        {"recipients": [], "cc": ["ann@x.example"]},
        {"recipients": [], "bcc": ["ann@x.example"]},
        {"reply_to": ["a@x.example"]},
        {"reply_to": ["a@x.example", ("B", "b@x.example"), "c@x.example"]},
        {"importance": "high"},
        {"importance": "normal"},
        {"importance": "low"},
        {"in_reply_to": "<1@x.example>", "references": ["<0@x.example>"]},
        {"auto_submitted": "auto-generated; type=receipt"},
        {"unsubscribe": "mailto:leave@x.example"},
        {"unsubscribe": ["mailto:leave@x.example", "https://x.example/leave"], "unsubscribe_post": True},
        {"alts": {"HTML": "x", "x-amp; name=x": "x"}},
        {"mail_options": ["SIZE=1"], "rcpt_options": ["NOTIFY=NEVER"]},
        {"extra_headers": {"X-A": "one\r\n two", "x" * 200: "b"}},
        attached(content_type="a/b;" + "x" * 496),
        attached(filename="", headers={"X-A": "b"}, disposition="inline"),
    ],
)
def test_what_the_fields_are_for_passes(changes: dict[str, Any]) -> None:
    message(**changes).check()


def test_only_a_missing_sender_may_come_later() -> None:
    message(sender=None).check(sender_later=True)
    with pytest.raises(MissingRecipients):
        message(sender=None, recipients=[]).check(sender_later=True)


def test_a_message_id_that_was_assigned_is_checked_too() -> None:
    made = message()
    made.msgId = "<1@x.example>\r\nX: y"
    with pytest.raises(BadHeaderError, match=r"^msgId holds"):
        made.check()


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({}, False),
        ({"subject": ""}, False),
        ({"subject": "a\nb"}, True),
        ({"sender": "a\n@x.example"}, True),
        ({"reply_to": "a\n@x.example"}, True),
        ({"recipients": ["one is no address"]}, False),
        ({"recipients": [("a\n", "ann@x.example")]}, True),
    ],
)
def test_line_breaks_can_be_asked_about(changes: dict[str, Any], bad: bool) -> None:
    assert message(**changes).has_bad_headers() is bad


@pytest.mark.parametrize(
    ("filename", "data", "content_type"),
    [
        ("a.pdf", b"x", "application/pdf"),
        ("a.pdf", "x", "application/pdf"),
        ("a", "x", "text/plain"),
        (None, "x", "text/plain"),
        (None, b"x", "application/octet-stream"),
        (None, Path("of/report.pdf"), "application/pdf"),
    ],
)
def test_the_type_of_an_attachment_is_guessed_from_its_name_and_then_its_kind(
    filename: str | None, data: Any, content_type: str
) -> None:
    assert Attachment(filename, data=data).content_type == content_type


def test_attach_hands_everything_on() -> None:
    made = message()
    made.attach("a.png", "image/x-own", b"x", "attachment", {"X-A": "b"}, content_id="logo")
    made.attach(data=Path("of/report.pdf"), content_id="<X-chart-X>")
    first, second = made.attachments
    assert (first.filename, first.content_type, first.data) == ("a.png", "image/x-own", b"x")
    assert (first.disposition, first.headers) == ("attachment", {"X-A": "b", "Content-ID": "<logo>"})
    assert (second.filename, second.disposition, second.content_id) == ("report.pdf", "inline", "<X-chart-X>")
    assert (NOTE.disposition, NOTE.headers, NOTE.content_id) == ("attachment", {}, "")
    assert Attachment("a", data=b"x", headers={"CONTENT-id": "<b>"}).content_id == "<b>"


def test_a_repr_of_an_attachment_shows_its_size_and_not_what_it_holds() -> None:
    assert repr(NOTE) == "<Attachment 'a.txt' text/plain 1>"
    assert repr(Attachment(data=Path("of/report.pdf"))) == "<Attachment 'report.pdf' application/pdf file>"


def test_who_sends_and_receives_may_be_filled_in_later() -> None:
    made = message(sender=None)
    made.sent_by("shop@x.example")
    made.add_recipient("bob@x.example")
    assert made.sender == "shop@x.example"
    assert made.recipients == ["ann@x.example", "bob@x.example"]
    assert repr(made) == f"<Message {made.msgId}>"
