"""Every configuration key, once; and the values a setup is made of.

`KEYS` is the one table of keys: the documentation and a test are compared with it. `Settings.from_config` reads the
application's configuration once, in `init_app`; later changes have no effect, as with Flask-Mail.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, timezone, tzinfo
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .dsn import setup_of
from .envelope import PRIMARY as PRIMARY
from .errors import ConfigurationError, InvalidMessage
from .message import Address

logger = logging.getLogger(__name__)

#: What a connection may be called.
CONNECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

Tls = Literal["starttls", "tls", "none"]
TLS_CHOICES: tuple[Tls, ...] = ("starttls", "tls", "none")


@dataclass(frozen=True, slots=True)
class Key:
    """One configuration key: what it is called, what it holds, its default, and what it changes."""

    name: str
    type: str
    default: Any
    effect: str


KEYS: tuple[Key, ...] = (
    Key("OUTMAIL_URL_PREFIX", "str", "/outmail", "Where the pages are."),
    Key(
        "OUTMAIL_SETUP",
        "dict or str",
        None,
        "A whole setup in configuration; wins over a saved one and locks the page.",
    ),
    Key("OUTMAIL_CONNECTIONS", "dict", {}, "Further setups in configuration, by connection, each as OUTMAIL_SETUP."),
    Key("OUTMAIL_ROUTES", "list", None, "Which connection carries what: `from` or `tag`, and `via`; the first counts."),
    Key("OUTMAIL_CLOUDS", "dict", {}, "Further Microsoft 365 clouds, by name; what each holds stands below the table."),
    Key("OUTMAIL_ENCRYPTION_KEYS", "list", None, "Fernet keys for stored secrets, newest first."),
    Key("OUTMAIL_CA_FILE", "path", None, "PEM file of further certificate authorities to trust."),
    Key("OUTMAIL_BASE_TEMPLATE", "str", None, "The application's template that our pages extend."),
    Key(
        "OUTMAIL_LOCALE",
        "str",
        None,
        "Language of the pages, like `de`; unset: Flask-Babel's, else what the browser asks for.",
    ),
    Key("OUTMAIL_TIMEZONE", "str", "UTC", "Zone in which the pages show times, like `Europe/Berlin`."),
    Key("OUTMAIL_TEMPLATE_FOLDER", "str", "mail", "Where among the templates those of mails are."),
    Key("OUTMAIL_BASE_URL", "str", None, "The site's own address, for links in mails: https://shop.example.com."),
    Key("OUTMAIL_CONNECT_TIMEOUT_SECONDS", "float", 10.0, "Longest wait for a connection."),
    Key("OUTMAIL_SMTP_TIMEOUT_SECONDS", "float", 60.0, "Longest wait for one SMTP reply."),
    Key(
        "OUTMAIL_SMTP_CONNECTIONS", "int", 10, "Most SMTP connections of a process at a time; Microsoft 365: at most 3."
    ),
    Key("OUTMAIL_SMTP_IDLE_SECONDS", "float", 30.0, "How long an SMTP connection that is not in use is kept."),
    Key("OUTMAIL_SMTP_AGE_SECONDS", "float", 600.0, "How long an SMTP connection is kept at all."),
    Key("OUTMAIL_SMTP_PIPELINING", "bool", True, "Send several commands at once where the server offers PIPELINING."),
    Key("OUTMAIL_SMTP_CHUNKING", "bool", True, "Send a message as one chunk where the server offers CHUNKING."),
    Key("OUTMAIL_SMTP_WINDOW", "int", 1, "Messages of a bulk under way on one connection, where CHUNKING is offered."),
    Key("OUTMAIL_DKIM_DOMAIN", "str", None, "Domain that signs (DKIM) what goes out over SMTP."),
    Key("OUTMAIL_DKIM_SELECTOR", "str", None, "Selector of the DKIM key in the domain name system."),
    Key("OUTMAIL_DKIM_KEY_FILE", "path", None, "PEM file of the RSA key that signs."),
    Key("OUTMAIL_GRAPH_TIMEOUT_SECONDS", "float", 60.0, "Longest wait for one answer of Graph."),
    Key(
        "OUTMAIL_GRAPH_LARGE_MESSAGES",
        "bool",
        True,
        "Send what exceeds one request (about 2.1 MB of attachments) as a draft with uploads; needs `Mail.ReadWrite`.",
    ),
    Key(
        "OUTMAIL_GRAPH_CHECK",
        "bool",
        False,
        "Look into the sending mailbox for a message whose answer was lost; needs `Mail.Read` or `Mail.ReadWrite`.",
    ),
    Key("OUTMAIL_TOKEN_TIMEOUT_SECONDS", "float", 20.0, "Longest wait for one answer of the identity provider."),
    Key("OUTMAIL_REDIRECT_TO", "str or list", None, "Outside production: every message goes here instead."),
    Key(
        "OUTMAIL_ALLOWED_RECIPIENTS",
        "list",
        None,
        "Outside production: addresses or @domains; others get nothing.",
    ),
    Key("OUTMAIL_TEST_NETWORKS", "list", None, "Private networks (as 10.0.0.0/8) that the test on the page may reach."),
    Key("OUTMAIL_DNS_SERVERS", "list", None, "Servers that the check of a domain asks, as host or host:port."),
    Key("OUTMAIL_AUTH_OBJECTS_MAX", "int", 100, "How many authentication objects may be stored."),
    Key("OUTMAIL_TEST_VALID_SECONDS", "int", 3600, "How long a passed test counts when its values are saved."),
    Key("OUTMAIL_TESTS_PER_MINUTE", "int", 20, "How many setup tests one process runs in a minute."),
    Key("OUTMAIL_TESTS_PER_PERSON", "int", 10, "How many of them one person may start."),
    Key("OUTMAIL_ALERT_PAUSE_SECONDS", "int", 3600, "Shortest time between two alerts about the same cause."),
    Key(
        "OUTMAIL_ALERT_GRACE_SECONDS", "int", 120, "How long a failure that is tried again may last before it is told."
    ),
    Key("OUTMAIL_ALERT_REPEATS", "int", 10, "How many messages refused for one fault of their own make an alert."),
    Key("OUTMAIL_ALERT_QUEUE_MINUTES", "int", 15, "How long mail may wait, or be held, before it is told."),
    Key(
        "OUTMAIL_ALERT_WORKER_SECONDS", "int", 180, "How long mail may wait without a living worker before it is told."
    ),
    Key("OUTMAIL_WATCH_SECONDS", "int", 60, "How often a worker looks for what is wrong without a message failing."),
    Key("OUTMAIL_CHECK_SECONDS", "int", 86400, "How often a verified connection is tried without sending; 0: never."),
    Key("OUTMAIL_ALERT_WEBHOOK_URL", "str", None, "Where alerts are posted too: https, or http on this machine."),
    Key("OUTMAIL_ALERT_WEBHOOK_KIND", "str", "json", "What the webhook understands: json, slack or teams."),
    Key("OUTMAIL_ALERT_WEBHOOK_SECRET", "str", None, "Signs what is posted to the webhook (HMAC-SHA256)."),
    Key("OUTMAIL_ALERT_WEBHOOK_TIMEOUT_SECONDS", "float", 5.0, "Longest wait for one answer of the webhook."),
    Key("OUTMAIL_HEALTH_TOKEN", "str", None, "Lets a monitor read health.json: `Authorization: Bearer …`."),
    Key(
        "OUTMAIL_DELIVERY", "str", "direct", "`outbox`: `mail.send` queues, and a worker hands over. `direct`: at once."
    ),
    Key("OUTMAIL_SPOOL_DIR", "path", None, "Where messages wait while the database is locked; in the instance folder."),
    Key("OUTMAIL_LOG_DIRECT", "bool", True, "Keep a line of each message handed over at once, if there is a database."),
    Key("OUTMAIL_KEEP_ACCEPTED_DAYS", "int", 90, "How long the log keeps messages that were accepted."),
    Key("OUTMAIL_KEEP_FAILED_DAYS", "int", 180, "How long the log keeps messages that were refused or have failed."),
    Key("OUTMAIL_KEEP_UNKNOWN_DAYS", "int", 365, "How long the log keeps messages whose outcome is unknown."),
    Key("OUTMAIL_KEEP_CANCELLED_DAYS", "int", 30, "How long the log keeps what was cancelled or suppressed."),
    Key("OUTMAIL_KEEP_AUDIT_DAYS", "int", 730, "How long it is kept who changed what, and who read a message."),
    Key("OUTMAIL_KEEP_BODIES_DAYS", "int", 0, "How long messages can be read and sent again after they were accepted."),
    Key(
        "OUTMAIL_KEEP_FAILED_BODIES_DAYS",
        "int",
        14,
        "How long messages that were not accepted, or are unknown, can be read and sent again.",
    ),
    Key("OUTMAIL_LOG_MAX_ROWS", "int", 1_000_000, "Most messages in the log; the oldest settled ones go first."),
    Key("OUTMAIL_LOG_MAX_BYTES", "int", 1024**3, "Most bytes of settled messages that are kept; the oldest go first."),
    Key(
        "OUTMAIL_AT_LEAST_ONCE",
        "bool",
        False,
        "Send again what may have arrived already, instead of calling it unknown.",
    ),
    Key("OUTMAIL_STORED_MESSAGE_MAX_BYTES", "int", 25 * 1024 * 1024, "Largest message that may be queued or held."),
    Key("OUTMAIL_RETRY_FIRST_SECONDS", "float", 30.0, "About how long to wait before the second attempt."),
    Key(
        "OUTMAIL_RETRY_CAP_SECONDS",
        "float",
        3600.0,
        "Longest wait between two attempts, if the server asks for no longer.",
    ),
    Key("OUTMAIL_RETRY_MAX_AGE_SECONDS", "float", 3 * 86400.0, "After this long a message has failed."),
    Key(
        "OUTMAIL_RETRY_MAX_ATTEMPTS",
        "int",
        20,
        "After so many attempts a message has failed (broken connections not counted).",
    ),
    Key(
        "OUTMAIL_BREAKER_FAULTS",
        "int",
        3,
        "After so many faults in a row a connection pauses; then one message at a time.",
    ),
    Key(
        "OUTMAIL_RATE_PER_MINUTE",
        "int or dict",
        None,
        "Most messages in a minute over all workers: one number, or by connection.",
    ),
    Key("OUTMAIL_RELEASE_PER_MINUTE", "int", 600, "How fast held messages follow once a setup has passed its test."),
    Key("OUTMAIL_WORKER_POLL_SECONDS", "float", 1.0, "How often an idle worker looks for messages."),
    Key("OUTMAIL_WORKER_LEASE_SECONDS", "float", 30.0, "A worker whose heart has not beaten for so long is dead."),
    Key("OUTMAIL_CELERY_SWEEP_SECONDS", "float", 30.0, "How often Celery beat has the outbox looked through."),
    Key(
        "OUTMAIL_WORKER_IN_DEBUG",
        "bool",
        True,
        "`flask run` in debug mode runs a worker thread, when `mail.send` queues.",
    ),
    Key("MAIL_SERVER", "str", "127.0.0.1", "SMTP host, as in Flask-Mail."),
    Key("MAIL_PORT", "int", 25, "SMTP port."),
    Key("MAIL_USE_TLS", "bool", False, "STARTTLS, with the certificate verified."),
    Key("MAIL_USE_SSL", "bool", False, "TLS from the start, with the certificate verified."),
    Key("MAIL_USERNAME", "str", None, "Log-in name; used only together with a password."),
    Key("MAIL_PASSWORD", "str", None, "Password."),
    Key("MAIL_DEFAULT_SENDER", "str or (name, address)", None, "From, for messages that name no sender."),
    Key("MAIL_DEBUG", "bool", None, "Accepted for Flask-Mail's sake; has no effect (transcripts would hold secrets)."),
    Key("MAIL_MAX_EMAILS", "int", None, "Reconnect after so many messages on one `connect()`."),
    Key("MAIL_SUPPRESS_SEND", "bool", None, "Send nothing, only record. Default: the application's `testing`."),
    Key("MAIL_ASCII_ATTACHMENTS", "bool", False, "Turn attachment names into plain ASCII."),
)
DEFAULTS = {key.name: key.default for key in KEYS}


#: The kinds of credential, by the names that are stored and configured. `auth_objects.PROVIDERS` says what each needs.
CLIENT_CREDENTIALS = "microsoft_client_credentials"
FEDERATED = "microsoft_federated"
MANAGED_IDENTITY = "microsoft_managed_identity"


@dataclass(frozen=True, slots=True)
class Credential:
    """The values of one authentication object, decrypted. Secrets never show in `repr`.

    `provider` decides which of them count. Client credentials: exactly one of `client_secret` and `certificate` is
    set; `certificate` is PEM text (key and certificate), or the base64 of a PFX file. Federated: a token of another
    issuer is read from `token_file` ("" means the file that AZURE_FEDERATED_TOKEN_FILE names), or had from the
    function registered as `token_function`. Managed identity: nothing, or the `client_id` of a user-assigned one.

    The `previous_…` values are those that were in use before, kept while two overlap: they serve when Entra does not
    take the newest. `expires_on` is what a person noted; a certificate says itself when it ends.
    """

    tenant: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    certificate_password: str = field(default="", repr=False)
    cloud: str = "global"
    provider: str = CLIENT_CREDENTIALS
    token_file: str = ""
    token_function: str = ""
    previous_client_secret: str = field(default="", repr=False)
    previous_certificate: str = field(default="", repr=False)
    previous_certificate_password: str = field(default="", repr=False)
    expires_on: date | None = None

    @property
    def newest(self) -> Credential:
        """This credential without the one before it."""
        return replace(self, previous_client_secret="", previous_certificate="", previous_certificate_password="")

    @property
    def earlier(self) -> Credential | None:
        """The one before it, by itself; None when none is kept."""
        if not (self.previous_client_secret or self.previous_certificate):
            return None
        return replace(
            self.newest,
            client_secret=self.previous_client_secret,
            certificate=self.previous_certificate,
            certificate_password=self.previous_certificate_password,
            expires_on=None,
        )


# Not part of what a passed test proves: a fallback that comes or goes changes nothing about the newest, and a date
# is only a note.
_NOT_PROVEN = ("previous_client_secret", "previous_certificate", "previous_certificate_password", "expires_on")
# Came after the first version. Left out while empty, so that what was proven before stays proven.
_ADDED_LATER = ("token_file", "token_function")


@dataclass(frozen=True, slots=True)
class SetupValues:
    """All that a mail service needs to know to send: one revision of the outbound mail settings, decrypted.

    `username` is the mailbox for the Microsoft services and the log-in name for SMTP. `auth_object` is the name of
    the stored credential ("" when it came from configuration).
    """

    service: str = ""
    host: str = ""
    port: int = 0
    tls: Tls = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    from_address: str = ""
    from_name: str = ""
    failure_alerts_to: str = ""
    auth_object: str = ""
    credential: Credential | None = None

    def canonical(self) -> str:
        """The same text for the same values, SECRETS INCLUDED: what a passed test is a proof of.

        Only ever stored as a keyed hash of it (`Vault.fingerprints`): beside values that stand in the clear, a plain
        hash would let anybody with a copy of the database try passwords. Who sends and who is alerted under which
        name does not change whether mail flows, so `from_name` and `failure_alerts_to` stay out: mending a typo
        there does not stop the mail.
        """
        values = asdict(self)
        for name in ("from_name", "failure_alerts_to", "auth_object"):
            values.pop(name)
        credential = values["credential"] or {}
        for name in credential and (*_NOT_PROVEN, *(one for one in _ADDED_LATER if not credential[one])):
            credential.pop(name)
        return json.dumps(values, sort_keys=True)

    @property
    def sender(self) -> str:
        """The setup's own From, as a message's sender; "" when it has none."""
        name, address = self.from_name, self.from_address
        return f"{name} <{address}>" if name and address else address

    def filled(self, **values: Any) -> SetupValues:
        """A copy with `values` where this one has none."""
        return replace(self, **{name: value for name, value in values.items() if not getattr(self, name)})


@dataclass(frozen=True, slots=True)
class DkimKey:
    """Who signs with DKIM: the domain (d=), the selector (s=), and the RSA key in PEM."""

    domain: str
    selector: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """One rule: messages from this address (or domain, as "@example.com") or with this tag go over `via`."""

    via: str
    sender: str = ""
    tag: str = ""

    def fits(self, sender: str, tag: str) -> bool:
        domain = "@" + sender.rpartition("@")[2]
        return (not self.sender or self.sender in (sender, domain)) and (not self.tag or self.tag == tag)


@dataclass(frozen=True, slots=True)
class Settings:
    """The application's configuration, read once and checked."""

    url_prefix: str = "/outmail"
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ca_file: str = ""
    base_template: str = ""
    locale: str = ""
    timezone: str = "UTC"
    template_folder: str = "mail"
    base_url: str = ""
    dns_servers: tuple[str, ...] = ()
    test_networks: tuple[str, ...] = ()
    redirect_to: tuple[str, ...] = ()
    allowed_recipients: tuple[str, ...] = ()
    connect_timeout_s: float = 10.0
    smtp_timeout_s: float = 60.0
    smtp_connections: int = 10
    smtp_idle_s: float = 30.0
    smtp_age_s: float = 600.0
    smtp_pipelining: bool = True
    smtp_chunking: bool = True
    smtp_window: int = 1
    dkim: DkimKey | None = None
    graph_timeout_s: float = 60.0
    graph_large_messages: bool = True
    graph_check: bool = False
    token_timeout_s: float = 20.0
    auth_objects_max: int = 100
    test_valid_s: int = 3600
    tests_per_minute: int = 20
    tests_per_person: int = 10
    alert_pause_s: int = 3600
    alert_grace_s: int = 120
    alert_repeats: int = 10
    alert_queue_minutes: int = 15
    alert_worker_s: int = 180
    watch_s: int = 60
    check_s: int = 86400
    #: The address of a Slack or Teams webhook is a secret: whoever knows it may post there.
    alert_webhook_url: str = field(default="", repr=False)
    alert_webhook_kind: str = "json"
    alert_webhook_secret: str = field(default="", repr=False)
    alert_webhook_timeout_s: float = 5.0
    health_token: str = field(default="", repr=False)
    delivery: str = "direct"
    spool_dir: str = ""
    log_direct: bool = True
    keep_accepted_days: int = 90
    keep_failed_days: int = 180
    keep_unknown_days: int = 365
    keep_cancelled_days: int = 30
    keep_audit_days: int = 730
    keep_bodies_days: int = 0
    keep_failed_bodies_days: int = 14
    log_max_rows: int = 1_000_000
    log_max_bytes: int = 1024**3
    at_least_once: bool = False
    stored_message_max_bytes: int = 25 * 1024 * 1024
    retry_first_s: float = 30.0
    retry_cap_s: float = 3600.0
    retry_max_age_s: float = 3 * 86400.0
    retry_max_attempts: int = 20
    breaker_faults: int = 3
    rate_per_minute: Mapping[str, int] = field(default_factory=dict)
    release_per_minute: int = 600
    worker_poll_s: float = 1.0
    worker_lease_s: float = 30.0
    celery_sweep_s: float = 30.0
    worker_in_debug: bool = True
    #: The setups that configuration fixes, by connection, each with the key it comes from.
    configured: Mapping[str, tuple[SetupValues, str]] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    fallback: SetupValues | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Reads and checks every `OUTMAIL_…` key.

        `setup` is what `OUTMAIL_SETUP` says; `fallback` what Flask-Mail's `MAIL_…` keys say, when any is set.

        Raises:
            ConfigurationError: names the key, and never shows its value when it could be a secret.
        """
        try:
            return cls._from_config(config)
        except (TypeError, ValueError, AttributeError, LookupError) as exc:
            if isinstance(exc, ConfigurationError):
                raise
            # From None: the text of such an error often quotes the value, which may be a secret.
            raise ConfigurationError(
                f"a value of the mail configuration is of the wrong kind ({type(exc).__name__})", code="config_invalid"
            ) from None

    @classmethod
    def _from_config(cls, config: Mapping[str, Any]) -> Settings:
        for key in config:
            if key.startswith("OUTMAIL_") and key not in DEFAULTS:
                # A warning, not an error: a key of a newer version must not stop an older one.
                logger.warning("unknown configuration key", extra={"key": key})
        prefix = _text(config, "OUTMAIL_URL_PREFIX")
        if not prefix.startswith("/") or prefix.endswith("/"):
            raise ConfigurationError("OUTMAIL_URL_PREFIX must begin with / and not end with it", code="config_invalid")
        ca_file = str(config.get("OUTMAIL_CA_FILE") or "")
        if ca_file and not Path(ca_file).is_file():
            raise ConfigurationError(f"OUTMAIL_CA_FILE: there is no file {ca_file}", code="config_invalid")
        if ca_file:
            _check_authorities(ca_file)
        return cls(
            url_prefix=prefix,
            encryption_keys=_keys(config.get("OUTMAIL_ENCRYPTION_KEYS")),
            clouds=_clouds(config.get("OUTMAIL_CLOUDS")),
            ca_file=ca_file,
            base_template=str(config.get("OUTMAIL_BASE_TEMPLATE") or ""),
            locale=_locale(config),
            timezone=_timezone(config),
            template_folder=_text(config, "OUTMAIL_TEMPLATE_FOLDER").strip("/"),
            base_url=_base_url(config),
            dns_servers=_texts(config, "OUTMAIL_DNS_SERVERS"),
            test_networks=_networks(config),
            redirect_to=_redirect_to(config),
            allowed_recipients=_allowed(config),
            connect_timeout_s=_positive(config, "OUTMAIL_CONNECT_TIMEOUT_SECONDS"),
            smtp_timeout_s=_positive(config, "OUTMAIL_SMTP_TIMEOUT_SECONDS"),
            smtp_connections=_count(config, "OUTMAIL_SMTP_CONNECTIONS"),
            smtp_idle_s=_positive(config, "OUTMAIL_SMTP_IDLE_SECONDS"),
            smtp_age_s=_positive(config, "OUTMAIL_SMTP_AGE_SECONDS"),
            smtp_pipelining=bool(config.get("OUTMAIL_SMTP_PIPELINING", True)),
            smtp_chunking=bool(config.get("OUTMAIL_SMTP_CHUNKING", True)),
            smtp_window=_count(config, "OUTMAIL_SMTP_WINDOW"),
            dkim=_dkim_key(config),
            graph_timeout_s=_positive(config, "OUTMAIL_GRAPH_TIMEOUT_SECONDS"),
            graph_large_messages=_flag(config, "OUTMAIL_GRAPH_LARGE_MESSAGES"),
            graph_check=_flag(config, "OUTMAIL_GRAPH_CHECK"),
            token_timeout_s=_positive(config, "OUTMAIL_TOKEN_TIMEOUT_SECONDS"),
            auth_objects_max=_count(config, "OUTMAIL_AUTH_OBJECTS_MAX"),
            test_valid_s=_count(config, "OUTMAIL_TEST_VALID_SECONDS"),
            tests_per_minute=_count(config, "OUTMAIL_TESTS_PER_MINUTE"),
            tests_per_person=_count(config, "OUTMAIL_TESTS_PER_PERSON"),
            alert_pause_s=_count(config, "OUTMAIL_ALERT_PAUSE_SECONDS"),
            alert_grace_s=_count(config, "OUTMAIL_ALERT_GRACE_SECONDS"),
            alert_repeats=_count(config, "OUTMAIL_ALERT_REPEATS"),
            alert_queue_minutes=_count(config, "OUTMAIL_ALERT_QUEUE_MINUTES"),
            alert_worker_s=_count(config, "OUTMAIL_ALERT_WORKER_SECONDS"),
            watch_s=_count(config, "OUTMAIL_WATCH_SECONDS"),
            check_s=0 if config.get("OUTMAIL_CHECK_SECONDS") == 0 else _count(config, "OUTMAIL_CHECK_SECONDS"),
            alert_webhook_url=_webhook_url(config.get("OUTMAIL_ALERT_WEBHOOK_URL")),
            alert_webhook_kind=_webhook_kind(config),
            alert_webhook_secret=_one_line(config, "OUTMAIL_ALERT_WEBHOOK_SECRET"),
            alert_webhook_timeout_s=_positive(config, "OUTMAIL_ALERT_WEBHOOK_TIMEOUT_SECONDS"),
            health_token=_health_token(config),
            delivery=_choice(config, "OUTMAIL_DELIVERY", ("direct", "outbox")),
            spool_dir=str(config.get("OUTMAIL_SPOOL_DIR") or ""),
            log_direct=_flag(config, "OUTMAIL_LOG_DIRECT"),
            keep_accepted_days=_count(config, "OUTMAIL_KEEP_ACCEPTED_DAYS"),
            keep_failed_days=_count(config, "OUTMAIL_KEEP_FAILED_DAYS"),
            keep_unknown_days=_count(config, "OUTMAIL_KEEP_UNKNOWN_DAYS"),
            keep_cancelled_days=_count(config, "OUTMAIL_KEEP_CANCELLED_DAYS"),
            keep_audit_days=_count(config, "OUTMAIL_KEEP_AUDIT_DAYS"),
            keep_bodies_days=_count_or_none(config, "OUTMAIL_KEEP_BODIES_DAYS"),
            keep_failed_bodies_days=_count_or_none(config, "OUTMAIL_KEEP_FAILED_BODIES_DAYS"),
            log_max_rows=_count(config, "OUTMAIL_LOG_MAX_ROWS"),
            log_max_bytes=_count_or_none(config, "OUTMAIL_LOG_MAX_BYTES"),
            at_least_once=_flag(config, "OUTMAIL_AT_LEAST_ONCE"),
            stored_message_max_bytes=_count(config, "OUTMAIL_STORED_MESSAGE_MAX_BYTES"),
            retry_first_s=_positive(config, "OUTMAIL_RETRY_FIRST_SECONDS"),
            retry_cap_s=_positive(config, "OUTMAIL_RETRY_CAP_SECONDS"),
            retry_max_age_s=_positive(config, "OUTMAIL_RETRY_MAX_AGE_SECONDS"),
            retry_max_attempts=_count(config, "OUTMAIL_RETRY_MAX_ATTEMPTS"),
            breaker_faults=_count(config, "OUTMAIL_BREAKER_FAULTS"),
            rate_per_minute=_rates(config.get("OUTMAIL_RATE_PER_MINUTE")),
            release_per_minute=_count(config, "OUTMAIL_RELEASE_PER_MINUTE"),
            worker_poll_s=_positive(config, "OUTMAIL_WORKER_POLL_SECONDS"),
            worker_lease_s=_positive(config, "OUTMAIL_WORKER_LEASE_SECONDS"),
            celery_sweep_s=_positive(config, "OUTMAIL_CELERY_SWEEP_SECONDS"),
            worker_in_debug=_flag(config, "OUTMAIL_WORKER_IN_DEBUG"),
            configured=_configured(config),
            routes=_routes(config),
            fallback=_flask_mail_setup(config),
        )


def zone(name: str) -> tzinfo:
    """The zone of this name. UTC needs no list of zones, which not every machine has.

    Raises:
        ZoneInfoNotFoundError, ValueError, OSError: there is none.
    """
    return timezone.utc if name == "UTC" else ZoneInfo(name)


def _locale(config: Mapping[str, Any]) -> str:
    text = str(config.get("OUTMAIL_LOCALE") or "")
    if text and not re.fullmatch(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*", text):
        raise ConfigurationError("OUTMAIL_LOCALE must be like de or pt_BR", code="config_invalid")
    return text


def _timezone(config: Mapping[str, Any]) -> str:
    text = _text(config, "OUTMAIL_TIMEZONE")
    try:
        zone(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            "OUTMAIL_TIMEZONE must be the name of a zone known to this machine, like Europe/Berlin",
            code="config_invalid",
        ) from None
    return text


def _base_url(config: Mapping[str, Any]) -> str:
    text = str(config.get("OUTMAIL_BASE_URL") or "")
    if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ConfigurationError("OUTMAIL_BASE_URL must be like https://shop.example.com", code="config_invalid")
    return text


def _dkim_key(config: Mapping[str, Any]) -> DkimKey | None:
    names = ("OUTMAIL_DKIM_DOMAIN", "OUTMAIL_DKIM_SELECTOR", "OUTMAIL_DKIM_KEY_FILE")
    domain, selector, path = (str(config.get(name) or "") for name in names)
    if not (domain or selector or path):
        return None
    for name, value in zip(names, (domain, selector, path), strict=True):
        if not value or not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"{name} is needed for DKIM, in plain characters", code="config_invalid")
    try:
        return DkimKey(domain, selector, Path(path).read_text("ascii"))
    except (OSError, ValueError):
        raise ConfigurationError("OUTMAIL_DKIM_KEY_FILE: the file cannot be read", code="config_invalid") from None


WEBHOOK_KINDS = ("json", "slack", "teams")
HEALTH_TOKEN_MIN_CHARS = 16
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _webhook_url(value: Any) -> str:
    # The value never stands in the error: the address is what lets one post.
    if value in (None, ""):
        return ""
    where = urlsplit(str(value))
    if not where.hostname or not str(value).isprintable() or " " in str(value):
        raise ConfigurationError("OUTMAIL_ALERT_WEBHOOK_URL must be a URL", code="config_invalid")
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _LOOPBACK):
        raise ConfigurationError(
            "OUTMAIL_ALERT_WEBHOOK_URL must begin with https:// (http:// only for this machine)", code="config_invalid"
        )
    return str(value)


def _webhook_kind(config: Mapping[str, Any]) -> str:
    kind = _text(config, "OUTMAIL_ALERT_WEBHOOK_KIND")
    if kind not in WEBHOOK_KINDS:
        raise ConfigurationError(
            f"OUTMAIL_ALERT_WEBHOOK_KIND must be one of {', '.join(WEBHOOK_KINDS)}", code="config_invalid"
        )
    return kind


def _one_line(config: Mapping[str, Any], key: str) -> str:
    value = str(config.get(key) or "")
    if not value.isprintable():
        raise ConfigurationError(f"{key} holds a line break or control character", code="config_invalid")
    return value


def _health_token(config: Mapping[str, Any]) -> str:
    token = _one_line(config, "OUTMAIL_HEALTH_TOKEN")
    if token and len(token) < HEALTH_TOKEN_MIN_CHARS:
        raise ConfigurationError(
            f"OUTMAIL_HEALTH_TOKEN must have {HEALTH_TOKEN_MIN_CHARS} characters or more", code="config_invalid"
        )
    return token


def _check_authorities(ca_file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except (ssl.SSLError, OSError):
        raise ConfigurationError(
            f"OUTMAIL_CA_FILE: {ca_file} holds no certificate in PEM", code="config_invalid"
        ) from None


_SETUP_FIELDS = {one.name for one in fields(SetupValues)} - {"credential", "auth_object"}
_CREDENTIAL_FIELDS = {one.name for one in fields(Credential)}
_CERTIFICATE_FIELDS = {"certificate", "previous_certificate"}


def setup_from_mapping(setup: Any, key: str) -> SetupValues:
    """Reads a setup written as one flat mapping, as in `OUTMAIL_SETUP`, or as one string (`dsn`).

    A certificate may be the path of a PEM or PFX file. Which fields a service needs is that service's own affair.

    Raises:
        ConfigurationError: names `key` and the entry.
    """
    if isinstance(setup, str):
        setup = setup_of(setup, key)
    if not isinstance(setup, Mapping):
        raise ConfigurationError(f"{key} must be a dict or a string", code="config_invalid")
    unknown = sorted(str(name) for name in set(setup) - _SETUP_FIELDS - _CREDENTIAL_FIELDS)
    if unknown:
        raise ConfigurationError(f"{key}: unknown entry {', '.join(map(repr, unknown))}", code="config_unknown")
    if not setup.get("service"):
        raise ConfigurationError(f"{key}: 'service' is missing", code="config_invalid")
    for name, value in setup.items():
        if name not in _CERTIFICATE_FIELDS and isinstance(value, str) and not value.isprintable():
            raise ConfigurationError(f"{key}: {name!r} holds a line break or control character", code="config_invalid")
    values: dict[str, Any] = {
        name: setup[name] if name == "port" else str(setup[name])
        for name in _SETUP_FIELDS & set(setup)
        if setup[name] is not None
    }
    if values.get("tls", "starttls") not in TLS_CHOICES:
        raise ConfigurationError(f"{key}: 'tls' must be one of {', '.join(TLS_CHOICES)}", code="config_invalid")
    if "port" in values:
        values["port"] = _port(values["port"], f"{key}: 'port'")
    credential = _credential_from(setup, key)
    named = {name: Address.parse(values[name]) for name in ("from_address",) if values.get(name)}
    if "from_address" in named:
        values["from_address"] = named["from_address"].address
        values.setdefault("from_name", named["from_address"].name)
    return SetupValues(**values, credential=credential)


def _credential_from(setup: Mapping[str, Any], key: str) -> Credential | None:
    values: dict[str, Any] = {name: str(setup[name]) for name in _CREDENTIAL_FIELDS & set(setup) if setup[name]}
    if not values:
        return None
    for name in _CERTIFICATE_FIELDS & set(values):
        values[name] = _certificate_text(values[name], f"{key}: {name!r}")
    if "expires_on" in values:
        try:
            values["expires_on"] = date.fromisoformat(values["expires_on"])
        except ValueError:
            raise ConfigurationError(
                f"{key}: 'expires_on' must be a date like 2027-04-15", code="config_invalid"
            ) from None
    if "token_file" in values or "token_function" in values:
        values.setdefault("provider", FEDERATED)
    return Credential(**values)


def _certificate_text(value: str, where: str) -> str:
    if "-----BEGIN" in value:
        return value
    try:
        data = Path(value).read_bytes()
    except (OSError, ValueError):
        if len(value) > 300 and re.fullmatch(r"[A-Za-z0-9+/=\s]+", value):
            return value  # a PFX file in base64
        # Never the value: it may be the key itself.
        raise ConfigurationError(
            f"{where} is neither PEM, nor base64 of a PFX file, nor a file that can be read",
            code="config_invalid",
        ) from None
    if data.lstrip().startswith(b"-----BEGIN"):
        return data.decode("ascii", "replace")
    return base64.b64encode(data).decode()


def _flask_mail_setup(config: Mapping[str, Any]) -> SetupValues | None:
    """The setup that Flask-Mail's keys describe; None when none of the keys that name a server is set."""
    if not any(config.get(key) not in (None, "") for key in ("MAIL_SERVER", "MAIL_PORT", "MAIL_USERNAME")):
        return None
    return flask_mail_values(config)


