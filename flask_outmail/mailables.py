"""One class for each kind of mail an application sends: what it needs is typed, what it says is declared.

@dataclass
class OrderConfirmation(Mailable):
    template = "order_confirmation"
    subject = "Your order {{ order.number }}"

    order: Order

mail.send(OrderConfirmation(order), recipients=[order.email])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar

from flask import current_app

from .compat import Message
from .message import Attachment
from .templating import message_from_template


class Mailable:
    """A kind of mail. Subclass it as a dataclass: its fields are what the templates see.

    `template` names the templates (`templating`); `subject` is a line of Jinja, left out where a `.subject.txt`
    stands beside them. Override `context` or `attachments` where the fields alone are not enough.
    """

    template: ClassVar[str] = ""
    subject: ClassVar[str] = ""

    def context(self) -> Mapping[str, Any]:
        """What the templates see: the fields, by their names."""
        return {one.name: getattr(self, one.name) for one in fields(self)} if is_dataclass(self) else dict(vars(self))

    def attachments(self) -> Iterable[Attachment]:
        """Files that travel with every mail of this kind."""
        return ()

    def message(self, *, locale: str = "", **fields: Any) -> Message:
        """This mail as a `Message`; `fields` are those of `Message` (recipients, sender …).

        Raises:
            ConfigurationError: as `message_from_template`.
        """
        context = dict(self.context())
        if self.subject and "subject" not in fields:
            # Not rendered as HTML: "Bell & Son" must not become "Bell &amp; Son" in a header.
            line = current_app.jinja_env.overlay(autoescape=False).from_string(self.subject)
            fields["subject"] = line.render(context)
        message = message_from_template(self.template, context, locale=locale, **fields)
        for attachment in self.attachments():
            message.attachments.append(attachment)
        return message
