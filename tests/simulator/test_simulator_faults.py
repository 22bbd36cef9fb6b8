"""Misbehaviour: every kind that the reference asks for, seen from the wire."""

from __future__ import annotations

import email.utils
import ssl
import threading
from typing import Any

import pytest
import requests

from flask_outmail.simulator import PRESETS, Fault, Simulator


def preset_names(prefix: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(prefix)]


# Graph


@pytest.mark.parametrize(
    ("preset", "status", "code", "retry_after"),
    [
        ("graph-429", 429, "ApplicationThrottled", "5"),
        ("graph-429-no-hint", 429, "activityLimitReached", None),
        ("graph-403-quota", 403, "ErrorQuotaExceeded", None),
        ("graph-404-rest", 404, "MailboxNotEnabledForRESTAPI", None),
        ("graph-500-unknown", 500, "UnknownError", None),
        ("graph-502", 502, "BadGateway", None),
        ("graph-503-json", 503, "ServiceUnavailable", "10"),
        ("graph-empty-code", 400, "", None),
    ],
)
def test_refusals_do_nothing_and_happen_once(
    sim: Simulator, graph: Any, make_mime: Any, preset: str, status: int, code: str, retry_after: str | None
) -> None:
    sim.faults.preset(preset)

    answer = graph.send_mime(make_mime())

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers.get("Retry-After") == retry_after
    assert sim.delivered == []
    assert graph.send_mime(make_mime()).status_code == 202