def flask_mail_values(config: Mapping[str, Any]) -> SetupValues:
    """What the `MAIL_…` keys mean, with Flask-Mail's defaults (127.0.0.1, port 25, no TLS) for those left out."""

    def value(key: str) -> Any:
        return DEFAULTS[key] if config.get(key) in (None, "") else config[key]

    # With both set, Flask-Mail opened TLS first and then asked for STARTTLS inside it, which no server offers.
    tls: Tls = "tls" if value("MAIL_USE_SSL") else "starttls" if value("MAIL_USE_TLS") else "none"
    login = bool(value("MAIL_USERNAME") and value("MAIL_PASSWORD"))
    sender = value("MAIL_DEFAULT_SENDER")
    from_ = Address.parse(sender) if sender else Address("", "")
    return SetupValues(
        service="smtp",
        host=str(value("MAIL_SERVER")),
        port=_port(value("MAIL_PORT"), "MAIL_PORT"),
        tls=tls,
        username=str(value("MAIL_USERNAME")) if login else "",
        password=str(value("MAIL_PASSWORD")) if login else "",
        from_address=from_.address,
        from_name=from_.name,
    )


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return str(DEFAULTS[key] if value is None else value)


def _configured(config: Mapping[str, Any]) -> dict[str, tuple[SetupValues, str]]:
    found: dict[str, tuple[SetupValues, str]] = {}
    setup, others = config.get("OUTMAIL_SETUP"), config.get("OUTMAIL_CONNECTIONS") or {}
    if setup is not None:
        found[PRIMARY] = setup_from_mapping(setup, "OUTMAIL_SETUP"), "OUTMAIL_SETUP"
    if not isinstance(others, Mapping):
        raise ConfigurationError("OUTMAIL_CONNECTIONS must be a dict", code="config_invalid")
    for name, values in others.items():
        key = f"OUTMAIL_CONNECTIONS[{str(name)[:64]!r}]"
        if not CONNECTION_NAME.fullmatch(str(name)) or name == PRIMARY:
            raise ConfigurationError(f"{key}: a name is lower-case letters, digits, - and _; primary is OUTMAIL_SETUP",
                                     code="config_invalid")  # fmt: skip
        found[str(name)] = setup_from_mapping(values, key), key
    return found


