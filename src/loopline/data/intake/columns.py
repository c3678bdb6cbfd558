"""Columns of a source, brought to the form in which tables keep them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.contracts.column_texts import IN_TEXT, UTC_TIME, beyond, read_days, read_times
from loopline.data.contracts.contract import Contract
from loopline.data.contracts.rules import INT_MAX, INT_MIN, Column
from loopline.data.history.known import KNOWN_AT
from loopline.data.sources.json_types import ALLOWED, nested
from loopline.data.spec import TableSpec


def require_columns(frame: pl.DataFrame, name: str, spec: TableSpec, contract: Contract | None) -> None:
    """Refuse a source that lacks what the table or its contract needs."""
    wanted = [("event_time", spec.event_time), ("known_at", spec.known_at), *(("key", k) for k in spec.key)]
    wanted += [("required by its contract", c.name) for c in (contract.columns if contract else ()) if c.required]
    for role, column in wanted:
        if column is not None and column not in frame.columns:
            raise Invalid(
                f"table {name} has no column {column!r} ({role})",
                why=f"the source brings: {', '.join(frame.columns) or 'no columns'}",
                fix=f"restore it in the source {spec.source}, or correct data.{name}",
            )
    if spec.known_at is None and KNOWN_AT in frame.columns:
        raise Invalid(
            f"table {name} has a column {KNOWN_AT!r} that is not declared",
            why="Loopline writes there when a row was ingested, unless the source knows",
            fix=f"declare `known_at: {KNOWN_AT}` for data.{name}, or rename the column",
        )


def text_columns(contract: Contract | None) -> frozenset[str]:
    """Columns that files of text are to be read as texts: those declared as such, and dates, which have one form."""
    return frozenset(c.name for c in contract.columns if c.type in ("string", "date")) if contract else frozenset()


def read_declared(
    frame: pl.DataFrame,
    contract: Contract | None,
    *,
    parsed: Collection[str] | None = None,
    kinds: Mapping[str, pl.Series] | None = None,
    repaired: Collection[str] = (),
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Text columns read as their contract declares, as files of text need.

    Returns the frame, and one Boolean column per rule `<column>.logicalType` that
    says which texts could not be read; those values are null in the frame.

    Parameters
    ----------
    parsed : collection, optional
        Columns whose texts are read as any declared type; all by default, as for CSV.
        Where values have types of their own, texts are read as moments and dates only,
        as in a request.
    kinds : mapping, optional
        By column of several types, the type of JSON that each value was written in.
    repaired : collection, optional
        Columns whose texts are repaired, and so may be numbers.
    """
    readers: dict[str, Any] = {
        "integer": _whole,
        "number": lambda s, _: s.str.strip_chars().cast(pl.Float64, strict=False),
        "date": lambda s, _: read_days(s),
        "timestamp": read_times,
        "boolean": lambda s, _: (
            s.str.strip_chars()
            .str.to_lowercase()
            .replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
        ),
    }
    masks: dict[str, pl.Series] = {}
    schema = frame.schema
    for column in contract.columns if contract else ():
        dtype = schema.get(column.name)
        wrong = _written_otherwise(frame, column, (kinds or {}).get(column.name), repaired)
        if wrong is not None:
            frame = frame.with_columns(pl.when(~wrong).then(pl.col(column.name)).alias(column.name))
            if wrong.any():
                masks[wrong.name] = wrong
        if dtype is not None and column.type in IN_TEXT and (far := beyond(frame[column.name])) is not None:
            masks[f"{column.name}.logicalType"] = far.alias(f"{column.name}.logicalType")
            frame = frame.with_columns(frame[column.name].set(far, None))
        if dtype == pl.Null and column.type in _EMPTY:
            frame = frame.with_columns(pl.col(column.name).cast(_EMPTY[column.type]))
        elif wrong is not None and column.type in ("array", "object"):
            values = [json.loads(text) if text is not None else None for text in frame[column.name]]
            frame = frame.with_columns(nested(column.name, values))
        elif dtype == pl.String and column.type in readers:
            own = parsed is not None and column.name not in parsed and column.type not in IN_TEXT
            if own and wrong is None:
                continue
            filled = frame[column.name] if own else frame[column.name].replace("", None)
            read = readers[column.type](filled, column.zone)
            lost = (read.is_null() & filled.is_not_null()).alias(f"{column.name}.logicalType")
            frame = frame.with_columns(read.alias(column.name))
            if lost.any():
                masks[lost.name] = lost | masks[lost.name] if lost.name in masks else lost
    return frame, pl.DataFrame(masks)


