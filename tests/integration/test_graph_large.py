"""Messages above one Graph request: drafts, uploads, and every way in which they can break before the last step."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_outmail.clouds import clouds
from flask_outmail.envelope import Envelope
from flask_outmail.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DeliveryUnknown,
    InvalidMessage,
    MessageRejected,
    OutmailError,
    RecipientsRefused,
    SenderRefused,
    Throttled,
    TransportUnavailable,
)
from flask_outmail.message import Message
from flask_outmail.simulator import Fault, Simulator
from flask_outmail.transports.failover import Board, Failover, Way
from flask_outmail.transports.graph import GraphTransport
from flask_outmail.transports.graph_attach import (
    MAX_REQUEST_BYTES,
    RANGE_BYTES,
    request_bytes,
)
from flask_outmail.transports.graph_large import leave_out

from ..conftest import asked
from .conftest import MakeTransport

MIB = 1024 * 1024
BIG = bytes(range(256)) * (7 * 4096)  # 7 MiB: three ranges
MEDIUM = b"medium\r\n" * 300_000  # 2.4 MB: too much beside another, and too little for a session


def message(*files: tuple[str, str, Any], **fields: Any) -> Envelope:
    made = Message(
        **{
            "subject": "Drawings – Größe",
            "recipients": ["Ann <ann@customers.example>"],
            "body": "See below.\n",
            "sender": "noreply@contoso.example",
            "date": 1_780_000_000.0,
            **fields,
        }
    )
    for name, content_type, data in files:
        made.attach(name, content_type, data)
    return Envelope.for_message(made)


BIG_FILE = ("Pläne.pdf", "application/pdf", BIG)


def calls(simulator: Simulator) -> list[tuple[str, str, int]]:
    """(method, last word of the path, status) of every request below the mailbox or to an upload address."""
    seen = []
    for one in simulator.answers:
        if "/users/" in one.path or "/upload/" in one.path:
            word = "upload" if "/upload/" in one.path else one.path.rsplit("/", 1)[1]
            seen.append((one.method, word if len(word) < 40 else "draft", one.status))
    return seen


def with_file(simulator: Simulator, path: Path) -> Envelope:
    """A message with a large file that is read when it leaves."""
    path.write_bytes(BIG)
    made = Message("Plan", ["ann@customers.example"], "x", sender=simulator.mailbox)
    made.attach("plan.pdf", "application/pdf", path)
    return Envelope.for_message(made)


def drafts_left(simulator: Simulator) -> int:
    mailbox = simulator.state.mailbox(simulator.mailbox)
    assert mailbox is not None
    return len(simulator.state.messages(mailbox, "drafts"))


def sent_once(simulator: Simulator) -> Any:
    [mail] = simulator.delivered
    assert drafts_left(simulator) == 0
    return mail


# -- the way a large message takes -----------------------------------------------------------------------------------


def test_a_message_at_the_limit_is_one_request_and_one_byte_more_is_a_draft(
    simulator: Simulator, transport: GraphTransport
) -> None:
    empty = message(("x.bin", "application/octet-stream", b""))
    room = MAX_REQUEST_BYTES // 4 * 3 - empty.content.size_bytes
    # A line of base64 is 76 characters and CRLF for 57 bytes.
    size = room // 78 * 57
    fits = message(("x.bin", "application/octet-stream", bytes(size)))
    while request_bytes(fits.content.size_bytes) <= MAX_REQUEST_BYTES:
        size += 1
        above, fits = message(("x.bin", "application/octet-stream", bytes(size))), fits
        if request_bytes(above.content.size_bytes) > MAX_REQUEST_BYTES:
            break
        fits = above
    transport.deliver(fits)
    assert calls(simulator) == [("POST", "sendMail", 202)]
    transport.deliver(above)
    assert [word for _, word, _ in calls(simulator)] == ["sendMail", "messages", "attachments", "send"]
    assert [len(mail.attachments[0].content) for mail in simulator.delivered] == [size - 1, size]


def test_big_files_are_uploaded_in_ordered_ranges_and_everything_arrives(
    simulator: Simulator, transport: GraphTransport
) -> None:
    small = ("note.txt", "text/plain", b"kept in the draft")
    receipt = transport.deliver(
        message(
            BIG_FILE,
            ("medium.bin", "application/x-medium", MEDIUM),
            ("second.bin", "application/x-second", MEDIUM[::-1]),
            small,
            html="<p>Größe</p>",
            extra_headers={"List-Unsubscribe": "<https://shop.example/u/1>", "In-Reply-To": "<1@shop.example>"},
        )
    )
    assert receipt.accepted and receipt.request_id
    assert calls(simulator) == [
        ("POST", "messages", 201),
        ("POST", "createUploadSession", 201),
        ("PUT", "upload", 200),
        ("PUT", "upload", 200),
        ("PUT", "upload", 201),
        ("POST", "attachments", 201),
        ("POST", "attachments", 201),
        ("POST", "send", 202),
    ]
    mail = sent_once(simulator)
    arrived = {one.filename: (one.content_type, one.content) for one in mail.attachments}
    assert arrived == {
        "Pläne.pdf": ("application/pdf", BIG),
        "medium.bin": ("application/x-medium", MEDIUM),
        "second.bin": ("application/x-second", MEDIUM[::-1]),
        "note.txt": ("text/plain", b"kept in the draft"),
    }
    assert mail.subject == "Drawings – Größe"
    assert (mail.text.strip(), mail.html.strip()) == ("See below.", "<p>Größe</p>")
    assert mail.parsed["List-Unsubscribe"] == "<https://shop.example/u/1>"
    assert mail.parsed["In-Reply-To"] == "<1@shop.example>"
    assert mail.message_id == receipt.message_id


def test_bcc_of_a_large_message_is_delivered_and_not_shown(simulator: Simulator, transport: GraphTransport) -> None:
    transport.deliver(message(BIG_FILE, cc=["cy@customers.example"], bcc=["bob@customers.example"]))
    assert {mail.recipient for mail in simulator.delivered} == {
        "ann@customers.example", "cy@customers.example", "bob@customers.example",
    }  # fmt: skip
    for mail in simulator.delivered:
        assert mail.had_bcc_header
        assert b"bob@customers.example" not in mail.raw


def test_a_big_inline_image_stays_inside_its_html(simulator: Simulator, transport: GraphTransport) -> None:
    made = Message(
        "Picture",
        ["ann@customers.example"],
        "text",
        html='<img src="cid:plan">',
        sender=simulator.mailbox,
    )
    made.attach("plan.png", "image/png", BIG, "inline", headers={"Content-ID": "<plan>"})
    transport.deliver(Envelope.for_message(made))
    [part] = sent_once(simulator).attachments
    assert (part.filename, part.content_type, part.inline, part.content_id) == ("plan.png", "image/png", True, "plan")
    assert part.content == BIG


def test_a_file_between_three_million_bytes_and_three_mebibytes_finds_its_way(
    simulator: Simulator, transport: GraphTransport
) -> None:
    """Which of the two is Graph's line is not documented: the upload session is tried first."""
    data = bytes(3_100_000)
    transport.deliver(message(("odd.bin", "application/octet-stream", data)))
    assert [word for _, word, _ in calls(simulator)] == ["messages", "createUploadSession", "attachments", "send"]
    assert sent_once(simulator).attachments[0].content == data


