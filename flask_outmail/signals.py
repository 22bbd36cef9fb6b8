"""Blinker signals. The sender is always the application; each is sent after the fact.

A receiver's exception is logged and never changes what happens to the message.
"""

from __future__ import annotations

import logging
from typing import Any

import blinker

from .frames import frames

logger = logging.getLogger(__name__)

signals = blinker.Namespace()

#: A message was handed over, or would have been if sending were not suppressed. Arguments: `message`.
#: (The name and the arguments are Flask-Mail's.)
email_dispatched = signals.signal("email-dispatched")

#: A server accepted a message. Arguments: `message`, `receipt`.
message_accepted = signals.signal("outmail-message-accepted")

#: A message was not accepted, and nothing will be tried by itself. Arguments: `message`, `error`, `connection`.
message_failed = signals.signal("outmail-message-failed")

#: A message waits because the active setup is not verified. Arguments: `message`, `connection`.
message_held = signals.signal("outmail-message-held")

#: A message is in the outbox. Arguments: `message`, `receipt` (with `delivery_id`). After `enqueue` it is there only
#: if the caller's transaction commits.
message_queued = signals.signal("outmail-message-queued")

#: A delivery of the outbox, or a message that had been held, has come to its end: accepted, refused, failed or unknown.
#: Sent by the worker, or where held messages are released; neither has a `Message`. Arguments: `delivery_id`,
#: `connection`, `state`, `receipt` (or None), `error` (or None).
delivery_settled = signals.signal("outmail-delivery-settled")


def notify(signal: blinker.NamedSignal, app: Any, **arguments: Any) -> None:
    """Calls every receiver; one that raises is logged and the next is called."""
    for receiver in signal.receivers_for(app):
        try:
            receiver(app, **arguments)
        except Exception as exc:  # any receiver may raise anything; the message's fate is settled already
            logger.error("a receiver of a signal raised:\n%s", frames(exc), extra={"signal": signal.name})
