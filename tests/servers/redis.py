"""Redis for the tests, on a socket; it keeps nothing on disk, so a kill loses all it holds."""

from __future__ import annotations

import socket

from .process import Server, find_program


class Redis(Server):
    name = "redis"

    def __init__(self) -> None:
        self.redis_server = find_program("redis-server", "valkey-server")
        super().__init__()
        self.socket = self.folder / "socket"

    @property
    def url(self) -> str:
        """As Celery and Kombu write it."""
        return f"redis+socket://{self.socket}"

    def command(self) -> list[str]:
        return [
            self.redis_server, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "777",
            "--save", "", "--appendonly", "no", "--dir", str(self.folder), "--daemonize", "no",
        ]  # fmt: skip

    def say(self, *words: str) -> bytes:
        """Sends one command and returns the first bytes of its answer (RESP; enough for `PING` and `FLUSHALL`)."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
            connection.sendall("".join(parts).encode())
            return connection.recv(65536)

    def answers(self) -> bool:
        return self.say("PING") == b"+PONG\r\n"
