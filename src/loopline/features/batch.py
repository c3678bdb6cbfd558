"""Expressions compiled to Polars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from loopline.base.errors import Invalid
from loopline.features.expr import ARITHMETIC, COMPARISONS, LEAVES, Expr, literal
from loopline.features.functions import RowFunction, over_rows
from loopline.features.operators import BLANKS, NUMBER, WHOLE, ZONES, Kind, common, fits, of_value
from loopline.features.views import Views

_COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
    "==": pl.Expr.eq,
    "!=": pl.Expr.ne,
}
UTC_US = pl.Datetime("us", "UTC")
_TYPES: dict[Kind, pl.DataType] = {
    "number": pl.Float64(),
    "truth": pl.Boolean(),
    "text": pl.String(),
    "moment": UTC_US,
    "any": pl.Null(),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A compiled node. `loose` says that a float in it may have left the finite numbers."""

    made: pl.Expr
    kind: Kind
    loose: bool = False


def compiled(
    tree: Expr,
    leaves: Mapping[int, str],
    schema: Mapping[str, pl.DataType],
    wanted: Kind = "any",
    *,
    last: bool = False,
) -> tuple[pl.Expr, Kind]:
    """`tree` as a Polars expression, and what its values are.

    Parameters
    ----------
    tree : Expr
    leaves : mapping
        Column that holds the result of a lookup or window, by the `id()` of its node.
    schema : mapping
        Types of the columns, of a frame that `as_read` returned.
    wanted : Kind
        What the result is taken for.
    last : bool
        Leave what is not finite to `as_features`.

    Raises
    ------
    Invalid
        If a column is absent, or an operator meets a value of another kind.
    """
    return _Compiler(leaves, schema).checked(tree, wanted, last=last)


