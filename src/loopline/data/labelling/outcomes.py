"""Labels: the answer of each unit, true, false or void."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.contracts.column_texts import UTC_TIME
from loopline.data.history.known import known, known_column, latest
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec

if TYPE_CHECKING:
    from loopline.workspace import Workspace

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def label_table(framing: FramingSpec, tables: Mapping[str, TableSpec]) -> str:
    """The table that holds the outcomes."""
    name = framing.label.table
    if name is None:
        if len(tables) == 1:
            return next(iter(tables))
        raise Invalid(
            f"label {framing.label.value!r} names no table",
            why=f"there are several: {', '.join(sorted(tables))}",
            fix=f"label: {{table: <one of them>, value: {framing.label.value}}}",
        )
    if name not in tables:
        raise Invalid(
            f"label table {name!r} is not declared",
            why=f"declared under data: {', '.join(sorted(tables)) or 'none'}",
            fix="correct framing.label.table",
        )
    return name


def labels(
    ws: Workspace,
    framing: FramingSpec,
    tables: Mapping[str, TableSpec],
    at: datetime,
    *,
    since: datetime | None = None,
    rows: pl.LazyFrame | None = None,
) -> pl.DataFrame:
    """The answers known at `at`, one row per unit.

    Returns
    -------
    DataFrame
        `framing.unit`; `label`, Boolean, null = void, never to be scored;
        `event_time` and `known_at`, UTC, the former null where the table has none.
        A unit without a row is not known yet. Where `label` names weak sources or a
        confidence: also `confidence` (0 to 1) and `source`, the table that answered.
        The first source with an answer counts, be it void; a weak one abstains by
        null and below its `at_least`. With `since`, only answers that
        became known, or were corrected, after it. With `rows`, which must hold all
        rows asked for, the label table is not read again.
    """
    name = label_table(framing, tables)
    label = framing.label
    if not label.weak and label.confidence is None:
        return _answers(ws, name, tables[name], label.value, framing.unit, at, since=since, rows=rows)
    sources = [(name, label.value, label.confidence if label.confidence is not None else 1.0, 0.0, False)]
    sources += [(weak.table, weak.value, weak.confidence, weak.at_least, True) for weak in label.weak]
    found = []
    for table, value, confidence, least, weak in sources:
        if table not in tables:
            raise Invalid(
                f"label table {table!r} is not declared",
                why=f"declared under data: {', '.join(sorted(tables))}",
                fix="correct framing.label.weak",
            )
        if weak and ws.tables.version(table) is None:
            continue
        all_rows = rows if table == name and since is None else None
        one = _answers(ws, table, tables[table], value, framing.unit, at, rows=all_rows, confidence=confidence)
        one = one.filter(pl.col("confidence") >= least) if least else one
        found.append((one.drop_nulls("label") if weak else one).with_columns(pl.lit(table).alias("source")))
    try:
        answers = pl.concat(found).unique(framing.unit, keep="first", maintain_order=True)
    except pl.exceptions.PolarsError as error:
        raise _refuse(label.value, str(error).splitlines()[0], f"give {framing.unit} one type in all tables") from error
    return answers if since is None else answers.filter(pl.col("known_at") > since)


def _answers(
    ws: Workspace,
    name: str,
    spec: TableSpec,
    value: str,
    unit: str,
    at: datetime,
    *,
    since: datetime | None = None,
    rows: pl.LazyFrame | None = None,
    confidence: float | str | None = None,
) -> pl.DataFrame:
    """The answers of one table; with their confidence where that is asked for."""
    when = known_column(spec)
    rows = known(ws, name, spec, at, since=since, rows=rows)
    schema = rows.collect_schema()
    for column, why in ((unit, "framing.unit joins predictions and outcomes"), (confidence, "framing.label names it")):
        if isinstance(column, str) and column not in schema:
            raise Invalid(
                f"table {name} has no column {column!r}",
                why=why,
                fix=f"add the column, or name one of: {', '.join(schema.names())}",
            )
    if tuple(spec.key) != (unit,):
        rows = latest(rows, (unit,), when, name)
    happened = pl.col(spec.event_time) if spec.event_time else pl.lit(None, UTC_TIME)
    wanted = rows.filter(pl.col(unit).is_not_null()).select(
        pl.col(unit),
        label_expression(value, schema).alias("label"),
        happened.alias("event_time"),
        pl.col(when).alias("known_at"),
        *([] if confidence is None else [_confidence(confidence)]),
    )
    try:
        found = wanted.collect()
    except pl.exceptions.PolarsError as error:
        raise _refuse(value, str(error).splitlines()[0], "compare columns with values of their type") from error
    if "confidence" in found.columns and not found["confidence"].is_between(0, 1).all():
        wrong = found["confidence"].filter(~found["confidence"].is_between(0, 1))[0]
        raise _refuse(value, f"its confidence {wrong} lies outside 0 to 1", f"correct {confidence} in {name}")
    return _as_boolean(found, value)


def _confidence(given: float | str) -> pl.Expr:
    """How sure an answer is; one that does not say is sure."""
    column = pl.col(given).cast(pl.Float64).fill_nan(None).fill_null(1.0) if isinstance(given, str) else pl.lit(given)
    return column.alias("confidence")


def label_expression(text: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """A label expression as a Polars expression; NaN counts as null.

    A column name, or comparisons, `and`, `or`, `not`, `in [...]`, `+ - * /` and
    literals over columns. Null stays null, except where the answer does not depend
    on it (`false and null` is false). Division by zero is null.

    Raises
    ------
    Invalid
        If it uses anything else, or a column that does not exist.
    """
    if text in schema:
        return _column(text, schema, text)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise _refuse(text, "it is neither a column nor an expression", "for example `arrived_late > 15`") from error
    result = _build(tree.body, schema, text)
    if not isinstance(result, pl.Expr) or not result.meta.root_names():
        raise _refuse(text, "it names no column", "compare a column with a value")
    return result


def _build(node: ast.expr, schema: Mapping[str, pl.DataType], text: str) -> Any:
    def build(part: ast.expr) -> Any:
        return _build(part, schema, text)

    if isinstance(node, ast.Name):
        return _column(node.id, schema, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_truth(build(node.operand), text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = build(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BoolOp):
        parts = [_truth(build(part), text) for part in node.values]
        return pl.all_horizontal(parts) if isinstance(node.op, ast.And) else pl.any_horizontal(parts)
    if isinstance(node, ast.BinOp):
        left, right = build(node.left), build(node.right)
        if not isinstance(left, pl.Expr) and not isinstance(right, pl.Expr):
            left = pl.lit(left)
        if type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](left, right)
        if isinstance(node.op, ast.Div):
            below = right if isinstance(right, pl.Expr) else pl.lit(right)
            return left / pl.when(below != 0).then(below)
    if isinstance(node, ast.Compare):
        parts = []
        left = build(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            parts.append(_compare(left, op, right_node, build, text))
            left = build(right_node) if not isinstance(right_node, (ast.List, ast.Tuple)) else left
        return parts[0] if len(parts) == 1 else pl.all_horizontal(parts)
    shown = ast.unparse(node)
    raise _refuse(
        text,
        f"{shown!r} is outside the closed set: columns, literals, comparisons, and, or, not, in, + - * /",
        "compute it in the source, and name the column here",
    )


def _compare(left: Any, op: ast.cmpop, node: ast.expr, build: Callable[[ast.expr], Any], text: str) -> Any:
    if isinstance(op, (ast.In, ast.NotIn)) and isinstance(node, (ast.List, ast.Tuple)) and isinstance(left, pl.Expr):
        try:
            inside = left.is_in(list(ast.literal_eval(node)))
        except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
            raise _refuse(text, "a list holds literals of one type", "write for example in [1, 2]") from error
        return ~inside if isinstance(op, ast.NotIn) else inside
    if type(op) not in _COMPARE:
        raise _refuse(text, "this comparison is outside the closed set", "use == != < <= > >= or in [...]")
    right = build(node)
    if not isinstance(left, pl.Expr):
        left = pl.lit(left)
    return _COMPARE[type(op)](left, pl.lit(right) if isinstance(right, str) else right)


def _truth(value: Any, text: str) -> Any:
    if isinstance(value, pl.Expr):
        return value
    if isinstance(value, bool):
        return pl.lit(value)
    raise _refuse(text, f"{value!r} is neither true nor false", "compare it with something")


def _column(name: str, schema: Mapping[str, pl.DataType], text: str) -> pl.Expr:
    if name not in schema:
        raise _refuse(text, f"there is no column {name!r}", f"use one of: {', '.join(schema)}")
    column = pl.col(name)
    return column.fill_nan(None) if schema[name].is_float() else column


def _as_boolean(found: pl.DataFrame, text: str) -> pl.DataFrame:
    dtype = found.schema["label"]
    if dtype == pl.Boolean:
        return found
    if dtype == pl.Null:
        return found.with_columns(pl.col("label").cast(pl.Boolean))
    if dtype.is_numeric():
        other = found["label"].drop_nulls().filter(~found["label"].drop_nulls().is_in([0, 1]))
        if other.is_empty():
            return found.with_columns(pl.col("label") == 1)
        raise _refuse(text, f"its value {other[0]} is neither 0 nor 1", f"compare it, for example `{text} > 0`")
    shown = found["label"].drop_nulls().head(1000).unique(maintain_order=True).head(3).to_list()
    fix = f'compare it, for example `{text} == "{shown[0]}"`' if shown else "give a Boolean column"
    raise _refuse(text, f"its values are {dtype}, for example {shown}", fix)


def _refuse(text: str, why: str, fix: str) -> Invalid:
    return Invalid(f"label {text!r} cannot be read", why=why, fix=fix)
