"""Points as bytes: a row of the tail, a chunk of a series, and groups of a chunk thinned.

All integers and floats are little-endian. Values are compared and kept bit for bit, so a NaN stays the NaN it was.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from math import isfinite, nan
from operator import lt, ne, sub
from typing import NamedTuple

CHUNK = 4_096
"""Points of a full chunk."""
GROUP = 16
"""Points that the finest coarse level makes one."""
FOLD_BITS = 4
FOLD = 1 << FOLD_BITS
"""Groups of a level that the next makes one."""
_DELTA, _PLAIN = 0, 1
_ONE = (1).to_bytes(4, "little")
_LEVEL = 1  # of zlib; with runs alone (Z_RLE) it takes a third less time for the same bytes


class Columns(NamedTuple):
    """Points of one series, in the order they were logged."""

    values: array[float]
    times: array[int]
    steps: array[int]

    def bits(self) -> array[int]:
        """The values as integers, for comparisons that know NaN from NaN."""
        return array("q", self.values.tobytes())

    def some(self, start: int, stop: int) -> Columns:
        """The points from `start` up to `stop`."""
        return Columns(self.values[start:stop], self.times[start:stop], self.steps[start:stop])

    def extend(self, more: Columns) -> None:
        """Put further points at the end."""
        self.values.extend(more.values)
        self.times.extend(more.times)
        self.steps.extend(more.steps)


class Groups(NamedTuple):
    """Neighbouring points made one: first step and time; least, greatest, last finite value (NaN where none is)."""

    steps: array[int]
    times: array[int]
    least: array[float]
    most: array[float]
    last: array[float]

    def extend(self, more: Groups) -> None:
        """Put further groups at the end."""
        self.steps.extend(more.steps)
        self.times.extend(more.times)
        self.least.extend(more.least)
        self.most.extend(more.most)
        self.last.extend(more.last)


def empty() -> Columns:
    """No points."""
    return Columns(array("d"), array("q"), array("q"))


def no_groups() -> Groups:
    """No groups."""
    return Groups(array("q"), array("q"), array("d"), array("d"), array("d"))


# the tail


def pack_call(points: dict[int, Columns]) -> bytes:
    """The points of one call by key, as a row of the tail."""
    head = array("I", [len(points), *points, *(len(one.steps) for one in points.values())])
    columns = points.values()
    return b"".join(
        [
            _bytes(head),
            *(_bytes(one.values) for one in columns),
            *(_bytes(one.times) for one in columns),
            *(_bytes(one.steps) for one in columns),
        ]
    )


def unpack_call(pack: bytes, only: int | None = None) -> Iterator[tuple[int, Columns]]:
    """What `pack_call` packed: keys and their points; of one key only, if asked."""
    keys, counts = _head(pack)
    total, at = sum(counts), 0
    start = 4 + 8 * len(keys)
    view = memoryview(pack)
    for key, count in zip(keys, counts, strict=True):
        if only is None or key == only:
            first, last = start + 8 * at, start + 8 * (at + count)
            wide = 8 * total
            yield (
                key,
                Columns(
                    _floats(view[first:last]),
                    _array("q", view[first + wide : last + wide]),
                    _array("q", view[first + 2 * wide : last + 2 * wide]),
                ),
            )
        at += count


def joined(packs: Iterable[bytes]) -> bytes:
    """Rows of the tail, in their order, as one."""
    parts: dict[int, tuple[list[bytes], list[bytes], list[bytes]]] = {}
    for pack in packs:
        one = pack[:4] == _ONE
        keys, counts = ([int.from_bytes(pack[4:8], "little")], [len(pack) // 24]) if one else _head(pack)
        at, wide = 4 + 8 * len(keys), 8 * sum(counts)
        for key, count in zip(keys, counts, strict=True):
            stop = at + 8 * count
            if key not in parts:
                parts[key] = ([], [], [])
            values, times, steps = parts[key]
            values.append(pack[at:stop])
            times.append(pack[at + wide : stop + wide])
            steps.append(pack[at + 2 * wide : stop + 2 * wide])
            at = stop
    counts = [sum(map(len, of[0])) // 8 for of in parts.values()]
    body = [part for place in range(3) for of in parts.values() for part in of[place]]
    return b"".join([_bytes(array("I", [len(parts), *parts, *counts])), *body])


def counts_in(pack: bytes) -> Iterator[tuple[int, int]]:
    """The keys of a row of the tail, each with how many points it has there."""
    return zip(*_head(pack), strict=True)


def points_in(pack: bytes) -> int:
    """How many points a row of the tail holds."""
    return sum(_head(pack)[1])


def _head(pack: bytes) -> tuple[array[int], array[int]]:
    n = int.from_bytes(pack[:4], "little")
    return _array("I", pack[4 : 4 + 4 * n]), _array("I", pack[4 + 4 * n : 4 + 8 * n])


# chunks


def pack_chunk(points: Columns) -> bytes:
    """A chunk: differences of steps and times, then values, bytes of the same place together, deflated."""
    parts = [_integers(points.steps), _integers(points.times), _shuffled(_bytes(points.values))]
    deflate = zlib.compressobj(_LEVEL, strategy=zlib.Z_RLE)
    return deflate.compress(b"".join(parts)) + deflate.flush()


def unpack_chunk(pack: bytes, n: int) -> Columns:
    """What `pack_chunk` packed of `n` points."""
    data = zlib.decompress(pack)
    wide = 8 * n
    steps = _read_integers(data[: wide + 1])
    times = _read_integers(data[wide + 1 : 2 * wide + 2])
    return Columns(_floats(_straight(data[2 * wide + 2 :])), times, steps)


def _integers(numbers: array[int]) -> bytes:
    try:
        differences = array("q", [numbers[0]])
        differences.extend(map(sub, islice(numbers, 1, None), numbers))
    except OverflowError:  # two neighbours are further apart than a 64-bit number reaches
        return bytes([_PLAIN]) + _bytes(numbers)
    return bytes([_DELTA]) + _shuffled(_bytes(differences))


def _read_integers(data: bytes) -> array[int]:
    if data[0] == _PLAIN:
        return _array("q", data[1:])
    return array("q", accumulate(_array("q", _straight(data[1:]))))


def _shuffled(data: bytes) -> bytes:
    return b"".join(data[place::8] for place in range(8))


def _straight(data: bytes) -> bytes:
    n = len(data) // 8
    out = bytearray(len(data))
    for place in range(8):
        out[place::8] = data[place * n : (place + 1) * n]
    return bytes(out)


# coarse levels


def thinned(points: Columns, size: int = GROUP) -> Groups:
    """Neighbouring points made one, `size` at a time; the last group may be smaller."""
    values, groups = points.values, no_groups()
    groups.steps.extend(points.steps[::size])
    groups.times.extend(points.times[::size])
    whole = len(values) - len(values) % size if isfinite(sum(values)) else 0
    if whole and size > 1:  # all at once: the first of each group beside the second beside the third
        sides = [values[place:whole:size] for place in range(size)]
        groups.least.extend(map(min, *sides))
        groups.most.extend(map(max, *sides))
        groups.last.extend(sides[-1])
    for start in range(len(groups.least) * size, len(values), size):
        some: Sequence[float] = [value for value in values[start : start + size] if isfinite(value)] or (nan,)
        groups.least.append(min(some))
        groups.most.append(max(some))
        groups.last.append(some[-1])
    return groups


def folded(groups: Groups, by: int = FOLD) -> Groups:
    """The next level: neighbouring groups made one."""
    out = no_groups()
    out.steps.extend(groups.steps[::by])
    out.times.extend(groups.times[::by])
    if not len(groups.steps) % by and not any(map(ne, groups.least, groups.least)):
        out.least.extend(map(min, *(groups.least[place::by] for place in range(by))))
        out.most.extend(map(max, *(groups.most[place::by] for place in range(by))))
        out.last.extend(groups.last[by - 1 :: by])
        return out
    for start in range(0, len(groups.steps), by):
        stop = start + by
        out.least.append(least(groups.least[start:stop]))
        out.most.append(most(groups.most[start:stop]))
        out.last.append(last(groups.last[start:stop]))
    return out


def least(numbers: Sequence[float]) -> float:
    """The least that is a number, or NaN."""
    return min((number for number in numbers if number == number), default=nan)


def most(numbers: Sequence[float]) -> float:
    """The greatest that is a number, or NaN."""
    return max((number for number in numbers if number == number), default=nan)


def last(numbers: Sequence[float]) -> float:
    """The last that is a number, or NaN."""
    return next((number for number in reversed(numbers) if number == number), nan)


def pack_groups(groups: Groups) -> bytes:
    """Groups as a row."""
    return b"".join([*map(_bytes, groups[:2]), *map(_bytes, groups[2:])])


def unpack_groups(pack: bytes) -> Groups:
    """What `pack_groups` packed."""
    wide = len(pack) // 5
    parts = [pack[place * wide : (place + 1) * wide] for place in range(5)]
    steps, times = (_array("q", part) for part in parts[:2])
    low, high, end = (_floats(part) for part in parts[2:])
    return Groups(steps, times, low, high, end)


# arrays


def columns_of(values: bytes, times: bytes, steps: bytes) -> Columns:
    """Points given as packed little-endian arrays."""
    return Columns(_floats(values), _array("q", times), _array("q", steps))


def to_bytes(points: Columns) -> tuple[bytes, bytes, bytes]:
    """Points as packed little-endian arrays: values, times, steps."""
    return _bytes(points.values), _bytes(points.times), _bytes(points.steps)


def rising(numbers: Sequence[int]) -> bool:
    """Whether each number is greater than the one before."""
    return all(map(lt, numbers, islice(numbers, 1, None)))


def _array(kind: str, data: bytes | memoryview) -> array[int]:
    found: array[int] = array(kind)
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _floats(data: bytes | memoryview) -> array[float]:
    found = array("d")
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _bytes(numbers: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()
