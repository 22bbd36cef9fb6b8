"""A real webhook server on this machine, and applications whose mail fails."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask import Flask

from flask_outmail.alerting import Alerting
from flask_outmail.models import Incident
from flask_outmail.simulator import Simulator

from ..conftest import engine_of


@dataclass
class Post:
    """One request that the webhook received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A webhook: notes every post and answers with `answers` in turn, then with `status`."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    status: int = 200
    stall_s: float = 0.0
    stop_stalling: threading.Event = field(default_factory=threading.Event)


def serve(context: ssl.SSLContext | None) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.posts.append(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if receiver.stall_s:
                receiver.stop_stalling.wait(receiver.stall_s)
            status = receiver.answers.pop(0) if receiver.answers else receiver.status
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{receiver.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that gave up is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/services/T0/B0/hook-secret"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield receiver
    receiver.stop_stalling.set()
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture
def receiver(simulator: Simulator) -> Iterator[Receiver]:
    """A webhook over HTTPS, with a certificate that the application trusts."""
    from flask_outmail.simulator.certificates import Authority

    yield from serve(Authority(simulator.ca_file.parent).context())


@pytest.fixture
def untrusted_receiver(simulator: Simulator) -> Iterator[Receiver]:
    from flask_outmail.simulator.certificates import Authority

    yield from serve(Authority(simulator.ca_file.parent).context("untrusted"))


@pytest.fixture
def plain_receiver() -> Iterator[Receiver]:
    yield from serve(None)


def incidents(app: Flask) -> list[Incident]:
    with engine_of(app).database.session() as session:
        return list(session.query(Incident).order_by(Incident.id))


def alerting_of(app: Flask) -> Alerting:
    return engine_of(app).alerting


Refuse = Callable[..., None]


def refuse_log_in(simulator: Simulator, times: int = 1) -> None:
    simulator.faults.preset("smtp-auth-535", times=times)