def _routes(config: Mapping[str, Any]) -> tuple[Route, ...]:
    key = "OUTMAIL_ROUTES"
    value = config.get(key) or ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{key} must be a list", code="config_invalid")
    found = []
    for number, rule in enumerate(value, 1):
        where = f"{key}, rule {number}"
        if not isinstance(rule, Mapping) or set(rule) - {"via", "from", "tag"} or not ({"from", "tag"} & set(rule)):
            raise ConfigurationError(f"{where}: give `via`, and `from` or `tag`", code="config_invalid")
        if not CONNECTION_NAME.fullmatch(str(rule.get("via", ""))):
            raise ConfigurationError(f"{where}: `via` must name a connection", code="config_invalid")
        sender = str(rule.get("from", "")).lower()
        if "from" in rule:
            _check_address(f"x{sender}" if sender.startswith("@") else sender, where)
        found.append(Route(str(rule["via"]), sender, str(rule.get("tag", ""))))
    return tuple(found)


def _networks(config: Mapping[str, Any]) -> tuple[str, ...]:
    key = "OUTMAIL_TEST_NETWORKS"
    found = _texts(config, key)
    for one in found:
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError:
            raise ConfigurationError(f"{key}: {one!r} is not a network", code="config_invalid") from None
    return found


def _redirect_to(config: Mapping[str, Any]) -> tuple[str, ...]:
    key = "OUTMAIL_REDIRECT_TO"
    value = config.get(key)
    addresses = (value,) if isinstance(value, str) and value else _texts(config, key)
    for one in addresses:
        _check_address(one, key)
    return addresses


