"""Client libraries that are not ours, against the simulator: what they accept, ours may rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flask_outmail.simulator import Simulator

Foreign = Callable[[str], ModuleType]
BySdk = Callable[[Callable[[Any], Coroutine[Any, Any, Any]]], Any]

# The libraries' own affairs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def by_sdk(sim: Simulator, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> BySdk:
    """Runs work with Microsoft's own SDK, pointed here; it takes the certificate authority from the environment."""
    monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
    identity, sdk = foreign("azure.identity"), foreign("msgraph")
    providers = foreign("kiota_authentication_azure.azure_identity_authentication_provider")

    async def run(work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        with identity.ClientSecretCredential(
            sim.tenant,
            sim.client_id,
            sim.client_secret,
            authority=sim.https_url,
            disable_instance_discovery=True,
            connection_verify=str(sim.ca_file),
        ) as credential:
            provider = providers.AzureIdentityAuthenticationProvider(
                credential, scopes=[sim.cloud["scope"]], allowed_hosts=["localhost"]
            )
            adapter = sdk.graph_request_adapter.GraphRequestAdapter(provider)
            adapter.base_url = f"{sim.https_url}/v1.0"
            try:
                return await work(sdk.GraphServiceClient(request_adapter=adapter).users)
            finally:
                # The SDK's own transport does not close the one inside it.
                await adapter._http_client._transport.transport.aclose()

    return lambda work: asyncio.run(run(work))


def sdk_message(foreign: Foreign) -> Any:
    models = {
        name: getattr(foreign(f"msgraph.generated.models.{module}"), name)
        for module, name in (
            ("message", "Message"), ("item_body", "ItemBody"), ("body_type", "BodyType"),
            ("recipient", "Recipient"), ("email_address", "EmailAddress"), ("file_attachment", "FileAttachment"),
        )
    }  # fmt: skip
    to = models["Recipient"](email_address=models["EmailAddress"](address="ann@x.example", name="Ann Ü"))
    return models["Message"](
        subject="From the SDK",
        body=models["ItemBody"](content_type=models["BodyType"].Html, content="<p>Grüße</p>"),
        to_recipients=[to],
        attachments=[
            models["FileAttachment"](
                odata_type="#microsoft.graph.fileAttachment", name="a.bin", content_bytes=b"\x00\x01"
            )
        ],
    )


def send_mail_body(foreign: Foreign, **fields: Any) -> Any:
    module = foreign("msgraph.generated.users.item.send_mail.send_mail_post_request_body")
    return module.SendMailPostRequestBody(message=sdk_message(foreign), **fields)


def test_msgraph_sdk_sends_mail(sim: Simulator, foreign: Foreign, by_sdk: BySdk) -> None:
    body = send_mail_body(foreign, save_to_sent_items=False)

    by_sdk(lambda users: users.by_user_id(sim.mailbox).send_mail.post(body))

    [mail] = sim.wait_for(1)
    assert (mail.subject, mail.html.strip()) == ("From the SDK", "<p>Grüße</p>")
    assert [(part.filename, part.content) for part in mail.attachments] == [("a.bin", b"\x00\x01")]


def test_msgraph_sdk_creates_finds_and_sends_a_draft(sim: Simulator, foreign: Foreign, by_sdk: BySdk) -> None:
    async def work(users: Any) -> tuple[Any, Any]:
        user = users.by_user_id(sim.mailbox)
        draft = await user.messages.post(sdk_message(foreign))
        found = await user.messages.by_message_id(draft.id).get()
        await user.messages.by_message_id(draft.id).send.post()
        return draft, found

    draft, found = by_sdk(work)

    assert draft.is_draft
    assert found.internet_message_id == draft.internet_message_id == sim.delivered[0].message_id
    assert found.created_date_time is not None


def test_msgraph_sdk_understands_the_errors(sim: Simulator, foreign: Foreign, by_sdk: BySdk) -> None:
    errors, body = foreign("msgraph.generated.models.o_data_errors.o_data_error"), send_mail_body(foreign)

    with pytest.raises(errors.ODataError) as refused:
        by_sdk(lambda users: users.by_user_id("nobody@contoso.example").send_mail.post(body))

    assert refused.value.response_status_code == 404
    assert refused.value.error.code == "ErrorInvalidUser"
    assert refused.value.error.inner_error.request_id


def test_azure_identity_explains_a_wrong_secret(sim: Simulator, foreign: Foreign) -> None:
    identity = foreign("azure.identity")
    exceptions = foreign("azure.core.exceptions")
    credential = identity.ClientSecretCredential(
        sim.tenant,
        sim.client_id,
        sim.secret_id,
        authority=sim.https_url,
        disable_instance_discovery=True,
        connection_verify=str(sim.ca_file),
    )

    with pytest.raises(exceptions.ClientAuthenticationError, match="AADSTS7000215"):
        credential.get_token(sim.cloud["scope"])
    credential.close()


def o365_account(sim: Simulator, foreign: Foreign) -> Any:
    """python-o365, pointed here."""
    library, connection, msal = foreign("O365"), foreign("O365.connection"), foreign("msal")

    class Protocol(connection.MSGraphProtocol):  # type: ignore[name-defined, misc]
        _protocol_url = f"{sim.https_url}/"
        _oauth_scope_prefix = f"{sim.https_url}/"

    account = library.Account(
        (sim.client_id, sim.client_secret),
        auth_flow_type="credentials",
        tenant_id=sim.tenant,
        protocol=Protocol(),
        main_resource=sim.mailbox,
        token_backend=foreign("O365.utils.token").MemoryTokenBackend(),
        verify_ssl=str(sim.ca_file),
        raise_http_errors=True,
    )
    # The library knows Microsoft's own sign-in host only, and would ask it about ours.
    account.con._msal_client = msal.ConfidentialClientApplication(
        sim.client_id,
        client_credential=sim.client_secret,
        authority=f"{sim.https_url}/{sim.tenant}",
        token_cache=account.con.token_backend,
        verify=str(sim.ca_file),
        instance_discovery=False,
        timeout=10,
    )
    assert account.authenticate()
    return account


def test_o365_sends_mail_with_a_small_and_a_large_attachment(sim: Simulator, foreign: Foreign, tmp_path: Path) -> None:
    account = o365_account(sim, foreign)
    (tmp_path / "small.txt").write_bytes(b"small")
    (tmp_path / "large.bin").write_bytes(b"0123456789" * 400_000)
    message = account.new_message()
    message.to.add("ann@x.example")
    message.bcc.add("bob@x.example")
    message.subject, message.body = "From O365", "<b>Hallo</b>"
    assert message.save_draft()
    message.attachments.add([str(tmp_path / "small.txt"), str(tmp_path / "large.bin")])

    assert message.save_draft()  # which is when it opens upload sessions
    assert message.send()

    account.con._msal_client.http_client.close()
    account.con.session.close()
    account.con.naive_session.close()
    assert [mail.recipient for mail in sim.wait_for(2)] == ["ann@x.example", "bob@x.example"]
    sizes = {part.filename: len(part.content) for part in sim.delivered[0].attachments}
    assert sizes == {"small.txt": 5, "large.bin": 4_000_000}
    assert any(answer.method == "PUT" for answer in sim.answers)