def test_a_file_from_a_path_is_read_piece_by_piece(
    simulator: Simulator, transport: GraphTransport, tmp_path: Path
) -> None:
    envelope = with_file(simulator, tmp_path / "plan.pdf")
    assert max(len(part.read(0, RANGE_BYTES)) for part in envelope.content.files) == RANGE_BYTES
    transport.deliver(envelope)
    assert sent_once(simulator).attachments[0].content == BIG


# -- judged before anything leaves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "files", "code"),
    [
        ({"large_messages": False}, [BIG_FILE], "large_messages_off"),
        ({}, [("huge.txt", "text/plain", "x")], "body_too_large"),
        ({"gov": True}, [BIG_FILE], "large_messages_cloud"),
    ],
)
def test_what_cannot_go_is_refused_before_anything_leaves(
    simulator: Simulator, make_transport: MakeTransport, settings: dict[str, Any], files: list[Any], code: str
) -> None:
    transport = make_transport()
    if settings.pop("gov", False):
        settings = {"cloud": replace(transport.settings.cloud, uploads=False)}
    transport = make_transport(settings)
    html = "<p>long</p>" * 400_000 if code == "body_too_large" else None
    with pytest.raises(MessageRejected) as caught:
        transport.deliver(message(*files, html=html))
    assert (caught.value.code, caught.value.transport) == (code, "microsoft365_graph")
    assert not caught.value.retryable
    assert asked(simulator) == []


