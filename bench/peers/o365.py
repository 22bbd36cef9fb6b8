"""O365, used plainly: one message after another, by its JSON form.

"kept" keeps one account for all; "anew" makes one for each message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msal import ConfidentialClientApplication
from O365 import Account
from O365.connection import MSGraphProtocol
from O365.utils.token import MemoryTokenBackend

from ..job import SENDER, Job, NotOffered, order

DISTRIBUTION = "O365"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind != "graph":
        raise NotOffered("Graph only")
    world = json.loads(job.graph)

    def kept() -> None:
        account = _account(world, job.ca_file)
        for _ in range(job.count):
            _send(account)
        _close(account)

    def anew() -> None:
        for _ in range(job.count):
            account = _account(world, job.ca_file)
            _send(account)
            _close(account)

    yield anew if job.way == "anew" else kept


def _send(account: Account) -> None:
    message = account.new_message()
    one = order()
    message.to.add((one.name, one.address))
    message.subject, message.body = one.subject, one.html
    if not message.send():
        raise RuntimeError("not accepted")


def _account(world: dict[str, Any], ca_file: str) -> Account:
    graph = world["cloud"]["graph"]

    class Protocol(MSGraphProtocol):
        _protocol_url = f"{graph}/"
        _oauth_scope_prefix = f"{graph}/"

    account = Account(
        (world["client_id"], world["client_secret"]),
        auth_flow_type="credentials",
        tenant_id=world["tenant"],
        protocol=Protocol(),
        main_resource=SENDER,
        token_backend=MemoryTokenBackend(),
        verify_ssl=ca_file,
        raise_http_errors=True,
    )
    # It knows Microsoft's own sign-in host only.
    account.con._msal_client = ConfidentialClientApplication(
        world["client_id"],
        client_credential=world["client_secret"],
        authority=f"{world['cloud']['authority']}/{world['tenant']}",
        token_cache=account.con.token_backend,
        verify=ca_file,
        instance_discovery=False,
    )
    account.authenticate()
    return account


def _close(account: Account) -> None:
    account.con._msal_client.http_client.close()
    account.con.session.close()
