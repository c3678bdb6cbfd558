"""Expressions compiled to Polars."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from loopline.base.errors import Invalid
from loopline.features.expr import ARITHMETIC, COMPARISONS, LEAVES, Expr
from loopline.features.views import Views

_COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
    "==": pl.Expr.eq,
    "!=": pl.Expr.ne,
}
_CASTS: dict[str, type[pl.DataType]] = {"float": pl.Float64, "int": pl.Int64, "text": pl.String}


def compiled(tree: Expr, leaves: Mapping[int, str]) -> pl.Expr:
    """`tree` as a Polars expression.

    Parameters
    ----------
    tree : Expr
    leaves : mapping
        Column that holds the result of a lookup or window, by the `id()` of its node.

    Notes
    -----
    Columns must hold null instead of NaN (`without_nan`).
    """
    op, args = tree.op, tree.args
    if op in LEAVES:
        return pl.col(leaves[id(tree)])
    if op == "col":
        return pl.col(args[0])
    if op == "lit":
        return pl.lit(args[0])
    parts = [compiled(arg, leaves) for arg in args if isinstance(arg, Expr)]
    if op in ARITHMETIC:
        return _arithmetic(op, parts[0].cast(pl.Float64), parts[1].cast(pl.Float64))
    if op in COMPARISONS:
        return _COMPARE[op](parts[0], parts[1])
    match op:
        case "and":
            return parts[0] & parts[1]
        case "or":
            return parts[0] | parts[1]
        case "not":
            return ~parts[0]
        case "is_null":
            return parts[0].is_null()
        case "fill":
            return pl.coalesce(parts[0], parts[1])
        case "cast":
            return parts[0].cast(_CASTS[args[1]], strict=False)
        case "category":
            return parts[0].cast(pl.String)
        case "when":
            return pl.when(parts[0]).then(parts[1]).otherwise(parts[2])
        case "log1p":
            value = parts[0].cast(pl.Float64)
            return pl.when(value > -1).then(value.log1p())
        case "minutes":
            return (parts[1] - parts[0]).dt.total_microseconds().cast(pl.Float64) / 60e6
        case "local":
            return _local(parts[0].dt.convert_time_zone(args[2]), args[1])
    raise AssertionError(f"operator {op} has no batch form")


def _arithmetic(op: str, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    return pl.when(right != 0).then(left / right)


def _local(wall: pl.Expr, part: str) -> pl.Expr:
    match part:
        case "hour":
            return wall.dt.hour()
        case "minute_of_day":
            return wall.dt.hour().cast(pl.Int32) * 60 + wall.dt.minute()
        case "weekday":
            return wall.dt.weekday()
        case "month":
            return wall.dt.month()
    return wall.dt.ordinal_day()


def without_nan(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with null for NaN."""
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    return frame.with_columns(pl.col(floats).fill_nan(None)) if floats else frame


def as_features(made: pl.DataFrame, views: Views) -> pl.DataFrame:
    """Computed columns as models take them: Float32 or String, null for what is not finite.

    Raises
    ------
    Invalid
        If a column is a time, or text without being a category.
    """
    for one in views.views:
        for name, tree in one.features:
            dtype = made.schema[name]
            if tree.op != "category" and (dtype == pl.String or dtype.is_temporal() or dtype.is_nested()):
                raise Invalid(
                    f"feature {name!r} of view {one.name} is {dtype}",
                    why="a feature is a number, a truth or a category",
                    fix="end it with .category(), or turn a time into .hour(zone) or minutes_between(...)",
                )
    numbers = [name for name in views.names if name not in views.categorical]
    narrow = made.with_columns(pl.col(numbers).cast(pl.Float32))
    return narrow.with_columns(pl.when(pl.col(numbers).is_finite()).then(pl.col(numbers)).name.keep())