def test_more_than_exchange_sends_at_all_is_refused_without_reading_it(
    simulator: Simulator, transport: GraphTransport, tmp_path: Path
) -> None:
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(151 * MIB)
    made = Message("Huge", ["ann@customers.example"], "x", sender=simulator.mailbox)
    made.attach("huge.bin", "application/octet-stream", path)
    with pytest.raises(MessageRejected) as caught:
        transport.deliver(Envelope.for_message(made))
    assert caught.value.code == "message_too_large"
    assert asked(simulator) == []


def test_a_cloud_without_sessions_still_takes_several_smaller_files(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    simulator.behaviour.gov = True
    transport = make_transport({"cloud": replace(make_transport().settings.cloud, uploads=False)})
    transport.deliver(message(("a.bin", "x/y", MEDIUM), ("b.bin", "x/y", bytes(3_100_000))))
    assert [one.filename for one in sent_once(simulator).attachments] == ["a.bin", "b.bin"]
    assert "createUploadSession" not in {word for _, word, _ in calls(simulator)}


def test_only_the_us_government_clouds_and_those_that_say_so_lack_upload_sessions() -> None:
    custom = {"authority": "https://login.x.example", "graph": "https://graph.x.example"}
    known = clouds({"bare": custom, "without": {**custom, "uploads": False}})
    assert {name for name, cloud in known.items() if not cloud.uploads} == {"usgov", "usgov_dod", "without"}
    with pytest.raises(ConfigurationError, match="uploads"):
        clouds({"wrong": {**custom, "uploads": "false"}})


def test_as_few_files_as_possible_travel_by_themselves_and_in_their_order() -> None:
    content = message(
        ("1.bin", "x/y", bytes(1_000_000)),
        ("2.bin", "x/y", bytes(5_000_000)),
        ("3.bin", "x/y", bytes(10)),
        ("4.bin", "x/y", bytes(2_500_000)),
    ).content
    assert [part.name for part in leave_out(content)] == ["2.bin", "4.bin"]


def test_without_mail_read_write_nothing_is_half_sent_and_the_remedy_names_it(
    simulator: Simulator, make_transport: MakeTransport
) -> None:
    from flask_outmail.diagnosis.remedies import remedy_for

    app = simulator.add_app("sender only", roles=["Mail.Send"])
    transport = make_transport(client_id=app.client_id, client_secret=app.secret)
    with pytest.raises(MessageRejected) as caught:
        transport.deliver(message(BIG_FILE))
    assert caught.value.code == "large_messages_permission"
    assert not caught.value.retryable
    assert "Mail.ReadWrite" in " ".join(remedy_for(caught.value).steps)
    assert calls(simulator) == [("POST", "messages", 403)]
    assert transport.deliver(message()).accepted


# -- steps that fail harmlessly --------------------------------------------------------------------------------------

HARMLESS = {
    "draft: busy": Fault(endpoint="messages", method="POST", status=503, code="ErrorServerBusy", times=2),
    "draft: answer lost": Fault(endpoint="messages", method="POST", happens=True, drop=True),
    "draft: fault although made": Fault(endpoint="messages", method="POST", status=500, code="X", happens=True),
    "draft: 201 without an id": Fault(endpoint="messages", method="POST", status=201, body="{}"),
    "session: not yet there": Fault(endpoint="uploadSession", status=404, code="ErrorItemNotFound", times=2),
    "session: answer lost": Fault(endpoint="uploadSession", happens=True, drop=True),
    "session: throttled": Fault(endpoint="uploadSession", status=429, code="TooManyRequests", retry_after=0),
    "range: cut before": Fault(endpoint="upload", drop=True, after=1, times=2),
    "range: cut after": Fault(endpoint="upload", happens=True, drop=True, after=1),
    "range: fault although taken": Fault(endpoint="upload", status=502, happens=True, after=1),
    "range: last one cut after": Fault(endpoint="upload", happens=True, drop=True, after=2),
    "range: throttled": Fault(endpoint="upload", status=429, code="TooManyRequests", retry_after=0),
    "range: page of a portal": Fault(endpoint="upload", status=200, body="<h1>Sign in</h1>", after=1),
    "session: expired": Fault(endpoint="upload", status=404, code="uploadSessionNotFound", after=1),
    "attachment: answer lost": Fault(endpoint="attachments", happens=True, drop=True),
    "attachment: page of a portal": Fault(endpoint="attachments", status=200, body="<h1>Sign in</h1>"),
    "range: refused for its place": Fault(endpoint="upload", status=416, code="invalidRange", after=1),
    "range: the right to write has ended": Fault(endpoint="upload", status=401, code="Unauthorized", after=1),
    "attachment: not yet there": Fault(endpoint="attachments", status=404, code="ErrorItemNotFound"),
    "attachment: fault although made": Fault(endpoint="attachments", status=500, happens=True),
    "send: not yet there": Fault(endpoint="send", status=404, code="ErrorItemNotFound"),
    "send: throttled": Fault(endpoint="send", status=429, code="ApplicationThrottled", retry_after=0),
    "token: ended": Fault(endpoint="upload", delay_s=0.0, after=99),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_a_step_that_fails_before_the_send_is_repeated_and_the_message_arrives_once_and_whole(
    simulator: Simulator, transport: GraphTransport, case: str
) -> None:
    simulator.faults.add(HARMLESS[case])
    if case == "token: ended":
        transport.deliver(message())
        simulator.state.forget_mail()
        simulator.expire_tokens()
    transport.deliver(message(BIG_FILE, ("medium.bin", "application/x-medium", MEDIUM)))
    assert {one.filename: one.content for one in sent_once(simulator).attachments} == {
        "Pläne.pdf": BIG,
        "medium.bin": MEDIUM,
    }


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(endpoint="messages", method="POST", status=503, code="ErrorServerBusy", times=None), "unavailable"),
        (Fault(endpoint="messages", method="POST", happens=True, drop=True, times=None), "unavailable"),
        (Fault(endpoint="uploadSession", status=404, code="ErrorItemNotFound", times=None), "unavailable"),
        (Fault(endpoint="upload", drop=True, times=None), "unavailable"),
        (Fault(endpoint="upload", status=404, code="uploadSessionNotFound", times=None), "unavailable"),
        (Fault(endpoint="upload", status=500, times=None), "unavailable"),
        (Fault(endpoint="upload", status=200, body="{}", after=1, times=None), "unavailable"),
        (Fault(endpoint="upload", status=400, code="ErrorSomethingNew", times=None), "rejected"),
        (Fault(endpoint="attachments", happens=True, drop=True, times=None), "unavailable"),
        (Fault(endpoint="uploadSession", status=429, code="TooManyRequests", retry_after=600), "throttled"),
        (Fault(endpoint="send", status=429, code="TooManyRequests", retry_after=600), "throttled"),
        (Fault(endpoint="send", status=403, code="ErrorSendAsDenied"), "sender"),
        (Fault(endpoint="send", status=400, code="ErrorInvalidRecipients"), "recipients"),
        (Fault(endpoint="send", status=413, code="ErrorMessageSizeExceeded"), "rejected"),
        (Fault(endpoint="send", status=200, body=""), "rejected"),
        (Fault(endpoint="messages", method="POST", status=404, code="ErrorInvalidUser"), "refused"),
    ],
    ids=str,
)
def test_what_fails_for_good_leaves_neither_a_mail_nor_a_draft(
    simulator: Simulator, transport: GraphTransport, fault: Fault, error: str
) -> None:
    simulator.faults.add(fault)
    kinds: dict[str, type[Exception]] = {
        "unavailable": TransportUnavailable,
        "refused": AuthenticationFailed,
        "rejected": MessageRejected,
        "throttled": Throttled,
        "sender": SenderRefused,
        "recipients": RecipientsRefused,
    }
    with pytest.raises(kinds[error]) as caught:
        transport.deliver(message(BIG_FILE, ("medium.bin", "application/x-medium", MEDIUM)))
    assert getattr(caught.value, "transport", "") == "microsoft365_graph"
    assert getattr(caught.value, "retryable", False) == (error in ("unavailable", "throttled"))
    assert simulator.delivered == []
    assert drafts_left(simulator) == 0


