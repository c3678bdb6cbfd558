"""Rows of JSON: their values have types of their own, which a column of several types keeps beside its texts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from loopline.data.contracts.rules import INT_MAX, INT_MIN

KIND = "\0json "
"""Begins the name of a column that says which type of JSON each value of another one has; null where it is missing."""
KINDS: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    tuple: "array",
    dict: "object",
}
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "integer": ("integer", "number"),
    "number": ("integer", "number"),
    "string": ("string",),
    "boolean": ("boolean",),
    "timestamp": ("string",),
    "date": ("string",),
    "time": (),
    "array": ("array",),
    "object": ("object",),
}
"""Types of JSON that a value of a declared type may be written in."""


GIVEN = "given_types"
"""Column of quarantined rows: types of JSON of values that were of another one than declared: `n=string,s=object`."""


def apart(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """The rows, and by column of several types the type of each of its values."""
    beside = [c for c in frame.columns if c.startswith(KIND)]
    return (frame.drop(beside), {c.removeprefix(KIND): frame[c] for c in beside}) if beside else (frame, {})


def kind_of(dtype: pl.DataType) -> str | None:
    """The type of JSON that values of a column are of; null for moments and others that JSON does not know."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "number"
    if dtype == pl.String:
        return "string"
    return "object" if dtype == pl.Struct else "array" if dtype in (pl.List, pl.Array) else None


def given_types(rows: pl.DataFrame, rules: pl.Series, types: Mapping[str, str | None]) -> pl.Series:
    """Of each row, the types of its values that broke `<column>.logicalType`; null where there are none.

    Parameters
    ----------
    rules : Series of lists
        Ids of the rules that each row breaks.
    types : mapping
        Declared types by column.
    """
    bare, kinds = apart(rows)
    found = []
    for name, dtype in bare.schema.items():
        own = kinds.get(name, pl.Series([kind_of(dtype)] * rows.height, dtype=pl.String))
        if types.get(name) is not None:
            broken = rules.list.contains(f"{name}.logicalType") & own.is_not_null()
            found.append(pl.select(pl.when(broken).then(pl.lit(f"{name}=") + own)).to_series().alias(name))
    if not found:
        return pl.Series(GIVEN, [None] * rows.height, dtype=pl.String)
    listed = pl.DataFrame(found).select(pl.concat_list(pl.all()).list.drop_nulls())
    return listed.select(pl.when(pl.first().list.len() > 0).then(pl.first().list.join(","))).to_series().alias(GIVEN)


def kinds_of(given: pl.Series) -> dict[str, pl.Series]:
    """What `given_types` wrote, by column."""
    parts = given.str.split(",").list.explode(empty_as_null=True, keep_nulls=True).drop_nulls()
    names = parts.str.replace(r"=[a-z]+$", "").unique().to_list()
    found = {}
    for name in names:
        form = rf"(?:^|,){re.escape(name)}=([a-z]+)(?:,|$)"
        found[name] = given.str.extract(form).alias(KIND + name)
    return found


def nested(name: str, values: Sequence[Any]) -> pl.Series:
    """Arrays or objects as a column; where what they hold is of several types, as the texts that JSON writes."""
    try:
        return pl.Series(name, values)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, [_of_texts(value) for value in values])


def _of_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list) else value


def _written(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each name of which stands in it once: readers differ in which of several values they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        values = [value for name, value in pairs if name == twice]
        raise ValueError(f"{twice!r} stands there {len(values)} times, with the values {json.dumps(values)[:80]}")
    return found


def mixed_columns(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The columns whose values are of several types; whole and broken numbers are of one."""
    found: dict[str, set[type]] = {}
    huge = set()
    for row in rows:
        for name, value in row.items():
            kind = type(value)
            try:
                found[name].add(kind)
            except KeyError:
                found[name] = {kind}
            if kind is int and not INT_MIN <= value <= INT_MAX:
                huge.add(name)
    kinds = {
        name: {KINDS.get(kind) or "other" for kind in own if kind is not type(None)} for name, own in found.items()
    }
    several = {name for name, own in kinds.items() if len(own) > 1 and not own <= {"integer", "number"}}
    return several | huge


def rows_frame(rows: Sequence[Mapping[str, Any]], mixed: Collection[str] | None = None) -> pl.DataFrame:
    """Rows as a frame. A column of several types is text, as JSON writes it, with the types beside.

    Parameters
    ----------
    mixed : collection, optional
        The columns that are of several types in all rows, of which these are some.
    """
    odd = mixed_columns(rows) if mixed is None else mixed
    names = dict.fromkeys(name for row in rows for name in row)
    if not any(name in odd for name in names):
        return pl.from_dicts(list(rows), infer_schema_length=None)
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        if name in odd:
            texts = [v if v is None or type(v) is str else _text(v) for v in values]
            columns.append(pl.Series(name, texts, dtype=pl.String))
            kinds = [None if v is None else _kind(v) for v in values]
            columns.append(pl.Series(KIND + name, kinds, dtype=pl.String))
        elif (plain := _PLAIN.get(frozenset(map(type, values)) - _NULL)) is not None:
            columns.append(pl.Series(name, values, dtype=plain, strict=False))
        else:
            columns.append(pl.from_dicts([{name: v} for v in values], infer_schema_length=None)[name])
    return pl.DataFrame(columns)


_NULL = {type(None)}
_WRITER = json.JSONEncoder(ensure_ascii=False, default=str)
_PLAIN: Mapping[frozenset[type], pl.DataType] = {
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
    frozenset({str}): pl.String(),
    frozenset({bool}): pl.Boolean(),
}
"""What becomes of values of these types, nulls among them; the type of others is found by looking at all of them."""


def _kind(value: Any) -> str:
    """The type of JSON, whole numbers beyond 64 bits apart: no table keeps them, and no contract takes them."""
    kind = type(value)
    if kind is int and not INT_MIN <= value <= INT_MAX:
        return "huge"
    return KINDS.get(kind) or "other"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _WRITER.encode(value)
