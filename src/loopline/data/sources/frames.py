"""Frames of any library, and streams of rows, as Polars frames."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import polars as pl

from loopline.base.code import calling_user_code
from loopline.base.errors import Invalid
from loopline.data.sources.json_types import named_once, rows_frame

Frame = pl.DataFrame | pl.LazyFrame | Iterable[Any]
"""Rows as callers give them: a frame of any library, or an iterator of frames or rows."""


def as_frame(result: Any, ref: str) -> pl.DataFrame:
    """What a function returned, or a caller gave, as a Polars frame.

    Polars, pandas, and whatever offers the Arrow C stream (Arrow tables, DuckDB
    results, readers). A pandas index is left out unless it has a name.

    Raises
    ------
    Invalid
        If it is no frame.
    """
    if isinstance(result, pl.DataFrame):
        return result
    if isinstance(result, pl.LazyFrame):
        with calling_user_code(ref):
            return result.collect()
    if type(result).__module__.split(".")[0] == "pandas":
        return _from_pandas(result, ref)
    if hasattr(result, "__arrow_c_stream__"):
        found = pl.DataFrame(result)
        return found
    raise Invalid(
        f"{ref} returned {type(result).__name__}, not a frame",
        why="a source gives the rows of its table",
        fix="give a Polars DataFrame, or batches of rows",
    )


def as_batches(result: Any, ref: str, rows: int) -> Iterable[pl.DataFrame]:
    """A frame, or an iterator of frames or of rows (mappings), as frames; nothing is read ahead."""
    if isinstance(result, pl.LazyFrame):
        return _collected(result, ref, rows)
    whole = isinstance(result, (pl.DataFrame, str, bytes, Mapping)) or hasattr(result, "__arrow_c_stream__")
    if whole or not isinstance(result, Iterable) or type(result).__module__.split(".")[0] == "pandas":
        return [as_frame(result, ref)]
    return _streamed(iter(result), ref, rows)


def json_lines(stream: IO[bytes], shown: str, rows: int) -> Iterator[pl.DataFrame]:
    """Frames of JSON lines as they come in, blank ones left out."""
    for number, lines in enumerate(iter(lambda: list(itertools.islice(stream, rows)), [])):
        try:
            docs = [json.loads(line, object_pairs_hook=named_once) for line in lines if line.strip()]
        except (ValueError, UnicodeDecodeError) as error:
            place = next(i for i, line in enumerate(lines, number * rows + 1) if line.strip() and not _is_json(line))
            raise Invalid(
                f"{shown}, line {place} is not JSON: {error}", why="each line is one row", fix="correct that line"
            ) from error
        if docs:
            yield _of_rows(docs, shown, number * rows)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line, object_pairs_hook=named_once)
    except (ValueError, UnicodeDecodeError):
        return False
    return True


def _collected(rows: pl.LazyFrame, ref: str, size: int) -> Iterator[pl.DataFrame]:
    """One frame where everything fits in one batch, else batch by batch."""
    with calling_user_code(ref):
        found = False
        for batch in rows.collect_batches(chunk_size=size, maintain_order=True, lazy=True):
            found = True
            yield batch
        if not found:
            yield pl.DataFrame(schema=rows.collect_schema())


def _streamed(items: Iterator[Any], ref: str, size: int) -> Iterator[pl.DataFrame]:
    done = 0
    with calling_user_code(ref):
        for first in items:
            if isinstance(first, Mapping):
                rows = [first, *itertools.islice(items, size - 1)]
                yield _of_rows(rows, ref, done)
                done += len(rows)
            else:
                yield as_frame(first, ref)


def _of_rows(rows: list[Any], shown: str, before: int) -> pl.DataFrame:
    for at, row in enumerate(rows, before + 1):
        if not isinstance(row, Mapping):
            raise Invalid(
                f"{shown}, row {at} is {type(row).__name__}, not names with values",
                why="each row names its columns",
                fix='give for example {"id": 1, "value": 2.5}',
            )
    try:
        return rows_frame(rows)
    except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError) as error:
        raise Invalid(
            f"{shown}, rows {before + 1} to {before + len(rows)}: {str(error).splitlines()[0]}",
            why="a column has one type",
            fix="give each column values of one type",
        ) from error


def _from_pandas(frame: Any, ref: str) -> pl.DataFrame:
    """A pandas frame without pyarrow: times and numbers through NumPy, everything else value by value."""
    if type(frame).__name__ == "Series":
        frame = frame.to_frame()
    if not hasattr(frame, "columns"):
        raise Invalid(f"{ref} returned {type(frame).__name__}", why="rows have columns", fix="return a DataFrame")
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    columns = []
    for name in frame.columns:
        column, kind = frame[name], str(frame[name].dtype)
        if kind.startswith("datetime64"):
            zone = str(column.dt.tz) if column.dt.tz is not None else None
            moments = column.dt.tz_convert("UTC").dt.tz_localize(None) if zone else column
            made = pl.Series(str(name), moments.to_numpy().astype("datetime64[us]"))
            columns.append(made.dt.replace_time_zone("UTC") if zone else made)
        elif kind in ("bool", "float64", "float32") or kind.startswith(("int", "uint")):
            made = pl.Series(str(name), column.to_numpy())
            columns.append(made.fill_nan(None) if made.dtype.is_float() else made)
        else:
            values = [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
            try:
                columns.append(pl.Series(str(name), values, strict=True))
            except (TypeError, pl.exceptions.PolarsError) as error:
                raise Invalid(
                    f"{ref}: column {name!r} holds values of several types: {str(error).splitlines()[0]}",
                    why="a column has one type",
                    fix=f"convert it first, for example frame[{name!r}].astype(str)",
                ) from error
    return pl.DataFrame(columns)