def test_the_mailboxs_own_size_limit_is_the_messages_fault(simulator: Simulator, transport: GraphTransport) -> None:
    simulator.behaviour.message_limit_bytes = 5 * MIB
    with pytest.raises(MessageRejected) as caught:
        transport.deliver(message(BIG_FILE))
    assert caught.value.code == "ErrorMessageSizeExceeded"
    assert simulator.delivered == [] and drafts_left(simulator) == 0


def test_an_upload_goes_only_to_https(simulator: Simulator, transport: GraphTransport) -> None:
    body = json.dumps({"uploadUrl": "http://localhost:1/x?authtoken=s3cret", "nextExpectedRanges": ["0-"]})
    simulator.faults.add(Fault(endpoint="uploadSession", status=201, body=body, content_type="application/json"))
    with pytest.raises(TransportUnavailable) as caught:
        transport.deliver(message(BIG_FILE))
    assert caught.value.code == "upload_failed"
    assert "s3cret" not in repr(caught.value) + caught.value.detail
    assert drafts_left(simulator) == 0


def test_a_file_that_changes_on_the_way_stops_everything(
    simulator: Simulator, transport: GraphTransport, tmp_path: Path
) -> None:
    envelope = with_file(simulator, tmp_path / "plan.pdf")
    (tmp_path / "plan.pdf").unlink()
    with pytest.raises(InvalidMessage) as caught:
        transport.deliver(envelope)
    assert caught.value.code == "attachment_changed"
    assert ("POST", "messages", 201) in calls(simulator)
    assert simulator.delivered == [] and drafts_left(simulator) == 0


