"""A message in pieces: exact sizes, bounded chunks, files from disk, storage."""

from __future__ import annotations

import json
import os
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

from flask_outmail.content import BLOCK_RAW_BYTES, CHUNK_BYTES, Content, FilePart, base64_lines
from flask_outmail.envelope import Envelope
from flask_outmail.errors import InvalidMessage
from flask_outmail.message import Attachment, Message

SIZES = [0, 1, 2, 3, 56, 57, 58, 57 * 32, 57 * 33 + 1, BLOCK_RAW_BYTES - 1, BLOCK_RAW_BYTES, BLOCK_RAW_BYTES + 1,
         BLOCK_RAW_BYTES * 3, 300_001]  # fmt: skip


def envelope(*attachments: Attachment, **changes: Any) -> Envelope:
    fields: dict[str, Any] = {"recipients": ["ann@x.example"], "sender": "shop@x.example", "body": "Hi", "date": 0.0}
    return Envelope.for_message(Message(**{**fields, **changes}, attachments=attachments))


def content(*attachments: Attachment, **changes: Any) -> Content:
    return envelope(*attachments, **changes).content


def attached(whole: Content) -> list[bytes]:
    mail = cast(EmailMessage, message_from_bytes(bytes(whole), policy=policy.default))
    assert not mail.defects
    return [part.get_payload(decode=True) for part in mail.iter_attachments()]


def file(tmp_path: Path, data: bytes, name: str = "report.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", SIZES)
def test_a_file_makes_the_same_message_as_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    message = Message("Hi", ["ann@x.example"], "x", sender="shop@x.example", date=0.0)
    message.attachments = [Attachment(data=file(tmp_path, data))]
    streamed = Envelope.for_message(message).content
    message.attachments = [Attachment("report.bin", data=data)]
    held = Envelope.for_message(message).content

    assert bytes(streamed) == bytes(held) == b"".join(streamed.chunks())
    assert streamed.size_bytes == held.size_bytes == len(bytes(held))
    assert attached(streamed) == [data]


@pytest.mark.parametrize("size", SIZES)
def test_chunks_are_bounded_and_may_be_read_again(tmp_path: Path, size: int) -> None:
    whole = content(Attachment(data=file(tmp_path, os.urandom(size))), body="ü" * size)
    chunks = list(whole.chunks())
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
    assert chunks == list(whole.chunks())
    assert len(chunks) == 1 or whole.size_bytes > CHUNK_BYTES


@pytest.mark.parametrize("size", SIZES)
def test_base64_lines_have_at_most_76_characters(size: int) -> None:
    lines = base64_lines(bytes(size)).split(b"\r\n")
    assert all(len(line) == 76 for line in lines[:-1]) and len(lines[-1]) <= 76


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "large.bin"
    with path.open("wb") as out:
        out.truncate(64_000_000)
    tracemalloc.start()
    try:
        whole = content(Attachment(data=path))
        assert sum(map(len, whole.chunks())) == whole.size_bytes > 64_000_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_attachments_can_be_left_out_and_what_remains_is_whole(tmp_path: Path) -> None:
    logo = Attachment("logo.png", "image/png", b"png", "inline", {"Content-ID": "<logo>"})
    whole = content(Attachment(data=file(tmp_path, b"first")), Attachment("b", data=b"second"), logo, html="<p>")
    image, first, second = whole.files
    assert (image.name, image.content_id, image.is_inline) == ("logo.png", "<logo>", True)
    assert (first.name, first.content_type, first.is_inline) == ("report.bin", "application/octet-stream", False)

    assert attached(whole.without([first])) == [b"second"]
    assert whole.without([second]).files == (image, first)
    bare = whole.without(whole.files)
    mail = cast(EmailMessage, message_from_bytes(bytes(bare), policy=policy.default))
    assert [part.get_content_type() for part in mail.walk() if not part.is_multipart()] == ["text/plain", "text/html"]
    assert bare.size_bytes == len(bytes(bare))


def test_one_of_two_equal_attachments_can_be_left_out() -> None:
    whole = content(Attachment("a", data=b"x"), Attachment("a", data=b"x"))
    assert len(whole.without([whole.files[1]]).files) == 1