class _Compiler:
    def __init__(self, leaves: Mapping[int, str], schema: Mapping[str, pl.DataType]) -> None:
        self._leaves, self._schema = leaves, schema

    def checked(self, tree: Expr, wanted: Kind = "any", *, last: bool = False) -> tuple[pl.Expr, Kind]:
        """A node whose value stands on its own: not finite is null in what was computed."""
        part = self._part(tree, wanted)
        fits(tree.op, part.kind, wanted, *tree.args[:1])
        made = pl.when(part.made.is_finite()).then(part.made) if part.loose and not last else part.made
        if part.kind == "any" and wanted != "any":
            return made.cast(_TYPES[wanted]), wanted
        return made, part.kind

    def _float(self, tree: Expr) -> pl.Expr:
        made, _ = self.checked(tree, "number")
        return made.cast(pl.Float64)

    def _text(self, tree: Expr) -> pl.Expr:
        return self.checked(tree, "text")[0]

    def _part(self, tree: Expr, wanted: Kind) -> _Part:
        op, args = tree.op, tree.args
        if op in LEAVES or op == "col":
            name = self._leaves[id(tree)] if op in LEAVES else args[0]
            return _Part(pl.col(name), kind_of(self._type(name), name))
        if op == "lit":
            return _Part(pl.lit(args[0], dtype=_literal_type(args[0])), of_value(args[0]))
        if op in ARITHMETIC:
            return self._arithmetic(op, *args)
        if op in COMPARISONS:
            return _Part(self._compared(op, *args), "truth")
        if op in ("fill", "when"):
            return self._chosen(tree, wanted)
        return self._other(tree)

    def _type(self, name: str) -> pl.DataType:
        if name not in self._schema:
            raise Invalid(
                f"there is no column {name!r}",
                why="an expression reads it",
                fix=f"the columns are {', '.join(self._schema)}",
            )
        return self._schema[name]

    def _other(self, tree: Expr) -> _Part:
        op, args = tree.op, tree.args
        match op:
            case "and" | "or":
                left, right = (self.checked(arg, "truth")[0] for arg in args)
                return _Part(left & right if op == "and" else left | right, "truth")
            case "not":
                return _Part(~self.checked(args[0], "truth")[0], "truth")
            case "is_null":
                return _Part(self.checked(args[0])[0].is_null(), "truth")
            case "is_in":
                return _Part(self._is_in(args[0], args[1:]), "truth")
            case "cast":
                return self._cast(args[0], args[1])
            case "category":
                return _Part(text_of(*self.checked(args[0])), "text")
            case "abs":
                return _Part(self._float(args[0]).abs(), "number")
            case "floor":
                return _Part(self._float(args[0]).floor(), "number")
            case "least" | "greatest":
                left, right = self._float(args[0]), self._float(args[1])
                first = left <= right if op == "least" else left >= right
                both = left.is_not_null() & right.is_not_null()
                return _Part(pl.when(both).then(pl.when(first).then(left).otherwise(right)), "number")
            case "log1p":
                value = self._float(args[0])
                return _Part(pl.when(value > -1).then(value.log1p()), "number")
            case "lower":
                return _Part(self._text(args[0]).str.to_lowercase(), "text")
            case "strip":
                return _Part(self._text(args[0]).str.strip_chars(BLANKS), "text")
            case "length":
                return _Part(self._text(args[0]).str.len_chars().cast(pl.Int64), "number")
            case "starts_with":
                return _Part(self._text(args[0]).str.starts_with(args[1]), "truth")
            case "minutes":
                start, end = (self.checked(arg, "moment")[0] for arg in args)
                length = (end - start).dt.total_microseconds().cast(pl.Float64)
                return _Part(_divided(length, pl.lit(60e6), literal(60e6)), "number")
            case "local":
                return _Part(_local(self.checked(args[0], "moment")[0], *args[1:]), "number")
            case "call":
                return self._call(args[0], args[1:])
        raise AssertionError(f"operator {op} has no batch form")

    def _arithmetic(self, op: str, one: Expr, other: Expr) -> _Part:
        left = self._loose(one)
        if op in "/%":
            right = self._float(other)
            quotient = _divided(left, right, other)
            return _Part(quotient if op == "/" else left - quotient.floor() * right, "number", True)
        right = self._loose(other)
        return _Part({"+": left + right, "-": left - right, "*": left * right}[op], "number", True)

    def _loose(self, tree: Expr) -> pl.Expr:
        """A float that only arithmetic sees: what is not finite stays so and is judged at its end."""
        part = self._part(tree, "number")
        fits(tree.op, part.kind, "number", *tree.args[:1])
        return part.made.cast(pl.Float64)

    def _compared(self, op: str, one: Expr, other: Expr) -> pl.Expr:
        (left, kind), (right, with_) = self.checked(one), self.checked(other)
        both = common(op, kind, with_, "any")
        left, right = _as(left, kind, both), _as(right, with_, both)
        return _COMPARE[op](left, right)

    def _chosen(self, tree: Expr, wanted: Kind) -> _Part:
        *condition, one, other = tree.args
        (left, kind), (right, with_) = self.checked(one, wanted), self.checked(other, wanted)
        both = common(tree.op, kind, with_, wanted)
        left, right = (
            (p.cast(pl.Float64) if both == "number" else _as(p, k, both)) for p, k in ((left, kind), (right, with_))
        )
        if not condition:
            return _Part(pl.coalesce(left, right), both)
        return _Part(pl.when(self.checked(condition[0], "truth")[0]).then(left).otherwise(right), both)

    def _is_in(self, tree: Expr, values: tuple[float | int | str | bool, ...]) -> pl.Expr:
        kind = of_value(values[0])
        made, given = self.checked(tree, kind)
        if (kind, given) == ("number", "truth") or kind == "number":
            return made.cast(pl.Float64).is_in([float(value) for value in values])
        return made.is_in(list(values))

    def _cast(self, tree: Expr, to: str) -> _Part:
        made, kind = self.checked(tree)
        fits("cast", kind, "number" if kind == "moment" else kind)
        if to == "text":
            return _Part(text_of(made, kind), "text")
        if kind == "text":
            pattern = NUMBER if to == "float" else WHOLE
            fitting = pl.when(made.str.contains(f"^({pattern.pattern})$")).then(made)
            return _Part(fitting.cast(_CASTS[to], strict=False), "number", to == "float")
        return _Part(made.cast(_CASTS[to], strict=False), "number")

    def _call(self, function: RowFunction, inputs: tuple[Expr, ...]) -> _Part:
        parts = [self.checked(tree) for tree in inputs]
        fields = [
            (made.cast(pl.Float64) if kind == "number" else made).alias(f"_{n}") for n, (made, kind) in enumerate(parts)
        ]
        dtype = _TYPES[function.returns]
        rows = pl.struct(fields) if fields else pl.struct(pl.lit(0))

        def each(batch: pl.Series) -> pl.Series:
            columns = batch.struct.unnest().iter_rows() if fields else ((),) * batch.len()
            return pl.Series(over_rows(function, columns), dtype=dtype)

        return _Part(rows.map_batches(each, return_dtype=dtype, is_elementwise=True), function.returns)


