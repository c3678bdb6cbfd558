"""The Parquet files of an append, and what their commit says of them."""

from __future__ import annotations

import math
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

PART_BYTES = 100 << 20
"""About how large a file of streamed rows becomes."""

INDEXED = 32
"""Columns, the first ones, whose statistics a commit carries: Delta's own default."""

_LONGEST = 64
"""Characters of a text that may stand as a bound."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file with rows of a table, on disk."""

    file: str
    """Its name in the table's folder."""
    bytes: int
    told: dict[str, Any]
    """What `statistics` says of its rows."""


def written(
    folder: Path, rows: pl.DataFrame | pl.LazyFrame, kept: dict[str, pl.DataType], *, part_bytes: int = PART_BYTES
) -> list[Part]:
    """Write `rows` into `folder` with the columns `kept`, null where they lack one; no rows, no file.

    A lazy frame is streamed, into several files where it is large. When it fails,
    none of them stays.
    """
    has = set(rows.collect_schema())
    whole = rows.select(pl.col(name) if name in has else pl.lit(None, kind).alias(name) for name, kind in kept.items())
    name = f"part-{{:05}}-{uuid4()}-c000.snappy.parquet"
    if isinstance(whole, pl.LazyFrame):
        return _streamed(folder, whole, name, part_bytes)
    if not whole.height:
        return []
    file = folder / name.format(0)
    try:
        with file.open("wb") as out:
            whole.write_parquet(out, compression="snappy")
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return [Part(file.name, size, statistics(whole))]


def _streamed(folder: Path, rows: pl.LazyFrame, name: str, part_bytes: int) -> list[Part]:
    """Write a lazy frame file by file, in a folder of its own until it is whole."""
    apart = folder / name.format(0).removesuffix("-c000.snappy.parquet")
    files: list[Path] = []
    try:
        target = pl.PartitionBy(apart, approximate_bytes_per_file=part_bytes)
        rows.sink_parquet(target, compression="snappy", mkdir=True, sync_on_close="all")
        found = [(path, statistics(pl.scan_parquet(path))) for path in sorted(apart.rglob("*.parquet"))]
        parts = []
        for path, told in found:
            if told["numRecords"]:
                files.append(path.rename(folder / name.format(len(files))))
                parts.append(Part(files[-1].name, files[-1].stat().st_size, told))
        return parts
    except BaseException:
        for file in files:
            with suppress(OSError):
                file.unlink()
        raise
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def statistics(rows: pl.DataFrame | pl.LazyFrame) -> dict[str, Any]:
    """Row count, nulls and bounds by column, as Delta writes them: readers skip files by them.

    A column without a bound that is sure (text that is long, numbers that are not
    finite) has none. Times are cut to milliseconds, as the protocol says.
    """
    kinds = rows.collect_schema()
    some = [name for name, kind in list(kinds.items())[:INDEXED] if not kind.is_nested()]
    bounded = [n for n in some if kinds[n].is_numeric() or kinds[n].is_temporal() or kinds[n] == pl.String]
    told = rows.select(
        pl.len(),
        *(pl.col(n).null_count().alias(f"n{n}") for n in some),
        *(pl.col(n).min().alias(f"a{n}") for n in bounded),
        *(pl.col(n).max().alias(f"z{n}") for n in bounded),
        *(pl.col(n).is_nan().any().alias(f"f{n}") for n in bounded if kinds[n].is_float()),
    )
    row = (told.collect(engine="streaming") if isinstance(told, pl.LazyFrame) else told).row(0, named=True)
    if not row["len"] or not some:
        return {"numRecords": row["len"]}
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    for name in bounded:
        low, high = _bound(row[f"a{name}"]), _bound(row[f"z{name}"])
        if low is not None and high is not None and not row.get(f"f{name}"):
            least[name], greatest[name] = low, high
    nulls = {name: row[f"n{name}"] for name in some}
    return {"numRecords": row["len"], "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else None
