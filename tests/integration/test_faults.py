"""Every fault an administrator can meet: its typed error when sending, its step and its remedy when testing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_outmail import (
    AuthenticationFailed,
    ConfigurationError,
    Mail,
    OutmailError,
    SenderRefused,
    Throttled,
    TransportUnavailable,
)
from flask_outmail.diagnosis.steps import Step
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, asked, graph_setup, make_message, smtp_setup, world

UNKNOWN_ID = "00000000-1111-4222-8333-444444444444"


def failed_step(mail: Mail) -> Step:
    """The one step of a test that failed; all before it passed, all after it were skipped."""
    steps = list(mail.diagnose())
    states = [step.state for step in steps]
    assert states.count("failed") == 1, [(step.key, step.state, step.seen) for step in steps]
    at = states.index("failed")
    assert set(states[:at]) <= {"passed", "warning"}
    assert set(states[at + 1 :]) <= {"skipped"}
    return steps[at]


def check_both(mail: Mail, *, step: str, code: str, error: type[OutmailError]) -> Step:
    """Testing and sending name the same fault; nothing was sent, and the remedy says what to do."""
    found = failed_step(mail)
    assert (found.key, found.code) == (step, code)
    assert found.remedy is not None and found.remedy.title and found.remedy.steps
    with pytest.raises(error) as caught:
        mail.send(make_message())
    assert caught.value.code == code
    return found


def extra_app(simulator: Simulator, name: str, **facts: Any) -> dict[str, str]:
    app = simulator.add_app(name=name, **facts)
    return {"client_id": app.client_id, "client_secret": app.secret}


ENTRA: dict[str, tuple[Callable[[Simulator], dict[str, str]], str]] = {
    "tenant unknown": (lambda sim: {"tenant": UNKNOWN_ID}, "AADSTS90002"),
    "client unknown": (lambda sim: {"client_id": UNKNOWN_ID}, "AADSTS700016"),
    "secret wrong": (lambda sim: {"client_secret": "abc~defghijklmnopqrstuvwxyz.0123456789ABCD"}, "AADSTS7000215"),
    "secret expired": (lambda sim: extra_app(sim, "expired", secret_expired=True), "AADSTS7000222"),
}


@pytest.mark.parametrize("service", ["microsoft365_graph", "microsoft365_smtp"])
@pytest.mark.parametrize("case", ENTRA)
def test_what_entra_refuses_stops_at_the_token(
    make_app: MakeApp, simulator: Simulator, service: str, case: str
) -> None:
    changes, code = ENTRA[case]
    _, mail = make_app(graph_setup(simulator, service=service, **changes(simulator)))
    step = check_both(mail, step="token", code=code, error=AuthenticationFailed)
    assert simulator.delivered == []
    shown = json.dumps(step.to_dict())
    assert "abc~defghij" not in shown and simulator.client_secret not in shown


def test_the_secrets_id_in_place_of_its_value_is_caught_before_any_network(
    make_app: MakeApp, simulator: Simulator
) -> None:
    with pytest.raises(ConfigurationError, match="secret's ID"):
        make_app(graph_setup(simulator, client_secret=simulator.secret_id))
    assert asked(simulator) == []


def test_the_tenant_in_place_of_the_client_is_caught_before_any_network(
    make_app: MakeApp, simulator: Simulator
) -> None:
    with pytest.raises(ConfigurationError, match="client id"):
        make_app(graph_setup(simulator, client_id=simulator.tenant))


def test_a_cloud_that_is_not_configured_is_named(make_app: MakeApp, simulator: Simulator) -> None:
    with pytest.raises(ConfigurationError, match="atlantis"):
        make_app(graph_setup(simulator, cloud="atlantis"))


def test_a_token_of_another_cloud_is_refused_by_graph(make_app: MakeApp, simulator: Simulator) -> None:
    """A scope of another cloud gives a token that this Graph does not take."""
    cloud = {**simulator.cloud, "scope": simulator.cloud["smtp_scope"]}
    _, mail = make_app(graph_setup(simulator), OUTMAIL_CLOUDS={"simulator": cloud})
    assert failed_step(mail).key == "mailbox"
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())


def test_a_missing_permission_is_a_warning_at_the_token_and_a_verdict_at_the_mailbox(
    make_app: MakeApp, simulator: Simulator
) -> None:
    _, mail = make_app(graph_setup(simulator, **extra_app(simulator, "no roles", roles=())))
    steps = {step.key: step for step in mail.diagnose()}
    assert steps["role"].state == "warning"
    assert steps["mailbox"].state == "failed"
    check_both(mail, step="mailbox", code="ErrorAccessDenied", error=AuthenticationFailed)


def test_an_app_limited_by_exchange_has_no_role_in_its_token_and_still_passes(
    make_app: MakeApp, simulator: Simulator
) -> None:
    scoped = extra_app(simulator, "scoped", scoped_to=[simulator.mailbox])
    _, mail = make_app(graph_setup(simulator, **scoped))
    states = {step.key: step.state for step in mail.diagnose()}
    assert states["role"] == "warning" and states["mailbox"] == "passed"
    assert mail.send(make_message()).accepted

    _, foreign = make_app(graph_setup(simulator, **scoped, username="anna@contoso.example"))
    assert failed_step(foreign).code == "ErrorAccessDenied"


def test_a_token_that_cannot_be_read_is_no_failure(make_app: MakeApp, simulator: Simulator) -> None:
    simulator.behaviour.token_style = "opaque"
    _, mail = make_app(graph_setup(simulator))
    assert {step.state for step in mail.diagnose()} <= {"passed", "warning"}


def test_an_unknown_mailbox_is_named(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator, username="nobody@contoso.example", from_address="nobody@contoso.example"))
    check_both(mail, step="mailbox", code="ErrorInvalidUser", error=AuthenticationFailed)


def test_a_user_without_a_mailbox_is_named(make_app: MakeApp, simulator: Simulator) -> None:
    retired = "retired@contoso.example"
    _, mail = make_app(graph_setup(simulator, username=retired, from_address=retired))
    check_both(mail, step="mailbox", code="MailboxNotEnabledForRESTAPI", error=AuthenticationFailed)


def test_a_from_without_send_as_is_found_by_the_test(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(graph_setup(simulator, from_address="anna@contoso.example"))
    check_both(mail, step="from", code="ErrorSendAsDenied", error=SenderRefused)


def test_a_repair_shows_at_once(make_app: MakeApp, simulator: Simulator) -> None:
    """MSAL would repeat a refusal from memory for a minute."""
    app = simulator.add_app(name="to be repaired")
    _, mail = make_app(graph_setup(simulator, client_id=app.client_id, client_secret=app.secret))
    simulator.faults.preset("token-700016")
    with pytest.raises(AuthenticationFailed):
        mail.send(make_message())
    assert mail.send(make_message()).accepted
    simulator.faults.preset("token-700016")
    assert failed_step(mail).code == "AADSTS700016"
    assert all(step.state in ("passed", "warning") for step in mail.diagnose())


@pytest.mark.parametrize(
    ("preset", "code", "error"),
    [
        ("token-429", "entra_busy", Throttled),
        ("token-503-json", "entra_unavailable", TransportUnavailable),
        ("token-503-html", "entra_unavailable", TransportUnavailable),
        ("token-portal", "not_entra", TransportUnavailable),
        ("discovery-503-html", "entra_unavailable", TransportUnavailable),
    ],
)
def test_an_identity_provider_in_trouble_is_told_apart_from_a_wrong_credential(
    make_app: MakeApp, simulator: Simulator, preset: str, code: str, error: type[OutmailError]
) -> None:
    _, mail = make_app(graph_setup(simulator))
    simulator.faults.preset(preset, times=2)
    step = check_both(mail, step="token", code=code, error=error)
    assert step.remedy is not None


# -- SMTP and the network --------------------------------------------------------------------------------------------


def test_a_host_that_does_not_exist_is_named(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator, host="no-such-host.invalid"))
    found = failed_step(mail)
    assert found.key == "name" and found.code in ("dns_not_found", "dns_no_answer")
    with pytest.raises(TransportUnavailable):
        mail.send(make_message())


def test_a_closed_port_is_named(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator, port=9))
    check_both(mail, step="connection", code="port_closed", error=TransportUnavailable)


def test_starttls_on_a_port_that_begins_with_tls(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator, port=simulator.smtps_port))
    check_both(mail, step="greeting", code="no_greeting", error=TransportUnavailable)


def test_tls_from_the_start_on_a_port_that_begins_in_the_clear(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator, tls="tls"))
    check_both(mail, step="tls", code="tls_wrong_kind", error=TransportUnavailable)


CERTIFICATES = [("expired", "tls_expired"), ("wrong-name", "tls_wrong_name"), ("untrusted", "tls_untrusted")]


@pytest.mark.parametrize(("kind", "code"), CERTIFICATES)
@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_mail_servers_bad_certificate_is_refused_and_described(
    make_app: MakeApp, simulator: Simulator, kind: str, code: str, tls: str
) -> None:
    simulator.behaviour.smtp_certificate = kind
    port = simulator.smtp_port if tls == "starttls" else simulator.smtps_port
    _, mail = make_app(smtp_setup(simulator, tls=tls, port=port))
    check_both(mail, step="tls", code=code, error=TransportUnavailable)


@pytest.mark.parametrize(("kind", "code"), CERTIFICATES)
def test_microsofts_bad_certificate_is_refused_before_the_secret_is_sent(
    make_app: MakeApp, simulator: Simulator, kind: str, code: str
) -> None:
    simulator.behaviour.https_certificate = kind
    _, mail = make_app(graph_setup(simulator))
    check_both(mail, step="sign_in_tls", code=code, error=TransportUnavailable)
    assert not [one for one in simulator.answers if one.path.endswith("/token")]


def test_a_server_without_starttls_gets_no_password(make_app: MakeApp, simulator: Simulator) -> None:
    simulator.behaviour.hidden_capabilities = ("STARTTLS",)
    _, mail = make_app(smtp_setup(simulator))
    check_both(mail, step="tls", code="starttls_missing", error=TransportUnavailable)


def test_what_is_slipped_in_before_tls_is_not_believed(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator))
    simulator.faults.preset("smtp-starttls-injection")
    with pytest.raises(TransportUnavailable):
        mail.send(make_message())
    assert simulator.delivered == []


def test_a_wrong_password_is_named_and_not_shown(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator, password="hunter2-wrong"))
    step = check_both(mail, step="login", code="535 5.7.3", error=AuthenticationFailed)
    assert "hunter2" not in json.dumps(step.to_dict())


@pytest.mark.parametrize("preset", ["tenant", "mailbox", "defaults", "conditional", "basic"])
def test_each_way_exchange_switches_passwords_off_has_its_own_remedy(
    make_app: MakeApp, simulator: Simulator, preset: str
) -> None:
    _, mail = make_app(smtp_setup(simulator))
    simulator.faults.preset(f"smtp-auth-{preset}", times=2)
    check_both(mail, step="login", code="535 5.7.139", error=AuthenticationFailed)


def test_the_five_reasons_of_one_code_are_told_apart(make_app: MakeApp, simulator: Simulator) -> None:
    _, mail = make_app(smtp_setup(simulator))
    titles = set()
    for preset in ("tenant", "mailbox", "defaults", "conditional", "basic"):
        simulator.faults.preset(f"smtp-auth-{preset}")
        remedy = failed_step(mail).remedy
        assert remedy is not None
        titles.add(remedy.title)
    assert len(titles) == 5


@pytest.mark.parametrize("failure", ["direct", "challenge"])
def test_a_token_refused_by_smtp_is_understood_in_both_dialogues(
    make_app: MakeApp, simulator: Simulator, failure: str
) -> None:
    simulator.behaviour.xoauth2_failure = failure
    app = extra_app(simulator, f"no smtp {failure}", roles=("Mail.Send",))
    _, mail = make_app(graph_setup(simulator, service="microsoft365_smtp", **app))
    check_both(mail, step="login", code="535 5.7.3", error=AuthenticationFailed)


@contextlib.contextmanager
def talker(greeting: bytes) -> Iterator[int]:
    """A server on a free port that says one thing and waits."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                with client:
                    client.sendall(greeting)
                    client.settimeout(5)
                    with contextlib.suppress(OSError):
                        client.recv(1024)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02"]
)
def test_what_is_no_mail_server_is_recognised(make_app: MakeApp, simulator: Simulator, greeting: bytes) -> None:
    with talker(greeting + b"\r\n") as port:
        _, mail = make_app(smtp_setup(simulator, port=port))
        check_both(mail, step="greeting", code="not_smtp", error=TransportUnavailable)


