"""Everything the simulator knows while it runs; each method may be called from any thread."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any

from flask_outmail.simulator import mail
from flask_outmail.simulator.behaviour import Behaviour
from flask_outmail.simulator.faults import Faults
from flask_outmail.simulator.mail import DeliveredMail
from flask_outmail.simulator.outside_issuer import OutsideIssuer
from flask_outmail.simulator.world import App, Mailbox

DRAFTS, SENT, INBOX = "drafts", "sentitems", "inbox"
FOLDERS = (DRAFTS, SENT, INBOX, "outbox", "deleteditems")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer given. `path` has no query; `status` 0 means that the connection was dropped instead."""

    method: str
    path: str
    status: int
    code: str
    at: datetime
    request_id: str = ""


@dataclass(slots=True)
class StoredAttachment:
    id: str
    name: str
    content_type: str
    content: bytes = field(repr=False)
    inline: bool = False
    content_id: str = ""


@dataclass(slots=True)
class StoredMessage:
    """An item in a folder of a mailbox: a draft, a sent copy or a received one.

    `json` is what a client posted as JSON (None: it was MIME, and `raw` is exactly that). `raw` is without the
    `attachments`, which were added one by one. `properties` have no place in a message: categories, flag …
    """

    id: str
    immutable_id: str
    mailbox: str
    folder: str
    raw: bytes = field(repr=False)
    internet_message_id: str
    conversation_id: str
    created_at: datetime
    json: dict[str, Any] | None = field(default=None, repr=False)
    properties: dict[str, Any] = field(default_factory=dict, repr=False)
    attachments: list[StoredAttachment] = field(default_factory=list)
    visible_from: float = 0.0
    change_key: str = field(default_factory=lambda: secrets.token_urlsafe(12))


@dataclass(frozen=True, slots=True)
class Submission:
    """A message that was taken over, to be delivered at once or after the settable delay."""

    mailbox: Mailbox
    raw: bytes
    recipients: list[str]
    via: str
    client: str
    envelope_from: str = ""
    save_copy: bool = True
    draft: StoredMessage | None = None