def _written_otherwise(
    frame: pl.DataFrame, column: Column, kinds: pl.Series | None, repaired: Collection[str]
) -> pl.Series | None:
    """Which values of a column of several types are of none that its declared type is written in; null without such."""
    if kinds is None or column.type is None or column.name not in frame.columns:
        return None
    allowed = list(ALLOWED[column.type])
    if column.name in repaired:
        allowed.append("string")
    present = frame[column.name].is_not_null() & kinds.is_not_null()
    return (present & ~kinds.is_in(allowed)).alias(f"{column.name}.logicalType")


_EMPTY: dict[str | None, Any] = {
    "integer": pl.Int64,
    "number": pl.Float64,
    "date": pl.Date,
    "timestamp": UTC_TIME,
    "boolean": pl.Boolean,
    "string": pl.String,
}


def emptied(good: pl.DataFrame, contract: Contract | None) -> pl.DataFrame:
    """`good`, columns without any value in their declared type: those refused had given them another."""
    empty = [
        pl.lit(None, _EMPTY[c.type]).alias(c.name)
        for c in (contract.columns if contract else ())
        if c.type in _EMPTY and good.schema.get(c.name, _EMPTY[c.type]) != _EMPTY[c.type]
        if good[c.name].null_count() == good.height
    ]
    return good.with_columns(empty) if empty else good


def _whole(texts: pl.Series, _: str | None) -> pl.Series:
    """Whole numbers, however they are written: 3, 3.0 and 3e0 are one; each digit counts."""
    bare = texts.str.strip_chars().str.replace(r"^([-+]?[0-9]+)\.0*$", "$1")
    found = bare.cast(pl.Int64, strict=False)
    if found.null_count() == texts.null_count():
        return found
    broken = bare.cast(pl.Float64, strict=False)
    whole = (broken == broken.floor()) & (broken >= -(2.0**63)) & (broken < 2.0**63)
    fine = whole.fill_null(False)
    near = found.fill_null(broken.set(~fine, None).cast(pl.Int64, strict=False))
    great = found.is_null() & fine & (broken.abs() >= 2.0**53)
    if not great.any():
        return near
    exactly = [int(Decimal(text)) for text in bare.filter(great)]
    return near.scatter(great.arg_true(), [n if INT_MIN <= n <= INT_MAX else None for n in exactly])


def canonical(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Types as tables keep them: 64-bit numbers, text for categories, null for NaN."""
    changes: list[pl.Expr] = []
    for column, dtype in frame.schema.items():
        if dtype.is_integer() and dtype != pl.Int64:
            changes.append(pl.col(column).cast(pl.Int64))
        elif dtype.is_float():
            changes.append(pl.col(column).cast(pl.Float64).fill_nan(None))
        elif dtype in (pl.Categorical, pl.Enum, pl.Time, pl.Null):
            changes.append(pl.col(column).cast(pl.String))
        elif dtype in (pl.Object, pl.Duration):
            raise Invalid(
                f"{name}.{column} is {dtype}", why="tables keep plain values", fix="give a number, text or time"
            )
    try:
        return frame.with_columns(changes) if changes else frame
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            f"{name} holds integers beyond 64 bits", why=str(error).splitlines()[0], fix="give them as text"
        ) from error


def align(frame: pl.DataFrame, schema: Mapping[str, str]) -> pl.DataFrame:
    """Columns whose type depends on what happened to be in them, as the table has them."""
    changes: list[pl.Series] = []
    names: dict[str, Any] = {
        str(kind): kind for kind in (pl.Int64(), pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), UTC_TIME)
    }
    for column, dtype in frame.schema.items():
        wanted = names.get(schema.get(column, ""))
        if wanted is None or dtype == wanted:
            continue
        series = frame[column]
        if series.null_count() == series.len():
            changes.append(pl.Series(column, [None] * series.len(), dtype=wanted))
            continue
        whole = dtype == pl.Float64 and wanted == pl.Int64 and bool((series == series.floor()).all())
        if (dtype == pl.Int64 and wanted == pl.Float64) or whole:
            changes.append(series.cast(wanted, strict=False))
    return frame.with_columns(changes) if changes else frame
