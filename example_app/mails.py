"""The mails the shop sends, and what became of each in words for the customer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import current_app, render_template
from sqlalchemy import select

from flask_outmail import DeliveryUnknown, Message, OutmailError, SetupNotVerified
from flask_outmail.models import Delivery

from .extensions import db, mail
from .models import Order
from .receipt_pdf import receipt_pdf

ACCEPTED, HELD, FAILED, UNKNOWN = "accepted", "held", "failed", "unknown"


@dataclass(frozen=True)
class Outcome:
    """What became of one mail; `reason` is empty when it was accepted."""

    state: str
    reason: str = ""


def hand_over(message: Message) -> Outcome:
    """Sends a message and tells what became of it. Never raises for a mail: no order shall be lost because of one."""
    try:
        mail.send(message)
    except SetupNotVerified as exc:
        return Outcome(HELD if exc.held else FAILED, str(exc))
    except DeliveryUnknown as exc:
        return Outcome(UNKNOWN, str(exc))
    except OutmailError as exc:
        return Outcome(FAILED, str(exc))
    return Outcome(ACCEPTED)


def confirm(order: Order) -> None:
    """Sends the confirmation and writes down what became of it. The order must have been committed before."""
    message = confirmation(order)
    outcome = hand_over(message)
    order.mail_state, order.mail_reason, order.message_id = outcome.state, outcome.reason[:500], message.msgId
    db.session.commit()


def confirmation(order: Order) -> Message:
    """Text, HTML with the logo inside it, and the receipt as a PDF."""
    message = Message(
        subject=f"Your order {order.number} at Quill & Page",
        recipients=[order.email],
        body=render_template("mail/confirmation.txt", order=order),
        html=render_template("mail/confirmation.html", order=order),
    )
    logo = Path(current_app.root_path, "static", "logo.png").read_bytes()
    message.attach("logo.png", "image/png", logo, "inline", {"Content-ID": "<logo>"})
    message.attach(f"receipt-{order.number}.pdf", "application/pdf", receipt_pdf(order))
    return message


def outcome_now(order: Order) -> Outcome:
    """What is known today: a mail that was held may have left since, and the outbox knows."""
    if order.mail_state == HELD:
        found = db.session.scalar(select(Delivery).where(Delivery.message_id == order.message_id))
        if found is not None and found.state in (ACCEPTED, FAILED, UNKNOWN):
            return Outcome(found.state, found.reason)
    return Outcome(order.mail_state, order.mail_reason)


def question(name: str, email: str, text: str) -> Message:
    """A visitor's words, to the shop. From is the shop's own address: another would be a forgery, and is refused."""
    return Message(
        subject=f"Question from {name}",
        recipients=[current_app.config["EXAMPLE_SHOP_ADDRESS"]],
        body=f"{name} <{email}> wrote on the contact page:\n\n{text}\n",
        reply_to=(name, email),
    )
