"""Every configuration key, once.

`KEYS` is the one table of keys: the documentation and a test are compared with it. `Settings.from_config` reads the
application's configuration once, in `init_app`; later changes have no effect, as with Flask-Mail.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone, tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .envelope import PRIMARY as PRIMARY
from .errors import ConfigurationError
from .message import Address
from .reading import Reader, check_address, count, invalid, port
from .setup_values import CONNECTION_NAME, SetupValues, Tls, setup_from_mapping

logger = logging.getLogger(__name__)


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
    Key("OUTMAIL_CLOUDS", "dict", {}, "Further Microsoft 365 clouds, by name; how one is written stands at the end."),
    Key("OUTMAIL_ENCRYPTION_KEYS", "list", None, "Fernet keys for stored secrets, newest first."),
    Key("OUTMAIL_CA_FILE", "path", None, "PEM file of further certificate authorities to trust."),
    Key("OUTMAIL_BASE_TEMPLATE", "str", None, "The application's template that our pages extend."),
    Key(
        "OUTMAIL_LOCALE",
        "str",
        None,
        "Language of the pages, like `de`; unset: Flask-Babel's, else what the browser asks for.",
    ),
    Key("OUTMAIL_ALERT_LOCALE", "str", None, "Language of alerts; unset: OUTMAIL_LOCALE, else Flask-Babel's default."),
    Key("OUTMAIL_TIMEZONE", "str", "UTC", "Zone in which pages and alerts show times, like `Europe/Berlin`."),
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

    url_prefix: str
    encryption_keys: tuple[str, ...] = field(repr=False)
    clouds: Mapping[str, Mapping[str, Any]]
    ca_file: str
    base_template: str
    locale: str
    alert_locale: str
    timezone: str
    template_folder: str
    base_url: str
    dns_servers: tuple[str, ...]
    test_networks: tuple[str, ...]
    redirect_to: tuple[str, ...]
    allowed_recipients: tuple[str, ...]
    connect_timeout_s: float
    smtp_timeout_s: float
    smtp_connections: int
    smtp_idle_s: float
    smtp_age_s: float
    smtp_pipelining: bool
    smtp_chunking: bool
    smtp_window: int
    dkim: DkimKey | None
    graph_timeout_s: float
    graph_large_messages: bool
    graph_check: bool
    token_timeout_s: float
    auth_objects_max: int
    test_valid_s: int
    tests_per_minute: int
    tests_per_person: int
    alert_pause_s: int
    alert_grace_s: int
    alert_repeats: int
    alert_queue_minutes: int
    alert_worker_s: int
    watch_s: int
    check_s: int
    #: The address of a Slack or Teams webhook is a secret: whoever knows it may post there.
    alert_webhook_url: str = field(repr=False)
    alert_webhook_kind: str
    alert_webhook_secret: str = field(repr=False)
    alert_webhook_timeout_s: float
    health_token: str = field(repr=False)
    delivery: str
    spool_dir: str
    log_direct: bool
    keep_accepted_days: int
    keep_failed_days: int
    keep_unknown_days: int
    keep_cancelled_days: int
    keep_audit_days: int
    keep_bodies_days: int
    keep_failed_bodies_days: int
    log_max_rows: int
    log_max_bytes: int
    at_least_once: bool
    stored_message_max_bytes: int
    retry_first_s: float
    retry_cap_s: float
    retry_max_age_s: float
    retry_max_attempts: int
    breaker_faults: int
    rate_per_minute: Mapping[str, int]
    release_per_minute: int
    worker_poll_s: float
    worker_lease_s: float
    celery_sweep_s: float
    worker_in_debug: bool
    #: The setups that configuration fixes, by connection, each with the key it comes from.
    configured: Mapping[str, tuple[SetupValues, str]]
    routes: tuple[Route, ...]
    fallback: SetupValues | None

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
        read = Reader(config, DEFAULTS)
        for key in config:
            if key.startswith("OUTMAIL_") and key not in DEFAULTS:
                # A warning, not an error: a key of a newer version must not stop an older one.
                logger.warning("unknown configuration key", extra={"key": key})
        prefix = read.text("OUTMAIL_URL_PREFIX")
        if not prefix.startswith("/") or prefix.endswith("/"):
            raise invalid("OUTMAIL_URL_PREFIX must begin with / and not end with it")
        ca_file = read.text("OUTMAIL_CA_FILE")
        if ca_file and not Path(ca_file).is_file():
            raise invalid(f"OUTMAIL_CA_FILE: there is no file {ca_file}")
        if ca_file:
            _check_authorities(ca_file)
        return cls(
            url_prefix=prefix,
            encryption_keys=_keys(config.get("OUTMAIL_ENCRYPTION_KEYS")),
            clouds=_clouds(config.get("OUTMAIL_CLOUDS")),
            ca_file=ca_file,
            base_template=read.text("OUTMAIL_BASE_TEMPLATE"),
            locale=_locale(read, "OUTMAIL_LOCALE"),
            alert_locale=_locale(read, "OUTMAIL_ALERT_LOCALE"),
            timezone=_timezone(read),
            template_folder=read.text("OUTMAIL_TEMPLATE_FOLDER").strip("/"),
            base_url=_base_url(read),
            dns_servers=read.texts("OUTMAIL_DNS_SERVERS"),
            test_networks=_networks(read),
            redirect_to=_redirect_to(read),
            allowed_recipients=_allowed(read),
            connect_timeout_s=read.positive("OUTMAIL_CONNECT_TIMEOUT_SECONDS"),
            smtp_timeout_s=read.positive("OUTMAIL_SMTP_TIMEOUT_SECONDS"),
            smtp_connections=read.count("OUTMAIL_SMTP_CONNECTIONS"),
            smtp_idle_s=read.positive("OUTMAIL_SMTP_IDLE_SECONDS"),
            smtp_age_s=read.positive("OUTMAIL_SMTP_AGE_SECONDS"),
            smtp_pipelining=read.flag("OUTMAIL_SMTP_PIPELINING"),
            smtp_chunking=read.flag("OUTMAIL_SMTP_CHUNKING"),
            smtp_window=read.count("OUTMAIL_SMTP_WINDOW"),
            dkim=_dkim_key(read),
            graph_timeout_s=read.positive("OUTMAIL_GRAPH_TIMEOUT_SECONDS"),
            graph_large_messages=read.flag("OUTMAIL_GRAPH_LARGE_MESSAGES"),
            graph_check=read.flag("OUTMAIL_GRAPH_CHECK"),
            token_timeout_s=read.positive("OUTMAIL_TOKEN_TIMEOUT_SECONDS"),
            auth_objects_max=read.count("OUTMAIL_AUTH_OBJECTS_MAX"),
            test_valid_s=read.count("OUTMAIL_TEST_VALID_SECONDS"),
            tests_per_minute=read.count("OUTMAIL_TESTS_PER_MINUTE"),
            tests_per_person=read.count("OUTMAIL_TESTS_PER_PERSON"),
            alert_pause_s=read.count("OUTMAIL_ALERT_PAUSE_SECONDS"),
            alert_grace_s=read.count("OUTMAIL_ALERT_GRACE_SECONDS"),
            alert_repeats=read.count("OUTMAIL_ALERT_REPEATS"),
            alert_queue_minutes=read.count("OUTMAIL_ALERT_QUEUE_MINUTES"),
            alert_worker_s=read.count("OUTMAIL_ALERT_WORKER_SECONDS"),
            watch_s=read.count("OUTMAIL_WATCH_SECONDS"),
            check_s=read.count_or_none("OUTMAIL_CHECK_SECONDS"),
            alert_webhook_url=_webhook_url(read),
            alert_webhook_kind=read.choice("OUTMAIL_ALERT_WEBHOOK_KIND", WEBHOOK_KINDS),
            alert_webhook_secret=read.line("OUTMAIL_ALERT_WEBHOOK_SECRET"),
            alert_webhook_timeout_s=read.positive("OUTMAIL_ALERT_WEBHOOK_TIMEOUT_SECONDS"),
            health_token=_health_token(read),
            delivery=read.choice("OUTMAIL_DELIVERY", ("direct", "outbox")),
            spool_dir=read.text("OUTMAIL_SPOOL_DIR"),
            log_direct=read.flag("OUTMAIL_LOG_DIRECT"),
            keep_accepted_days=read.count("OUTMAIL_KEEP_ACCEPTED_DAYS"),
            keep_failed_days=read.count("OUTMAIL_KEEP_FAILED_DAYS"),
            keep_unknown_days=read.count("OUTMAIL_KEEP_UNKNOWN_DAYS"),
            keep_cancelled_days=read.count("OUTMAIL_KEEP_CANCELLED_DAYS"),
            keep_audit_days=read.count("OUTMAIL_KEEP_AUDIT_DAYS"),
            keep_bodies_days=read.count_or_none("OUTMAIL_KEEP_BODIES_DAYS"),
            keep_failed_bodies_days=read.count_or_none("OUTMAIL_KEEP_FAILED_BODIES_DAYS"),
            log_max_rows=read.count("OUTMAIL_LOG_MAX_ROWS"),
            log_max_bytes=read.count_or_none("OUTMAIL_LOG_MAX_BYTES"),
            at_least_once=read.flag("OUTMAIL_AT_LEAST_ONCE"),
            stored_message_max_bytes=read.count("OUTMAIL_STORED_MESSAGE_MAX_BYTES"),
            retry_first_s=read.positive("OUTMAIL_RETRY_FIRST_SECONDS"),
            retry_cap_s=read.positive("OUTMAIL_RETRY_CAP_SECONDS"),
            retry_max_age_s=read.positive("OUTMAIL_RETRY_MAX_AGE_SECONDS"),
            retry_max_attempts=read.count("OUTMAIL_RETRY_MAX_ATTEMPTS"),
            breaker_faults=read.count("OUTMAIL_BREAKER_FAULTS"),
            rate_per_minute=_rates(read),
            release_per_minute=read.count("OUTMAIL_RELEASE_PER_MINUTE"),
            worker_poll_s=read.positive("OUTMAIL_WORKER_POLL_SECONDS"),
            worker_lease_s=read.positive("OUTMAIL_WORKER_LEASE_SECONDS"),
            celery_sweep_s=read.positive("OUTMAIL_CELERY_SWEEP_SECONDS"),
            worker_in_debug=read.flag("OUTMAIL_WORKER_IN_DEBUG"),
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


def _locale(read: Reader, key: str) -> str:
    text = read.text(key)
    if text and not re.fullmatch(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*", text):
        raise invalid(f"{key} must be like de or pt_BR")
    return text


def _timezone(read: Reader) -> str:
    text = read.text("OUTMAIL_TIMEZONE")
    try:
        zone(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise invalid("OUTMAIL_TIMEZONE must be the name of a zone known to this machine, like Europe/Berlin") from None
    return text


def _base_url(read: Reader) -> str:
    text = read.text("OUTMAIL_BASE_URL")
    if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise invalid("OUTMAIL_BASE_URL must be like https://shop.example.com")
    return text


def _dkim_key(read: Reader) -> DkimKey | None:
    names = ("OUTMAIL_DKIM_DOMAIN", "OUTMAIL_DKIM_SELECTOR", "OUTMAIL_DKIM_KEY_FILE")
    domain, selector, path = (read.text(name) for name in names)
    if not (domain or selector or path):
        return None
    for name, value in zip(names, (domain, selector, path), strict=True):
        if not value or not value.isascii() or not value.isprintable():
            raise invalid(f"{name} is needed for DKIM, in plain characters")
    try:
        return DkimKey(domain, selector, Path(path).read_text("ascii"))
    except (OSError, ValueError):
        raise invalid("OUTMAIL_DKIM_KEY_FILE: the file cannot be read") from None


WEBHOOK_KINDS = ("json", "slack", "teams")
HEALTH_TOKEN_MIN_CHARS = 16
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _webhook_url(read: Reader) -> str:
    # The value never stands in the error: the address is what lets one post.
    value = read.line("OUTMAIL_ALERT_WEBHOOK_URL")
    if not value:
        return ""
    where = urlsplit(value)
    if not where.hostname or " " in value:
        raise invalid("OUTMAIL_ALERT_WEBHOOK_URL must be a URL")
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _LOOPBACK):
        raise invalid("OUTMAIL_ALERT_WEBHOOK_URL must begin with https:// (http:// only for this machine)")
    return value


def _health_token(read: Reader) -> str:
    token = read.line("OUTMAIL_HEALTH_TOKEN")
    if token and len(token) < HEALTH_TOKEN_MIN_CHARS:
        raise invalid(f"OUTMAIL_HEALTH_TOKEN must have {HEALTH_TOKEN_MIN_CHARS} characters or more")
    return token


def _check_authorities(ca_file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except (ssl.SSLError, OSError):
        raise invalid(f"OUTMAIL_CA_FILE: {ca_file} holds no certificate in PEM") from None


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
        port=port(value("MAIL_PORT"), "MAIL_PORT"),
        tls=tls,
        username=str(value("MAIL_USERNAME")) if login else "",
        password=str(value("MAIL_PASSWORD")) if login else "",
        from_address=from_.address,
        from_name=from_.name,
    )


def _configured(config: Mapping[str, Any]) -> dict[str, tuple[SetupValues, str]]:
    found: dict[str, tuple[SetupValues, str]] = {}
    setup, others = config.get("OUTMAIL_SETUP"), config.get("OUTMAIL_CONNECTIONS") or {}
    if setup is not None:
        found[PRIMARY] = setup_from_mapping(setup, "OUTMAIL_SETUP"), "OUTMAIL_SETUP"
    if not isinstance(others, Mapping):
        raise invalid("OUTMAIL_CONNECTIONS must be a dict")
    for name, values in others.items():
        key = f"OUTMAIL_CONNECTIONS[{str(name)[:64]!r}]"
        if not CONNECTION_NAME.fullmatch(str(name)) or name == PRIMARY:
            raise invalid(f"{key}: a name is lower-case letters, digits, - and _; primary is OUTMAIL_SETUP")
        found[str(name)] = setup_from_mapping(values, key), key
    return found


def _routes(config: Mapping[str, Any]) -> tuple[Route, ...]:
    key = "OUTMAIL_ROUTES"
    value = config.get(key) or ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise invalid(f"{key} must be a list")
    found = []
    for number, rule in enumerate(value, 1):
        where = f"{key}, rule {number}"
        if not isinstance(rule, Mapping) or set(rule) - {"via", "from", "tag"} or not ({"from", "tag"} & set(rule)):
            raise invalid(f"{where}: give `via`, and `from` or `tag`")
        if not CONNECTION_NAME.fullmatch(str(rule.get("via", ""))):
            raise invalid(f"{where}: `via` must name a connection")
        sender = str(rule.get("from", "")).lower()
        if "from" in rule:
            check_address(f"x{sender}" if sender.startswith("@") else sender, where)
        found.append(Route(str(rule["via"]), sender, str(rule.get("tag", ""))))
    return tuple(found)


def _networks(read: Reader) -> tuple[str, ...]:
    key = "OUTMAIL_TEST_NETWORKS"
    found = read.texts(key)
    for one in found:
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError:
            raise invalid(f"{key}: {one!r} is not a network") from None
    return found


def _redirect_to(read: Reader) -> tuple[str, ...]:
    key = "OUTMAIL_REDIRECT_TO"
    value = read.raw(key)
    addresses = (value,) if isinstance(value, str) and value else read.texts(key)
    for one in addresses:
        check_address(one, key)
    return addresses


def _allowed(read: Reader) -> tuple[str, ...]:
    key = "OUTMAIL_ALLOWED_RECIPIENTS"
    rules = read.texts(key)
    if read.raw(key) is not None and not rules:
        # An empty list could mean nobody or everybody; guessing wrong would send staging's mail to customers.
        raise invalid(f"{key} is empty: leave it out, or use MAIL_SUPPRESS_SEND")
    for one in rules:
        check_address(f"x{one}" if one.startswith("@") else one, key)
    return rules


def _rates(read: Reader) -> Mapping[str, int]:
    """By connection; the name "" stands for all that are not named."""
    key = "OUTMAIL_RATE_PER_MINUTE"
    value = read.raw(key)
    if value is None:
        return {}
    named = value if isinstance(value, Mapping) else {"": value}
    return {str(name): count(rate, key) for name, rate in named.items()}


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
        raise invalid("OUTMAIL_CLOUDS must be a dict of dicts")
    return value