def _allowed(config: Mapping[str, Any]) -> tuple[str, ...]:
    key = "OUTMAIL_ALLOWED_RECIPIENTS"
    rules = _texts(config, key)
    if config.get(key) is not None and not rules:
        # An empty list could mean nobody or everybody; guessing wrong would send staging's mail to customers.
        raise ConfigurationError(f"{key} is empty: leave it out, or use MAIL_SUPPRESS_SEND", code="config_invalid")
    for one in rules:
        _check_address(f"x{one}" if one.startswith("@") else one, key)
    return rules


def _check_address(text: str, key: str) -> None:
    try:
        Address("", text).check(key)
    except InvalidMessage:
        raise ConfigurationError(f"{key}: {text!r} is not an address", code="config_invalid") from None


def _texts(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{key} must be a list", code="config_invalid")
    return tuple(str(one) for one in value)


def _flag(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    value = DEFAULTS[key] if value is None else value
    if not isinstance(value, bool):
        # Not by truth: "false" and "0", from an environment, would switch on what they mean to switch off.
        raise ConfigurationError(f"{key} must be True or False", code="config_invalid")
    return value


def _choice(config: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = _text(config, key)
    if value not in choices:
        raise ConfigurationError(f"{key} must be one of {', '.join(choices)}", code="config_invalid")
    return value


def _rates(value: Any) -> Mapping[str, int]:
    """By connection; the name "" stands for all that are not named."""
    if value is None:
        return {}
    named = value if isinstance(value, Mapping) else {"": value}
    return {
        str(name): _count({"OUTMAIL_RATE_PER_MINUTE": rate}, "OUTMAIL_RATE_PER_MINUTE") for name, rate in named.items()
    }


def _positive(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    try:
        number = float(DEFAULTS[key] if value is None else value)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"{key} must be a number, not {value!r}", code="config_invalid") from exc
    # A wait without an end is never what anybody wants, and NaN compares false with everything.
    if not 0 < number < float("inf"):
        raise ConfigurationError(f"{key} must be greater than 0 and finite", code="config_invalid")
    return number


def _count(config: Mapping[str, Any], key: str) -> int:
    number = _positive(config, key)
    if number < 1 or number != int(number):
        raise ConfigurationError(f"{key} must be a whole number, 1 or more", code="config_invalid")
    return int(number)


def _count_or_none(config: Mapping[str, Any], key: str) -> int:
    """A whole number that may be 0."""
    return 0 if config.get(key, DEFAULTS[key]) in (0, "0") else _count(config, key)


def _port(value: Any, key: str) -> int:
    try:
        port = int(value)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"{key} must be a number from 1 to 65535", code="config_invalid") from exc
    if not 1 <= port <= 65535:
        raise ConfigurationError(f"{key} must be a number from 1 to 65535", code="config_invalid")
    return port


def _keys(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    value = value.decode() if isinstance(value, bytes) else value
    keys: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    return tuple(key.decode() if isinstance(key, bytes) else str(key).strip() for key in keys)


def _clouds(value: Any) -> Mapping[str, Mapping[str, Any]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(cloud, Mapping) for cloud in value.values()):
        raise ConfigurationError("OUTMAIL_CLOUDS must be a dict of dicts", code="config_invalid")
    return value
