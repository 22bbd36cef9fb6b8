"""Fixtures for the simulator's own tests: a fresh simulator each, real sockets, clients that are not ours."""

from __future__ import annotations

import base64
import importlib
import os
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import requests

from flask_outmail.simulator import Simulator

TIMEOUT_S = 10.0
# Read before any fixture cleans the environment.
STRICT = os.environ.get("OUTMAIL_TESTS_STRICT") == "1"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate and proxy settings of the machine decide nothing here: `requests` would prefer them to ours."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


class GraphClient:
    """As plain as can be: what it sends and gets is what the test shows."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.session = requests.Session()
        self.session.verify = str(sim.ca_file)
        self._token: str | None = None

    def token(self, scope: str | None = None, **fields: str) -> str:
        answer = self.ask_token(scope=scope or self.sim.cloud["scope"], **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def ask_token(self, tenant: str | None = None, **fields: str) -> requests.Response:
        """Fields replace the good ones; an empty one is left out."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.sim.client_id,
            "client_secret": self.sim.client_secret,
            "scope": self.sim.cloud["scope"],
            **fields,
        }
        form = {name: value for name, value in form.items() if value}
        url = f"{self.sim.https_url}/{tenant or self.sim.tenant}/oauth2/v2.0/token"
        return self.session.post(url, data=form, timeout=TIMEOUT_S)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """`path` is below /v1.0/users/{mailbox}/, or a whole URL."""
        headers = {"Authorization": f"Bearer {self._good_token()}", **options.pop("headers", {})}
        mailbox = options.pop("mailbox", self.sim.mailbox)
        url = path if path.startswith("https://") else f"{self.sim.https_url}/v1.0/users/{mailbox}/{path}"
        headers = {name: value for name, value in headers.items() if value is not None}
        return self.session.request(method, url, headers=headers, timeout=TIMEOUT_S, **options)

    def _good_token(self) -> str:
        if self._token is None:
            self._token = self.token()
        return self._token

    def send_mime(self, raw: bytes, **options: Any) -> requests.Response:
        headers = {"Content-Type": "text/plain", **options.pop("headers", {})}
        return self.request("POST", "sendMail", data=base64.encodebytes(raw), headers=headers, **options)

    def send_json(self, message: dict[str, Any], **options: Any) -> requests.Response:
        return self.request("POST", "sendMail", json={"message": message, **options.pop("also", {})}, **options)

    def create_draft(self, raw: bytes | None = None, **message: Any) -> dict[str, Any]:
        if raw is not None:
            answer = self.request(
                "POST", "messages", data=base64.b64encode(raw), headers={"Content-Type": "text/plain"}
            )
        else:
            answer = self.request("POST", "messages", json=message)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created


@pytest.fixture
def graph(sim: Simulator) -> Iterator[GraphClient]:
    client = GraphClient(sim)
    yield client
    client.session.close()


@pytest.fixture
def make_mime() -> Callable[..., bytes]:
    """A small message; keyword arguments replace headers, None leaves one out."""

    def make(body: str = "Hello.\r\n", **changes: str | None) -> bytes:
        headers: dict[str, str | None] = {
            "From": "noreply@contoso.example",
            "To": "ann@x.example",
            "Subject": "Hello",
            "Message-ID": "<one@test.example>",
            "Date": "Tue, 24 Nov 2026 08:00:00 +0000",
        }
        headers.update({name.replace("_", "-"): value for name, value in changes.items()})
        lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
        return ("".join(lines) + "\r\n" + body).encode()

    return make


@pytest.fixture
def trust(sim: Simulator) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(sim.ca_file))


@pytest.fixture
def smtp_client(sim: Simulator, trust: ssl.SSLContext) -> Iterator[Callable[..., smtplib.SMTP]]:
    """Makes connections: signed in with the password unless `sign_in` is False; closed at the end of the test."""
    made: list[smtplib.SMTP] = []

    def connect(*, sign_in: bool = True, starttls: bool = True) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", sim.smtp_port, timeout=TIMEOUT_S)
        made.append(client)
        if starttls:
            client.starttls(context=trust)
        client.ehlo()
        if sign_in:
            client.login(sim.mailbox, sim.smtp_password)
        return client

    yield connect
    for client in made:
        client.close()


class RawSmtp:
    """Lines out, replies in, nothing else: for what no mail library would say."""

    def __init__(self, sim: Simulator, trust: ssl.SSLContext) -> None:
        self.sock: socket.socket = socket.create_connection(("localhost", sim.smtp_port), timeout=TIMEOUT_S)
        self._trust = trust
        self._buffer = b""

    def say(self, text: str | bytes) -> None:
        self.sock.sendall(text if isinstance(text, bytes) else f"{text}\r\n".encode())

    def hear(self) -> str:
        """One whole reply; empty when the server has hung up."""
        reply = ""
        while True:
            while b"\n" not in self._buffer:
                try:
                    data = self.sock.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    return reply
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            reply += line.decode() + "\n"
            if line[3:4] != b"-":
                return reply.strip()

    def ask(self, text: str | bytes) -> str:
        self.say(text)
        return self.hear()

    def start_tls(self) -> None:
        self.sock = self._trust.wrap_socket(self.sock, server_hostname="localhost")

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def raw_smtp(sim: Simulator, trust: ssl.SSLContext) -> Iterator[Callable[..., RawSmtp]]:
    """Makes raw conversations, by default encrypted and past the second EHLO."""
    made: list[RawSmtp] = []

    def connect(*, ready: bool = True) -> RawSmtp:
        talk = RawSmtp(sim, trust)
        made.append(talk)
        if ready:
            assert talk.hear().startswith("220 ")
            assert talk.ask("EHLO test").startswith("250-")
            assert talk.ask("STARTTLS").startswith("220 ")
            talk.start_tls()
            assert talk.ask("EHLO test").startswith("250-")
        return talk

    yield connect
    for talk in made:
        talk.close()


@pytest.fixture
def foreign() -> Callable[[str], ModuleType]:
    """Imports a client library; a missing one skips the test, or fails it under OUTMAIL_TESTS_STRICT=1."""

    def load(name: str) -> ModuleType:
        if STRICT:
            return importlib.import_module(name)
        module: ModuleType = pytest.importorskip(name)
        return module

    return load
