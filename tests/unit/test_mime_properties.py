"""Whatever a message holds, the standard parser reads back what was meant, and the bytes keep to the rules of mail."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_outmail import mime
from flask_outmail.envelope import Envelope
from flask_outmail.errors import InvalidMessage
from flask_outmail.headers import MAX_LINE_BYTES, WRAP_CHARS
from flask_outmail.message import Attachment, Message

# The same examples on every run: a failure that comes and goes helps nobody.
settings.register_profile(
    "mail",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mail")

# What `check` lets pass in a header and every reader shows as it is: no controls, no line ends of any script.
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"))
#: Texts that are mostly words, with what has broken mail before.
WORDS = st.lists(
    st.one_of(
        st.sampled_from(["Größe", "表題", "Ёлка", "👩‍👩‍👧", "=?utf-8?q?x?=", "=?", "?=", '"', "\\", "a" * 70, "ü" * 40,
                         "x" * 990, "مرحبا", "<a@b>", ",", ";", "(", "", "  ", "=", "=20", "_", "$", "%41", "'"]),
        LINE,
    )
).map(" ".join)  # fmt: skip
ANY_TEXT = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), WORDS)
BODY = st.one_of(
    ANY_TEXT,
    st.lists(st.one_of(ANY_TEXT, st.sampled_from([".", "..", "From x", " ", "\t", "--", "=", "x" * 2000]))).map(
        "\n".join
    ),
    st.lists(ANY_TEXT).map("\r\n".join),
)
LOCAL = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=60)
DOMAIN = st.sampled_from(["x.example", "mail.x.example", "bücher.example", "例え.example", "a-b.example"])
ADDRESS = st.builds("{}@{}".format, LOCAL, DOMAIN)


def parsed(data: bytes) -> EmailMessage:
    return cast(EmailMessage, message_from_bytes(data, policy=policy.default))


def envelope(**changes: Any) -> Envelope:
    fields: dict[str, Any] = {"recipients": ["ann@x.example"], "sender": "shop@x.example", "body": "Hi", "date": 0.0}
    return Envelope.for_message(Message(**{**fields, **changes}))


def built(**changes: Any) -> bytes:
    data = bytes(envelope(**changes).content)
    keeps_to_the_rules(data)
    return data


def keeps_to_the_rules(data: bytes) -> None:
    lines = data.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert max(map(len, lines)) <= MAX_LINE_BYTES
    assert data.isascii()
    head = data.partition(b"\r\n\r\n")[0]
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", head)
    for word in re.findall(rb"=\?utf-8\?[bq]\?[^?]*\?=", head):
        assert len(word) <= 75
        # Not cut inside a character: each word is a text by itself.
        str(make_header(decode_header(word.decode())))


def text_of(part: EmailMessage) -> str:
    content: bytes = part.get_payload(decode=True)
    return content.decode(part.get_content_charset("ascii")).replace("\r\n", "\n")


def lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.one_of(LINE, WORDS))
def test_a_subject(subject: str) -> None:
    mail = parsed(built(subject=subject))
    assert (mail["Subject"] or "") == subject


@given(st.one_of(LINE, WORDS))
def test_lines_of_a_subject_are_short_where_its_words_allow_it(subject: str) -> None:
    data = built(subject=subject)
    field = re.search(rb"(?m)^Subject: .*(?:\r\n[ \t].*)*", data)
    if field and max(map(len, subject.split(" "))) < 60:
        assert max(map(len, field[0].split(b"\r\n"))) <= WRAP_CHARS


PERSON = st.tuples(st.one_of(LINE, WORDS).map(lambda name: name[:500]), ADDRESS)


@given(st.lists(PERSON, min_size=1, max_size=5))
def test_names_and_addresses(people: list[tuple[str, str]]) -> None:
    data = built(recipients=people)
    # By the older interface: the newer parser puts blanks between the encoded words of a name (Python issue 79728).
    raw = message_from_bytes(data)["To"]
    for name, address in people:
        assert on_the_wire(address) in raw
        if "=?" in name or not name.isascii():
            assert name.strip() in str(make_header(decode_header(raw)))
    # It also takes two blanks inside an encoded word for one.
    read = [(" ".join(one.display_name.split()), one.addr_spec) for one in parsed(data)["To"].addresses]
    assert len(read) == len({(name.strip(), on_the_wire(address)) for name, address in people})
    for name, address in people:
        if len(name.encode()) <= 30:
            assert (" ".join(name.split()), on_the_wire(address)) in read


def on_the_wire(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}"


@given(BODY, st.none() | BODY, st.none() | BODY)
def test_texts_and_alternatives(body: str, html: str | None, calendar: str | None) -> None:
    mail = parsed(built(body=body, html=html, calendar=calendar))
    parts = [part for part in mail.walk() if not part.is_multipart()]
    assert [text_of(part) for part in parts] == [lf(one) for one in (body, html, calendar) if one is not None]
    assert not mail.defects and not any(part.defects for part in parts)


@given(
    BODY, st.sampled_from(["utf-8", "iso-8859-1", "us-ascii", "utf-16", "iso-2022-jp", "koi8-r", "gb18030", "none?"])
)
def test_texts_in_any_charset(body: str, charset: str) -> None:
    mail = parsed(built(subject="Größe", body=body, charset=charset))
    assert mail["Subject"] == "Größe"
    assert text_of(mail) == lf(body)


NAME = st.one_of(LINE, WORDS).map(lambda name: name[:300])
TYPE = st.sampled_from(["application/pdf", "image/png", "text/plain", "text/csv; header=present", "application/x-ä"])


@given(st.lists(st.tuples(NAME, st.binary(max_size=300), st.booleans()), max_size=4))
def test_attachments(files: list[tuple[str, bytes, bool]]) -> None:
    attachments = [
        Attachment(name, "application/pdf", data, "inline" if inline else "attachment") for name, data, inline in files
    ]
    mail = parsed(built(attachments=attachments))
    parts = list(mail.iter_attachments()) if files else []
    assert [part.get_payload(decode=True) for part in parts] == [data for _, data, _ in files]
    # The parser strips blanks at the ends of a name, in whatever form they come.
    assert [part.get_filename() or "" for part in parts] == [name.strip() for name, _, _ in files]
    assert [part.get_content_disposition() == "inline" for part in parts] == [inline for _, _, inline in files]


@given(st.text("abc XYZ-./:<>@=\t", max_size=400), st.one_of(LINE, WORDS))
def test_extra_headers(ascii_value: str, value: str) -> None:
    mail = parsed(built(extra_headers={"X-Plain": ascii_value, "X-Text": f"ü{value}ü"}))
    assert mail["X-Plain"].strip() == ascii_value.strip()
    assert mail["X-Text"] == f"ü{value}ü"


@given(st.text(), st.text(), st.text(), st.text(), st.text(), st.binary(max_size=100))
def test_whatever_is_written_is_sent_by_the_rules_or_refused_as_ours(
    subject: str, name: str, body: str, filename: str, charset: str, data: bytes
) -> None:
    try:
        made = envelope(
            subject=subject,
            recipients=[(name, "ann@x.example")],
            body=body,
            html=body,
            charset=charset,
            attachments=[Attachment(filename, "application/pdf", data), Attachment(filename, "text/plain", body)],
            extra_headers={"X-A": subject},
        )
    except InvalidMessage:
        return
    whole = bytes(made.content)
    keeps_to_the_rules(whole)
    assert made.content.size_bytes == len(whole)
    mail = parsed(whole)
    assert set(mail.keys()) <= {"Subject", "From", "To", "Date", "Message-ID", "MIME-Version", "Content-Type", "X-A"}
    assert len(mail.get_all("To", [])) == 1


@given(st.text(), st.text(), st.text())
def test_printing_an_unchecked_message_makes_no_header_of_a_line_break(subject: str, name: str, filename: str) -> None:
    poison = "\r\nBcc: spy@x.example"
    message = Message(subject + poison, [(name + poison, "ann@x.example")], "x", sender="shop@x.example", date=0.0)
    message.extra_headers = {"X-A" + poison: "b" + poison}
    message.attach(filename + poison, "application/pdf" + poison, b"x", "attachment" + poison)
    try:
        data = bytes(mime.build(message))
    except (InvalidMessage, UnicodeEncodeError):
        return
    assert not re.search(rb"(?m)^Bcc:", data)


@given(BODY, BODY, WORDS)
def test_a_second_build_and_a_stored_message_have_the_same_bytes(body: str, html: str, name: str) -> None:
    message = Message("ü" + name, ["ann@x.example"], body, html, sender="shop@x.example", date=1.0)
    message.attach(name[:100], "application/pdf", body.encode())
    first = Envelope.for_message(message)
    assert Envelope.for_message(message) == first
    assert bytes(Envelope.from_bytes(first.to_bytes()).content) == bytes(first.content)


@pytest.mark.parametrize(
    "field", ["subject", "body", "html", "calendar", "name", "filename", "attached text", "header"]
)
@pytest.mark.parametrize("ugly", ["\ud83d", "\udcff x", "x" * 100 + "\ud83d"])
def test_half_a_character_is_refused_wherever_it_stands(field: str, ugly: str) -> None:
    changes: dict[str, Any] = {
        "name": {"recipients": [(ugly, "ann@x.example")]},
        "filename": {"attachments": [Attachment(ugly, "text/plain", b"x")]},
        "attached text": {"attachments": [Attachment("a", "text/plain", ugly)]},
        "header": {"extra_headers": {"X-A": ugly}},
    }.get(field, {field: ugly})
    with pytest.raises(InvalidMessage):
        envelope(**changes)


@pytest.mark.parametrize("control", ["\0", "\x01", "\x1b", "\x7f", "\x0b"])
def test_a_control_character_is_kept_in_a_body_and_refused_in_a_header(control: str) -> None:
    mail = parsed(built(body=f"a{control}b"))
    assert text_of(mail) == f"a{control}b"
    for changes in (
        {"subject": f"a{control}b"},
        {"recipients": [(f"a{control}b", "ann@x.example")]},
        {"extra_headers": {"X-A": f"a{control}b"}},
        {"attachments": [Attachment(f"a{control}b", "text/plain", b"x")]},
    ):
        with pytest.raises(InvalidMessage):
            envelope(**changes)


def test_a_huge_message_and_an_empty_one() -> None:
    huge = "ü" * 3_000_000
    assert text_of(parsed(built(body=huge))) == huge
    assert text_of(parsed(built(body="x" * 3_000_000))) == "x" * 3_000_000
    empty = parsed(built(subject="", body="", extra_headers={"X-Empty": ""}))
    assert (empty["Subject"], text_of(empty), empty["X-Empty"]) == (None, "", "")


@pytest.mark.parametrize("name", ['"' * 500, "\\" * 500, "word " * 99, "x" * 500, "ü" * 500])
def test_a_name_as_long_as_may_be(name: str) -> None:
    built(sender=(name, "shop@x.example"), recipients=[(name, "ann@x.example")])
