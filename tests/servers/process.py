"""A real server of the tests' own: in a directory of its own, on sockets in it, as nobody, gone when the tests are."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

START_S = 120.0
STOP_S = 30.0


class ServerMissing(Exception):
    """The program is not installed on this machine."""


def find_program(*names: str, folders: Sequence[str] = ()) -> str:
    """The path of the first of these programs that is there.

    Raises:
        ServerMissing: none is.
    """
    for name in names:
        for folder in folders:
            # The highest version first: Debian keeps several beside each other.
            for found in sorted(Path("/").glob(f"{folder.lstrip('/')}/{name}"), reverse=True):
                return str(found)
        found_in_path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if found_in_path:
            return found_in_path
    raise ServerMissing(f"{names[0]} is not installed")


def as_nobody(stop_signal: str = "TERM", *, as_root: bool = False) -> list[str]:
    """What a command starts with, so that it runs without rights and ends with the tests, however those end.

    `as_root` is for servers that give up their rights themselves.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if os.geteuid() == 0:
            raise ServerMissing("setpriv (util-linux) is not installed, and servers do not run as root")
        return []
    rights = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 and not as_root else []
    return [setpriv, *rights, f"--pdeathsig={stop_signal}"]


class Server:
    """One server process. `start` waits until it answers, `kill` ends it as a power cut would."""

    name = "server"
    stop_signal = signal.SIGTERM
    as_root = False

    def __init__(self) -> None:
        # Not pytest's own directory: only its owner may enter that, and the server runs as somebody else.
        self.folder = Path(tempfile.mkdtemp(prefix=f"outmail-{self.name}-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Makes what the first start needs."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the server answers. May raise anything while it does not."""
        raise NotImplementedError

    def run(self, command: Sequence[str]) -> None:
        """Runs a helper program of the server to its end."""
        done = subprocess.run(
            [*as_nobody(as_root=self.as_root), *command],
            cwd=self.folder,
            env=_environment(self.folder),
            capture_output=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout).decode(errors='replace')[-2000:]}")

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*as_nobody(self.stop_signal.name[3:], as_root=self.as_root), *self.command()],
                cwd=self.folder,
                env=_environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, START_S, f"{self.name} does not answer")

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            told = (self.folder / "log").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} ended at once:\n{told}")
        try:
            return self.answers()
        except Exception:  # each client library has errors of its own; `wait_until` ends the asking
            return False

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ends the server in good order."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Ends the server at once, with what it had not written yet."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError(otherwise)
        time.sleep(0.05)
