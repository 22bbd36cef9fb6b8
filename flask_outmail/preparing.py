"""What a message becomes: an envelope for a transport, a row of the outbox, a line of the delivery log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from .connections import Connections
from .current import Current
from .envelope import Envelope, Receipt
from .errors import MissingSender, OutmailError
from .keeping import Keeping
from .message import Message, complete_id
from .models import utc_now
from .outbox import verdicts
from .outbox.states import SUPPRESSED
from .outbox.store import Draft
from .outbox.verdicts import Verdict
from .settings import PRIMARY, Settings
from .vault import Vault

logger = logging.getLogger(__name__)


class Preparing:
    """Makes envelopes, rows and lines for one application. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        mail_state: Any,
        connections: Connections,
        keeping: Keeping,
        vault: Callable[[], Vault],
    ) -> None:
        self._settings = settings
        self._mail_state = mail_state
        self._configured_default = mail_state.default_sender
        self._connections = connections
        self._keeping = keeping
        self._vault = vault

    def envelope(self, message: Message, current: Current, envelope_from: str) -> Envelope:
        """What the transport of a setup in force is given. The message gets its date and, if it has none, its sender.

        Raises:
            InvalidMessage: no transport could send it.
        """
        if message.date is None:
            message.date = time.time()
        fills_sender = getattr(current.transport, "fills_sender", False)
        if current.sender and (not message.sender or self._is_old_default(message)):
            # A sender that came from MAIL_DEFAULT_SENDER gives way to that of the setup in force: the keys of
            # Flask-Mail often stay in the configuration after the administrator has moved on, and Exchange would
            # refuse them. Where several connections may carry it, each puts in its own.
            message.sender = None
            complete_id(message, current.sender)
            if not fills_sender:
                message.sent_by(current.sender)
        return Envelope.for_message(
            message,
            sender=envelope_from,
            mailbox="" if fills_sender else current.mailbox,
            ascii_attachments=self._mail_state.ascii_attachments,
            sender_later=fills_sender and bool(current.sender),
        )

    def suppressed(self, message: Message, envelope_from: str) -> Envelope:
        """What leaves nowhere, as far as it can be known without asking a database for a setup."""
        if not message.sender and PRIMARY in self._settings.configured:
            configured = self._connections.current()
            message.sent_by(configured.sender if configured is not None else "")
        return Envelope.for_message(message, sender=envelope_from, ascii_attachments=self._mail_state.ascii_attachments)

    def draft(self, message: Message, via: str, envelope_from: str, *, state: str, **facts: Any) -> Draft:
        """A row for the message. From stays out when nobody chose it: it is that of the setup on the day it leaves.

        Raises:
            InvalidMessage: no transport could send it, or it is too large to be stored.
            ConfigurationError: the connection is unknown.
        """
        if self._is_old_default(message):
            # The setup at hand may be what must be mended.
            message.sender = None
        try:
            current = self._connections.current(via)
        except OutmailError as exc:
            if exc.code in ("connection_unknown", "tables_missing", "database_missing"):
                raise
            current = None  # a setup that cannot be read today does not keep a message from being stored
        if current is not None and not message.sender and not current.sender:
            raise MissingSender("neither the message nor the setup says who it is from", code="sender_missing")
        if current is not None and not message.sender:
            # The one that the log shows, and that a server is asked about, is the one that leaves.
            complete_id(message, current.sender)
        envelope = Envelope.for_message(
            message,
            sender=envelope_from,
            ascii_attachments=self._mail_state.ascii_attachments,
            sender_later=True,
        )
        facts.setdefault("queued_at", utc_now())
        return Draft.of(
            envelope,
            None if state == SUPPRESSED else self._vault(),
            subject=str(message.subject or ""),
            connection=via,
            max_bytes=self._settings.stored_message_max_bytes,
            state=state,
            keeps_content=self._keeping.keeps_bodies or None,
            **facts,
        )

    def line(
        self, message: Message, envelope: Envelope, outcome: Receipt | OutmailError, via: str, elapsed_s: float = 0.0
    ) -> tuple[Draft, Verdict | None]:
        """The line of the log for a message that was handed over at once. Never fails."""
        verdict = verdicts.settled(outcome, connection=via, elapsed_s=elapsed_s)
        subject = str(message.subject or "")
        facts: dict[str, Any] = {"subject": subject, "connection": via, "state": verdict.state, "origin": "direct"}
        if self._keeping.keeps_bodies and envelope.content.size_bytes <= self._settings.stored_message_max_bytes:
            try:
                return Draft.of(envelope, self._vault(), keeps_content=True, **facts), verdict
            except OutmailError as exc:
                # An attached file is gone by now, or there is no key: the line is kept all the same.
                logger.warning("a message cannot be kept in the log", extra={"code": exc.code})
        return Draft.of(envelope, None, **facts), verdict

    def _is_old_default(self, message: Message) -> bool:
        """Whether the sender is what the configuration put in, and nobody chose it since."""
        default_used = getattr(message, "default_sender_used", None)
        untouched = default_used is not None and message.sender == default_used
        return untouched and self._mail_state.default_sender == self._configured_default
