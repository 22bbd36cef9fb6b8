"""No library at all: bytes that are made already, pipelined over a bare socket. What the sink itself allows."""

from __future__ import annotations

import base64
import platform
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask_outmail.envelope import Envelope
from flask_outmail.message import Attachment, Message

from ..job import FILE_NAME, FILE_TYPE, SENDER, Job, NotOffered, order


def version() -> str:
    return f"Python {platform.python_version()}"


@contextmanager
def prepared(job: Job) -> Iterator[Callable[[], object]]:
    if job.kind not in ("bulk", "web"):
        raise NotOffered("sends only what is made already")
    attachments = [Attachment(FILE_NAME, FILE_TYPE, job.attachment())] if job.attachment_bytes else []
    one = order()
    message = Message(
        one.subject,
        [(one.name, one.address)],
        one.text,
        one.html,
        sender=SENDER,
        attachments=attachments,
        date=1_780_000_000,
    )
    content = bytes(Envelope.for_message(message).content)
    group = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{one.address}>\r\nDATA\r\n".encode()
    piece = content + b".\r\n" + group

    def send() -> None:
        sock = _connected(job)
        sock.sendall(group)
        # The reply to the content before, then those to MAIL, RCPT and DATA: one round trip for each message.
        for number in range(job.count):
            _read(sock, 3 if number == 0 else 4)
            sock.sendall(piece if number < job.count - 1 else content + b".\r\n")
        _read(sock, 1)
        sock.close()

    def send_each() -> None:
        # The content waits for 354, and the next message for the answer to this one: two round trips each.
        sock = _connected(job)
        for _ in range(job.count):
            sock.sendall(group)
            _read(sock, 3)
            sock.sendall(content + b".\r\n")
            _read(sock, 1)
        sock.close()

    yield send if job.kind == "bulk" else send_each


def _connected(job: Job) -> socket.socket:
    sock = socket.create_connection((job.host, job.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _read(sock, 1)
    if job.security == "starttls":
        _ask(sock, "EHLO bench.example")
        _ask(sock, "STARTTLS")
        sock = ssl.create_default_context(cafile=job.ca_file).wrap_socket(sock, server_hostname=job.host)
        _ask(sock, "EHLO bench.example")
        _ask(sock, "AUTH PLAIN " + base64.b64encode(f"\0{job.username}\0{job.password}".encode()).decode())
    else:
        _ask(sock, "EHLO bench.example")
    return sock


def _ask(sock: socket.socket, line: str) -> None:
    sock.sendall(line.encode() + b"\r\n")
    buffer = b""
    while not any(row[3:4] == b" " for row in buffer.split(b"\r\n")[:-1]):
        buffer += _heard(sock)


def _heard(sock: socket.socket) -> bytes:
    data = sock.recv(4096)
    if not data:
        raise ConnectionResetError("the server closed the connection")
    return data


def _read(sock: socket.socket, lines: int) -> None:
    seen = b""
    while seen.count(b"\n") < lines:
        seen += _heard(sock)
    if any(row[:1] not in b"23" for row in seen.split(b"\r\n")[:-1]):
        raise RuntimeError(seen)
