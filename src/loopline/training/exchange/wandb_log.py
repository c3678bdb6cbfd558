"""The record log of W&B (`run-*.wandb`): blocks of 32 KiB in the manner of LevelDB, records in protobuf.

References
----------
LevelDB, doc/log_format.md: a record is cut at block ends into a first, middle and last part; each has a CRC, a
length and a kind. W&B puts a header of seven bytes before it, and takes the CRC-32 of zlib over kind and bytes.
Protocol Buffers, "Encoding": a field is a varint of number and wire type, then its value. The numbers used here are
those of `wandb/proto/wandb_internal.proto`, which are never given anew.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid
from loopline.training.exchange.folders import chunks

BLOCK, HEAD = 32_768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
LONGEST = 512 << 20
"""Bytes of one record."""
Fields = dict[int, list[Any]]


def records(path: Path) -> Iterator[bytes]:
    """Every whole record from the start; what follows damage, or was not finished, is left out.

    Returns (as `StopIteration.value`) nothing. The last thing it yields before damage is whole: a record counts
    once all of its parts have their CRC.

    Raises
    ------
    Invalid
        If it is no such file.
    """
    data = _Reader(path)
    if data.take(HEAD) != MAGIC:
        raise Invalid(
            f"{path} is no run of W&B", why="it does not begin as one", fix="name a folder with offline-run-* in it"
        )
    at, parts, size = HEAD, list[bytes](), 0
    while True:
        left = BLOCK - at % BLOCK
        if left < HEAD:
            at += len(data.take(left))
            continue
        head = data.take(HEAD)
        if len(head) < HEAD:
            return
        crc, length, kind = struct.unpack("<IHB", head)
        if kind not in (FULL, FIRST, MIDDLE, LAST) or length > left - HEAD:
            return
        part = data.take(length)
        at += HEAD + len(part)
        if len(part) < length or zlib.crc32(part, zlib.crc32(bytes([kind]))) != crc:
            return
        if kind in (FULL, FIRST):
            parts, size = [], 0
        elif not parts:
            return
        parts.append(part)
        size += length
        if size > LONGEST:
            return
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


class _Reader:
    """A plain file, so many bytes at a time."""

    def __init__(self, path: Path) -> None:
        self._pieces, self._rest = chunks(path), b""

    def take(self, n: int) -> bytes:
        """The next `n` bytes; fewer at the end."""
        while len(self._rest) < n and (piece := next(self._pieces, b"")):
            self._rest += piece
        found, self._rest = self._rest[:n], self._rest[n:]
        return found


def fields(data: bytes) -> Fields:
    """The fields of a protobuf message by number: whole numbers, or bytes.

    Raises
    ------
    ValueError
        If it is none.
    """
    found: Fields = {}
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = data[at : at + width], at + width
        else:
            raise ValueError("a field of unknown kind")
        if at > end:
            raise ValueError("a field that does not end")
        found.setdefault(number, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("a number that does not end")
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    raise ValueError("a number of more than ten bytes")


def message(of: Fields, number: int) -> Fields:
    """The last message in a field; an empty one where there is none or it is another thing."""
    value = of.get(number, [b""])[-1]
    return fields(value) if isinstance(value, bytes) else {}


def messages(of: Fields, number: int) -> Iterator[Fields]:
    """Every message in a field."""
    for value in of.get(number, ()):
        if isinstance(value, bytes):
            yield fields(value)


def words(of: Fields, number: int) -> str:
    """The last text in a field."""
    value = of.get(number, [b""])[-1]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def every_word(of: Fields, number: int) -> list[str]:
    """Every text in a field."""
    return [value.decode("utf-8", "replace") for value in of.get(number, ()) if isinstance(value, bytes)]


def count(of: Fields, number: int) -> int:
    """The last whole number in a field, signed; 0 where there is none."""
    value = of.get(number, [0])[-1]
    return 0 if not isinstance(value, int) else value - (1 << 64) if value >= 1 << 63 else value


def milliseconds(of: Fields, number: int) -> int | None:
    """A timestamp in a field as milliseconds since 1970; null where there is none."""
    if number not in of:
        return None
    stamp = message(of, number)
    return count(stamp, 1) * 1000 + count(stamp, 2) // 1_000_000
