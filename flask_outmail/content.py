"""A message as it is handed over: pieces, so that a large attachment goes from disk to the server without being held.

A piece is either bytes that stand as they are, or a `FilePart`: one attachment with its own headers and the delimiter
before them, which is encoded while it is sent and can be left out whole. Everything here is already MIME (`mime` made
it); nothing here knows what a header means.
"""

from __future__ import annotations

import binascii
import errno
import os
import stat
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from .errors import InvalidMessage

#: 57 bytes make a line of 76 characters, the longest that base64 may have (RFC 2045 6.8).
LINE_RAW_BYTES, LINE_CHARS = 57, 76
#: How much of a file is read and encoded at a time: a whole number of lines, and little enough to stay in the cache.
BLOCK_LINES = 1024
BLOCK_RAW_BYTES = BLOCK_LINES * LINE_RAW_BYTES
#: A message up to this size is one chunk, and no chunk of a larger one is above it.
CHUNK_BYTES = 131_072
#: In a larger message, what is smaller than this is joined with its neighbours.
_CRUMB_BYTES = 16_384

_CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class FilePart:
    """One attachment of a finished message.

    `head` is the delimiter and the headers of the part, `data` the raw content: bytes, or the path of a file that
    had `size_bytes` and `changed_ns` when the message was built. `is_base64` is false for content that stands in the
    message as it is (a message inside a message). `content_id` has its angle brackets, "" when there is none.
    """

    name: str
    content_type: str
    content_id: str
    is_inline: bool
    size_bytes: int
    head: bytes = field(repr=False)
    data: bytes | Path = field(repr=False)
    is_base64: bool = True
    changed_ns: int = 0

    @property
    def wire_bytes(self) -> int:
        """How many bytes this part takes in the message, exactly."""
        body = self.size_bytes
        if self.is_base64:
            lines = -(-body // LINE_RAW_BYTES)
            body = -(-body // 3) * 4 + max(lines - 1, 0) * 2
        return len(self.head) + body + 2

    def read(self, start: int, size: int) -> bytes:
        """`size` raw bytes from `start`; fewer only at the end. Touches the disk when the data is a file.

        Raises:
            InvalidMessage: `attachment_changed`, the file is gone or another than when the message was built.
        """
        if isinstance(self.data, bytes):
            return self.data[start : start + size]
        with self._open() as file:
            file.seek(start)
            return self._read(file, min(size, max(self.size_bytes - start, 0)))

    def chunks(self) -> Iterator[bytes]:
        """The part as it stands in the message."""
        yield self.head
        if self.is_base64:
            # CRLF after every block: within the data it ends a line, after the last it belongs to the delimiter.
            for block in self.blocks():
                yield base64_lines(block, closed=True)
        else:
            yield from map(bytes, self.blocks())
            yield _CRLF

    def blocks(self) -> Iterator[bytes | memoryview]:
        """The raw data, `BLOCK_RAW_BYTES` at a time; one empty block when there is none."""
        starts = range(0, self.size_bytes or 1, BLOCK_RAW_BYTES)
        if isinstance(self.data, bytes):
            view = memoryview(self.data)
            yield from (view[start : start + BLOCK_RAW_BYTES] for start in starts)
        else:
            with self._open() as file:
                for start in starts:
                    yield self._read(file, min(BLOCK_RAW_BYTES, self.size_bytes - start))

    def _open(self) -> BinaryIO:
        assert isinstance(self.data, Path)  # noqa: S101 -- the callers have looked
        try:
            file = _open_file(self.data)
        except OSError as exc:
            raise self._changed() from exc
        if _state(file) != (self.size_bytes, self.changed_ns):
            file.close()
            raise self._changed()
        return file

    def _read(self, file: BinaryIO, size: int) -> bytes:
        try:
            data = file.read(size)
        except OSError as exc:
            raise self._changed() from exc
        if len(data) != size or _state(file) != (self.size_bytes, self.changed_ns):
            raise self._changed()
        return data

    def _changed(self) -> InvalidMessage:
        return InvalidMessage(
            f"the file of the attachment {self.name!r} is gone, or has changed since the message was built",
            code="attachment_changed",
        )


def file_state(path: Path) -> tuple[int, int]:
    """(`size_bytes`, `changed_ns`) of a file that can be read, for a `FilePart`. Touches the disk.

    Raises:
        InvalidMessage: `attachment_unreadable`, there is no such file, it is no ordinary one, or it may not be read.
    """
    try:
        with _open_file(path) as file:
            return _state(file)
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def read_file(path: Path) -> bytes:
    """All of a file, where it cannot be streamed.

    Raises:
        InvalidMessage: `attachment_unreadable`, as in `file_state`.
    """
    try:
        with _open_file(path) as file:
            return file.read()
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: OSError) -> InvalidMessage:
    why = exc.strerror or type(exc).__name__
    return InvalidMessage(f"the file {path.name!r} cannot be attached: {why}", code="attachment_unreadable")


def _open_file(path: Path) -> BinaryIO:
    # Opening a pipe would wait for its writer; no wait without an end.
    no_wait = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | no_wait))  # noqa: SIM115 -- handed on
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not an ordinary file")
    return file


def _state(file: BinaryIO) -> tuple[int, int]:
    now = os.fstat(file.fileno())
    return now.st_size, now.st_mtime_ns


Piece = bytes | FilePart


