"""A server on the other side lies: it leads to another host, never ends, or packs much into little."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from flask_outmail import OutmailError, entra, network
from flask_outmail.clouds import clouds
from flask_outmail.envelope import Envelope
from flask_outmail.simulator import Simulator
from flask_outmail.simulator.faults import Fault
from flask_outmail.transports import graph_calls
from flask_outmail.transports.graph import GraphTransport

from ..conftest import make_message
from ..unit.test_tokens import the_credential
from .conftest import MakeLiar

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MEGABYTE = b"x" * 1_000_000
ENVELOPE = Envelope.for_message(make_message(sender="noreply@contoso.example"))
#: What sockets on the way hold, beside what was read.
SLACK_BYTES = 12_000_000


def ask(simulator: Simulator, *, timeout_s: float = 5, **changes: Any) -> OutmailError:
    """Asks Entra for a token, which fails."""
    cloud = clouds({"simulator": {**simulator.cloud, **changes}})["simulator"]
    with pytest.raises(OutmailError) as caught:
        entra.issue(the_credential(simulator), cloud, cloud.scope, timeout_s=timeout_s, ca_file=str(simulator.ca_file))
    return caught.value


# -- another host ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("endpoint", ["discovery", "token"])
def test_a_redirect_of_entra_is_never_followed(
    simulator: Simulator, make_liar: MakeLiar, endpoint: str, status: int
) -> None:
    other = make_liar(OK + b"\r\n{}")
    leads = {"Location": f"https://localhost:{other.port}/token"}
    simulator.faults.add(
        Fault(endpoint=endpoint, status=status, headers=leads, body="{}", content_type="application/json")
    )
    assert ask(simulator).code == "not_entra"
    assert other.heard == []


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_of_graph_is_never_followed(
    simulator: Simulator, make_liar: MakeLiar, transport: GraphTransport, status: int
) -> None:
    other = make_liar(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    leads = {"Location": f"https://localhost:{other.port}/sendMail"}
    simulator.faults.add(Fault(endpoint="sendMail", status=status, headers=leads, body="{}"))
    with pytest.raises(OutmailError):
        transport.deliver(ENVELOPE)
    assert other.heard == []
    assert not simulator.delivered


def test_no_secret_goes_to_an_address_without_tls(simulator: Simulator, make_liar: MakeLiar) -> None:
    """The description of a tenant says where tokens are: a wrong one must not lead the secret into the clear."""
    other = make_liar(OK + b"\r\n{}", tls=False)
    own = f"{simulator.cloud['authority']}/{simulator.tenant}"
    description = {
        "authorization_endpoint": f"{own}/oauth2/v2.0/authorize",
        "issuer": f"{own}/v2.0",
        "token_endpoint": f"http://127.0.0.1:{other.port}/token",
    }
    simulator.faults.add(
        Fault(endpoint="discovery", status=200, body=json.dumps(description), content_type="application/json")
    )
    ask(simulator)
    with pytest.raises(requests.RequestException):
        network.http_session().post(f"http://127.0.0.1:{other.port}/token", data={"client_secret": "s3cret"})
    assert other.heard == []


# -- before the answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interim", [b"102 Processing", b"103 Early Hints\r\nLink: </>", b"199 Odd"])
def test_an_answer_that_only_announces_another_is_no_refusal(
    simulator: Simulator, make_liar: MakeLiar, make_transport: Any, interim: bytes
) -> None:
    accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    liar = make_liar(b"HTTP/1.1 " + interim + b"\r\n\r\n", accepted, 1, pause_s=0.02)
    cloud = clouds({"simulator": {**simulator.cloud, "graph": f"https://localhost:{liar.port}"}})["simulator"]
    assert make_transport(graph={"cloud": cloud}).deliver(ENVELOPE).accepted


# -- another time ----------------------------------------------------------------------------------------------------


def test_how_old_a_draft_is_the_servers_clock_says(
    simulator: Simulator, make_liar: MakeLiar, make_transport: Any
) -> None:
    """Where ours is ahead of it every draft looks old, also one that is on its way out: it must not be sent again."""
    behind = datetime.now(timezone.utc) - timedelta(hours=1)
    draft = {"id": "A1", "isDraft": True, "createdDateTime": (behind - timedelta(seconds=2)).isoformat()}
    body = json.dumps({"value": [draft]}).encode()
    head = f"Connection: close\r\nDate: {format_datetime(behind, usegmt=True)}\r\nContent-Length: {len(body)}\r\n\r\n"
    liar = make_liar(OK + head.encode() + body)
    cloud = clouds({"simulator": {**simulator.cloud, "graph": f"https://localhost:{liar.port}"}})["simulator"]
    transport = make_transport(graph={"cloud": cloud, "check": True, "settle_s": 20.0})
    assert transport.check("<one@contoso.example>") is None
    assert [said.split(b" ")[0] for said in liar.heard] == [b"GET"], "and it is not deleted"


# -- too much --------------------------------------------------------------------------------------------------------


def test_an_endless_answer_of_entra_is_read_up_to_a_limit(simulator: Simulator, make_liar: MakeLiar) -> None:
    liar = make_liar(OK + b"\r\n", MEGABYTE, 64)
    assert ask(simulator, authority=f"https://localhost:{liar.port}").code == "not_entra"
    assert liar.sent_bytes < entra.MAX_ANSWER_BYTES + SLACK_BYTES


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Drop: ", OK + b"\r\n"], ids=["head", "body"])
def test_an_answer_of_entra_that_comes_drop_by_drop_is_not_waited_for(
    simulator: Simulator, make_liar: MakeLiar, head: bytes
) -> None:
    """Each drop comes well within the time-out; all of the answer has no longer than that."""
    liar = make_liar(head, b"x", 200, pause_s=0.05)
    assert ask(simulator, authority=f"https://localhost:{liar.port}", timeout_s=0.5).code == "no_answer"
    assert liar.sent_bytes < len(head) + 100


@pytest.mark.parametrize("asked", ["entra", "graph"])
def test_nobody_asks_for_packed_answers_and_none_is_unpacked(
    simulator: Simulator, make_liar: MakeLiar, make_transport: Any, asked: str
) -> None:
    said = {"code": "Unpacked", "message": " " * 50_000}
    packed = gzip.compress(json.dumps({"error": "unpacked" if asked == "entra" else said}).encode())
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    liar = make_liar(head + b"Content-Length: %d\r\n\r\n" % len(packed) + packed)
    if asked == "entra":
        error = ask(simulator, authority=f"https://localhost:{liar.port}")
    else:
        cloud = clouds({"simulator": {**simulator.cloud, "graph": f"https://localhost:{liar.port}"}})["simulator"]
        with pytest.raises(OutmailError) as caught:
            make_transport(graph={"cloud": cloud}).deliver(ENVELOPE)
        error = caught.value
    assert b"accept-encoding: identity" in liar.heard[0].lower()
    assert "unpacked" not in f"{error!r} {error} {error.code}".lower()


def test_an_endless_answer_of_graph_is_read_up_to_a_limit(
    simulator: Simulator, make_liar: MakeLiar, make_transport: Any
) -> None:
    liar = make_liar(b"HTTP/1.1 400 Bad Request\r\n\r\n", MEGABYTE, 64)
    cloud = clouds({"simulator": {**simulator.cloud, "graph": f"https://localhost:{liar.port}"}})["simulator"]
    with pytest.raises(OutmailError):
        make_transport(graph={"cloud": cloud}).deliver(ENVELOPE)
    assert liar.sent_bytes < graph_calls.MAX_ERROR_BYTES + SLACK_BYTES
