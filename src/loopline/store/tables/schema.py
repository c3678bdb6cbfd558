"""Which rows fit a table: types that can be kept, and columns that never change theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from deltalake import DeltaTable

from loopline.base.errors import Conflict, Invalid

_KEPT_AS: dict[type[pl.DataType] | pl.DataType, pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
}
_WIDTH: dict[type[pl.DataType], int] = {pl.Int8: 8, pl.Int16: 16, pl.Int32: 32, pl.Int64: 64}
_UTC = pl.Datetime("us", "UTC")


def table_schema(table: DeltaTable) -> dict[str, pl.DataType]:
    """The columns of a table with their Polars types."""
    empty = pl.DataFrame(table.schema().to_arrow().empty_table())
    return {name: kept_as("", name, dtype) for name, dtype in empty.schema.items()}


def fitted(
    name: str, rows: pl.DataFrame | pl.LazyFrame, kept: dict[str, pl.DataType] | None
) -> pl.DataFrame | pl.LazyFrame:
    """`rows` as the table `name` with the columns `kept` (null: a new one) takes them.

    Narrower numbers are widened, a column of nulls takes the type the table
    has; nothing else is converted.

    Raises
    ------
    Conflict
        If a column has another type in the table.
    Invalid
        If a type cannot be kept at all.
    """
    wanted: dict[str, pl.DataType] = {}
    schema = rows.collect_schema()
    for column, dtype in schema.items():
        in_table = (kept or {}).get(column)
        if in_table is not None and dtype == pl.Null:
            wanted[column] = in_table
            continue
        fits = kept_as(name, column, dtype)
        if in_table is None or fits == in_table:
            wanted[column] = fits
        elif _widens(fits, in_table):
            wanted[column] = in_table
        else:
            raise Conflict(
                f"column {column} of the table {name} is {in_table}, not {dtype}",
                why="a column never changes its type, so that old rows stay readable",
                fix=f"cast it before: pl.col({column!r}).cast(pl.{in_table}), or give the new values a new name",
            )
    changed = {column: dtype for column, dtype in wanted.items() if schema[column] != dtype}
    if not schema:
        raise Invalid(
            f"nothing can be appended to the table {name}",
            why="the rows have no columns",
            fix="give at least one column",
        )
    return rows.cast(changed) if changed else rows  # type: ignore[arg-type]


def kept_as(name: str, column: str, dtype: pl.DataType) -> pl.DataType:
    """The type in which a table keeps values of `dtype`."""
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            raise Invalid(
                f"column {column} of the table {name} has times without a zone",
                why="Loopline never guesses a zone",
                fix=f'attach one: pl.col({column!r}).dt.replace_time_zone("UTC")',
            )
        return _UTC
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(kept_as(name, column, _inner(dtype.inner)))
    if isinstance(dtype, pl.Array):
        return pl.List(kept_as(name, column, _inner(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(f.name, kept_as(name, column, _inner(f.dtype))) for f in dtype.fields])
    if dtype in (pl.Null, pl.Duration, pl.Time, pl.Object, pl.Unknown, pl.Int128, pl.UInt128, pl.Float16):
        raise Invalid(
            f"column {column} of the table {name} has the type {dtype}",
            why="tables keep numbers, text, bytes, booleans, dates, UTC times, lists and structs",
            fix=f"cast it before, for example pl.col({column!r}).cast(pl.Float64)",
        )
    return _KEPT_AS.get(type(dtype), dtype)


_NAMED: dict[type[pl.DataType], str] = {
    pl.Int8: "byte",
    pl.Int16: "short",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.Float32: "float",
    pl.Float64: "double",
    pl.String: "string",
    pl.Boolean: "boolean",
    pl.Binary: "binary",
    pl.Date: "date",
    pl.Datetime: "timestamp",
}


def delta_schema(columns: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """The columns of a table as the log of Delta spells them; each may be null."""
    fields = [
        {"name": name, "type": _spelled(kind), "nullable": True, "metadata": {}} for name, kind in columns.items()
    ]
    return {"type": "struct", "fields": fields}


def _spelled(kind: pl.DataType) -> str | dict[str, Any]:
    if isinstance(kind, pl.List):
        return {"type": "array", "elementType": _spelled(_inner(kind.inner)), "containsNull": True}
    if isinstance(kind, pl.Struct):
        return delta_schema({field.name: _inner(field.dtype) for field in kind.fields})
    if isinstance(kind, pl.Decimal):
        return f"decimal({kind.precision},{kind.scale})"
    return _NAMED[type(kind)]


def _inner(dtype: object) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()  # type: ignore[operator]


def _widens(given: pl.DataType, kept: pl.DataType) -> bool:
    if given == pl.Float32 and kept == pl.Float64:
        return True
    return _WIDTH.get(type(given), 99) < _WIDTH.get(type(kept), 0)
