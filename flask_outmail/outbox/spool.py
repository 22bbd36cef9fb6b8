"""A folder where things wait for the database: messages while it is locked, outcomes while it does not answer.

Each is one file, written whole or not at all, and survives the process and the machine. Its name is the name of the
delivery, which is unique in the database: so a file that is moved by two processes, or twice because one died before
it could delete it, is still one delivery. Everything in a file is encrypted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from ..errors import OutmailError, TransportUnavailable
from ..vault import Vault

logger = logging.getLogger(__name__)

SUFFIX = ".waiting"


@dataclass(frozen=True)
class Entry:
    """One thing that waits: what kind, the facts (JSON), and the sealed content of a message, if it has one."""

    name: str
    kind: str
    facts: dict[str, Any]
    sealed: bytes | None = None


def verdict_entry(delivery_id: int, number: int, facts: dict[str, Any]) -> Entry:
    """The verdict on one attempt, under a name of its own."""
    return Entry(f"outcome-{delivery_id}-{number}", "verdict", facts)


class Spool:
    """The folder; made when it is first needed. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, vault: Callable[[], Vault]) -> None:
        self.folder = folder
        self._vault = vault

    def put(self, entry: Entry) -> None:
        """Keeps an entry; when this returns it is on the disk.

        Raises:
            TransportUnavailable: it could not be written.
        """
        head = json.dumps({"kind": entry.kind, "facts": entry.facts, "has_content": entry.sealed is not None})
        data = self._vault().seal_bytes(head.encode()) + b"\n" + (entry.sealed or b"")
        passing = self.folder / f".{entry.name}.{token_hex(8)}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Never into something that is there already, least of all through a link that somebody else has laid.
            handle = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(passing, self._path(entry.name))
            except BaseException:
                passing.unlink(missing_ok=True)
                raise
            _sync_folder(self.folder)
        except OSError as exc:
            raise TransportUnavailable(
                "neither the database nor the spool folder takes the message",
                code="spool_unwritable",
                detail=type(exc).__name__,
            ) from exc

    def names(self) -> list[str]:
        """What waits, in no order. One look at the folder."""
        try:
            found = os.listdir(self.folder)
        except OSError:
            return []
        return [name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX) and not name.startswith(".")]

    def entries(self, *, failures: Mapping[str, int] | None = None) -> Iterator[Entry]:
        """What waits, oldest first; those that could not be moved before, behind the others.

        One that cannot be read is logged and stays where it is.
        """
        failures = dict(failures or {})
        waiting = []
        for name in self.names():
            try:
                waiting.append((failures.get(name, 0), self._path(name).stat().st_mtime_ns, name))
            except OSError:
                continue  # another process has just moved it
        for *_, name in sorted(waiting):
            entry = self._read(name)
            if entry is not None:
                yield entry

    def done(self, name: str) -> None:
        """Drops an entry that has reached the database."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as exc:
            # It will be moved again, and found to be there already.
            logger.warning("a file of the spool could not be deleted", extra={"error": type(exc).__name__})

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _read(self, name: str) -> Entry | None:
        try:
            head, _, sealed = self._path(name).read_bytes().partition(b"\n")
            facts = json.loads(self._vault().open_bytes(head))
            return Entry(name, facts["kind"], facts["facts"], sealed if facts["has_content"] else None)
        except FileNotFoundError:
            return None
        except (OSError, OutmailError, ValueError, KeyError) as exc:
            logger.error("a file of the spool cannot be read", extra={"entry": name, "error": type(exc).__name__})
            return None


def _sync_folder(folder: Path) -> None:
    # Without it the file is on the disk, but its name may not be (POSIX; Windows cannot open a folder).
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
