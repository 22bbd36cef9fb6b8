"""`Mail`: what an application holds.

An import of the package stops here: the engine, and SQLAlchemy below it, are loaded when `init_app` needs them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, current_app, request

from .access import Access
from .compat import Connection, MailState, Message
from .drop_in import adopted
from .envelope import PRIMARY, Receipt, failed_receipt
from .errors import ConfigurationError, OutmailError
from .mailables import Mailable
from .message import Message as MessageValue
from .previews import Previews
from .signals import email_dispatched
from .templating import message_from_template

if TYPE_CHECKING:
    from .alert_channels import OnAlert
    from .diagnosis.steps import Step
    from .engine import Engine
    from .outbox.store import Queued
    from .routing import Chooser
    from .settings import Settings

logger = logging.getLogger(__name__)
Sendable = MessageValue | Mailable
F = TypeVar("F", bound=Callable[..., Any])


class Sending:
    """The sending verbs, shared by `Mail` and by `app.extensions["mail"]`. All act for the current application."""

    def send(self, message: Sendable | None = None, /, *, via: str = "", **fields: Any) -> Receipt:
        """Hands one message over and returns the server's answer. Touches the network.

        Give a `Message`, or the fields of one: `mail.send(subject="Hi", recipients=["ann@example.com"], body="…")`.
        `template="welcome", context={…}` makes it from templates (`message_from_template`); a `Mailable` makes its
        own, with `fields` added.
        `via` names the connection; without it `choose_connection` and `OUTMAIL_ROUTES` do. The receipt is an accepted
        one, in whose `refused` some recipients may stand; with `OUTMAIL_DELIVERY = "outbox"` it is a queued one, and
        a worker does the rest.

        Raises:
            InvalidMessage: the message cannot be sent by anybody; nothing left. (`BadHeaderError`,
                `MissingSender` and `MissingRecipients` are kinds of it.)
            UnsupportedFeature: this mail service cannot express the message; nothing left.
            ConfigurationError: mail is not set up, or wrongly; nothing left.
            SetupNotVerified: the setup has not passed a test; the message is kept and leaves once one passes.
            DeliveryError: the message was not accepted. Its kinds say whose fault it is and whether trying again
                can help; `DeliveryUnknown` is the one after which the message may have arrived all the same.
        """
        # Flask-Mail's parameter can be given by its name too.
        message = message if message is not None else fields.pop("message", None)
        return _engine().deliver(_message(message, fields), via=via)

    async def asend(self, message: Sendable | None = None, /, *, via: str = "", **fields: Any) -> Receipt:
        """`send` for async views: the event loop goes on while a thread hands the message over.

        The message is made before the thread starts, so templates see the request. Raises as `send`.
        """
        import asyncio

        message = message if message is not None else fields.pop("message", None)
        made = _message(message, fields)
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]

        def hand_over() -> Receipt:
            # A context of its own: the caller's database session must not be used by two threads at once.
            with app.app_context():
                return _engine().deliver(made, via=via)

        return await asyncio.to_thread(hand_over)

    def send_message(self, *args: Any, **kwargs: Any) -> Receipt:
        """`send(Message(…))`, as in Flask-Mail."""
        return self.send(Message(*args, **kwargs))

    def send_many(self, messages: Iterable[MessageValue], *, via: str = "") -> list[Receipt]:
        """Hands several messages over; one receipt for each, in order.

        Never raises for a message: one that was not accepted has a receipt that is false and carries `error`.
        """
        return list(_engine().deliver_many(messages, via=via))

    def enqueue(
        self,
        message: Sendable | None = None,
        /,
        at: datetime | None = None,
        key: str | None = None,
        *,
        not_after: datetime | None = None,
        priority: int = 0,
        via: str = "",
        session: Any = None,
        **fields: Any,
    ) -> Queued:
        """Puts one message into the outbox as part of the caller's own transaction (`db.session`).

        When that commits, the message is handed over by a worker, or stays visible as failed or unknown; when it is
        rolled back, it never existed. Give a message or the fields of one, as for `send`. Files that are attached as
        paths are read now. Touches the database, not the network.

        `at` is when it may leave (aware; the past means at once), `not_after` when it may not leave any more. A
        higher `priority` leaves before a lower one (0). A second call with the same `key` adds nothing and gives the
        first delivery, whichever process queued it. `session` is another session than `db.session`.

        Raises:
            InvalidMessage: no transport could send it, or it is too large to be stored.
            ValueError: a moment without a time zone, or a key of no or too many characters, or with a blank at its
                end.
            ConfigurationError: there is no database, its tables are missing, or the connection is unknown.
            TransportUnavailable: the database did not take it; the transaction has failed.
        """
        engine = _engine()
        made = _message(message if message is not None else fields.pop("message", None), fields)
        facts: dict[str, Any] = {"not_after": not_after, "priority": priority, "via": via, "session": session}
        return engine.enqueue(made, at=at, key=key, **facts)

    def connect(self) -> Connection:
        """A `Connection` in the manner of Flask-Mail; use it as a context manager."""
        return Connection(_engine().mail_state)

    @contextmanager
    def record_messages(self) -> Iterator[list[MessageValue]]:
        """Yields a list that fills with every message sent while the block runs, suppressed ones too."""
        outbox: list[MessageValue] = []

        def record(app: Any, message: MessageValue, **_: Any) -> None:
            outbox.append(message)

        with email_dispatched.connected_to(record):
            yield outbox


def _message(message: Sendable | None, fields: dict[str, Any]) -> MessageValue:
    if isinstance(message, Mailable):
        return message.message(**fields)
    if message is None:
        return message_from_template(**fields) if "template" in fields else Message(**fields)
    if fields:
        raise TypeError(f"send() takes a message or the fields of one, not both: {', '.join(fields)}")
    return message if isinstance(message, MessageValue) else adopted(message)


class State(Sending, MailState):
    """`app.extensions["mail"]`."""


def _engine() -> Engine:
    # Imported late, as all that a module which only names `Mail` has no use for.
    from .engine import engine_of_current_app

    return engine_of_current_app()


class TemplateMail:
    """`mail` inside a template. A page must not break because a mail did, so `send` never raises here."""

    def __init__(self, mail: Sending) -> None:
        self._mail = mail

    def send(self, message: Sendable | None = None, /, **fields: Any) -> Receipt:
        """As `Mail.send`, but a failure is a receipt that is false, prints as nothing and has `error`."""
        try:
            return self._mail.send(message, **fields)
        except OutmailError as exc:
            logger.warning("a mail from a template was not accepted", extra={"code": exc.code})
            known = message if isinstance(message, MessageValue) else Message()
            return failed_receipt(known, exc, str(fields.get("via", PRIMARY)))


class Mail(Sending):
    """Outbound mail for Flask applications: `mail = Mail()`, then `mail.init_app(app, db)`.

    One object serves any number of applications; what belongs to one lives in its `extensions`.
    """

    def __init__(self, app: Flask | None = None, db: Any = None) -> None:
        self.app = app
        self._access = Access()
        self._previews = Previews()
        self._on_alert: list[OnAlert] = []
        self._choosers: list[Chooser] = []
        self.state: State | None = self.init_app(app, db) if app is not None else None

    def init_app(self, app: Flask, db: Any = None) -> State:
        """Sets the application up: configuration, tables, pages, commands, and `mail` in its templates.

        `db` is the application's Flask-SQLAlchemy object; it is found in `app.extensions` when left out. Without a
        database mail is set up by configuration alone. Touches neither network nor database. Called again for the
        same application it changes nothing.

        Raises:
            ConfigurationError: a key is wrong; the message names it.
        """
        from . import models
        from .engine import Engine
        from .settings import Settings

        app = getattr(app, "_get_current_object", lambda: app)()
        known = app.extensions.get("outmail")
        if isinstance(known, Engine):
            if db is not None and known.database.db is not db:
                raise ConfigurationError("this application already has mail, with another database")
            return app.extensions["mail"]  # type: ignore[no-any-return]
        settings = Settings.from_config(app.config)
        state = self.init_mail(app.config, app.debug, app.testing)
        db = db if db is not None else app.extensions.get("sqlalchemy")
        engine = Engine(app, settings, state, db, self._access, self._on_alert, self._choosers)
        engine.previews = self._previews
        if engine.database:
            models.attach(engine.database.db.metadata)
        app.extensions["mail"] = state
        app.extensions["outmail"] = engine
        app.jinja_env.globals.setdefault("mail", TemplateMail(self))
        self._add_pages(app, settings)
        if app.debug and settings.delivery == "outbox" and settings.worker_in_debug and not app._got_first_request:
            self._work_in_development(app, engine)
        return state

    def init_mail(self, config: Mapping[str, Any], debug: bool = False, testing: bool = False) -> State:
        """What Flask-Mail's keys say; used by `init_app`, and by applications that read it themselves."""
        return State(config, debug, testing)

    def access_control(self, function: F) -> F:
        """Decorator: names who may open the pages. Until it is used, every page answers 403.

        The function returns True, False (403), or a response such as a redirect to the log-in. One that takes nothing
        decides everything; one with a parameter `action` is asked for "see", "change", "delete", "read_bodies" and
        "export", each by itself.
        """
        return self._access.access_control(function)

    def actor(self, function: F) -> F:
        """Decorator: the function returns the name that is written into the history."""
        return self._access.actor(function)

    def preview(self, name: str) -> Callable[[F], F]:
        """Decorator: the function returns a message with sample data, shown at `<prefix>/previews/` in debug."""
        return self._previews.register(name)

    def on_alert(self, function: F) -> F:
        """Decorator: the function is called with each alert, a `Notice`; a way to tell people that is not mail.

        It counts as told unless the function raises or returns False. Called where the failure was met: in the
        request, the worker or the command. May be used for several functions.
        """
        self._on_alert.append(function)
        return function

    def choose_connection(self, function: F) -> F:
        """Decorator: the function is given each message that names no connection, and returns a connection's name.

        None leaves it to the rules of `OUTMAIL_ROUTES`, and then to `primary`. What it raises, `send` raises: one
        tenant's mail must not leave over another's connection.
        """
        self._choosers.append(function)
        return function

    def diagnose(
        self,
        via: str = PRIMARY,
        *,
        test_message_to: str = "",
        foreign_mailbox: str = "",
        transcript: list[tuple[str, str]] | None = None,
    ) -> Iterator[Step]:
        """Tests the setup in force, step by step, as the page does. Touches the network.

        Sends nothing, unless `test_message_to` is an address. With a `foreign_mailbox` it is proven that this
        application may not send as that one. What is said is added to the list `transcript`, as ("client" or "server",
        line), without secrets. A test that passes lets held messages go.

        Raises:
            ConfigurationError: nothing is set up.
        """
        from .proving import trial

        engine = _engine()
        run = trial(engine, via, test_message_to=test_message_to, foreign_mailbox=foreign_mailbox)
        if transcript is not None:
            run.transcript = transcript
        yield from run.steps()
        if run.passed and engine.database:
            engine.releasing.release(via)

    def _add_pages(self, app: Flask, settings: Settings) -> None:
        from .cli import outmail_commands
        from .web import create_blueprint

        if "outmail" not in app.cli.commands:
            app.cli.add_command(outmail_commands)
        if app._got_first_request:
            # Flask takes no pages any more. Happens where `Mail(current_app)` is called inside a request.
            logger.warning("mail was set up after the first request: its pages are not there")
            return
        app.register_blueprint(create_blueprint(), url_prefix=settings.url_prefix)

    @staticmethod
    def _work_in_development(app: Flask, engine: Engine) -> None:
        """Starts a worker thread with the first request that the development server of Flask serves."""
        from .working import DevelopmentWorker

        worker = DevelopmentWorker(engine)

        def start() -> None:
            # Only there: real servers have processes of their own for it, and tests want none.
            is_development = str(request.environ.get("SERVER_SOFTWARE", "")).startswith("Werkzeug")
            if is_development and not engine.database.is_in_memory:
                worker.start()

        app.before_request(start)

    def __getattr__(self, name: str) -> Any:
        # Flask-Mail gives the state's attributes through the extension, and None for those it does not have.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__dict__.get("state"), name, None)
