"""The ways on which an alert can travel: mail over a connection that works, a webhook, functions of the application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from . import setups
from .current import Current
from .database import Database
from .envelope import Envelope
from .errors import DeliveryUnknown, OutmailError, TransportUnavailable
from .frames import frames
from .models import PRIMARY
from .outbox import alerts
from .outbox.notices import Notice
from .outbox.webhook import Webhook
from .settings import Settings

logger = logging.getLogger(__name__)

MAIL, WEBHOOK, CALLBACK = "mail", "webhook", "callback"
ACCEPTED, UNKNOWN, FAILED, SUPPRESSED = "accepted", "unknown", "failed", "suppressed"

OnAlert = Callable[[Notice], Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What one channel said to a notice. `words` hold no secret and no address but that of the alerts themselves."""

    channel: str
    outcome: str
    words: str
    code: str = ""

    @property
    def is_good(self) -> bool:
        return self.outcome in (ACCEPTED, UNKNOWN)


class Channels:
    """All channels of one application. Nothing here ever causes an alert.

    `look_up` gives the setup in force of a connection; `callbacks` is the list that `@mail.on_alert` fills.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        look_up: Callable[[str], Current | None],
        callbacks: Sequence[OnAlert],
        is_suppressed: Callable[[], bool],
    ) -> None:
        self._database = database
        self._look_up = look_up
        self._callbacks = callbacks
        self._is_suppressed = is_suppressed
        self._webhook = (
            Webhook(
                settings.alert_webhook_url,
                settings.alert_webhook_kind,
                settings.alert_webhook_secret,
                settings.alert_webhook_timeout_s,
                settings.ca_file,
            )
            if settings.alert_webhook_url
            else None
        )

    @property
    def is_suppressed(self) -> bool:
        """Whether nothing may leave (`MAIL_SUPPRESS_SEND`, as in tests)."""
        return self._is_suppressed()

    def described(self) -> list[tuple[str, str]]:
        """Each channel that is set up, with where it leads, for a page. Never a secret."""
        found = [(MAIL, to)] if (to := self.address()) else []
        if self._webhook is not None:
            found.append((WEBHOOK, f"{self._webhook.kind}, {self._webhook.host}"))
        if self._callbacks:
            found.append((CALLBACK, ", ".join(_name(one) for one in self._callbacks)))
        return found

    def tell(
        self, notice: Notice, *, avoid: Collection[str] = (), skip: Collection[str] = (), is_patient: bool = True
    ) -> dict[str, Told]:
        """Tells a notice on every channel that is set up, except `skip`; what each said, by name. Touches the network.

        Mail does not travel over the connections in `avoid`, nor over any that has a failure open.
        """
        if self.is_suppressed:
            return {MAIL: Told(MAIL, SUPPRESSED, "Nothing leaves while sending is suppressed (MAIL_SUPPRESS_SEND).")}
        told = {}
        if MAIL not in skip and (to := self.address(notice.connection)):
            told[MAIL] = self._mail(notice, to, avoid)
        if WEBHOOK not in skip and self._webhook is not None:
            told[WEBHOOK] = self._post(notice, self._webhook, is_patient)
        if CALLBACK not in skip and self._callbacks:
            told[CALLBACK] = self._call(notice)
        for one in told.values():
            level = logging.INFO if one.is_good else logging.WARNING
            logger.log(level, "alert told", extra={"channel": one.channel, "outcome": one.outcome, "code": one.code})
        return told

    # -- mail --------------------------------------------------------------------------------------------------------

    def address(self, connection: str = "") -> str:
        """Where alerts are mailed to: what the connection's own setup says, or else the first setup that says it."""
        for name in dict.fromkeys([connection or PRIMARY, *self._connections()]):
            current = self._find(name)
            if current is not None and current.values.failure_alerts_to:
                return current.values.failure_alerts_to
        return ""

    def _mail(self, notice: Notice, to: str, avoid: Collection[str]) -> Told:
        code = ""
        is_unknown = False
        for way in self._ways(avoid):
            message = notice.mail(to)
            message.sent_by(way.sender)
            try:
                # Straight to the transport: a failure here must not become an incident of its own.
                receipt = way.transport.deliver(Envelope.for_message(message, mailbox=way.mailbox))
            except OutmailError as exc:
                code = exc.code or type(exc).__name__
                is_unknown = is_unknown or isinstance(exc, DeliveryUnknown)
            except Exception as exc:  # a third party's transport may raise anything
                code = type(exc).__name__
            else:
                if not receipt.accepted:
                    return Told(MAIL, SUPPRESSED, f"Held back: {to} is not among OUTMAIL_ALLOWED_RECIPIENTS.")
                return Told(MAIL, ACCEPTED, f"Accepted for {to}, over the connection “{way.connection}”.")
        if is_unknown:
            # Tried again within the hour it might arrive ten times; the next reminder comes in any case.
            return Told(MAIL, UNKNOWN, f"It left for {to}, and no clear answer came.", code)
        if code:
            return Told(MAIL, FAILED, "No connection that may carry the alert accepted it.", code)
        return Told(MAIL, FAILED, "There is no other verified connection that could carry the alert.", "no_alert_path")

    def _ways(self, avoid: Collection[str]) -> Iterator[Current]:
        shut = {*avoid, *self._failing()}
        for name in self._connections():
            way = self._find(name) if name not in shut else None
            if way is not None and way.verified and way.sender:
                yield way

    def _connections(self) -> list[str]:
        names = []
        if self._database:
            try:
                with self._database.session() as session:
                    names = setups.connections(session)
            except (OutmailError, SQLAlchemyError) as exc:
                logger.warning("other connections cannot be looked up", extra={"error": type(exc).__name__})
        return list(dict.fromkeys([PRIMARY, *names]))

    def _failing(self) -> set[str]:
        if self._database:
            try:
                with self._database.session() as session:
                    return alerts.failing_connections(session)
            except (OutmailError, SQLAlchemyError):
                pass
        return set()

    def _find(self, name: str) -> Current | None:
        try:
            return self._look_up(name)
        except (OutmailError, SQLAlchemyError):
            return None

    # -- other channels ----------------------------------------------------------------------------------------------

    @staticmethod
    def _post(notice: Notice, webhook: Webhook, is_patient: bool) -> Told:
        try:
            answer = webhook.post(notice, is_patient=is_patient)
        except TransportUnavailable as exc:
            words = f"The webhook at {webhook.host} cannot be reached ({exc.code})."
            return Told(WEBHOOK, FAILED, words, "webhook_unreachable")
        except OutmailError as exc:
            return Told(WEBHOOK, FAILED, f"The webhook did not take it: {exc}.", exc.code)
        except Exception as exc:  # whatever an HTTP library meets; its text could quote the address
            return Told(WEBHOOK, FAILED, "The webhook could not be called.", type(exc).__name__)
        return Told(WEBHOOK, ACCEPTED, f"Accepted by {webhook.host} ({answer}).")

    def _call(self, notice: Notice) -> Told:
        failed = []
        for function in self._callbacks:
            try:
                is_refused = function(notice) is False
            except Exception as exc:  # the application's own function may raise anything
                told = {"function": _name(function), "error": type(exc).__name__}
                logger.error("a function of @mail.on_alert raised:\n%s", frames(exc), extra=told)
                is_refused = True
            if is_refused:
                failed.append(_name(function))
        if failed:
            return Told(CALLBACK, FAILED, f"Raised, or returned False: {', '.join(failed)}.", "callback_failed")
        return Told(CALLBACK, ACCEPTED, f"Called: {', '.join(_name(one) for one in self._callbacks)}.")


def _name(function: OnAlert) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def summary(told: Mapping[str, Told]) -> str:
    """What became of an alert, from what its channels said."""
    others = any(one.is_good for name, one in told.items() if name != MAIL)
    mail = told.get(MAIL)
    if mail is not None and mail.is_good:
        return alerts.MAILED
    if others:
        return alerts.TOLD if mail is None else alerts.PARTLY
    return alerts.KEPT
