"""For other people's packages that say `import flask_mail`: they send through us without knowing it.

    import flask_outmail
    flask_outmail.install_as_flask_mail()      # before those packages are imported

A message that was made by Flask-Mail itself is taken too (`adopted`).
"""

from __future__ import annotations

import sys
from typing import Any

from .compat import Message
from .message import Attachment

#: What makes a message, in every version of Flask-Mail as here. `alts` and `html` are looked at by themselves.
_FIELDS = (
    "subject", "recipients", "body", "sender", "cc", "bcc", "reply_to", "date", "msgId", "charset", "extra_headers",
    "mail_options", "rcpt_options",
)  # fmt: skip


def install_as_flask_mail() -> None:
    """Makes `import flask_mail` give this package, for the whole process.

    Raises:
        RuntimeError: Flask-Mail itself has been imported already; what holds its classes would go on using them.
    """
    import flask_outmail

    known = sys.modules.get("flask_mail", flask_outmail)
    if known is not flask_outmail:
        raise RuntimeError("flask_mail has been imported already: call install_as_flask_mail() before that")
    sys.modules["flask_mail"] = flask_outmail


def adopted(message: Any) -> Message:
    """A message of Flask-Mail's own class as one of ours.

    Raises:
        TypeError: it is no message.
    """
    if not all(hasattr(message, name) for name in (*_FIELDS, "attachments")):
        raise TypeError(f"send() takes a Message, not {type(message).__name__}")
    ours = Message()
    for name in _FIELDS:
        setattr(ours, name, getattr(message, name))
    html = getattr(message, "html", None)
    ours.alts = {**(getattr(message, "alts", None) or {}), **({} if html is None else {"html": html})}
    ours.attachments = [
        one
        if isinstance(one, Attachment)
        else Attachment(one.filename, one.content_type, one.data, one.disposition, dict(one.headers or {}))
        for one in message.attachments
    ]
    return ours