def test_a_server_that_never_finishes_its_reply_is_left_in_time(make_app: MakeApp, simulator: Simulator) -> None:
    with talker(b"220-" + b"x" * 70_000) as port:
        _, mail = make_app(smtp_setup(simulator, port=port))
        with pytest.raises(TransportUnavailable):
            mail.send(make_message())


def test_a_proxy_or_netrc_entry_never_replaces_the_token(
    make_app: MakeApp, simulator: Simulator, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    _, mail = make_app(graph_setup(simulator))
    assert mail.send(make_message()).accepted


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"OUTMAIL_SETUP": {"service": "pigeon", "from_address": "a@x.example"}}, "pigeon"),
        ({"OUTMAIL_SETUP": {"from_address": "a@x.example"}}, "service"),
        ({"OUTMAIL_SETUP": "smtp://x"}, "OUTMAIL_SETUP"),
        ({"OUTMAIL_SETUP": {"service": "smtp", "host": "h", "from_address": "a@x.example", "pasword": "x"}}, "pasword"),
        ({"OUTMAIL_SETUP": {"service": "smtp", "host": "h", "from_address": "a@x\r\n.example"}}, "from_address"),
        ({"OUTMAIL_SETUP": {"service": "smtp", "host": "h\r\nx", "from_address": "a@x.example"}}, "host"),
        ({"OUTMAIL_SETUP": {"service": "smtp", "host": "h", "port": 99999, "from_address": "a@x.example"}}, "port"),
        ({"OUTMAIL_SETUP": {"service": "smtp", "host": "h", "tls": "maybe", "from_address": "a@x.example"}}, "tls"),
        ({"OUTMAIL_SETUP": {"service": ["smtp"], "from_address": "a@x.example"}}, "service"),
        ({"OUTMAIL_SETUP": {"service": "smtp", "host": 5, "port": "x", "from_address": "a@x.example"}}, "port"),
        ({"OUTMAIL_CLOUDS": {"x": {"authority": "https://[::1", "graph": "https://g.example"}}}, "OUTMAIL_CLOUDS"),
        ({"OUTMAIL_CLOUDS": {"x": {"authority": "https://u:p@a.example", "graph": "https://g.example"}}}, "authority"),
        ({"OUTMAIL_AUTH_OBJECTS_MAX": 0.5}, "OUTMAIL_AUTH_OBJECTS_MAX"),
        ({"OUTMAIL_ENCRYPTION_KEYS": 5}, "wrong kind"),
        ({"MAIL_SERVER": "x", "MAIL_DEFAULT_SENDER": ("only a name",)}, "wrong kind"),
        ({"OUTMAIL_URL_PREFIX": "outmail"}, "OUTMAIL_URL_PREFIX"),
        ({"OUTMAIL_GRAPH_TIMEOUT_SECONDS": 0}, "OUTMAIL_GRAPH_TIMEOUT_SECONDS"),
        ({"OUTMAIL_GRAPH_TIMEOUT_SECONDS": float("nan")}, "OUTMAIL_GRAPH_TIMEOUT_SECONDS"),
        ({"OUTMAIL_CA_FILE": "/no/such/file.pem"}, "OUTMAIL_CA_FILE"),
        ({"OUTMAIL_CLOUDS": {"x": {"authority": "http://plain.example", "graph": "https://g.example"}}}, "authority"),
    ],
)
def test_a_wrong_configuration_is_refused_at_the_start_and_its_key_named(
    make_app: MakeApp, config: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        make_app(**config)
    assert caught.value.code.startswith("config_") or caught.value.code == "service_unknown"


def test_no_secret_is_in_the_text_of_a_configuration_error(make_app: MakeApp, simulator: Simulator) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(graph_setup(simulator, username="", client_secret="very-secret-value"))
    assert "very-secret" not in repr(caught.value) + str(vars(caught.value))


def test_settings_show_no_secret_when_printed(simulator: Simulator) -> None:
    from flask_outmail.settings import Settings

    settings = Settings.from_config(
        {**world(simulator), "OUTMAIL_SETUP": graph_setup(simulator), "OUTMAIL_ENCRYPTION_KEYS": ["k" * 43 + "="]}
    )
    assert simulator.client_secret not in repr(settings)
    assert "kkkk" not in repr(settings)


def test_the_test_says_how_large_a_message_may_be_and_never_fails_for_it(
    make_app: MakeApp, simulator: Simulator
) -> None:
    def said(**config: Any) -> str:
        _, mail = make_app(config.pop("setup", graph_setup(simulator)), **config)
        [step] = [step for step in mail.diagnose() if step.key == "large_messages"]
        assert step.state == "passed"
        return step.seen

    assert "up to 150 MB" in said()
    sender = graph_setup(simulator, **extra_app(simulator, "sender only", roles=("Mail.Send",)))
    assert "Mail.ReadWrite" in said(setup=sender)
    assert "switched off" in said(OUTMAIL_GRAPH_LARGE_MESSAGES=False)
    cloud = {**simulator.cloud, "uploads": False}
    assert "3.1 MB each" in said(OUTMAIL_CLOUDS={"simulator": cloud})