def _divided(left: pl.Expr, right: pl.Expr, divisor: Expr) -> pl.Expr:
    """Quotient of two floats, rounded once; not finite where the divisor is zero.

    By a single value Polars multiplies with its reciprocal, so that 49 / 49 is not 1. What was computed
    may be a single value; adding a column of zeros makes it a column for certain.
    """
    if divisor.op == "col" or divisor.op in LEAVES:
        return left / right
    return left / (right + pl.int_range(pl.len()).cast(pl.Float64) * 0.0)


_CASTS: dict[str, pl.DataType] = {"float": pl.Float64(), "int": pl.Int64()}


def _literal_type(value: object) -> pl.DataType | None:
    return pl.Int64() if isinstance(value, int) and not isinstance(value, bool) else _TYPES[of_value(value)]


def _as(made: pl.Expr, kind: Kind, wanted: Kind) -> pl.Expr:
    if kind == "any" and wanted != "any":
        return made.cast(_TYPES[wanted])
    return made.cast(pl.Int64) if (kind, wanted) == ("truth", "number") else made


def kind_of(dtype: pl.DataType, name: str) -> Kind:
    """What the values of a column are.

    Raises
    ------
    Invalid
        If no expression reads such a column: nested values, days, or times without a zone.
    """
    if dtype == pl.Boolean:
        return "truth"
    if dtype.is_numeric():
        return "number"
    if dtype == pl.String:
        return "text"
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return "moment"
    if dtype == pl.Null:
        return "any"
    raise Invalid(
        f"column {name!r} is {dtype}",
        why="expressions read numbers, truths, text and moments with a zone",
        fix='convert it in the source, for example pl.col("day").cast(pl.Datetime("us", "UTC"))',
    )


def text_of(made: pl.Expr, kind: Kind) -> pl.Expr:
    """As text: whole numbers by their digits, whatever type holds them."""
    if kind != "number":
        fits("category", kind, "text" if kind != "truth" else kind)
        return made.cast(pl.String)
    whole, number = made.cast(pl.Int64, strict=False), made.cast(pl.Float64)
    return pl.when(whole.cast(pl.Float64) == number).then(whole.cast(pl.String)).otherwise(number.cast(pl.String))


def _local(moment: pl.Expr, part: str, zone: str) -> pl.Expr:
    first, end = ZONES
    wall = pl.when((moment >= first) & (moment < end)).then(moment).dt.convert_time_zone(zone)
    match part:
        case "hour":
            made = wall.dt.hour()
        case "minute_of_day":
            made = wall.dt.hour().cast(pl.Int32) * 60 + wall.dt.minute()
        case "weekday":
            made = wall.dt.weekday()
        case "month":
            made = wall.dt.month()
        case _:
            made = wall.dt.ordinal_day()
    return made.cast(pl.Int64)


def as_read(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` as expressions read it.

    Null for NaN, 64-bit numbers, categories and enumerations as text, moments in UTC with microseconds;
    a column of one value over and over is a column like any other.
    """
    columns = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if dtype.is_float():
            column = (column if dtype == pl.Float64 else column.cast(pl.Float64)).fill_nan(None)
        elif dtype.is_decimal():
            column = column.cast(pl.Float64)
        elif dtype in (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32):
            column = column.cast(pl.Int64)
        elif isinstance(dtype, (pl.Categorical, pl.Enum)):
            column = column.cast(pl.String)
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone is not None and dtype != UTC_US:
            column = column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        else:
            continue
        columns.append(column)
    return pl.DataFrame((frame.with_columns(columns) if columns else frame).get_columns())


def as_features(made: pl.DataFrame, views: Views) -> pl.DataFrame:
    """Computed columns as models take them: Float32 or String, null for what is not finite."""
    numbers = [name for name in views.names if name not in views.categorical]
    narrow = made.with_columns(pl.col(numbers).cast(pl.Float64).cast(pl.Float32))
    return narrow.with_columns(pl.when(pl.col(numbers).is_finite()).then(pl.col(numbers)).name.keep())
