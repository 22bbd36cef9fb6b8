"""What may happen to a message in the outbox, before and after a server has seen it."""

from __future__ import annotations

from .catalogue import Entry, entry

OUTBOX: tuple[Entry, ...] = (
    entry(
        "may_arrive_twice",
        title="It may have arrived already",
        meaning="No answer came for this message, so sending it again may deliver it twice.",
        steps=(
            "Look into the mailbox that sends (Sent Items), or ask the recipient.",
            "If it has not arrived, confirm that it may arrive twice, and send it again.",
        ),
        who="you",
    ),
    entry(
        "delivery_state",
        title="This is not possible in the state that the message is in",
        meaning="A worker may have been quicker.",
        steps=("Look at the message again; its state says what can be done with it.",),
        who="you",
    ),
    entry(
        "content_gone",
        title="Its content is not stored any more",
        meaning="What a message says is kept only while it is needed to hand it over.",
        steps=("Let the application make the message again.",),
        who="developer",
    ),
    entry(
        "content_unreadable",
        title="This version cannot read what is stored of the message",
        meaning="A later version of Flask-Outmail put it into the outbox, and its content is kept.",
        steps=("Go back to the later version, and send the message again from there.",),
        who="developer",
    ),
    entry(
        "expired",
        title="It could not leave in time",
        meaning="The application had set a moment after which it may not leave any more.",
        steps=(
            "See in the overview whether a worker runs and whether the connection works.",
            "Send it again if it is still wanted.",
        ),
        who="you",
    ),
    entry(
        "message_too_large_to_store",
        title="The message is too large to wait",
        meaning="A message that waits is kept in the database, and the application limits how large it may be.",
        steps=(
            "Attach less, or send a link instead.",
            "Or raise `OUTMAIL_STORED_MESSAGE_MAX_BYTES`; MariaDB and MySQL also need `max_allowed_packet` above it.",
        ),
        who="developer",
    ),
    entry(
        "spool_unwritable",
        title="The message could not be stored",
        meaning="The database did not take it, and neither did the folder that stands in for it.",
        steps=(
            "See whether the disk is full.",
            "See whether the application may write into its instance folder, or set `OUTMAIL_SPOOL_DIR`.",
        ),
        who="developer",
    ),
    entry(
        "connections_pause",
        title="No connection works at this moment",
        meaning="Nothing was sent, because a connection with several faults in a row is left alone for a while.",
        steps=("See in the overview which connection does not work, and why.",),
        who="you",
    ),
)
