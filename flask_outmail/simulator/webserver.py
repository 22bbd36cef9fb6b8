"""A small HTTP/1.1 server for WSGI applications that keeps connections alive and can break them on purpose.

Werkzeug's development server closes the connection after every answer; real Microsoft servers do not, and a
client's pool of stale connections is one of the things to test.
"""

from __future__ import annotations

import io
import logging
import re
import ssl
import sys
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import unquote

from flask_outmail.simulator.listener import Connection, Listener

logger = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 120.0
MAX_BODY_BYTES = 256 * 1024 * 1024

_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class DropConnection(Exception):
    """Raised by an application that wants no answer at all to be sent."""


class WebServer(Listener):
    """Serves `app` until `close`; with `tls`, every new connection asks it for the TLS context to use."""

    def __init__(
        self,
        host: str,
        port: int,
        app: WsgiApp,
        *,
        name: str,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._app = app
        self._tls = tls
        super().__init__(host, port, self._answer, name=name)

    def _answer(self, connection: Connection) -> None:
        if self._tls is not None:
            connection.start_tls(self._tls())
        _Handler(connection, self._app, secure=self._tls is not None, port=self.port)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Outmail-Simulator"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S

    def __init__(self, connection: Connection, app: WsgiApp, *, secure: bool, port: int) -> None:
        self._connection = connection
        self._app = app
        self._secure = secure
        self._port = port
        super().__init__(connection.sock, connection.sock.getpeername(), cast(Any, None))

    def answer(self) -> None:
        body = self._read_body()
        if body is None:
            return
        try:
            status, headers, content = self._call(body)
        except DropConnection:
            self.close_connection = True
            self._connection.reset()
            raise ConnectionResetError from None
        except Exception:
            # A client under test must get an answer, as from any web server; the log has the trace.
            logger.exception("the simulator could not answer a request")
            status, headers, content = "500 Internal Server Error", [], b"the simulator failed"
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers) and code not in ("204", "304"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def _read_body(self) -> bytes | None:
        """The whole body, so that an answer given (or withheld) afterwards is certainly "after the body"."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        length = self.headers.get("Content-Length") or "0"
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self.send_error(413)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionResetError("the client left in the middle of its request")
        return body

    def _read_chunks(self) -> bytes:
        chunks: list[bytes] = []
        total = 0
        while True:
            size_text = self.rfile.readline(100).split(b";")[0].strip()
            if not _HEX.fullmatch(size_text):
                raise ConnectionResetError("the client left in the middle of its request, or sends no sizes")
            size = int(size_text, 16)
            total += size
            if total > MAX_BODY_BYTES:
                raise ConnectionResetError("the request is larger than the simulator takes")
            if size == 0:
                while self.rfile.readline(8192).strip():
                    pass
                return b"".join(chunks)
            chunks.append(self.rfile.read(size))
            self.rfile.readline(8)

    def _call(self, body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        path, _, query = self.path.partition("?")
        environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if self._secure else "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,  # also what came in pieces, whose length no header says
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "REMOTE_ADDR": str(self.client_address[0]),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": str(self._port),
            "SERVER_PROTOCOL": self.request_version,
            "CONTENT_LENGTH": str(len(body)),
        }
        for name, value in self.headers.items():
            if name.lower() == "content-type":
                environ["CONTENT_TYPE"] = value
            elif name.lower() != "content-length" and "_" not in name:
                environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        collected: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            collected[:] = [status, headers]
            return lambda data: None

        result = self._app(environ, start_response)
        try:
            content = b"".join(result)
        finally:
            getattr(result, "close", lambda: None)()
        return collected[0], collected[1], content

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: what was answered is kept in the simulator's own list, without secrets."""

    def version_string(self) -> str:
        return self.server_version