def test_retry_after_can_be_a_date(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.preset("graph-429-date")

    hint = graph.send_mime(make_mime()).headers["Retry-After"]

    assert email.utils.parsedate_to_datetime(hint).year == 2100


def test_accepted_with_retry_after_is_delivered_once(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.preset("graph-202-retry-after")

    answer = graph.send_mime(make_mime())

    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert len(sim.delivered) == 1


def test_unknown_error_has_an_empty_message(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.preset("graph-500-unknown")

    assert graph.send_mime(make_mime()).json()["error"]["message"] == ""


@pytest.mark.parametrize("preset", ["graph-504-delivered", "graph-500-unknown-delivered"])
def test_refused_although_delivered(sim: Simulator, graph: Any, make_mime: Any, preset: str) -> None:
    sim.faults.preset(preset)

    assert graph.send_mime(make_mime()).status_code >= 500
    assert len(sim.delivered) == 1
    assert len(graph.request("GET", "mailFolders/sentitems/messages").json()["value"]) == 1


def test_duplicates_can_be_counted(sim: Simulator, graph: Any, make_mime: Any) -> None:
    """What a client that repeats by reflex does to the recipient."""
    sim.faults.preset("graph-504-delivered", times=2)

    statuses = [graph.send_mime(make_mime()).status_code for _ in range(3)]

    assert statuses == [504, 504, 202]
    assert [mail.message_id for mail in sim.delivered] == ["<one@test.example>"] * 3


@pytest.mark.parametrize(("preset", "count"), [("graph-reset-delivered", 1), ("graph-reset-lost", 0)])
def test_connection_reset_after_the_body(sim: Simulator, graph: Any, make_mime: Any, preset: str, count: int) -> None:
    graph.token()
    sim.faults.preset(preset)

    with pytest.raises(requests.exceptions.ConnectionError):
        graph.send_mime(make_mime(body="x" * 100_000))

    assert len(sim.delivered) == count
    assert (sim.answers[-1].status, sim.answers[-1].code) == (0, "dropped")
    assert graph.send_mime(make_mime()).status_code == 202


@pytest.mark.parametrize(("preset", "status"), [("graph-html", 500), ("graph-portal", 200), ("graph-503-html", 503)])
def test_web_pages_instead_of_json(sim: Simulator, graph: Any, make_mime: Any, preset: str, status: int) -> None:
    sim.faults.preset(preset)

    answer = graph.send_mime(make_mime())

    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<html>" in answer.text
    assert sim.delivered == []


def test_nested_code(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.preset("graph-nested")

    error = graph.send_mime(make_mime()).json()["error"]

    assert error["code"] == "accessDenied"
    assert error["innerError"]["code"] == "generalException"
    assert error["innerError"]["innerError"]["code"] == "ErrorSendAsDenied"
    assert "request-id" in error["innerError"]["innerError"]["innerError"]


def test_hanging_ends_with_the_clients_patience_and_the_mail_comes_later(
    sim: Simulator, graph: Any, make_mime: Any
) -> None:
    token = graph.token()
    sim.faults.hang("sendMail", 0.3)

    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(
            f"{sim.https_url}/v1.0/users/{sim.mailbox}/sendMail",
            data=b"RnJvbTogbm9yZXBseUBjb250b3NvLmV4YW1wbGUNClRvOiBhQHguZXhhbXBsZQ0KDQpoaQ0K",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "text/plain"},
            verify=str(sim.ca_file),
            timeout=(5, 0.05),
        )

    assert len(sim.wait_for(1)) == 1


def test_fault_for_one_mailbox_leaves_others_alone(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.throttle(mailbox=sim.mailbox, times=None)

    assert graph.send_mime(make_mime(From=None), mailbox="anna@contoso.example").status_code == 202
    assert graph.send_mime(make_mime()).status_code == 429
    assert graph.send_mime(make_mime()).status_code == 429
    sim.faults.clear()
    assert graph.send_mime(make_mime()).status_code == 202


def test_fault_can_wait_for_the_nth_request(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.refuse("sendMail", 500, "UnknownError", after=1)

    assert [graph.send_mime(make_mime()).status_code for _ in range(3)] == [202, 500, 202]


def test_faults_at_each_step_of_a_large_message(sim: Simulator, graph: Any) -> None:
    sim.faults.refuse("messages", 503, "ServiceUnavailable", method="POST")
    body = {"subject": "x", "toRecipients": [{"emailAddress": {"address": "ann@x.example"}}]}
    assert graph.request("POST", "messages", json=body).status_code == 503
    draft = graph.create_draft(**body)

    sim.faults.refuse("uploadSession", 404, "ErrorItemNotFound")
    sim.faults.refuse("upload", 503, "ServiceUnavailable")
    sim.faults.lose_answer("send")
    item = {"AttachmentItem": {"attachmentType": "file", "name": "a", "size": 3 * 1024 * 1024}}
    path = f"messages/{draft['id']}"
    assert graph.request("POST", f"{path}/attachments/createUploadSession", json=item).status_code == 404
    url = graph.request("POST", f"{path}/attachments/createUploadSession", json=item).json()["uploadUrl"]
    headers = {"Content-Range": "bytes 0-0/3145728"}
    assert [graph.session.put(url, data=b"x", headers=headers, timeout=10).status_code for _ in range(2)] == [503, 200]
    with pytest.raises(requests.exceptions.ConnectionError):
        graph.request("POST", f"{path}/send")
    assert len(sim.delivered) == 1


def test_a_message_that_is_itself_wrong_keeps_its_own_refusal(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.faults.preset("graph-504-delivered")

    assert graph.send_mime(make_mime(To=None)).status_code == 400


@pytest.mark.parametrize("name", preset_names("graph-"))
def test_every_graph_preset_works(sim: Simulator, graph: Any, make_mime: Any, name: str) -> None:
    graph.token()
    fault = sim.faults.preset(name, delay_s=0.0)

    if fault.drop:
        with pytest.raises(requests.exceptions.ConnectionError):
            graph.send_mime(make_mime())
    else:
        assert graph.send_mime(make_mime()).status_code == (fault.status or 202)
    assert len(sim.delivered) == (0 if fault.answers and not fault.happens else 1)
    assert sim.faults.active() == []


@pytest.mark.parametrize("name", preset_names("token-"))
def test_every_token_preset_works(sim: Simulator, graph: Any, name: str) -> None:
    fault = sim.faults.preset(name, delay_s=0.0)

    if fault.drop:
        with pytest.raises(requests.exceptions.ConnectionError):
            graph.ask_token()
    else:
        assert graph.ask_token().status_code == (fault.status or 200)


def test_discovery_can_fail(sim: Simulator, graph: Any) -> None:
    sim.faults.preset("discovery-503-html")
    url = f"{sim.https_url}/{sim.tenant}/v2.0/.well-known/openid-configuration"

    assert [graph.session.get(url, timeout=10).status_code for _ in range(2)] == [503, 200]


# Certificates


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [("expired", "expired"), ("wrong-name", "mismatch|match"), ("untrusted", "local issuer|self.signed|unable to get")],
)
def test_bad_https_certificates_are_bad_in_their_own_way(sim: Simulator, kind: str, complaint: str) -> None:
    sim.behaviour.https_certificate = kind

    with pytest.raises(requests.exceptions.SSLError, match=complaint):
        requests.get(f"{sim.https_url}/x", verify=str(sim.ca_file), timeout=10)

    sim.behaviour.https_certificate = "good"
    assert requests.get(f"{sim.https_url}/x", verify=str(sim.ca_file), timeout=10).status_code == 404


def test_certificate_is_good_for_the_address_as_well(sim: Simulator) -> None:
    url = sim.https_url.replace("localhost", "127.0.0.1")

    assert requests.get(f"{url}/x", verify=str(sim.ca_file), timeout=10).status_code == 404


def test_certificate_passes_strict_verification(sim: Simulator, trust: ssl.SSLContext, raw_smtp: Any) -> None:
    """Python 3.13 verifies this way by default."""
    trust.verify_flags |= ssl.VERIFY_X509_STRICT

    raw_smtp()


# Faults themselves


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"endpoint": "nowhere"},
        {"endpoint": "sendMail", "status": "500"},
        {"endpoint": "sendMail", "status": True},
        {"endpoint": "sendMail", "status": 99},
        {"endpoint": "sendMail", "times": 0},
        {"endpoint": "sendMail", "delay_s": -1},
        {"endpoint": "sendMail", "typo": 1},
        {"endpoint": "sendMail", "headers": {"a": 1}},
        {"endpoint": "sendMail", "inner": "abc"},
    ],
)
def test_wrong_faults_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Fault.from_json(values)


def test_faults_survive_json() -> None:
    for preset in PRESETS.values():
        assert Fault.from_json(preset.fault.to_json()) == preset.fault
        assert str(preset.fault)


def test_behaviour_refuses_what_it_does_not_know(sim: Simulator) -> None:
    for wrong in (
        {"typo": 1},
        {"oversize": "500"},
        {"gov": "maybe"},
        {"concurrency_limit": "many"},
        {"recipient_limit": -1},
    ):
        with pytest.raises(ValueError, match=r"."):
            sim.behaviour.update({"recipient_limit": 1, **wrong})
    with pytest.raises(ValueError, match="oversize"):
        sim.behaviour.oversize = "201"
    with pytest.raises(AttributeError):
        sim.behaviour.overzise = "200"
    assert sim.behaviour.recipient_limit == 500
    sim.behaviour.update({"gov": True})
    assert sim.behaviour.gov is True


def test_clear_forgets_everything_but_who_exists(sim: Simulator, graph: Any, make_mime: Any) -> None:
    app = sim.add_app("Mine")
    graph.send_mime(make_mime())
    sim.faults.throttle()
    sim.behaviour.gov = True

    sim.clear()

    assert (sim.delivered, sim.answers, sim.faults.active(), sim.behaviour.gov) == ([], [], [], False)
    assert sim.state.app(app.client_id) is app


def test_clearing_drops_what_is_delayed_with_nothing_done(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.token()
    graph._good_token()
    sim.faults.hang("sendMail", 60)
    failures: list[Exception] = []

    def send() -> None:
        try:
            graph.send_mime(make_mime())
        except requests.ConnectionError as exc:
            failures.append(exc)

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(2000):
        if not sim.faults.active():
            break
        threading.Event().wait(0.005)
    sim.clear()
    thread.join(10)
    assert len(failures) == 1
    assert sim.delivered == []
