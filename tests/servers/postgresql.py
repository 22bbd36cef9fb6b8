"""PostgreSQL for the tests."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from .process import STOP_S, Server, find_program, wait_until

#: Debian keeps the programs of each version in a folder of their own, outside PATH.
FOLDERS = ("/usr/lib/postgresql/*/bin",)


class PostgreSQL(Server):
    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": clients are cut off instead of waited for

    def __init__(self) -> None:
        self.postgres = find_program("postgres", folders=FOLDERS)
        self.initdb = find_program("initdb", folders=FOLDERS)
        super().__init__()
        self.data = self.folder / "data"

    def prepare(self) -> None:
        self.run([
            self.initdb, "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--no-sync",
        ])  # fmt: skip

    def command(self) -> list[str]:
        # The file system's cache outlives a killed process, so nothing that the tests do needs fsync.
        return [
            self.postgres, "-D", str(self.data), "-k", str(self.folder), "-h", "", "-F",
            "-c", "full_page_writes=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB",
        ]  # fmt: skip

    def kill(self) -> None:
        # Its children too, as in a power cut: one that outlives it keeps the next from starting.
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)  # so that it makes no more of them
        children = self._children()
        super().kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, children)), STOP_S, "a process of the killed server lives on")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _children(self) -> list[int]:
        if self._process is None:
            return []
        listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(word) for word in listed.read_text().split()] if listed.exists() else []

    def _connect(self, database: str = "postgres"):  # type: ignore[no-untyped-def]
        import psycopg

        return psycopg.connect(
            host=str(self.folder), user="postgres", dbname=database, autocommit=True, connect_timeout=5
        )

    def answers(self) -> bool:
        with self._connect() as connection:
            return bool(connection.execute("select 1").fetchone() == (1,))

    def create(self, database: str) -> str:
        """A new, empty database; returns its URL."""
        with self._connect() as connection:
            connection.execute(f'create database "{database}"')
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def drop(self, database: str) -> None:
        with self._connect() as connection:
            connection.execute(f'drop database if exists "{database}" with (force)')


def _runs(number: int) -> bool:
    """Whether there is a process of this number that has not ended (one that has may still wait to be told of)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
