"""Answers as they are given, in a memory-mapped file that outlives its process.

A worker appends an answer by two copies into shared pages [about 1 us] and then
raises the count; the kernel keeps the pages when the worker is killed, so nothing
that was answered is lost short of a power cut. Readers in other processes see the
rows up to the count at any time. One file holds answers of one version.

Layout (little endian): 4,096 bytes of head - magic, count, end of the text, closed
flag, length and JSON of what all rows share - then `ROWS` records of one size, then
the text. A record is `FIXED` followed by the inputs as float32.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid

MAGIC = b"LOOPJNL1"
SUFFIX = ".journal"
HEAD = 4096
ROWS = 4096
TEXT_PER_ROW = 128
LONGEST = 2**16 - 1

STICKY, HOLDOUT, DECISION = 1, 2, 4

FIXED = np.dtype(
    [
        ("decision_time", "<i8"),
        ("recorded_at", "<i8"),
        ("score", "<f8"),
        ("chance", "<f4"),
        ("latency_us", "<u4"),
        ("text", "<u4"),
        ("id", "<u2"),
        ("entity", "<u2"),
        ("routed", "<u2"),
        ("broken", "<u2"),
        ("fallback", "<u2"),
        ("missing", "<u2"),
        ("flags", "<u2"),
        ("brought", "<u2"),
    ]
)
"""Times in microseconds since 1970 UTC; `text` is where the row's text starts, and the
lengths in bytes of its parts follow in their order: id, entity, routed, broken, fallback,
and, at the end, what the request brought (a JSON list, or nothing)."""

PARTS = ("id", "entity", "routed", "broken", "fallback", "brought")

_FIXED = struct.Struct("<qqdfIIHHHHHHHH")
_STATE = struct.Struct("<QQB")
_STATE_AT = len(MAGIC)
_SHAPE = struct.Struct("<III")
_SHAPE_AT = 32
_META_AT = 64
_SIZE = struct.Struct("<I")
assert _FIXED.size == FIXED.itemsize


class Journal:
    """A journal being written, by one thread of one process.

    Raises
    ------
    OSError
        If the disk has no room for it: the room is taken when it is made, so
        that an append never fails.
    """

    def __init__(self, path: Path, shared: dict[str, Any], inputs: int, *, rows: int = ROWS) -> None:
        meta = json.dumps(shared).encode()
        self.path = path
        self._rows = rows
        self._head = HEAD * (1 + (_META_AT + _SIZE.size + len(meta)) // HEAD)
        self._record = FIXED.itemsize + 4 * inputs
        self._text = self._head + rows * self._record
        self._end = self._text + rows * TEXT_PER_ROW
        part = path.with_suffix(".part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._end)
            self._map = mmap.mmap(descriptor, self._end)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            part.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        self._descriptor = descriptor  # the kernel drops its lock when this process dies
        self.count, self._at = 0, self._text
        _STATE.pack_into(self._map, _STATE_AT, 0, self._text, 0)
        layout = _SIZE.pack(len(meta)) + meta
        self._map[_META_AT : _META_AT + len(layout)] = layout
        _SHAPE.pack_into(self._map, _SHAPE_AT, rows, self._record, self._head)
        self._map[: len(MAGIC)] = MAGIC
        part.replace(path)

    def append(
        self,
        decision_time: int,
        recorded_at: int,
        score: float,
        chance: float,
        latency_us: int,
        texts: tuple[bytes, bytes, bytes, bytes, bytes],
        missing: int,
        flags: int,
        inputs: bytes,
        brought: bytes = b"",
    ) -> bool:
        """Add one answer; false when the journal is full and nothing was added.

        What a request brought that is longer than 64 KiB is left out.
        """
        if len(brought) > LONGEST:
            brought = b""
        text = b"".join((*texts, brought))
        at, start = self._at, self._head + self.count * self._record
        end = at + len(text)
        if self.count == self._rows or end > self._end:
            return False
        a, b, c, d, e = texts
        self._map[start : start + self._record] = (
            _FIXED.pack(
                decision_time, recorded_at, score, chance, min(latency_us, 2**32 - 1), at,
                len(a), len(b), len(c), len(d), len(e), missing, flags, len(brought),
            )
            + inputs
        )  # fmt: skip
        self._map[at:end] = text
        self.count += 1
        self._at = end
        _STATE.pack_into(self._map, _STATE_AT, self.count, end, 0)
        return True

    def close(self) -> None:
        """Say that nothing will be added."""
        _STATE.pack_into(self._map, _STATE_AT, self.count, self._at, 1)
        self._map.close()
        os.close(self._descriptor)


@dataclass(frozen=True)
class Rows:
    """Rows of a journal, as they lie in it."""

    fixed: npt.NDArray[np.void]
    inputs: npt.NDArray[np.float32]
    texts: list[tuple[str, str, str, str, str]]
    """Id, entity, routed, broken, fallback."""
    brought: list[bytes]
    """What each request brought, as JSON; empty where nothing was kept."""


class Reader:
    """A journal being read; it may still be written by another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from error
        if len(self._map) < HEAD or self._map[: len(MAGIC)] != MAGIC:
            raise self._damaged("it does not begin as one")
        try:
            self._rows, self._record, self._head = _SHAPE.unpack_from(self._map, _SHAPE_AT)
            (size,) = _SIZE.unpack_from(self._map, _META_AT)
            at = _META_AT + _SIZE.size
            self.shared: dict[str, Any] = json.loads(self._map[at : at + size])
        except (struct.error, ValueError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> Invalid:
        return Invalid(
            f"{self.path.name} is no journal of answers: {why}",
            why="the folder `segments` of an endpoint holds only those",
            fix="move the file elsewhere; the others are read without it",
        )

    @property
    def count(self) -> int:
        """Rows that are whole now."""
        return int(_STATE.unpack_from(self._map, _STATE_AT)[0])

    @property
    def closed(self) -> bool:
        """Whether nothing will be added: it was closed, or its writer is dead."""
        if _STATE.unpack_from(self._map, _STATE_AT)[2]:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return True

    def rows(self, start: int, stop: int) -> Rows:
        """The rows `start` to `stop`, copied."""
        width = (self._record - FIXED.itemsize) // 4
        kind = np.dtype([("fixed", FIXED), ("inputs", "<f4", (width,))])
        at = self._head + start * self._record
        table = np.frombuffer(self._map, kind, stop - start, at).copy()
        fixed = table["fixed"]
        lengths = np.stack([fixed[n].astype(np.int64) for n in PARTS], 1)
        edges = np.concatenate([fixed["text"].astype(np.int64)[:, None], lengths], 1).cumsum(1).tolist()
        data = self._map
        texts = [
            (data[a:b].decode(), data[b:c].decode(), data[c:d].decode(), data[d:e].decode(), data[e:f].decode())
            for a, b, c, d, e, f, _ in edges
        ]
        brought = [data[f:g] for *_, f, g in edges]
        return Rows(fixed, table["inputs"].reshape(-1, width), texts, brought)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
        self._file.close()


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open a journal for reading."""
    reader = Reader(path)
    try:
        yield reader
    finally:
        reader.close()


def overwrite(path: Path, rows: Sequence[int]) -> None:
    """Put zeros over the texts and inputs of rows that are whole, while another process may go on writing.

    Times and the lengths of the other texts stay, so the rows can be read as before. The rows must be in the table
    already: what is committed again later says nothing.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as made:
        _, record, head = _SHAPE.unpack_from(made, _SHAPE_AT)
        for row in rows:
            at = head + row * record
            fixed = np.frombuffer(made[at : at + FIXED.itemsize], FIXED).copy()
            text, length = int(fixed["text"][0]), sum(int(fixed[part][0]) for part in PARTS)
            fixed["brought"] = 0  # zeros are no JSON
            made[at : at + record] = fixed.tobytes() + bytes(record - FIXED.itemsize)
            made[text : text + length] = bytes(length)
        made.flush()
