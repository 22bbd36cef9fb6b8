"""Previews of the application's mails, while it is in debug: how each looks, what it weighs, and "send it to me"."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage

from flask import abort, current_app, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from ..engine import engine_of_current_app
from ..envelope import Envelope
from ..errors import OutmailError
from ..message import Message
from ..previews import NOBODY
from .blueprint import engine, pages, tell
from .forms import CsrfRefused, csrf_refused, text_field
from .guard import POLICY
from .mail_view import files, framed_html, parsed, part_text

#: What reads a mail most often cuts longer HTML off (Gmail: about 102 KB).
CLIPPED_AT_BYTES = 102_000


class SendForm(FlaskForm):  # type: ignore[misc]
    to = text_field("Send it to", 320)


@dataclass(frozen=True)
class Preview:
    """One preview, built: the message as it would leave."""

    name: str
    title: str
    message: Message
    content: bytes
    parsed: EmailMessage

    @property
    def html(self) -> str:
        return part_text(self.parsed, "html")

    @property
    def text(self) -> str:
        return part_text(self.parsed, "plain")

    @property
    def attachments(self) -> list[tuple[str, str, int]]:
        """(name, type, bytes) of each file and inline image."""
        return files(self.parsed)


@pages.get("/previews/")
def previews() -> ResponseReturnValue:
    _only_in_debug()
    known = engine().previews
    rows = [(name, known.title(name)) for name in known.names()]
    return render_template("outmail/previews.html", rows=rows)


@pages.get("/previews/<name>")
def preview(name: str) -> ResponseReturnValue:
    shown = _preview(name)
    page = render_template(
        "outmail/preview.html", shown=shown, form=SendForm(formdata=None), clipped_at_bytes=CLIPPED_AT_BYTES
    )
    response = current_app.make_response(page)
    if not engine().settings.base_template:
        response.headers["Content-Security-Policy"] = f"{POLICY}; frame-src 'self'"
    return response


@pages.get("/previews/<name>/html")
def preview_html(name: str) -> ResponseReturnValue:
    return framed_html(_preview(name).parsed)


@pages.post("/previews/<name>/send")
def send_preview(name: str) -> ResponseReturnValue:
    form = SendForm()
    valid = form.validate()
    if csrf_refused(form):
        raise CsrfRefused
    message = _preview(name).message
    message.recipients, message.cc, message.bcc = [form.to.data], [], []
    try:
        if not valid:
            raise OutmailError("that is no address")
        engine_of_current_app().deliver(message)
    except OutmailError as exc:
        tell(f"It was not accepted: {exc}.", "bad")
    else:
        tell(f"Accepted for {form.to.data}.")
    return redirect(url_for(".preview", name=name))


def _only_in_debug() -> None:
    # Sample data and templates are the developers' affair; outside debug there is no such page.
    if not current_app.debug:
        abort(404)


def _preview(name: str) -> Preview:
    _only_in_debug()
    known = engine().previews
    message = known.make(name)
    if message is None:
        abort(404)
    current = engine().current()
    sender = message.sender or (current.sender if current else "")
    message.sender = sender or NOBODY
    content = bytes(Envelope.for_message(message).content)
    return Preview(name, known.title(name), message, content, parsed(content))
