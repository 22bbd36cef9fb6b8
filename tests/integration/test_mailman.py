"""What an application written for Flask-Mailman calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_outmail import Attachment, OutmailError
from flask_outmail.mailman import EmailMessage, EmailMultiAlternatives, send_mail, send_mass_mail

from ..conftest import MakeApp, graph_setup


@pytest.fixture
def sim(make_app: MakeApp, simulator: Any) -> Any:
    make_app(graph_setup(simulator))
    return simulator


def test_a_message_reaches_to_cc_and_bcc(sim: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"file")
    files: list[Any] = [("given.txt", "1", "text/plain"), Attachment("made.txt", "text/plain", b"2")]
    to, bcc = ["a@x.example"], ["c@x.example"]
    message = EmailMessage("Hi", "Text", None, to, bcc, None, files, {"X-A": "1"}, ["b@x.example"])
    message.attach("n.csv", "1;2", "text/csv")
    message.attach_file(tmp_path / "a.txt")
    message.reply_to = ["r@x.example"]
    assert message.send() == 1
    mails = sim.wait_for(3)
    assert {one.recipient for one in mails} == {"a@x.example", "b@x.example", "c@x.example"}
    assert {one.filename for one in mails[0].attachments} == {"given.txt", "made.txt", "n.csv", "a.txt"}
    assert b"X-A: 1" in mails[0].raw and b"Reply-To: r@x.example" in mails[0].raw


def test_html_alone_and_html_beside_text(sim: Any) -> None:
    only = EmailMessage("Hi", "<p>Only</p>", to=["a@x.example"])
    only.content_subtype = "html"
    only.send()
    both = EmailMultiAlternatives("Hi", "Text", to=["b@x.example"])
    both.attach_alternative("<p>Both</p>", "text/html")
    both.send()
    html = {one.recipient: one.html for one in sim.wait_for(2)}
    assert "Only" in html["a@x.example"] and "Both" in html["b@x.example"]


def test_send_mail_counts_what_was_accepted(sim: Any) -> None:
    assert send_mail("Hi", "Text", None, ["a@x.example"], html_message="<p>Text</p>") == 1
    assert send_mail("Hi", "Text", None, []) == 0
    assert send_mass_mail([("A", "Text", None, ["a@x.example"]), ("B", "Text", None, ["b@x.example"])]) == 2
    assert len(sim.wait_for(3)) == 3


def test_a_failure_is_raised_unless_silence_is_asked(sim: Any) -> None:
    with pytest.raises(OutmailError):
        send_mail("Hi\r\nBcc: eve@x.example", "Text", None, ["a@x.example"])
    for _ in range(2):
        sim.faults.refuse("sendMail", 403, "ErrorAccessDenied")
    assert send_mail("Hi", "Text", None, ["a@x.example"], fail_silently=True) == 0
    with pytest.raises(OutmailError, match="ErrorAccessDenied"):
        send_mail("Hi", "Text", None, ["a@x.example"])


def test_one_address_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match="list or tuple"):
        EmailMessage("Hi", "Text", to="a@x.example")  # type: ignore[arg-type]
