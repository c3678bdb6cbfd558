"""A contract as one lazy Polars query: counts of broken rules, and which rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import polars as pl

from loopline.data.contracts.baseline import Baseline, class_counts
from loopline.data.contracts.column_texts import IN_TEXT, read_column
from loopline.data.contracts.rules import INT_MAX, INT_MIN, LINK_KINDS, SET_KINDS, Rule, column_rules
from loopline.data.language.numbers import exact, nearest
from loopline.data.language.pattern import portable
from loopline.data.language.relation import Relation

_SMALL = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_WIDE = (pl.UInt64, pl.Int128)
_FLOATS = (pl.Float32, pl.Float64)
_TEXT = (pl.String, pl.Categorical, pl.Enum)


def is_missing(name: str, dtype: pl.DataType, declared: str | None = None) -> pl.Expr:
    """Whether a value is null or NaN, or an empty text where a moment or date is declared."""
    column = pl.col(name)
    if declared in IN_TEXT and dtype in _TEXT:
        return column.is_null() | (column.cast(pl.String) == "")
    if dtype in _FLOATS:
        return column.is_null() | column.is_nan()
    return column.is_null()


def broken_rows(
    rules: Sequence[Rule],
    schema: Mapping[str, pl.DataType],
    per: Sequence[str] = (),
    held: Mapping[str, pl.Series] | None = None,
    types: Mapping[str, str | None] | None = None,
    zones: Mapping[str, str | None] | None = None,
) -> dict[str, pl.Expr]:
    """For each rule that rows of this schema can break, a Boolean expression: broken here.

    Null where nothing was compared, which means not broken. A column that the
    schema lacks counts as missing everywhere. `per` names columns that split the
    rows into versions: `unique` compares only within one version. `held` has, by id
    of a reference, the values that the other table holds; a reference without them
    is left out. `types` has the declared types of columns that references and
    relations need, `zones` the zones of texts that name a time without one.
    """
    marks: dict[str, pl.Expr] = {}
    types, zones = types or {}, zones or {}
    for name, own in column_rules(rules).items():
        marks.update(_column(name, own, schema.get(name), zones.get(name)))
    for rule in rules:
        if rule.kind in SET_KINDS and all(name in schema for name in rule.columns):
            marks[rule.id] = _surplus(rule, schema, per, types)
        elif rule.kind in LINK_KINDS and (rule.kind == "check" or rule.id in (held or {})):
            apart = rule.kind == "check"
            values = {
                n: typed_value(n, schema.get(n), str(types[n]), zones.get(n), exactly=apart) for n in rule.columns
            }
            broken = _unheld(values, held[rule.id]) if held and not apart else _unrelated(rule, values, schema, types)
            real = any(schema.get(name) not in (None, pl.Null) for name in rule.columns)
            marks[rule.id] = broken if real else broken & pl.repeat(True, pl.len())
    return {rule.id: marks[rule.id] for rule in rules if rule.id in marks}


def broken_counts(
    rules: Sequence[Rule], schema: Mapping[str, pl.DataType], marks: Mapping[str, pl.Expr]
) -> list[pl.Expr]:
    """How often each rule is broken, named by its id; rules that cannot be are left out."""
    counts: list[pl.Expr] = []
    for rule in rules:
        if rule.id not in marks:
            continue
        dtype = schema.get(rule.columns[0])
        if rule.kind == "required" and dtype not in (None, pl.Null) and dtype not in (*_FLOATS, *_TEXT):
            counts.append(pl.col(rule.columns[0]).null_count().alias(rule.id))
        else:
            counts.append(marks[rule.id].sum().alias(rule.id))
    return counts


def totals(
    rules: Sequence[Rule],
    schema: Mapping[str, pl.DataType],
    types: Mapping[str, str | None],
    zones: Mapping[str, str | None],
) -> dict[str, list[pl.Expr]]:
    """For each rule about a whole set of rows, the numbers that it is judged by (see `judging.py`)."""
    found: dict[str, list[pl.Expr]] = {}
    for rule in rules:
        name = rule.columns[0] if rule.columns else ""
        if rule.kind == "nullValues":
            found[rule.id] = [is_missing(name, schema[name], types.get(name)).sum() if name in schema else pl.len()]
        elif rule.kind == "rowCount":
            found[rule.id] = [pl.len()]
        elif rule.kind == "freshness":
            found[rule.id] = [typed_value(name, schema.get(name), "timestamp", zones.get(name)).max()]
        elif rule.kind == "distribution":
            assert isinstance(rule.value, Baseline)
            value = typed_value(name, schema.get(name), str(types[name]), zones.get(name))
            found[rule.id] = class_counts(value, rule.value)
    return found


_PLAIN: dict[str, Any] = {
    "integer": pl.Int64,
    "number": pl.Float64,
    "string": pl.String,
    "boolean": pl.Boolean,
    "timestamp": pl.Datetime("us", "UTC"),
    "date": pl.Date,
    "time": pl.Time,
}
"""The one type in which values of a logical type are compared with each other."""


def typed_value(
    name: str, dtype: pl.DataType | None, declared: str, zone: str | None = None, *, exactly: bool = False
) -> pl.Expr:
    """A column in the one type of its logical type; null where missing, absent or of another type.

    `exactly`: integers of a column of numbers stay what they are.
    """
    plain = _PLAIN.get(declared)
    if exactly and declared == "number" and (dtype in _SMALL or dtype in _WIDE):
        plain = pl.Int64
    if dtype is None or dtype == pl.Null:
        return pl.lit(None, plain)
    value, fits = _typed(pl.col(name), dtype, declared, zone)
    if fits is False:
        return pl.lit(None, plain)
    if isinstance(fits, pl.Expr):
        value = pl.when(fits).then(value)
    if declared == "number" and (dtype in _FLOATS or isinstance(dtype, pl.Decimal)):
        value = value.fill_nan(None)
    return value.cast(plain) if plain is not None else value


def _unrelated(
    rule: Rule, values: Mapping[str, pl.Expr], schema: Mapping[str, pl.DataType], types: Mapping[str, str | None]
) -> pl.Expr:
    assert isinstance(rule.value, Relation)
    whole = {n for n in values if types[n] == "integer" or schema.get(n) in _SMALL or schema.get(n) in _WIDE}
    return ~rule.value.holds(values, whole)


def _unheld(values: Mapping[str, pl.Expr], there: pl.Series) -> pl.Expr:
    """Broken where all values are present and stand together nowhere in the other table."""
    if len(values) == 1:
        (value,) = values.values()
        return value.is_not_null() & ~value.is_in(pl.lit(there).implode())
    whole = pl.struct(value.alias(name) for name, value in values.items())
    present = pl.all_horizontal([value.is_not_null() for value in values.values()])
    return present & ~whole.is_in(pl.lit(there).implode())


def _column(name: str, rules: list[Rule], dtype: pl.DataType | None, zone: str | None) -> dict[str, pl.Expr]:
    kinds = {rule.kind: rule for rule in rules}
    if dtype is None or dtype == pl.Null:
        return {kinds["required"].id: pl.repeat(True, pl.len())} if "required" in kinds else {}
    declared = str(kinds["logicalType"].value) if "logicalType" in kinds else None
    marks: dict[str, pl.Expr] = {}
    if "required" in kinds:
        marks[kinds["required"].id] = is_missing(name, dtype, declared)
    if declared is None:
        return marks
    value, fits = _typed(pl.col(name), dtype, declared, zone)
    if fits is False:
        return marks | {kinds["logicalType"].id: ~is_missing(name, dtype)}
    if isinstance(fits, pl.Expr):
        marks[kinds["logicalType"].id] = ~is_missing(name, dtype, declared) & ~fits
        value = pl.when(fits).then(value)
    for rule in rules:
        if rule.kind not in ("required", "logicalType"):
            marks[rule.id] = _check(value, dtype, rule)
    return marks


def _typed(column: pl.Expr, dtype: pl.DataType, declared: str, zone: str | None) -> tuple[pl.Expr, pl.Expr | bool]:
    """The value to compare, and whether it has the declared type (for all, none, or by row)."""
    if declared in IN_TEXT and dtype in _TEXT:
        value = read_column(column.cast(pl.String), declared, zone)
        return value, value.is_not_null()
    if declared in ("integer", "number"):
        if dtype in _SMALL:
            return (column if dtype in (pl.Int64, pl.Int32) else column.cast(pl.Int64)), True
        if dtype in _WIDE:
            wide = column.cast(pl.Int128)
            return wide, wide.is_between(pl.lit(INT_MIN, pl.Int128), pl.lit(INT_MAX, pl.Int128))
        if isinstance(dtype, pl.Decimal):
            dtype, column = pl.Float64(), column.cast(pl.Float64)
        if dtype in _FLOATS:
            value = column.cast(pl.Float64) if dtype == pl.Float32 else column
            if declared == "number":
                return value, True
            return value, (value == value.floor()) & (value >= -(2.0**63)) & (value < 2.0**63)
        return column, False
    if declared == "string":
        return (column if dtype == pl.String else column.cast(pl.String)), dtype in _TEXT
    if declared == "timestamp":
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us"), True
        return column, False
    expected: dict[str, tuple[Any, ...]] = {
        "boolean": (pl.Boolean,),
        "date": (pl.Date,),
        "time": (pl.Time,),
        "object": (pl.Struct,),
        "array": (pl.List, pl.Array),
    }
    return column, dtype in expected[declared]


def _check(value: pl.Expr, dtype: pl.DataType, rule: Rule) -> pl.Expr:
    limit: Any = rule.value
    if rule.kind == "minLength":
        return value.str.len_chars() < pl.lit(limit)
    if rule.kind == "maxLength":
        return value.str.len_chars() > pl.lit(limit)
    if rule.kind in ("minItems", "maxItems"):
        count = value.arr.len() if isinstance(dtype, pl.Array) else value.list.len()
        return count < pl.lit(limit) if rule.kind == "minItems" else count > pl.lit(limit)
    if rule.kind == "pattern":
        return ~value.str.contains(f"^(?:{portable(str(limit))})$")
    if rule.kind == "validValues":
        outside = ~value.is_in(pl.lit(_values(limit, dtype)).implode())
        return outside & ~value.is_nan() if dtype in _FLOATS else outside
    return _compare(value, dtype, rule.kind, limit)


def _values(values: tuple[Any, ...], dtype: pl.DataType) -> pl.Series:
    if dtype in _SMALL or dtype in _WIDE:
        kind = pl.Int128 if dtype in _WIDE else pl.Int32 if dtype == pl.Int32 else pl.Int64
        whole = [int(v) for v in values if v == int(v) and INT_MIN <= v <= INT_MAX]
        return pl.Series(whole if kind != pl.Int32 else [v for v in whole if -(2**31) <= v < 2**31], dtype=kind)
    if dtype in _FLOATS or isinstance(dtype, pl.Decimal):
        return pl.Series([float(v) for v in values if exact(v)], dtype=pl.Float64)
    if dtype == pl.Boolean:
        return pl.Series([bool(v) for v in values], dtype=pl.Boolean)
    return pl.Series([str(v) for v in values], dtype=pl.String)


def _compare(value: pl.Expr, dtype: pl.DataType, kind: str, limit: Any) -> pl.Expr:
    """`broken` for a bound, exact for every pair of number types; NaN breaks none."""
    if isinstance(limit, datetime):
        edge = pl.lit(limit).cast(pl.Datetime("us", "UTC"))
    elif isinstance(limit, date):
        edge = pl.lit(limit)
    elif dtype in _SMALL or dtype in _WIDE:
        up = kind in ("minimum", "exclusiveMaximum")
        whole = math.ceil(limit) if up else math.floor(limit)
        # x < 2.5 is x < 3, x <= 2.5 is x <= 2: the end that is whole on the same side
        if not INT_MIN <= whole <= INT_MAX:  # no whole number that is judged reaches it
            value = value.cast(pl.Int128)
            edge = pl.lit(min(max(whole, INT_MIN - 1), INT_MAX + 1), pl.Int128)
        elif dtype == pl.Int32 and not -(2**31) <= whole < 2**31:
            value = value.cast(pl.Int64)
            edge = pl.lit(whole, pl.Int64)
        else:
            edge = pl.lit(whole, pl.Int128 if dtype in _WIDE else pl.Int32 if dtype == pl.Int32 else pl.Int64)
    else:
        edge = pl.lit(nearest(limit, up=kind in ("minimum", "exclusiveMaximum")), pl.Float64)
    if kind == "minimum":
        return value < edge
    if kind == "exclusiveMinimum":
        return value <= edge
    beyond = value > edge if kind == "maximum" else value >= edge
    return beyond & ~value.is_nan() if dtype in _FLOATS else beyond


def _surplus(
    rule: Rule, schema: Mapping[str, pl.DataType], per: Sequence[str], types: Mapping[str, str | None]
) -> pl.Expr:
    present = ~pl.any_horizontal([is_missing(name, schema[name], types.get(name)) for name in rule.columns])
    names = [*rule.columns, *(p for p in per if p in schema and p not in rule.columns)]
    first = pl.col(names[0]) if len(names) == 1 else pl.struct(names)
    return present & ~first.is_first_distinct()
