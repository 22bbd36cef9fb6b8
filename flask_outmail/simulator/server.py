"""`Simulator`: starts and stops everything, and is what tests talk to."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from flask_outmail.simulator import managed_identity
from flask_outmail.simulator.behaviour import Behaviour
from flask_outmail.simulator.certificates import Authority
from flask_outmail.simulator.cloud import make_app
from flask_outmail.simulator.faults import Faults
from flask_outmail.simulator.mail import DeliveredMail
from flask_outmail.simulator.outside_issuer import AUDIENCE, SUBJECT, Trust
from flask_outmail.simulator.smtp import SmtpServer
from flask_outmail.simulator.smtp_auth import Authenticator
from flask_outmail.simulator.smtp_limits import SmtpLimits
from flask_outmail.simulator.state import Answer, State
from flask_outmail.simulator.tokens import GRAPH, SMTP_RESOURCE, Tokens
from flask_outmail.simulator.webserver import WebServer
from flask_outmail.simulator.world import (
    ALL_ROLES,
    DOMAIN,
    App,
    Keepsake,
    Mailbox,
    default_apps,
    default_mailboxes,
    lowered,
    new_secret,
)


class Simulator:
    """A Microsoft 365 on this machine: Entra and Graph over HTTPS, SMTP submission, and a page that shows the mail.

    `directory` keeps the certificate authority and the identities, so that a restart changes nothing for clients;
    None makes a temporary one that `close` removes. A port of 0 takes any free one. The ports, URLs and identities
    can be read once `start` has returned (`with` calls it). Nothing outside `host` is ever contacted.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        host: str = "127.0.0.1",
        https_port: int = 0,
        smtp_port: int = 0,
        smtps_port: int = 0,
        web_port: int = 0,
        tenant: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="outmail-simulator-") if directory is None else None
        self.directory = Path(self._temporary.name if self._temporary else str(directory))
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._host = host
        self._ports = (https_port, smtp_port, smtps_port, web_port)
        self._authority = Authority(self.directory)
        self._keep = Keepsake(self.directory)
        self.tenant = self._keep.guid("tenant", tenant)
        self.state = State(tenant=self.tenant, domain=DOMAIN)
        for app in default_apps(self._keep, client_id, client_secret):
            app.certificates = self._keep.certificates(app.client_id)
            self.state.add_app(app)
        for mailbox in default_mailboxes(self._keep):
            self.state.add_mailbox(mailbox)
        self._app, self._mailbox = self.state.apps()[0], self.state.mailboxes()[0]
        self._tokens = Tokens(self._keep.secret("token_key"), self.tenant)
        self._keep.save()
        self._limits = SmtpLimits(self.state)
        self._servers: list[WebServer | SmtpServer] = []
        self._smtp: list[SmtpServer] = []
        self._closed = False
        self.https_url = self.web_url = self.identity_url = ""
        self.smtp_host = "localhost"
        self.smtp_port = self.smtps_port = 0

    # Life

    def start(self) -> Simulator:
        """Listens; returns when clients can connect.

        Raises:
            OSError: a port is taken.
        """
        from flask_outmail.simulator.mailbox import make_web_app

        https_port, smtp_port, smtps_port, web_port = self._ports
        try:
            https = WebServer(self._host, https_port, self._serve_https, name="https", tls=self._https_context)
            self._servers.append(https)
            self._https = https
            self.https_url = f"https://localhost:{https.port}"
            for name in (self.https_url, f"https://127.0.0.1:{https.port}"):
                self._tokens.resources[name] = GRAPH
            self._https_app = make_app(self.state, self._tokens, self.https_url)
            authenticator = Authenticator(self.state, self._tokens)
            for port, implicit in ((smtp_port, False), (smtps_port, True)):
                server = SmtpServer(
                    self._host,
                    port,
                    self.state,
                    authenticator,
                    self._smtp_context,
                    self._limits,
                    implicit_tls=implicit,
                )
                self._smtp.append(server)
                self._servers.append(server)
            self.smtp_port, self.smtps_port = (server.port for server in self._smtp)
            web = WebServer(self._host, web_port, make_web_app(self), name="web")
            self._servers.append(web)
            identity = WebServer(
                self._host,
                0,
                managed_identity.make_app(
                    self.state, self._tokens, self._keep.secret("identity_header"), f"{self.https_url}/{self.tenant}/"
                ),
                name="identity",
            )
            self._servers.append(identity)
            self.identity_url = f"http://127.0.0.1:{identity.port}"
            self.state.outside.name = f"{self.https_url}/outside"
            self._app.trusts = [Trust(self.state.outside.name)]
            self._keep.save()
            self.web_url = f"http://127.0.0.1:{web.port}/"
        except BaseException:
            self.close()
            raise
        for started in self._servers:
            started.start()
        return self

    def close(self) -> None:
        """Stops everything at once, whatever is hanging; may be called again."""
        if self._closed:
            return
        self._closed = True
        self.state.close()
        for server in self._servers:
            server.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve_https(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._https_app(environ, start_response)

    def _https_context(self) -> ssl.SSLContext:
        return self._authority.context(self.state.behaviour.https_certificate)

    def _smtp_context(self) -> ssl.SSLContext:
        return self._authority.context(self.state.behaviour.smtp_certificate)

    # What a client needs

    @property
    def ca_file(self) -> Path:
        """PEM of the simulator's certificate authority: what clients have to trust."""
        return self._authority.ca_file

    @property
    def client_id(self) -> str:
        return self._app.client_id

    @property
    def client_secret(self) -> str:
        return self._app.secret

    @property
    def secret_id(self) -> str:
        """The ID of the secret, which is what people paste by mistake."""
        return self._app.secret_id

    @property
    def mailbox(self) -> str:
        """The address to send from."""
        return self._mailbox.address

    @property
    def smtp_password(self) -> str:
        """Password of `mailbox` for basic authentication."""
        return self._mailbox.password

    @property
    def identity_environment(self) -> dict[str, str]:
        """What App Service sets, so that a process on it gets tokens of its managed identity."""
        return {
            "IDENTITY_ENDPOINT": f"{self.identity_url}{managed_identity.APP_SERVICE_PATH}",
            "IDENTITY_HEADER": self._keep.secret("identity_header"),
        }

    @property
    def managed_client_id(self) -> str:
        """The client id of the machine's managed identity."""
        return next(app.client_id for app in self.state.apps() if app.is_managed)

    def outside_token(self, subject: str = SUBJECT, audience: str = AUDIENCE, lifetime_s: float = 3600.0) -> str:
        """A token of an issuer that the application trusts: what a cluster writes into a workload's token file."""
        return self.state.outside.token(subject, audience, lifetime_s)

    def add_secret(self, client_id: str = "") -> str:
        """Another secret, good beside those that the application has already."""
        secret = new_secret()
        self._app_of(client_id).more_secrets.append(secret)
        return secret

    def upload_certificate(self, pem: str | bytes, client_id: str = "") -> None:
        """Registers a certificate's public part (PEM or DER) with the application, as an administrator does.

        Raises:
            ValueError: it is no certificate, or there is no such application.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        data = pem.encode() if isinstance(pem, str) else pem
        is_pem = data.lstrip().startswith(b"-----")
        certificate = x509.load_pem_x509_certificate(data) if is_pem else x509.load_der_x509_certificate(data)
        app, public = self._app_of(client_id), certificate.public_bytes(Encoding.PEM)
        app.certificates.append(public)
        self._keep.add_certificate(app.client_id, public)

    def _app_of(self, client_id: str) -> App:
        app = self.state.app(client_id) if client_id else self._app
        if app is None:
            raise ValueError(f"there is no application {client_id}")
        return app

    @property
    def cloud(self) -> dict[str, Any]:
        """One entry for `OUTMAIL_CLOUDS`."""
        return {
            "label": "Simulator",
            "authority": self.https_url,
            "graph": self.https_url,
            "scope": f"{self.https_url}/.default",
            "smtp_host": self.smtp_host,
            "smtp_port": self.smtp_port,
            "smtp_scope": f"{SMTP_RESOURCE}/.default",
        }

    # What happened

    @property
    def delivered(self) -> list[DeliveredMail]:
        """Every copy that was really delivered, oldest first, one per recipient."""
        return self.state.delivered()

    @property
    def answers(self) -> list[Answer]:
        """What was answered, oldest first; not the same as what was delivered."""
        return self.state.answers()

    def wait_for(self, count: int, timeout_s: float = 5.0) -> list[DeliveredMail]:
        """What was delivered, as soon as there are at least `count` copies.

        Raises:
            AssertionError: fewer came within `timeout_s`; the text says which.
        """
        delivered = self.state.wait_for(count, timeout_s)
        if len(delivered) < count:
            seen = [f"  {item.recipient}: {item.subject!r} by {item.via}" for item in delivered]
            answers = [
                f"  {item.method} {item.path} {item.status or 'dropped'} {item.code}" for item in self.answers[-8:]
            ]
            raise AssertionError(
                f"{count} delivered copies expected within {timeout_s:g} s, {len(delivered)} came:\n"
                + "\n".join([*seen, "last answers:", *answers])
            )
        return delivered

    # Changing it

    @property
    def faults(self) -> Faults:
        """What shall go wrong."""
        return self.state.faults

    @property
    def behaviour(self) -> Behaviour:
        """Standing properties: limits, delays, kinds of tokens and certificates."""
        return self.state.behaviour

    def clear(self) -> None:
        """Forgets mail, answers, faults and blocked mailboxes, and behaves as new. Identities stay.

        Requests to Graph that a fault delays are dropped, with nothing done.
        """
        self.state.forget_mail()
        self.state.forget_answers()
        self.state.faults.clear()
        self.state.behaviour.reset()
        self._limits.forgive()

    def deliver_pending(self) -> int:
        """Ends all delivery delays now; how many submissions that were."""
        return self.state.deliver_pending()

    def expire_tokens(self) -> None:
        """Every access token issued until now is refused from now on."""
        self._tokens.expire_all()

    def drop_https_connections(self) -> int:
        """Hangs up on every client of Entra and Graph without a word; how many there were."""
        return self._https.hang_up()

    def drop_smtp_connections(self) -> int:
        """Hangs up on every SMTP client without a word; how many there were."""
        return sum(server.hang_up() for server in self._smtp)

    def add_mailbox(
        self,
        address: str,
        *,
        password: str | None = None,
        enabled: bool = True,
        on_premises: bool = False,
        send_as: Iterable[str] = (),
        aliases: Iterable[str] = (),
    ) -> Mailbox:
        """A new user. `send_as`: foreign addresses it may put into From. Not `enabled`: a user without a mailbox."""
        key = f"mailbox-{address.lower()}"
        mailbox = Mailbox(
            address=address.lower(),
            id=self._keep.guid(f"{key}.id"),
            password=self._keep.password(f"{key}.password", password),
            enabled=enabled,
            on_premises=on_premises,
            send_as=lowered(send_as),
            aliases=lowered(aliases),
        )
        self._keep.save()
        return self.state.add_mailbox(mailbox)

    def add_app(
        self,
        name: str = "Another application",
        client_id: str | None = None,
        secret: str | None = None,
        secret_expired: bool = False,
        certificate_pem: bytes | str | None = None,
        roles: Iterable[str] = ALL_ROLES,
        scoped_to: Iterable[str] | None = None,
    ) -> App:
        """A new app registration. `scoped_to`: granted for these mailboxes by RBAC for Applications, not by Entra."""
        key = f"app-{name}"
        pem = certificate_pem.encode() if isinstance(certificate_pem, str) else certificate_pem
        app = App(
            name=name,
            client_id=self._keep.guid(f"{key}.client_id", client_id),
            secret=self._keep.secret(f"{key}.client_secret", secret),
            secret_id=self._keep.guid(f"{key}.secret_id"),
            secret_expired=secret_expired,
            certificates=[pem] if pem else [],
            roles=frozenset(roles),
            scoped_to=lowered(scoped_to) if scoped_to is not None else None,
        )
        self._keep.save()
        return self.state.add_app(app)

    def describe(self) -> str:
        """All addresses and identities, as plain text for a terminal."""
        from flask_outmail.simulator.describe import describe

        return describe(self)

    @property
    def https_host(self) -> str:
        """Host and port of the HTTPS listener, for lists of allowed hosts."""
        return urlsplit(self.https_url).netloc
