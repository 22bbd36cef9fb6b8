"""For applications written for Flask-Mailman: its messages, sent through us. New code has `Message`.

    from flask_outmail.mailman import Mail, EmailMessage, EmailMultiAlternatives, send_mail

Thin on purpose: each class here only says the same thing in `Message`'s words. Back-ends (`MAIL_BACKEND`,
`get_connection`) have no counterpart; which mail service carries a message is the setup's affair.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .compat import Message
from .extension import Mail
from .message import Attachment

__all__ = ["EmailMessage", "EmailMultiAlternatives", "Mail", "send_mail", "send_mass_mail"]


class EmailMessage:
    """A message of text, or of HTML when `content_subtype` is "html"."""

    content_subtype = "plain"

    def __init__(
        self,
        subject: str = "",
        body: str = "",
        from_email: str | tuple[str, str] | None = None,
        to: Sequence[Any] | None = None,
        bcc: Sequence[Any] | None = None,
        connection: Any = None,
        attachments: Iterable[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        cc: Sequence[Any] | None = None,
        reply_to: Sequence[Any] | None = None,
    ) -> None:
        for name, value in (("to", to), ("cc", cc), ("bcc", bcc), ("reply_to", reply_to)):
            if isinstance(value, str):
                raise TypeError(f'"{name}" argument must be a list or tuple')
        self.subject = subject
        self.body = body or ""
        self.from_email = from_email
        self.to, self.cc, self.bcc = list(to or ()), list(cc or ()), list(bcc or ())
        self.reply_to = list(reply_to or ())
        self.extra_headers = dict(headers or {})
        self.connection = connection
        self.attachments: list[Attachment] = []
        for one in attachments or ():
            self.attach(one) if isinstance(one, Attachment) else self.attach(*one)

    def attach(self, filename: Any = None, content: str | bytes | None = None, mimetype: str | None = None) -> None:
        """Adds a file; `filename` may be an `Attachment`."""
        self.attachments.append(
            filename if isinstance(filename, Attachment) else Attachment(filename, mimetype, content)
        )

    def attach_file(self, path: str | Path, mimetype: str | None = None) -> None:
        self.attach(Path(path).name, Path(path).read_bytes(), mimetype)

    def recipients(self) -> list[Any]:
        """Everybody who receives it."""
        return [one for one in (*self.to, *self.cc, *self.bcc) if one]

    def message(self) -> Message:
        """The same as a `Message`."""
        html = self.content_subtype == "html"
        return Message(
            subject=self.subject,
            recipients=self.to,
            cc=self.cc,
            bcc=self.bcc,
            body="" if html else self.body,
            html=self.body if html else None,
            alts=self._alternatives(),
            sender=self.from_email,
            reply_to=self.reply_to or None,
            extra_headers=self.extra_headers,
            attachments=list(self.attachments),
        )

    def send(self, fail_silently: bool = False) -> int:
        """1 when it was accepted, or queued; 0 when there is nobody to send it to, or it failed in silence.

        Raises as `Mail.send` does, unless `fail_silently`.
        """
        if not self.recipients():
            return 0
        from .engine import engine_of_current_app

        try:
            engine_of_current_app().deliver(self.message())
        except (smtplib.SMTPException, OSError):
            if not fail_silently:
                raise
            return 0
        return 1

    def _alternatives(self) -> dict[str, str]:
        return {}


class EmailMultiAlternatives(EmailMessage):
    """Text with other forms of the same, such as HTML."""

    def __init__(self, *args: Any, alternatives: Iterable[tuple[str, str]] | None = None, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.alternatives = list(alternatives or ())

    def attach_alternative(self, content: str, mimetype: str) -> None:
        self.alternatives.append((content, mimetype))

    def _alternatives(self) -> dict[str, str]:
        return {mimetype.removeprefix("text/"): content for content, mimetype in self.alternatives}


def send_mail(
    subject: str,
    message: str,
    from_email: str | tuple[str, str] | None = None,
    recipient_list: Sequence[Any] = (),
    fail_silently: bool = False,
    auth_user: Any = None,
    auth_password: Any = None,
    connection: Any = None,
    html_message: str | None = None,
) -> int:
    """Sends one message; returns how many were accepted. `auth_user` and `auth_password` are the setup's affair."""
    mail = EmailMultiAlternatives(subject, message, from_email, list(recipient_list))
    if html_message:
        mail.attach_alternative(html_message, "text/html")
    return mail.send(fail_silently)


def send_mass_mail(
    datatuple: Iterable[tuple[str, str, Any, Sequence[Any]]], fail_silently: bool = False, **_: Any
) -> int:
    """Sends one message for each (subject, message, from_email, recipient_list)."""
    return sum(send_mail(*one, fail_silently) for one in datatuple)
