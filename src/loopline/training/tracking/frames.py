"""Frames: what a run says of itself, as checked bytes that can be sent twice.

A frame is `LLF1`, the length of its body, the CRC-32 of its body, its number in the spool, and the body in MessagePack.
Applied again it changes nothing: points and params are sets, tags and files are set to the same again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from loopline.base.errors import Invalid

MAGIC = b"LLF1"
_HEAD = struct.Struct("<4sIIQ")
LARGEST = 64 << 20
"""Bytes of a body at most."""
INLINE = 1 << 18
"""Files up to so many bytes travel inside a frame."""


class Begin(msgspec.Struct, tag="begin", kw_only=True):
    """A run starts, or is taken up again."""

    run: str
    experiment: str
    start_ms: int
    name: str = ""
    user: str = ""
    tags: dict[str, str] = {}


class Points(msgspec.Struct, tag="points", kw_only=True):
    """Points by key as packed arrays: values (float64), times in ms and steps (int64), little-endian."""

    run: str
    columns: dict[str, tuple[bytes, bytes, bytes]]


class Facts(msgspec.Struct, tag="facts", kw_only=True):
    """Params and tags."""

    run: str
    params: dict[str, str] = {}
    tags: dict[str, str] = {}


class File(msgspec.Struct, tag="file", kw_only=True):
    """A file; its bytes are here, or beside the spool under their digest."""

    run: str
    path: str
    digest: str
    size: int
    at_ms: int
    data: bytes | None = None


class Data(msgspec.Struct, tag="data", kw_only=True):
    """A data set that the run was given."""

    run: str
    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


class End(msgspec.Struct, tag="end", kw_only=True):
    """The run is over."""

    run: str
    status: Literal["FINISHED", "FAILED", "KILLED"]
    end_ms: int


Frame = Begin | Points | Facts | File | Data | End
F = TypeVar("F")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


@dataclass(frozen=True, slots=True)
class Cut:
    """Frames out of bytes, and how far they were whole."""

    frames: list[tuple[int, Any]] = field(default_factory=list)
    """Number and frame."""
    end: int = 0
    damaged: bool = False
    """Whether what follows `end` is no beginning of a frame, but damage."""


def pack(number: int, frame: Frame) -> bytes:
    """A frame as bytes."""
    body = _encoder.encode(frame)
    return _HEAD.pack(MAGIC, len(body), zlib.crc32(body), number) + body


def cut(data: bytes, *, most: int | None = None) -> Cut:
    """The whole frames at the start of `data`, up to about `most` bytes of them."""
    frames: list[tuple[int, Any]] = []
    at = 0
    while at + _HEAD.size <= len(data) and (most is None or at < most):
        magic, length, check, number = _HEAD.unpack_from(data, at)
        if magic != MAGIC or length > LARGEST:
            return Cut(frames, at, damaged=True)
        end = at + _HEAD.size + length
        if end > len(data):
            break
        body = data[at + _HEAD.size : end]
        try:
            if zlib.crc32(body) != check:
                raise msgspec.DecodeError("checksum")
            frames.append((number, _decoder.decode(body)))
        except msgspec.DecodeError:
            return Cut(frames, at, damaged=True)
        at = end
    return Cut(frames, at)


def require_whole(data: bytes) -> list[Any]:
    """Every frame of a message.

    Raises
    ------
    Invalid
        If a part of it is no frame, or is damaged.
    """
    found = cut(data)
    if found.damaged or found.end != len(data):
        raise Invalid(
            f"byte {found.end:,} of {len(data):,} begins no whole frame",
            why="a message is whole frames, each with its checksum; nothing of it was kept",
            fix="send the same frames again",
        )
    return [frame for _, frame in found.frames]


def merged(frames: list[Any]) -> Iterator[Any]:
    """The same frames with points that follow each other in one, so that they share a commit."""
    held: Points | None = None
    parts: dict[str, list[tuple[bytes, bytes, bytes]]] = {}

    def joined() -> Points:
        assert held is not None
        return Points(
            run=held.run,
            columns={
                key: some[0] if len(some) == 1 else tuple(b"".join(one[at] for one in some) for at in range(3))  # type: ignore[misc]
                for key, some in parts.items()
            },
        )

    for frame in frames:
        if isinstance(frame, Points) and (held is None or held.run == frame.run):
            held = frame
            for key, columns in frame.columns.items():
                parts.setdefault(key, []).append(columns)
            continue
        if held is not None:
            yield joined()
            held, parts = None, {}
        if isinstance(frame, Points):
            held, parts = frame, {key: [columns] for key, columns in frame.columns.items()}
        else:
            yield frame
    if held is not None:
        yield joined()
