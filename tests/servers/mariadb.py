"""MariaDB for the tests, with the limits it has when nobody configured it."""

from __future__ import annotations

import socket

from .process import Server, find_program


class MariaDB(Server):
    name = "mariadb"

    def __init__(self) -> None:
        self.mariadbd = find_program("mariadbd", "mysqld")
        self.install_db = find_program("mariadb-install-db", "mysql_install_db")
        super().__init__()
        self.data = self.folder / "data"
        self.socket = self.folder / "socket"

    def prepare(self) -> None:
        self.run([
            self.install_db, "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])  # fmt: skip

    def command(self) -> list[str]:
        return [
            self.mariadbd, "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}", "--skip-networking",
            f"--pid-file={self.folder / 'pid'}", "--innodb-buffer-pool-size=64M", "--max-connections=200",
            # To the file system's cache at each commit, not to the disk: a killed server keeps its rows, and that is
            # all that the tests do.
            "--innodb-flush-log-at-trx-commit=2",
            # What Debian's own configuration sets; without it the server speaks latin1.
            "--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci",
        ]  # fmt: skip

    def _execute(self, statement: str) -> None:
        import pymysql

        connection = pymysql.connect(unix_socket=str(self.socket), user="root", connect_timeout=5)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def answers(self) -> bool:
        # Not by PyMySQL, which leaves a socket open when there is no answer. A server that is up speaks first.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            return len(connection.recv(5)) == 5

    def create(self, database: str) -> str:
        """A new, empty database; returns its URL."""
        self._execute(f"create database `{database}`")
        return f"mysql+pymysql://root@localhost/{database}?unix_socket={self.socket}&charset=utf8mb4"

    def drop(self, database: str) -> None:
        self._execute(f"drop database if exists `{database}`")
