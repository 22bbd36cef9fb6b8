"""The transport of the guide answers the questions of the contract suite, over real sockets."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[2] / "docs/how-to/write-a-transport.md"
TRANSPORT, SUITE = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)

names: dict[str, Any] = {"__name__": __name__}
exec(compile(TRANSPORT + SUITE, str(GUIDE), "exec"), names)  # noqa: S102 -- the documentation's own code
TestRelay = names["TestRelay"]


class Relay:
    """A small server of the kind the guide speaks of."""

    def __init__(self) -> None:
        self.received: dict[str, bytes] = {}
        self.next_answer = ""
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer, relay.next_answer = relay.next_answer, ""
                if answer == "wait":
                    return self.answer(429, {"Retry-After": "7"})
                relay.received |= dict.fromkeys(body["to"], base64.b64decode(body["content"]))
                if answer == "lost":
                    self.close_connection = True
                    return self.connection.close()
                return self.answer(202 if self.headers["Authorization"] == "Bearer key" else 401, {"Request-Id": "r1"})

            def answer(self, status: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # the answer that is lost on purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def relay() -> Iterator[Relay]:
    running = Relay()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.05,))
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join(10)


def test_the_transport_of_the_guide_is_short() -> None:
    assert len(TRANSPORT.splitlines()) < 150
