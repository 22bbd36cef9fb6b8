"""Starting, stopping, remembering; and that it shares no code with what it tests."""

from __future__ import annotations

import ast
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import flask_outmail.simulator as package
from flask_outmail.simulator import DeliveredMail, Simulator, main

SOURCE = Path(package.__file__).parent


def test_it_imports_nothing_else_of_the_project_and_no_client_library() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                names = [node.module or ""]
            for name in names:
                root = name.split(".")[0]
                allowed = root in sys.stdlib_module_names or root in ("flask", "werkzeug", "cryptography", "jinja2")
                assert allowed or name.startswith("flask_outmail.simulator"), f"{path.name} imports {name}"


def test_ports_are_free_ones_on_this_machine_only(sim: Simulator) -> None:
    ports = [int(sim.https_host.rpartition(":")[2]), sim.smtp_port, sim.smtps_port]

    assert len({*ports, int(sim.web_url.rstrip("/").rpartition(":")[2])}) == 4
    for port in ports:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_close_is_final_joins_its_threads_and_may_be_repeated(graph: Any, make_mime: Any) -> None:
    before = set(threading.enumerate())
    simulator = Simulator().start()
    directory = simulator.directory
    simulator.behaviour.delivery_delay_s = 3600
    client = type(graph)(simulator)
    client.send_mime(make_mime())
    simulator.faults.preset("smtp-slow-greeting")
    waiting = socket.create_connection(("localhost", simulator.smtp_port), timeout=5)
    silent = socket.create_connection(("127.0.0.1", int(simulator.https_host.rpartition(":")[2])), timeout=5)

    simulator.close()
    simulator.close()

    assert set(threading.enumerate()) <= before
    assert not directory.exists()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", simulator.smtp_port), timeout=5)
    for open_socket in (waiting, silent):
        open_socket.close()
    client.session.close()


def test_a_taken_port_is_an_error_and_leaves_nothing_behind(sim: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())

    with pytest.raises(OSError, match="in use"):
        Simulator(smtp_port=sim.smtp_port).start()
    assert main(["--https-port", "0", "--smtp-port", str(sim.smtp_port), "--smtps-port", "0", "--web-port", "0"]) == 1

    assert "cannot start" in capsys.readouterr().err
    assert set(threading.enumerate()) <= before


def test_two_can_run_beside_each_other(sim: Simulator) -> None:
    with Simulator() as other:
        assert other.tenant != sim.tenant
        assert other.https_url != sim.https_url


def test_directory_keeps_identities_and_authority(tmp_path: Path, graph: Any, make_mime: Any) -> None:
    with Simulator(tmp_path / "sim") as first:
        first.add_mailbox("shop@contoso.example")
        added = first.add_app("Mine")
        client = type(graph)(first)
        token = client.token()
        of_another = client.token(client_id=added.client_id, client_secret=added.secret)
        client.session.close()
        kept = (first.tenant, first.client_id, first.client_secret, first.secret_id, first.smtp_password)
        authority = first.ca_file.read_bytes()
        for _ in range(2):
            first.upload_certificate(authority)
        https_port = int(first.https_host.rpartition(":")[2])

    with Simulator(tmp_path / "sim", https_port=https_port) as second:
        assert kept == (second.tenant, second.client_id, second.client_secret, second.secret_id, second.smtp_password)
        assert second.ca_file.read_bytes() == authority
        assert second.state.apps()[0].certificates == [authority] * 2, (
            "whoever uses a certificate need not upload it again"
        )
        client = type(graph)(second)
        gone = client.send_mime(make_mime(), headers={"Authorization": f"Bearer {of_another}"})
        assert gone.status_code == 401, "its application was not added again yet"
        assert second.add_app("Mine").client_id == added.client_id
        answer = client.send_mime(make_mime(), headers={"Authorization": f"Bearer {token}"})
        client.session.close()
        assert answer.status_code == 202, "a token outlives a restart, as real ones outlive a deployment"

    for name in ("simulator.json", "ca-key.pem", "good.pem"):
        assert stat.S_IMODE((tmp_path / "sim" / name).stat().st_mode) == 0o600


def test_a_folder_with_a_key_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "ca-key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    (tmp_path / "ca.pem").write_text("theirs")

    with pytest.raises(ValueError, match=r"ca-key\.pem does not hold a key that the simulator made"):
        Simulator(tmp_path).start()
    assert (tmp_path / "ca.pem").read_text() == "theirs"


def test_given_identities_are_used(tmp_path: Path) -> None:
    given = "11111111-2222-3333-4444-555555555555"
    simulator = Simulator(tmp_path, tenant=given, client_id=given, client_secret="s~e.cret")

    assert (simulator.tenant, simulator.client_id, simulator.client_secret) == (given, given, "s~e.cret")
    simulator.close()


def test_secret_looks_like_a_real_one(sim: Simulator) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{3}8Q~[A-Za-z0-9_.~-]{34}", sim.client_secret)
    assert "." in sim.client_secret
    assert sim.client_secret not in repr(sim.state.apps())


def test_cloud_has_the_keys_of_a_configuration_entry(sim: Simulator) -> None:
    assert set(sim.cloud) == {"label", "authority", "graph", "scope", "smtp_host", "smtp_port", "smtp_scope"}
    assert sim.tenant not in sim.cloud["authority"]
    json.dumps(sim.cloud)


def test_wait_for_says_what_came(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(Subject="The only one"))

    assert sim.wait_for(1)[0].subject == "The only one"
    with pytest.raises(AssertionError, match=r"(?s)2 delivered.*1 came.*The only one.*sendMail 202"):
        sim.wait_for(2, timeout_s=0.01)


def test_delivered_mail_does_not_print_its_content(sim: Simulator, graph: Any, make_mime: Any) -> None:
    graph.send_mime(make_mime(body="a person's words\r\n"))

    [mail] = sim.delivered
    assert isinstance(mail, DeliveredMail)
    assert "a person's words" not in repr(mail)
    assert mail.received_at.tzinfo is not None


def test_many_clients_at_once_lose_and_double_nothing(sim: Simulator, graph: Any, make_mime: Any) -> None:
    sim.behaviour.concurrency_limit = 100
    token = graph.token()
    failures: list[int] = []

    def work(number: int) -> None:
        client = type(graph)(sim)
        for index in range(20):
            raw = make_mime(To=f"r{number}-{index}@x.example")
            answer = client.send_mime(raw, headers={"Authorization": f"Bearer {token}"})
            if answer.status_code != 202:
                failures.append(answer.status_code)
        client.session.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert failures == []
    assert len({mail.recipient for mail in sim.delivered}) == len(sim.delivered) == 160
    assert len({mail.id for mail in sim.delivered}) == 160


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_runs_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    ports = [word for name in ("https", "smtp", "smtps", "web") for word in (f"--{name}-port", "0")]
    command = [sys.executable, "-m", "flask_outmail.simulator", "--directory", str(tmp_path), *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        process.send_signal(number)
        assert process.wait(20) == 0

    assert "Client secret (value)" in text
    assert "http://127.0.0.1:" in text
    assert (tmp_path / "simulator.json").exists()