def test_a_part_of_a_file_can_be_read(tmp_path: Path) -> None:
    data = os.urandom(1000)
    for part in (content(Attachment(data=file(tmp_path, data))).files[0], content(Attachment("a", data=data)).files[0]):
        assert part.size_bytes == 1000
        assert part.read(10, 20) == data[10:30]
        assert part.read(990, 100) == data[990:]
        assert part.read(2000, 10) == b""


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def shrunk(path: Path) -> None:
    path.write_bytes(b"")


def rewritten(path: Path) -> None:
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [grown, shrunk, rewritten, Path.unlink, replaced_by_a_pipe])
def test_a_file_that_changed_since_the_message_was_built_is_not_sent(tmp_path: Path, change: Any) -> None:
    path = file(tmp_path, b"x" * 500_000)
    made = envelope(Attachment(data=path))
    change(path)
    for read in (lambda: bytes(made.content), made.to_bytes, lambda: made.content.files[0].read(0, 1)):
        with pytest.raises(InvalidMessage, match=r"report\.bin") as caught:
            read()
        assert caught.value.code == "attachment_changed"


def test_a_file_that_changes_while_it_is_sent_stops_the_sending(tmp_path: Path) -> None:
    path = file(tmp_path, b"x" * 500_000)
    chunks = content(Attachment(data=path)).chunks()
    next(chunks)
    next(chunks)
    shrunk(path)
    with pytest.raises(InvalidMessage) as caught:
        list(chunks)
    assert caught.value.code == "attachment_changed"


def test_what_is_no_readable_file_is_refused_before_anything_leaves(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe"):
        refused: list[InvalidMessage] = []

        def build(path: Path = path, refused: list[InvalidMessage] = refused) -> None:
            with pytest.raises(InvalidMessage) as caught:
                content(Attachment(data=path))
            refused.append(caught.value)

        # In a thread, because opening a pipe would wait for ever.
        thread = threading.Thread(target=build, daemon=True)
        thread.start()
        thread.join(10)
        assert [one.code for one in refused] == ["attachment_unreadable"]


def test_storage_keeps_attachments_apart_and_unencoded(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    inner = Attachment("m.eml", "message/rfc822", b"Subject: inner\n\nHi\n")
    made = envelope(Attachment(data=file(tmp_path, data)), inner, Attachment("ü.txt", data="text"), html="<p>ü")
    stored = made.to_bytes()
    assert data in stored
    (tmp_path / "report.bin").unlink()

    again = Envelope.from_bytes(stored)
    assert [part.name for part in again.content.files] == ["report.bin", "m.eml", "ü.txt"]
    assert again.content.files[0].read(0, 10) == data[:10]
    assert again.to_bytes() == stored
    assert attached(again.content)[0] == data


def test_what_an_older_version_stored_is_still_read() -> None:
    old = {"sender": "shop@x.example", "recipients": ["ann@x.example"], "visible": ["ann@x.example"],
           "from_address": "shop@x.example", "message_id": "<1@x.example>", "smtputf8": False,
           "mail_options": [], "rcpt_options": []}  # fmt: skip
    whole = b"Subject: Hi\r\n\r\none\ntwo\r\n"
    read = Envelope.from_bytes(json.dumps(old).encode() + b"\n" + whole)
    assert (bytes(read.content), read.recipients) == (whole, ("ann@x.example",))
    assert Envelope.from_bytes(read.to_bytes()) == read


def test_whether_every_server_can_carry_it_is_known_without_reading(tmp_path: Path) -> None:
    assert content(Attachment(data=file(tmp_path, b"\xff")), subject="ü", body="ü").is_ascii
    assert not Content((b"\xff",)).is_ascii
    assert not content(recipients=["jörg@x.example"]).is_ascii


def test_a_repr_shows_nothing_of_a_message() -> None:
    whole = content(Attachment("a", data=b"diagnosis"), body="diagnosis")
    assert "diagnosis" not in repr(whole) + repr(whole.files)
    assert isinstance(whole.files[0], FilePart)
