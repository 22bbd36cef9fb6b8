"""Writes the reference pages that are made from the code, so that they cannot disagree with it.

The pages are kept in the repository, where they read well unrendered; a test fails when they are out of date.
Run `python docs/generate.py` to write them.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import click

import flask_outmail
from flask_outmail import errors, migrate, models
from flask_outmail.cli import outmail_commands
from flask_outmail.clouds import clouds
from flask_outmail.diagnosis.catalogue import WHO_LABELS, Remedy
from flask_outmail.diagnosis.catalogue_credential import CREDENTIAL
from flask_outmail.diagnosis.catalogue_domain import DOMAIN
from flask_outmail.diagnosis.catalogue_entra import ENTRA
from flask_outmail.diagnosis.catalogue_graph import GRAPH
from flask_outmail.diagnosis.catalogue_hints import HINTS
from flask_outmail.diagnosis.catalogue_local import LOCAL
from flask_outmail.diagnosis.catalogue_message import MESSAGE
from flask_outmail.diagnosis.catalogue_network import NETWORK
from flask_outmail.diagnosis.catalogue_outbox import OUTBOX
from flask_outmail.diagnosis.catalogue_smtp_login import SMTP_LOGIN
from flask_outmail.diagnosis.catalogue_smtp_message import SMTP_MESSAGE
from flask_outmail.diagnosis.catalogue_smtp_sender import SMTP_SENDER
from flask_outmail.diagnosis.catalogue_watch import WATCH
from flask_outmail.diagnosis.steps import Step
from flask_outmail.errors import DeliveryError, OutmailError
from flask_outmail.outbox.notices import Notice
from flask_outmail.outbox.store import Queued
from flask_outmail.services import services
from flask_outmail.settings import KEYS
from flask_outmail.setup_values import TLS_CHOICES
from flask_outmail.simulator import command as simulator_command

NOTE = "<!-- Made from the code by docs/generate.py; do not edit. -->\n"


#: The first key of each section, in the order of the table in `settings`.
SECTIONS = {
    "OUTMAIL_URL_PREFIX": "The setup",
    "OUTMAIL_BASE_TEMPLATE": "The pages, and mails from templates",
    "OUTMAIL_CONNECT_TIMEOUT_SECONDS": "SMTP",
    "OUTMAIL_GRAPH_TIMEOUT_SECONDS": "Microsoft Graph and Entra",
    "OUTMAIL_REDIRECT_TO": "Outside production",
    "OUTMAIL_TEST_NETWORKS": "Tests of a setup, and limits",
    "OUTMAIL_ALERT_PAUSE_SECONDS": "Alerts and monitoring",
    "OUTMAIL_DELIVERY": "Queueing, and the delivery log",
    "OUTMAIL_AT_LEAST_ONCE": "Retries and workers",
    "MAIL_SERVER": "Flask-Mail's keys",
}


def configuration() -> str:
    rows = []
    for key in KEYS:
        if key.name in SECTIONS:
            rows += ["", f"## {SECTIONS[key.name]}", ""]
            rows += ["| key | type | default | effect |", "| --- | --- | --- | --- |"]
        rows.append(f"| `{key.name}` | {key.type} | `{key.default!r}` | {key.effect} |")
    return "\n".join(
        [
            "# Configuration",
            "",
            NOTE,
            "Read once, in `init_app`; later changes have no effect. Seconds end a key's name where it is a time.",
            *rows,
            "",
            "## How a setup is written",
            "",
            f"`OUTMAIL_SETUP` is one flat mapping: `service` ({_names(one.name for one in services())}), and what that"
            f" service needs of `host`, `port`, `tls` ({_names(TLS_CHOICES)}), `username`, `password`, `from_address`,"
            " `from_name`, `failure_alerts_to`, `tenant`, `client_id`, `client_secret` or `certificate` (a path,"
            f" or PEM text) with `certificate_password`, and `cloud` ({_names(clouds())}, or a name in"
            " `OUTMAIL_CLOUDS`).",
            "",
            "Other credentials: `token_file` or `token_function` for a federated one (with `provider` ="
            " `microsoft_federated` alone, the file is what `AZURE_FEDERATED_TOKEN_FILE` names); `provider` ="
            " `microsoft_managed_identity`, with the `client_id` of a user-assigned identity or none. While two"
            " overlap, the former stands in `previous_client_secret` or `previous_certificate` with"
            " `previous_certificate_password`. `expires_on` (a date like `2027-04-15`) is shown by the setup test.",
            "",
            "It may be one string instead, for environments that configure by one variable. Characters other than"
            " letters, digits and `-._~` are percent-encoded; `from`, `from_name`, `alerts`, `cloud`, `certificate`,"
            " `certificate_password`, `provider`, `token_file`, `token_function` and `expires_on` may follow as a"
            " query:",
            "",
            "```text",
            "smtp+starttls://USER:PASSWORD@HOST:587?from=shop@example.com",
            "smtps://USER:PASSWORD@HOST?from=shop@example.com",
            "smtp://HOST:25?from=shop@example.com",
            "graph://CLIENT_ID:SECRET@TENANT/noreply@example.com",
            "graph://CLIENT_ID@TENANT/noreply@example.com?provider=microsoft_federated",
            "microsoft365+smtp://CLIENT_ID:SECRET@TENANT/noreply@example.com",
            "```",
            "",
            "## How a cloud is written",
            "",
            "`OUTMAIL_CLOUDS` maps a name to `label`, `authority`, `graph`, `scope`, `smtp_host` (or `host:port`),"
            " `smtp_scope`, `uploads` (False for a Graph without upload sessions). Only `authority` and `graph` are"
            " required; both are https URLs.",
            "",
        ]
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def error_page() -> str:
    lines = ["# Errors", "", NOTE, "```text", inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1], "```", ""]
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, OutmailError):
            lines += [f"## {name}", "", inspect.cleandoc(kind.__doc__ or ""), ""]
            if issubclass(kind, DeliveryError) and kind is not DeliveryError:
                again = "may help" if kind.retryable else "cannot help"
                lines += [f"Fault: {kind.fault}. Trying again unchanged {again}.", ""]
            if kind.advice:
                lines += [f"> {kind.advice}", ""]
    return "\n".join(lines)


#: The catalogue by who speaks, in the order in which it is asked.
REMEDY_GROUPS = [
    ("This application", LOCAL),
    ("The credential", CREDENTIAL),
    ("Hints about a setup", HINTS),
    ("The message", MESSAGE),
    ("The outbox", OUTBOX),
    ("The network", NETWORK),
    ("Microsoft Entra, where tokens come from", ENTRA),
    ("Microsoft Graph", GRAPH),
    ("SMTP servers: the log-in", SMTP_LOGIN),
    ("SMTP servers: the sender", SMTP_SENDER),
    ("SMTP servers: the message", SMTP_MESSAGE),
    ("The domain", DOMAIN),
    ("What is noticed without a message", WATCH),
]
#: The guide that goes further than the steps, by the first signal of a remedy.
GUIDES = {
    "credentials": ("Choose the application's credential", ["token_*", "managed_identity_*", "AADSTS700213"]),
    "rotate-a-secret": (
        "Rotate a secret or certificate",
        ["certificate_expired", "credential_expired", "credential_expiring", "credential_fallback", "AADSTS7000215",
         "AADSTS7000222", "AADSTS700027"],
    ),
    "rotate-the-encryption-key": ("Change the encryption key", ["secret_unreadable", "encryption_key_missing"]),
    "limit-the-app-to-one-mailbox": (
        "Limit the application to one mailbox",
        ["token_without_role", "token_role_delegated", "foreign_mailbox_open", "ErrorAccessDenied",
         "Authorization_RequestDenied"],
    ),
    "move-from-basic-auth": ("Move from Basic auth", ["535 5.7.139", "550 5.7.30", "535 5.7.3"]),
    "connect-smtp": ("Connect an SMTP server", ["starttls_missing", "tls_*", "port_*", "535*", "530*", "dkim_*"]),
    "send-large-attachments": (
        "Send large attachments",
        ["large_messages_*", "body_too_large", "RequestEntityTooLarge", "ErrorMessageSizeExceeded", "upload_failed"],
    ),
    "run-the-worker": (
        "Queue mail and run the worker",
        ["worker_*", "answer_lost", "draft_*", "may_arrive_twice", "connections_pause", "spool_unwritable"],
    ),
    "recover-from-each-alert": ("Recover from each alert", ["queue_old", "worker_missing", "backlog_held"]),
    "choose-a-database": ("Choose a database, and upgrade it", ["tables_*", "database_*"]),
    "mail-from-templates": ("Write mails as templates", ["template_*", "base_url_missing"]),
    "stay-safe-outside-production": ("Stay safe outside production", ["recipients_held_back"]),
    "use-several-connections": ("Use several connections", ["connection_unknown"]),
    "watch-it": ("Know when mail stops", ["no_alert_path", "webhook_*", "callback_failed"]),
    "prove-a-setup": ("Prove a setup", ["setup_not_verified", "foreign_mailbox_*", "tests_too_many"]),
}  # fmt: skip


def remedy_page() -> str:
    lines = ["# Remedies", "", NOTE, "What each failure means, what to do about it, and who can do it; by who speaks."]
    lines += ["Pages, commands, alerts and errors show the same words. Look for a code with the browser's own search"]
    lines += ["(Ctrl+F): the search of this site passes over numbers, as in `535 5.7.139`.", ""]
    for group, entries in REMEDY_GROUPS:
        lines += [f"## {group}", ""]
        for entry in entries:
            remedy = entry.remedy
            signals = ", ".join(f"`{signal}`" for signal in entry.signals)
            lines += [f"### {remedy.title}", "", f"Signals: {signals}" if signals else "", "", remedy.meaning, ""]
            lines += [f"{number}. {step}" for number, step in enumerate(remedy.steps, 1)]
            lines += ["", f"Who: *{WHO_LABELS[remedy.who]}*.{_guide(entry.signals[0])}", ""]
    return "\n".join(lines)


def _guide(signal: str) -> str:
    for name, (title, patterns) in GUIDES.items():
        # An exact name before a pattern of another guide.
        if signal in patterns:
            return f" See [{title}](../how-to/{name}.md)."
    for name, (title, patterns) in GUIDES.items():
        if any(fnmatchcase(signal, one) for one in patterns):
            return f" See [{title}](../how-to/{name}.md)."
    return ""


def signal_page() -> str:
    signals = importlib.import_module("flask_outmail.signals")  # the package gives its namespace the same name
    source = inspect.getsource(signals)
    found = re.findall(r"((?:#: .*\n)+)(\w+) = signals\.signal\(\"([^\"]+)\"\)", source)
    return "\n".join(
        [
            "# Signals",
            "",
            NOTE,
            inspect.cleandoc(signals.__doc__ or ""),
            "",
            "| signal | when, and its arguments |",
            "| --- | --- |",
            *(f"| `{name}` (`{wire}`) | {' '.join(re.findall(r'#: (.*)', words))} |" for words, name, wire in found),
            "",
        ]
    )


def command_page() -> str:
    lines = [
        "# Commands",
        "",
        NOTE,
        "Exit codes: 0 good, 1 the thing asked about is bad, 2 wrong usage. Scripts, `--json` and completion by the"
        " shell have [a guide](../how-to/use-the-commands.md).",
        "",
    ]
    for name, command in _commands("flask outmail", outmail_commands):
        taken = [one for one in command.params if isinstance(one, click.Argument)]
        arguments = [f" {one.name}".upper() if one.required else f" [{one.name}]".upper() for one in taken]
        options = [param for param in command.params if isinstance(param, click.Option)]
        # Options and keys as code: two hyphens would become a dash.
        words = re.sub(r"(?<!`)(--[a-z-]+|\b[A-Z]+_[A-Z_]+…?)", r"`\1`", inspect.cleandoc(command.help or ""))
        lines += [f"## `{name}{''.join(arguments)}`", "", words, ""]
        lines += [f"- `{_spelled(option)}`: {option.help or ''}{_default(option)}" for option in options]
        lines += [""] if options else []
    for parser in (simulator_command.parser(), migrate.parser()):
        lines += [f"## `{parser.prog}`", "", f"{parser.description}", ""]
        lines += [f"- {one}" for one in _arguments(parser)] + [""]
    return "\n".join(lines)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if "--help" not in action.option_strings:
            given = f" {action.metavar}" if action.metavar else ""
            name = ", ".join(action.option_strings) or action.dest.upper()
            yield f"`{name}{given}`: {(action.help or '') % {'default': action.default}}"


def _spelled(option: click.Option) -> str:
    names = " / ".join([", ".join(option.opts), *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {'|'.join(option.type.choices)}"
    return f"{names} {option.metavar or option.type.name.split()[0].upper()}"


def _default(option: click.Option) -> str:
    return f" (`{option.default}`)" if option.show_default else " Needed." if option.required else ""


def _commands(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def model_page() -> str:
    lines = ["# Tables", "", NOTE, inspect.cleandoc(models.__doc__ or ""), "", "Moments are stored in UTC.", ""]
    for model in sorted(models.Base.registry.mappers, key=lambda mapper: mapper.class_.__name__):
        kind, table = model.class_, model.local_table
        noted = re.findall(r"((?:    #: .*\n)+)    (\w+): Mapped", inspect.getsource(kind))
        notes = {name: " ".join(re.findall(r"#: (.*)", words)) for words, name in noted}
        lines += [f"## {kind.__name__}", "", f"Table `{table.name}`. {inspect.cleandoc(kind.__doc__ or '')}", ""]
        lines += ["| column | type | may be empty | note |", "| --- | --- | --- | --- |"]
        for column in table.columns:
            moment = isinstance(column.type, models.UtcDateTime)
            sort = "moment" if moment else str(column.type).lower()
            lines.append(
                f"| `{column.name}` | {sort} | {'yes' if column.nullable else ''} | {notes.get(column.name, '')} |"
            )
        lines.append("")
    return "\n".join(lines)


#: What the calls above give to applications, which never make one.
GIVEN = [Queued, Notice, Step, Remedy]
#: What applications, their tests and mail services of their own may rely on, besides what `flask_outmail` exports.
MODULES = {
    "flask_outmail.diagnosis.steps": ["Check", "Seen"],
    "flask_outmail.services": ["register", "MailService", "Plan", "Environment"],
    "flask_outmail.setup_values": ["SetupValues", "Credential"],
    "flask_outmail.transports.base": ["Transport", "BulkTransport"],
    "flask_outmail.envelope": ["Envelope"],
    "flask_outmail.network": ["http_session", "nothing_left", "unavailable", "retry_after_s", "connect"],
    "flask_outmail.entra": ["register_token_function"],
    "flask_outmail.testing": [],
    "flask_outmail.testing_outbox": ["Outbox"],
    "flask_outmail.testing_contract": ["TransportContract", "NetworkTransportContract"],
    "flask_outmail.simulator": ["Simulator", "Faults", "DeliveredMail"],
    "flask_outmail.celery": ["register"],
    "flask_outmail.metrics": ["register"],
    "flask_outmail.tracing": ["register"],
    "flask_outmail.mailman": ["EmailMessage", "EmailMultiAlternatives", "send_mail", "send_mass_mail"],
}


def api_page() -> str:
    lines = ["# API", "", NOTE, "## flask_outmail", ""]
    for name in flask_outmail.__all__:
        value = getattr(flask_outmail, name)
        is_error = isinstance(value, type) and issubclass(value, OutmailError)
        if callable(value) and not is_error and not hasattr(value, "receivers"):
            lines += _described(name, value)
    lines += ["The errors have [a page of their own](errors.md), and so have [the signals](signals.md).", ""]
    lines += ["## What these calls give", "", "For reading; applications make none of them.", ""]
    for kind in GIVEN:
        lines += _described(kind.__name__, kind)
    for name, members in MODULES.items():
        module = importlib.import_module(name)
        lines += [f"## {name}", "", _markdown(module.__doc__), ""]
        for member in members:
            lines += _described(member, getattr(module, member))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _described(name: str, value: Any) -> list[str]:
    lines = [f"### {name}", ""]
    if not (isinstance(value, type) and getattr(value, "_is_protocol", False)):
        lines += ["```text", _signature(name, value), "```", ""]
    lines += [_markdown(value.__doc__), ""]
    if isinstance(value, type):
        for member, inherited in inspect.getmembers(value):
            method = inspect.getattr_static(value, member)
            is_property = isinstance(method, property | cached_property)
            is_ours = inspect.isroutine(inherited) and str(getattr(inherited, "__module__", "")).startswith(
                "flask_outmail"
            )
            words = inspect.getdoc(method if is_property else inherited)
            if member.startswith(("_", "test_")) or not words or not (is_ours or is_property):
                continue
            if hasattr(inherited, "_pytestfixturefunction"):
                continue  # a fixture, to pytest before 8.4
            shown = f"{name}.{member}" if is_property else _signature(f"{name}.{member}", inherited)
            lines += ["```text", shown, "```", "", _markdown(words), ""]
    return lines


class _Plain(str):
    """An annotation that is shown as it was written, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _signature(name: str, value: Any) -> str:
    found = inspect.signature(value)
    parameters = [
        one.replace(annotation=_Plain(one.annotation) if isinstance(one.annotation, str) else one.annotation)
        for one in found.parameters.values()
        if one.name != "self"
    ]
    returns = found.return_annotation
    returns = _Plain(returns) if isinstance(returns, str) and not isinstance(value, type) else inspect.Signature.empty
    shown = f"{name}{found.replace(parameters=parameters, return_annotation=returns)}"
    if len(shown) <= 80:
        return shown
    # One parameter a line; a comma inside brackets stays where it is.
    head, _, rest = shown.partition("(")
    inside, bracket, tail = rest.rpartition(") ->") if ") ->" in rest else rest.rpartition(")")
    return f"{head}(\n    " + re.sub(r", (?=[*/]|\w+[:=])(?![^(]*\))", ",\n    ", inside) + f",\n{bracket}{tail}"


def _markdown(docstring: str | None) -> str:
    """A docstring as Markdown: what it raises as a list, what is indented as Python."""
    lines, raises = [], False
    text = re.sub(
        r"(?<=\n\n)(?: {4}.*\n?|\n(?= {4}))+",
        lambda match: f"```python\n{textwrap.dedent(match[0]).strip()}\n```\n",
        inspect.cleandoc(docstring or ""),
    )
    for line in text.splitlines():
        if line.strip() == "Raises:":
            raises, line = True, "Raises:\n"
        elif raises and line.startswith("    "):
            inside = line[4:]
            line = f"  {inside.strip()}" if inside.startswith(" ") else "- `" + inside.replace(":", "`:", 1)
        elif line:
            raises = False
        lines.append(line)
    return "\n".join(lines)


PAGES = {
    "reference/api.md": api_page,
    "reference/commands.md": command_page,
    "reference/models.md": model_page,
    "reference/signals.md": signal_page,
    "reference/configuration.md": configuration,
    "reference/errors.md": error_page,
    "reference/remedies.md": remedy_page,
}


def write_all(docs: Path) -> None:
    for name, page in PAGES.items():
        path = docs / name
        text = page()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    write_all(Path(__file__).parent)