@dataclass(frozen=True, slots=True)
class Content:
    """A whole message with CRLF line ends and without a Bcc header. `bytes(content)` is all of it at once."""

    pieces: tuple[Piece, ...] = field(default=(), repr=False)

    @property
    def size_bytes(self) -> int:
        """The exact size. Reads no file."""
        return sum(len(one) if isinstance(one, bytes) else one.wire_bytes for one in self.pieces)

    @property
    def is_ascii(self) -> bool:
        """Whether every server can carry it, with or without 8BITMIME (RFC 6152). Reads no file."""
        # Files on disk are always base64, because their bytes were not looked at.
        for one in self.pieces:
            if isinstance(one, bytes):
                if not one.isascii():
                    return False
            elif not (one.head.isascii() and (one.is_base64 or (isinstance(one.data, bytes) and one.data.isascii()))):
                return False
        return True

    @property
    def files(self) -> tuple[FilePart, ...]:
        """The attachments, in order; each may be left out with `without`."""
        return tuple(one for one in self.pieces if isinstance(one, FilePart))

    def without(self, files: Collection[FilePart]) -> Content:
        """The same message lacking these attachments. Two that are equal in everything are told apart by identity."""
        leaving = {id(one) for one in files}
        return Content(tuple(one for one in self.pieces if id(one) not in leaving))

    def after(self, head: bytes) -> Content:
        """This message with header lines put before it."""
        return Content((head, *self.pieces)) if head else self

    def chunks(self) -> Iterator[bytes]:
        """The message in pieces of at most `CHUNK_BYTES`, none empty; a small message is one. May be called again.

        Reads files while it runs.

        Raises:
            InvalidMessage: `attachment_changed`, a file is gone or has changed; what was handed on so far must be
                thrown away.
        """
        if self.size_bytes <= CHUNK_BYTES:
            yield from filter(None, [bytes(self)])
            return
        crumbs: list[bytes] = []
        size = 0
        for part in self._parts():
            if size + len(part) > CHUNK_BYTES or len(part) > _CRUMB_BYTES:
                if size:
                    yield b"".join(crumbs)
                    crumbs, size = [], 0
                if len(part) > _CRUMB_BYTES:
                    yield from _bounded(part)
                    continue
            crumbs.append(part)
            size += len(part)
        if size:
            yield b"".join(crumbs)

    def _parts(self) -> Iterator[bytes]:
        for one in self.pieces:
            if isinstance(one, bytes):
                yield one
            else:
                yield from one.chunks()

    def __bytes__(self) -> bytes:
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            return self.pieces[0]
        return b"".join(self._parts())

    # -- storage -----------------------------------------------------------------------------------------------------

    def stored(self) -> tuple[list[Any], Iterator[bytes | memoryview]]:
        """(a table that JSON can hold, the bytes it speaks of). Attachments raw; files are read as they are taken."""
        table: list[Any] = []
        for one in self.pieces:
            if isinstance(one, bytes):
                table.append(len(one))
            else:
                table.append({name: getattr(one, name) for name in _STORED_FIELDS} | {"head_bytes": len(one.head)})
        return table, self._stored_bytes()

    def _stored_bytes(self) -> Iterator[bytes | memoryview]:
        for one in self.pieces:
            if isinstance(one, bytes):
                yield one
            else:
                yield one.head
                yield from one.blocks()

    @classmethod
    def from_stored(cls, table: Sequence[int | Mapping[str, Any]], data: bytes, start: int = 0) -> Content:
        """What `stored` gave; `data` from `start` holds the bytes."""
        pieces: list[Piece] = []

        def take(size: int) -> bytes:
            nonlocal start
            start += size
            return data[start - size : start]

        for row in table:
            if isinstance(row, int):
                pieces.append(take(row))
            else:
                facts = {name: row[name] for name in _STORED_FIELDS}
                pieces.append(FilePart(**facts, head=take(row["head_bytes"]), data=take(row["size_bytes"])))
        return cls(tuple(pieces))


def _bounded(data: bytes) -> Iterator[bytes]:
    if len(data) <= CHUNK_BYTES:
        yield data
    else:
        yield from (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))


_STORED_FIELDS = ("name", "content_type", "content_id", "is_inline", "size_bytes", "is_base64")


def base64_lines(data: bytes | memoryview, *, closed: bool = False) -> bytes:
    """Base64 in lines of 76 characters with CRLF between them, and after the last if `closed`."""
    if len(data) > BLOCK_RAW_BYTES:
        starts = range(0, len(data), BLOCK_RAW_BYTES)
        blocks = [base64_lines(data[at : at + BLOCK_RAW_BYTES], closed=True) for at in starts[:-1]]
        return b"".join([*blocks, base64_lines(data[starts[-1] :], closed=closed)])
    if not data:
        return _CRLF if closed else b""
    coded = binascii.b2a_base64(data, newline=False)
    whole, rest = divmod(len(coded), LINE_CHARS)
    if not rest:
        return _CRLF.join(_cut(whole, closed).unpack_from(coded))
    lines = (*_cut(whole, False).unpack_from(coded), coded[-rest:])
    return _CRLF.join((*lines, b"") if closed else lines)


@lru_cache(128)
def _cut(lines: int, closed: bool) -> struct.Struct:
    # Cutting base64 into lines costs more than making it when Python cuts; `struct` does it in C. The empty field at
    # the end of a closed block makes the line end after its last line.
    return struct.Struct(f"{LINE_CHARS}s" * lines + "0s" * closed)
