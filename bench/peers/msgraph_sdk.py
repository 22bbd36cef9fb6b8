"""Microsoft's own SDK for Graph, used plainly: one message after another, by its JSON form.

"kept" keeps one client for all; "anew" makes one for each message, as their quick starts show it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from azure.identity.aio import ClientSecretCredential
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph import GraphServiceClient
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.email_address import EmailAddress
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.recipient import Recipient
from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody
from msgraph.graph_request_adapter import GraphRequestAdapter

from ..job import SENDER, Job, NotOffered, order

DISTRIBUTION = "msgraph-sdk"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind != "graph":
        raise NotOffered("Graph only")
    world = json.loads(job.graph)
    # Where its HTTP client looks for authorities.
    os.environ["SSL_CERT_FILE"] = job.ca_file

    async def kept() -> None:
        async with _users(world, job.ca_file) as users:
            for _ in range(job.count):
                await users.by_user_id(SENDER).send_mail.post(_body())

    async def anew() -> None:
        for _ in range(job.count):
            async with _users(world, job.ca_file) as users:
                await users.by_user_id(SENDER).send_mail.post(_body())

    yield lambda: asyncio.run(anew() if job.way == "anew" else kept())


@asynccontextmanager
async def _users(world: dict[str, Any], ca_file: str) -> AsyncIterator[Any]:
    async with ClientSecretCredential(
        world["tenant"],
        world["client_id"],
        world["client_secret"],
        authority=world["cloud"]["authority"],
        disable_instance_discovery=True,
        connection_verify=ca_file,
    ) as credential:
        provider = AzureIdentityAuthenticationProvider(
            credential, scopes=[world["cloud"]["scope"]], allowed_hosts=["localhost"]
        )
        adapter = GraphRequestAdapter(provider)
        adapter.base_url = f"{world['cloud']['graph']}/v1.0"
        try:
            yield GraphServiceClient(request_adapter=adapter).users
        finally:
            # Its own transport does not close the one inside it.
            await adapter._http_client._transport.transport.aclose()


def _body() -> SendMailPostRequestBody:
    # This form holds one body; of text and HTML, HTML it is.
    one = order()
    to = Recipient(email_address=EmailAddress(address=one.address, name=one.name))
    body = ItemBody(content_type=BodyType.Html, content=one.html)
    return SendMailPostRequestBody(message=Message(subject=one.subject, body=body, to_recipients=[to]))