def test_a_file_that_vanishes_half_way_stops_everything(
    simulator: Simulator, transport: GraphTransport, tmp_path: Path
) -> None:
    path = tmp_path / "plan.pdf"
    path.write_bytes(BIG)
    made = Message("Plan", ["ann@customers.example"], "x", sender=simulator.mailbox)
    made.attach("plan.pdf", "application/pdf", path)
    simulator.faults.add(Fault(endpoint="upload", delay_s=60.0, after=1))

    def remove_it_while_the_second_range_hangs() -> None:
        for _ in range(4000):
            if ("PUT", "upload", 200) in calls(simulator) and not simulator.faults.active():
                break
            threading.Event().wait(0.005)
        path.unlink()
        simulator.state.end_waits()

    watcher = threading.Thread(target=remove_it_while_the_second_range_hangs)
    watcher.start()
    with pytest.raises(InvalidMessage) as caught:
        GraphTransport(replace(transport.settings, timeout_s=30.0)).deliver(Envelope.for_message(made))
    watcher.join(30)
    assert caught.value.code == "attachment_changed"
    assert ("PUT", "upload", 200) in calls(simulator)
    assert simulator.delivered == [] and drafts_left(simulator) == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(endpoint="upload", delay_s=1.0, status=404, code="uploadSessionNotFound"),
        Fault(endpoint="send", delay_s=1.0, status=403, code="ErrorSendAsDenied"),
    ],
    ids=str,
)
def test_whose_draft_somebody_else_deleted_makes_no_other_and_leaves_it_to_no_backup(
    simulator: Simulator, make_transport: MakeTransport, fault: Fault
) -> None:
    envelope = message(BIG_FILE)
    first, quick = make_transport(), make_transport({"settle_s": 0.0, "check": True})
    slow = Failover([Way("primary", first), Way("backup", make_transport())], Board(3))
    # Its process sleeps so long that another takes it for dead, makes sure that nothing can leave, and sends itself.
    simulator.faults.add(fault)
    outcome: list[object] = []

    def deliver() -> None:
        try:
            outcome.append(slow.deliver(envelope))
        except OutmailError as exc:
            outcome.append(exc)

    thread = threading.Thread(target=deliver)
    thread.start()
    while simulator.faults.active():
        assert thread.is_alive()
    assert quick.check(envelope.message_id) is False
    quick.deliver(envelope)
    thread.join(20)
    assert [type(one) for one in outcome] == [DeliveryUnknown], "the other knows"
    sent_once(simulator)


def test_a_draft_that_cannot_be_deleted_changes_nothing_about_the_error(
    simulator: Simulator, transport: GraphTransport, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.faults.add(Fault(endpoint="send", status=403, code="ErrorSendAsDenied"))
    simulator.faults.add(Fault(endpoint="messages", method="DELETE", status=500, times=None))
    with pytest.raises(SenderRefused):
        transport.deliver(message(BIG_FILE))
    assert simulator.delivered == []
    assert "draft could not be deleted" in caplog.text


def test_the_upload_address_is_in_no_log_and_no_error(
    simulator: Simulator, transport: GraphTransport, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.faults.add(Fault(endpoint="upload", drop=True, times=None))
    with caplog.at_level(logging.DEBUG), pytest.raises(TransportUnavailable) as caught:
        transport.deliver(message(BIG_FILE))
    written = caplog.text + repr(caught.value) + str(caught.value) + str(vars(caught.value))
    written += str(caught.value.smtp_error)
    assert "authtoken" not in written
    assert "/upload/" not in written
    assert "createUploadSession" in written  # so the log did listen to this thread


def test_an_upload_carries_no_token(simulator: Simulator, transport: GraphTransport) -> None:
    """The simulator refuses an upload with an Authorization header, as Outlook does."""
    assert simulator.behaviour.strict_uploads
    assert transport.deliver(message(BIG_FILE)).accepted
