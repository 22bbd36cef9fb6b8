"""The addresses and identities of a running simulator, for a terminal and for the page "Values to paste"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask_outmail.simulator.server import Simulator

Values = list[tuple[str, str]]


def values(sim: Simulator) -> list[tuple[str, str, Values]]:
    """Groups of (title, remark, [(name, value)])."""
    groups: list[tuple[str, str, Values]] = [
        (
            "Sign-in (Entra) and Graph",
            "",
            [
                ("Authority", sim.https_url),
                ("Directory (tenant) ID", sim.tenant),
                ("Application (client) ID", sim.client_id),
                ("Client secret (value)", sim.client_secret),
                ("Secret ID (not the secret)", sim.secret_id),
                ("Graph", f"{sim.https_url}/v1.0"),
                ("Scope", f"{sim.https_url}/.default"),
                ("Mailbox", sim.mailbox),
                ("Certificate authority to trust", str(sim.ca_file)),
            ],
        ),
        (
            "SMTP",
            "OAuth uses the same tenant, client ID and secret.",
            [
                ("Host", sim.smtp_host),
                ("Port (STARTTLS)", str(sim.smtp_port)),
                ("Port (TLS)", str(sim.smtps_port)),
                ("Scope", str(sim.cloud["smtp_scope"])),
                ("User name", sim.mailbox),
                ("Password", sim.smtp_password),
            ],
        ),
    ]
    for app in sim.state.apps()[1:]:
        remark = app.says or ("only " + ", ".join(sorted(app.scoped_to)) if app.scoped_to else "added later")
        pairs = [("Application (client) ID", app.client_id)]
        pairs += [("Client secret (value)", app.secret)] if app.secret else list(sim.identity_environment.items())
        groups.append((f"Application: {app.name}", remark, pairs))
    boxes = [(mailbox.address, mailbox.says or "added later") for mailbox in sim.state.mailboxes()]
    groups.append(("Mailboxes", "Mail to any other address is delivered as well.", boxes))
    return groups


def configuration(sim: Simulator) -> str:
    """Lines for a Flask configuration file."""
    setup = {
        "service": "microsoft365_graph",
        "cloud": "simulator",
        "tenant": sim.tenant,
        "client_id": sim.client_id,
        "client_secret": sim.client_secret,
        "username": sim.mailbox,
        "from_address": sim.mailbox,
    }
    # JSON of nothing but strings and numbers is Python as well.
    clouds = json.dumps({"simulator": sim.cloud}, indent=4)
    trust = json.dumps(str(sim.ca_file))
    return f"OUTMAIL_CLOUDS = {clouds}\nOUTMAIL_CA_FILE = {trust}\nOUTMAIL_SETUP = {json.dumps(setup, indent=4)}\n"


def describe(sim: Simulator) -> str:
    lines = ["Microsoft 365 simulator", "", f"  Mailboxes in the browser        {sim.web_url}"]
    for title, remark, pairs in values(sim):
        lines += ["", title + (f" ({remark})" if remark else "")]
        lines += [f"  {name:<31} {value}" for name, value in pairs]
    lines += ["", f"Clients must trust its certificate, for example: REQUESTS_CA_BUNDLE={sim.ca_file}"]
    return "\n".join(lines) + "\n"
