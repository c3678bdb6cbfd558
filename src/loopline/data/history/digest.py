"""An order-free digest of rows, the same on every machine and with every engine.

Each value is brought to canonical bits, salted with its column's name and mixed;
a row is the mix of the sum of its values; a table is the sum of its rows. All
arithmetic wraps at 64 bits, in two independent lanes. Sums make it order-free
and incremental: the digest of a table after an append is the digest before plus
that of the new rows. It finds accidents, not forgeries: files are what signatures
cover.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

U64 = npt.NDArray[np.uint64]

_LANES = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class RowsDigest:
    """How many rows, and the two sums of their hashes."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: RowsDigest) -> RowsDigest:
        mask = 2**64 - 1
        return RowsDigest(
            self.rows + other.rows, (self.first + other.first) & mask, (self.second + other.second) & mask
        )

    def __str__(self) -> str:
        return f"{self.rows}-{self.first:016x}{self.second:016x}"

    @classmethod
    def parse(cls, text: str) -> RowsDigest:
        """The digest that `str` wrote."""
        rows, _, sums = text.partition("-")
        return cls(int(rows), int(sums[:16], 16), int(sums[16:], 16))


def rows_digest(frame: pl.DataFrame) -> RowsDigest:
    """The digest of the rows of a frame, whatever their order and that of the columns.

    Integers count by value whatever their width, floats likewise; NaN is one
    value, zero has no sign; times count as microseconds of their moment, whatever
    the zone. A null adds nothing, so a new column that is null in old rows changes
    no digest.
    """
    total = RowsDigest()
    for part in frame.iter_slices(_CHUNK):
        first, second = row_hashes(part)
        total += RowsDigest(part.height, int(first.sum(dtype=np.uint64)), int(second.sum(dtype=np.uint64)))
    return total


def row_hashes(frame: pl.DataFrame) -> tuple[U64, U64]:
    """Two 64-bit hashes per row."""
    first = np.zeros(frame.height, np.uint64)
    second = np.zeros(frame.height, np.uint64)
    if frame.width:
        plain = frame.select(_canonical(name, dtype) for name, dtype in frame.schema.items())
        for series, given in zip(plain.get_columns(), frame.get_columns(), strict=True):
            present = given.is_not_null().to_numpy() if given.null_count() else None
            lanes = _bits(series)
            for total, salt, bits in zip((first, second), _salts(series.name), lanes, strict=True):
                mixed = _mix(bits ^ np.uint64(salt))
                if present is not None:
                    mixed *= present
                total += mixed
    return _mix(first ^ np.uint64(_LANES[0])), _mix(second ^ np.uint64(_LANES[1]))


def quick_hashes(frame: pl.DataFrame) -> pl.Series:
    """One 64-bit hash per row, equal for what `row_hashes` calls equal; several times faster, and never to be kept.

    The engine may hash otherwise in its next version.
    """
    if not frame.width:
        return pl.Series("h", [0] * frame.height, dtype=pl.UInt64)
    each = [
        pl.when(pl.col(c).is_not_null()).then(_canonical(c, dtype).hash(_salts(c)[0])).otherwise(pl.lit(0, pl.UInt64))
        for c, dtype in frame.schema.items()
    ]
    return frame.select(pl.sum_horizontal(each).alias("h"))["h"]


@lru_cache(maxsize=4096)
def _salts(name: str) -> tuple[int, int]:
    found = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(found[:8], "little"), int.from_bytes(found[8:16], "little")


def _mix(bits: U64) -> U64:
    """The finalizer of splitmix64: a fixed permutation of 64-bit words."""
    out: U64 = bits + np.uint64(_LANES[0])
    out ^= out >> np.uint64(30)
    out *= np.uint64(0xBF58476D1CE4E5B9)
    out ^= out >> np.uint64(27)
    out *= np.uint64(0x94D049BB133111EB)
    out ^= out >> np.uint64(31)
    return out


def _canonical(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as integers, floats or text without nulls; no two of its values become one."""
    column = pl.col(name)
    if dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128, pl.UInt64):
        return column.fill_null(0).cast(pl.Int64)
    if dtype.is_float():
        return column.fill_null(0.0).cast(pl.Float64)
    if dtype == pl.Boolean:
        return column.fill_null(False).cast(pl.Int64)
    if isinstance(dtype, (pl.Datetime, pl.Duration)):
        return column.dt.cast_time_unit("us").to_physical().fill_null(0)
    if dtype in (pl.Date, pl.Time):
        return column.to_physical().cast(pl.Int64).fill_null(0)
    if dtype == pl.Null:
        return column.cast(pl.Int64).fill_null(0)
    if dtype == pl.Binary:
        return column.bin.encode("hex").fill_null("")
    if dtype.is_nested():
        return pl.struct(column.alias("v")).struct.json_encode().alias(name)
    return column.cast(pl.String).fill_null("")


def _bits(series: pl.Series) -> tuple[U64, U64]:
    if series.dtype == pl.String:
        return _text(series)
    if series.dtype == pl.Float64:
        values = series.to_numpy() + 0.0
        values[np.isnan(values)] = np.nan
        bits: U64 = values.view(np.uint64)
    else:
        bits = series.to_numpy().view(np.uint64)
    return bits, bits


def _text(series: pl.Series) -> tuple[U64, U64]:
    """Hashes of texts: a sum of bytes times fixed odd words by place, per lane, and the length."""
    lengths = series.str.len_bytes().to_numpy().astype(np.int64)
    data = np.frombuffer("".join(series.to_list()).encode(), np.uint8).astype(np.uint64) + np.uint64(1)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    place = np.arange(data.size, dtype=np.int64) - np.repeat(starts, lengths)
    words = _words(int(lengths.max(initial=0)))
    lanes = []
    for word in words:
        running = np.zeros(data.size + 1, np.uint64)
        np.cumsum(data * word[place], out=running[1:])
        lanes.append(_mix(running[ends] - running[starts] + lengths.astype(np.uint64)))
    return lanes[0], lanes[1]


@lru_cache(maxsize=8)
def _word_table(size: int) -> tuple[U64, U64]:
    places = np.arange(size, dtype=np.uint64)
    return (
        _mix(places + np.uint64(_LANES[0])) | np.uint64(1),
        _mix(places + np.uint64(_LANES[1])) | np.uint64(1),
    )


def _words(longest: int) -> tuple[U64, U64]:
    size = 64
    while size < longest:
        size *= 2
    return _word_table(size)
