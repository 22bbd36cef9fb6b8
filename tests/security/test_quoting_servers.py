"""A server quotes what it was shown, in whatever form: nothing of that is in an error or in a log."""

from __future__ import annotations

import base64
import html
import json
import logging
import quopri
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from flask_outmail import OutmailError, entra
from flask_outmail.clouds import clouds
from flask_outmail.masking import MASK, Secrets
from flask_outmail.setup_values import FEDERATED
from flask_outmail.simulator import Simulator
from flask_outmail.simulator.faults import Fault
from flask_outmail.transports.graph import GraphTransport

from ..integration.test_graph_large import BIG_FILE, message
from ..unit.test_tokens import the_credential

#: What may stand in a password: what each of the forms writes otherwise.
PASSWORD = "p&ss=w+rd/ü-'17\"~.x"
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "address": lambda one: quote(one, safe=""),
    "form": quote_plus,
    "page": html.escape,
    "json": lambda one: json.dumps(one)[1:-1],
    "mail": lambda one: quopri.encodestring(one.encode()).decode(),
    "base64": lambda one: base64.b64encode(one.encode()).decode(),
    "base64 behind one": lambda one: base64.b64encode(b":" + one.encode() + b":").decode(),
    "base64 behind two": lambda one: base64.b64encode(b"a:" + one.encode() + b"\x01\x01").decode(),
    "base64 for addresses": lambda one: base64.urlsafe_b64encode(b"?" + one.encode()).decode(),
}


def everything(error: OutmailError, caplog: pytest.LogCaptureFixture) -> str:
    logged = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    smtp_error = str(getattr(error, "smtp_error", ""))
    return " ".join([str(error), repr(error), str(vars(error)), smtp_error, *logged]).lower()


def has_piece(text: str, secret: str) -> bool:
    """Whether ten characters of the secret in a row stand in the text."""
    text, secret = text.lower(), secret.lower()
    return any(secret[at : at + 10] in text for at in range(len(secret) - 9))


@pytest.mark.parametrize("form", FORMS)
def test_a_credential_is_masked_in_every_form(form: str) -> None:
    quoted = FORMS[form](PASSWORD)
    masked = Secrets(PASSWORD).mask(f"535 refused: {quoted} (see 4XyZ1b2C3d4E5f6G)")
    assert MASK in masked and "4XyZ1b2C3d4E5f6G" in masked
    assert not has_piece(masked, quoted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("credential", ["secret", "assertion"])
@pytest.mark.parametrize("field", ["error", "error_description", "trace_id"])
def test_a_credential_that_entra_quotes_is_nowhere(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, credential: str, form: str
) -> None:
    head, payload = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"RS256"}', b'{"sub":1}'))
    shown = simulator.client_secret if credential == "secret" else f"{head}.{payload}.c2lnbmF0dXJlLW9mLTMyLWJ5dGVz"
    changes = {}
    if credential == "assertion":
        (tmp_path / "token").write_text(shown)
        changes = {"client_secret": "", "provider": FEDERATED, "token_file": str(tmp_path / "token")}
    quoted = FORMS[form](shown)
    said = {"error": "invalid_client", "error_description": "AADSTS7000215: no", field: f"you sent {quoted}"}
    simulator.faults.add(
        Fault(endpoint="token", status=401, body=json.dumps(said), content_type="application/json", times=None)
    )
    cloud = clouds({"simulator": simulator.cloud})["simulator"]
    with caplog.at_level(logging.DEBUG), pytest.raises(OutmailError) as caught:
        entra.issue(
            the_credential(simulator, **changes), cloud, cloud.scope, timeout_s=5, ca_file=str(simulator.ca_file)
        )
    assert not has_piece(everything(caught.value, caplog), quoted)


@pytest.mark.parametrize("form", FORMS)
def test_a_token_that_graph_quotes_is_nowhere(
    simulator: Simulator, transport: GraphTransport, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    quoted = FORMS[form](transport.settings.tokens.token())
    simulator.faults.add(
        Fault(
            endpoint="sendMail",
            status=400,
            code=f"Bad{quoted}"[:90],
            message="x" * 280 + f" {quoted}",
            headers={"request-id": quoted.replace("\n", "")[:90]},
        )
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(OutmailError) as caught:
        transport.deliver(message())
    assert not has_piece(everything(caught.value, caplog), quoted)


def test_the_address_of_an_upload_that_the_server_quotes_is_nowhere(
    simulator: Simulator, transport: GraphTransport, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = f"{simulator.cloud['graph']}/upload/"
    simulator.faults.add(
        Fault(endpoint="upload", status=400, code="invalidRequest", message=f"no such address: {quoted}", times=None)
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(OutmailError) as caught:
        transport.deliver(message(BIG_FILE))
    assert "/upload/" not in everything(caught.value, caplog)
