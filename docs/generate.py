"""Writes the reference pages that are made from the code, so that they cannot disagree with it.

The pages are kept in the repository, where they read well unrendered; a test fails when they are out of date.
Run `python docs/generate.py` to write them.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from flask_outmail import errors
from flask_outmail.diagnosis.remedies import CATALOGUE, WHO_LABELS
from flask_outmail.errors import DeliveryError, OutmailError
from flask_outmail.settings import KEYS

NOTE = "<!-- Made from the code by docs/generate.py; do not edit. -->\n"


def configuration() -> str:
    rows = [f"| `{key.name}` | {key.type} | `{key.default!r}` | {key.effect} |" for key in KEYS]
    return "\n".join(
        [
            "# Configuration",
            "",
            NOTE,
            "Read once, in `init_app`; later changes have no effect. Seconds end a key's name where it is a time.",
            "",
            "| key | type | default | effect |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "`OUTMAIL_SETUP` is one flat mapping: `service`, and what that service needs of `host`, `port`, `tls`"
            " (`starttls`, `tls`, `none`), `username`, `password`, `from_address`, `from_name`, `failure_alerts_to`,"
            " `tenant`, `client_id`, `client_secret` or `certificate` (a path, or PEM text) with"
            " `certificate_password`, and `cloud` (`global`, `usgov`, `usgov_dod`, `china`, or a name in"
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
            "`OUTMAIL_CLOUDS` maps a name to `label`, `authority`, `graph`, `scope`, `smtp_host` (or `host:port`),"
            " `smtp_scope`, `uploads` (False for a Graph without upload sessions). Only `authority` and `graph` are"
            " required; both are https URLs.",
            "",
        ]
    )


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


def remedy_page() -> str:
    lines = ["# Remedies", "", NOTE, "What each failure means, what to do about it, and who can do it.", ""]
    for entry in CATALOGUE:
        remedy = entry.remedy
        signals = ", ".join(f"`{signal}`" for signal in entry.signals)
        lines += [f"## {remedy.title}", "", f"Signals: {signals}" if signals else "", "", remedy.meaning, ""]
        lines += [f"{number}. {step}" for number, step in enumerate(remedy.steps, 1)]
        lines += ["", f"*{WHO_LABELS[remedy.who]}.*", ""]
    return "\n".join(lines)


PAGES = {
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