class State:
    def __init__(self, *, tenant: str, domain: str) -> None:
        self.tenant = tenant
        self.domain = domain
        self.behaviour = Behaviour()
        self.outside = OutsideIssuer("")
        self.faults = Faults()
        self.closing = threading.Event()
        self._waking = threading.Event()
        self._chapter = 0
        self._changed = threading.Condition(threading.RLock())
        self._apps: dict[str, App] = {}
        self._mailboxes: dict[str, Mailbox] = {}
        self._messages: dict[str, StoredMessage] = {}
        self._delivered: list[DeliveredMail] = []
        self._answers: list[Answer] = []
        self._pending: list[tuple[float, Callable[[], None]]] = []
        self._in_progress: Counter[tuple[str, str]] = Counter()
        self._count = 0
        self._clock: threading.Thread | None = None

    # Who exists

    def add_app(self, app: App) -> App:
        with self._changed:
            self._apps[app.client_id.lower()] = app
        return app

    def add_mailbox(self, mailbox: Mailbox) -> Mailbox:
        with self._changed:
            self._mailboxes[mailbox.address] = mailbox
        return mailbox

    def apps(self) -> list[App]:
        with self._changed:
            return list(self._apps.values())

    def mailboxes(self) -> list[Mailbox]:
        with self._changed:
            return list(self._mailboxes.values())

    def app(self, client_id: str) -> App | None:
        with self._changed:
            return self._apps.get(client_id.lower())

    def mailbox(self, name: str) -> Mailbox | None:
        """The user of that address or object id, with or without a mailbox."""
        wanted = name.lower()
        with self._changed:
            by_address = self._mailboxes.get(wanted)
            return by_address or next((item for item in self._mailboxes.values() if item.id == wanted), None)

    def knows_tenant(self, name: str) -> bool:
        return name.lower() in (self.tenant.lower(), self.domain)

    # What was answered

    def record(self, method: str, path: str, status: int, code: str = "", request_id: str = "") -> None:
        with self._changed:
            self._answers.append(Answer(method, path, status, code, now(), request_id))

    def answers(self) -> list[Answer]:
        with self._changed:
            return list(self._answers)

    # Requests in progress

    @contextmanager
    def slot(self, client: str, mailbox: str, limit: int) -> Iterator[bool]:
        """True inside when fewer than `limit` others are in progress for this client and mailbox."""
        key = (client, mailbox)
        with self._changed:
            free = self._in_progress[key] < limit
            self._in_progress[key] += free
        try:
            yield free
        finally:
            with self._changed:
                self._in_progress[key] -= free

    def wait(self, seconds: float) -> bool:
        """Sleeps, but not longer than the simulator lives or until `end_waits`; False when all was forgotten."""
        chapter = self._chapter
        if seconds > 0:
            self._waking.wait(seconds)
        return chapter == self._chapter

    def end_waits(self) -> None:
        """Whatever is delayed now goes on at once."""
        self._waking.set()
        self._waking = threading.Event()

    # Folders

    def store(
        self, mailbox: Mailbox, folder: str, raw: bytes, *, conversation_id: str = "", immutable_id: str = ""
    ) -> StoredMessage:
        message_ids = mail.values(raw, "message-id")
        message = StoredMessage(
            id=new_id(),
            immutable_id=immutable_id or new_id(),
            mailbox=mailbox.address,
            folder=folder,
            raw=raw,
            internet_message_id=message_ids[0] if message_ids else "",
            conversation_id=conversation_id or new_id(30),
            created_at=now(),
            visible_from=time.monotonic() + self.behaviour.visibility_delay_s,
        )
        with self._changed:
            self._messages[message.id] = message
        return message

    def find_message(self, mailbox: Mailbox, message_id: str) -> StoredMessage | None:
        """By ordinary or immutable id; None for another mailbox's message and before it is visible."""
        return next((item for item in self.messages(mailbox) if message_id in (item.id, item.immutable_id)), None)

    def messages(self, mailbox: Mailbox, folder: str | None = None) -> list[StoredMessage]:
        """Newest first, without those that are not visible yet."""
        moment = time.monotonic()
        with self._changed:
            found = [
                item
                for item in self._messages.values()
                if item.mailbox == mailbox.address and folder in (None, item.folder) and item.visible_from <= moment
            ]
        return found[::-1]

    def remove(self, message: StoredMessage) -> None:
        with self._changed:
            self._messages.pop(message.id, None)

    # Delivery

    def submit(self, submission: Submission) -> None:
        """Delivers and files the sent copy, at once or after `behaviour.delivery_delay_s`."""
        delay_s = self.behaviour.delivery_delay_s
        if delay_s <= 0:
            self._deliver(submission)
            return
        with self._changed:
            self._pending.append((time.monotonic() + delay_s, lambda: self._deliver(submission)))
            if self._clock is None:
                self._clock = threading.Thread(target=self._run_clock, name="simulator-clock", daemon=True)
                self._clock.start()
            self._changed.notify_all()

    def deliver_pending(self) -> int:
        """Ends every delivery delay that is running now; how many there were."""
        with self._changed:
            due, self._pending = self._pending, []
            for _, action in due:
                action()
            return len(due)

    def _run_clock(self) -> None:
        with self._changed:
            while not self.closing.is_set():
                moment = time.monotonic()
                due = [action for due_at, action in self._pending if due_at <= moment]
                self._pending = [item for item in self._pending if item[0] > moment]
                for action in due:
                    action()
                soonest = min((due_at for due_at, _ in self._pending), default=moment + 3600.0)
                self._changed.wait(max(0.0, min(soonest - time.monotonic(), 3600.0)))

    def _deliver(self, submission: Submission) -> None:
        raw, had_bcc = mail.without(submission.raw, "bcc")
        message_ids = mail.values(raw, "message-id")
        draft = submission.draft
        with self._changed:
            for recipient in dict.fromkeys(address.lower() for address in submission.recipients):
                self._count += 1
                self._delivered.append(
                    DeliveredMail(
                        id=self._count,
                        recipient=recipient,
                        mail_from=submission.mailbox.address,
                        envelope_from=submission.envelope_from or submission.mailbox.address,
                        raw=raw,
                        via=submission.via,
                        received_at=now(),
                        message_id=message_ids[0] if message_ids else "",
                        client=submission.client,
                        had_bcc_header=had_bcc,
                    )
                )
                receiver = self._mailboxes.get(recipient)
                if receiver is not None and receiver.reachable:
                    self.store(receiver, INBOX, raw)
            if draft is not None:
                self.remove(draft)
            if submission.save_copy:
                kept = draft is not None and self.behaviour.immutable_ids == "kept"
                self.store(
                    submission.mailbox,
                    SENT,
                    submission.raw,
                    conversation_id=draft.conversation_id if draft else "",
                    immutable_id=draft.immutable_id if draft and kept else "",
                )
            self._changed.notify_all()

    def delivered(self) -> list[DeliveredMail]:
        with self._changed:
            return list(self._delivered)

    def wait_for(self, count: int, timeout_s: float) -> list[DeliveredMail]:
        """What was delivered, once there are `count` of them or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._delivered) >= count, timeout_s)
            return list(self._delivered)

    # Forgetting

    def forget_mail(self) -> None:
        self._chapter += 1
        self.end_waits()
        with self._changed:
            self._delivered.clear()
            self._messages.clear()
            self._pending.clear()

    def forget_answers(self) -> None:
        with self._changed:
            self._answers.clear()

    def close(self) -> None:
        self.closing.set()
        self._waking.set()
        with self._changed:
            self._changed.notify_all()
        if self._clock is not None:
            self._clock.join(2.0)


def complete(raw: bytes, mailbox: Mailbox, behaviour: Behaviour, *, rewrite_alias: bool) -> bytes:
    """The message as Exchange passes it on: From, Date and Message-ID added where missing, other bytes untouched."""
    if rewrite_alias and not behaviour.send_from_alias:
        raw = _without_alias(raw, mailbox)
    if behaviour.message_ids == "replaced":
        raw, _ = mail.without(raw, "message-id")
    if not mail.values(raw, "message-id"):
        raw = mail.with_header(raw, "Message-ID", new_message_id())
    if not mail.values(raw, "date"):
        raw = mail.with_header(raw, "Date", format_datetime(now()))
    if not mail.values(raw, "from"):
        raw = mail.with_header(raw, "From", mailbox.address)
    return raw


def _without_alias(raw: bytes, mailbox: Mailbox) -> bytes:
    # Set-OrganizationConfig, SendFromAliasEnabled: by default Exchange writes the primary address.
    senders = mail.addresses(raw, "from")
    if len(senders) != 1 or senders[0][1].lower() not in mailbox.aliases:
        return raw
    raw, _ = mail.without(raw, "from")
    name = senders[0][0].replace("\\", "").replace('"', "")
    return mail.with_header(raw, "From", f'"{name}" <{mailbox.address}>' if name else mailbox.address)


def now() -> datetime:
    return datetime.now(timezone.utc)


def new_id(size: int = 60) -> str:
    """Looks like an Exchange item id: URL-safe base64 that starts with the usual letters."""
    return "AAMk" + base64.urlsafe_b64encode(secrets.token_bytes(size)).decode().rstrip("=") + "="


def new_message_id() -> str:
    return f"<{secrets.token_hex(12).upper()}@SIMULATOR.PROD.OUTLOOK.EXAMPLE>"
