"""How columns of one row relate: a small expression with one meaning in batch and per request.

    arrived >= departed
    cancelled or present(arrived)
    arrived - departed <= 86400 and state in ("landed", "diverted")

- Names are columns; `column("any name")` for those that are no identifiers.
- Numbers, texts, `True`, `False`, `date("2026-01-31")`, `time("2026-01-31T12:00Z")`.
- `+ - * /`, `abs` and `length` give 64-bit floats; `x / 0` and what is not a number are missing.
  A time less a time is in seconds, a date less a date in days.
- `< <= > >= == !=`, chains of them, `in` and `not in` a list; both sides of one kind.
  Numbers compare exactly, whole ones of any size too; texts by code point, times as moments.
- `and`, `or`, `not`; `missing(c)` and `present(c)` of a column, `length(text)`, `abs(x)`.

What needs a missing value is unknown, and unknown goes on through `and`, `or` and
`not` as in SQL. A row breaks a relation where it is false, not where it is unknown.
A value of the wrong type counts as missing here: `logicalType` tells of it.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from loopline.data.language.numbers import MOST, compared, exact, nearest, whole_literal

LONGEST = 1000
"""Characters of a relation."""
KINDS = {
    "string": "text",
    "integer": "number",
    "number": "number",
    "boolean": "truth",
    "timestamp": "time",
    "date": "date",
}
_COMPARE: dict[type, str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_ARITHMETIC: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Node:
    """A step of a relation: what it does, to what, and which kind of value comes out."""

    op: str
    kind: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between columns, as written; equal where the text is, up to spaces."""

    text: str
    tree: Node = field(compare=False, repr=False)
    columns: tuple[str, ...] = field(compare=False, repr=False)

    def holds(self, values: Mapping[str, pl.Expr], whole: Collection[str] = ()) -> pl.Expr:
        """Where it holds; null where that is unknown.

        Parameters
        ----------
        values : mapping
            By column, its typed values, null where missing.
        whole : collection
            The columns that are integers.
        """
        return _batch(self.tree, values, whole)

    def function(self) -> Callable[..., bool | None]:
        """The same for one row: a function of the columns' values in order, None where missing."""
        names: dict[str, Any] = dict(_ROW)
        places = {column: f"v{i}" for i, column in enumerate(self.columns)}
        body = _row(self.tree, places, names)
        exec(compile(f"def holds({', '.join(places.values())}):\n    return {body}", "<relation>", "exec"), names)
        made: Callable[..., bool | None] = names["holds"]
        return made


@functools.lru_cache(maxsize=256)
def _parsed(text: str, types: tuple[tuple[str, str | None], ...]) -> Relation:
    if len(text) > LONGEST:
        raise ValueError(f"it is {len(text):,} characters long; {LONGEST:,} are the limit")
    try:
        found = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} cannot be read: {error.args[0] if error.args else error}") from error
    reader = _Reader(dict(types))
    tree = reader.read(found)
    if tree.kind != "truth":
        raise ValueError(f"{text!r} is a {tree.kind}, not a statement that holds or does not")
    if not reader.used:
        raise ValueError(f"{text!r} names no column")
    return Relation(ast.unparse(found), tree, tuple(reader.used))


def parse(text: str, types: Mapping[str, str | None]) -> Relation:
    """Read a relation between columns of the declared `types` (column to logicalType).

    Raises
    ------
    ValueError
        That says what cannot be read, is not declared, or does not fit together.
    """
    return _parsed(text, tuple(types.items()))


class _Reader:
    def __init__(self, types: Mapping[str, str | None]) -> None:
        self.types = types
        self.used: dict[str, None] = {}

    def read(self, node: ast.expr) -> Node:
        if isinstance(node, ast.Name):
            return self.column(node.id)
        if isinstance(node, ast.Constant):
            return self.constant(node.value)
        if isinstance(node, ast.BoolOp):
            parts = tuple(self.want(part, "truth") for part in node.values)
            return Node("and" if isinstance(node.op, ast.And) else "or", "truth", parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Node("not", "truth", (self.want(node.operand, "truth"),))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            if isinstance(node.operand, ast.Constant) and type(node.operand.value) in (int, float):
                return self.constant(-node.operand.value)  # type: ignore[operator]
            return Node("*", "number", (self.constant(-1), self.want(node.operand, "number")))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return self.arithmetic(node)
        if isinstance(node, ast.Compare):
            return self.compare(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.call(node.func.id, node.args)
        raise ValueError(f"{ast.unparse(node)!r} is not part of the language")

    def want(self, node: ast.expr, kind: str) -> Node:
        made = self.read(node)
        if made.kind != kind:
            raise ValueError(f"{ast.unparse(node)!r} is a {made.kind} where a {kind} is needed")
        return made

    def column(self, name: str) -> Node:
        if name not in self.types:
            raise ValueError(f"there is no column {name!r}; declared: {', '.join(map(str, self.types)) or 'none'}")
        kind = KINDS.get(self.types[name] or "")
        if kind is None:
            raise ValueError(f"column {name!r} has the logicalType {self.types[name]}; needed: {', '.join(KINDS)}")
        self.used[name] = None
        return Node("column", kind, (name,))

    def constant(self, value: object) -> Node:
        if isinstance(value, bool):
            return Node("constant", "truth", (value,))
        if isinstance(value, (int, float)) and abs(value) <= MOST:
            return Node("constant", "number", (value,))
        if isinstance(value, str):
            return Node("constant", "text", (value,))
        raise ValueError(f"{value!r} is no finite number, text, True or False")

    def arithmetic(self, node: ast.BinOp) -> Node:
        left, right = self.read(node.left), self.read(node.right)
        op = _ARITHMETIC[type(node.op)]
        if op == "-" and left.kind == right.kind and left.kind in ("time", "date"):
            return Node(f"{left.kind}-", "number", (left, right))
        for side, made in ((node.left, left), (node.right, right)):
            if made.kind != "number":
                raise ValueError(f"{ast.unparse(side)!r} is a {made.kind}; {op} takes numbers")
            if made.op == "constant" and not exact(made.args[0]):
                raise ValueError(f"{ast.unparse(side)!r} is no 64-bit float, which {op} reckons with; compare with it")
        return Node(op, "number", (left, right))

    def compare(self, node: ast.Compare) -> Node:
        parts: list[Node] = []
        left_text, left = node.left, self.read(node.left)
        for op, right_text in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.In, ast.NotIn)):
                if not isinstance(right_text, (ast.Tuple, ast.List)) or not right_text.elts:
                    raise ValueError(f"write the values of `in` as a list: {ast.unparse(right_text)!r}")
                equal = tuple(Node("==", "truth", (left, self.want(v, left.kind))) for v in right_text.elts)
                inside = Node("or", "truth", equal)
                parts.append(inside if isinstance(op, ast.In) else Node("not", "truth", (inside,)))
                continue
            if type(op) not in _COMPARE:
                raise ValueError(f"{ast.unparse(node)!r}: use missing(...) and present(...), not `is`")
            right = self.want(right_text, left.kind)
            if left.kind == "truth" and type(op) not in (ast.Eq, ast.NotEq):
                raise ValueError(f"{ast.unparse(left_text)!r} is true or false; compare it with == or !=")
            parts.append(Node(_COMPARE[type(op)], "truth", (left, right)))
            left_text, left = right_text, right
        return parts[0] if len(parts) == 1 else Node("and", "truth", tuple(parts))

    def call(self, name: str, args: list[ast.expr]) -> Node:
        if len(args) != 1:
            raise ValueError(f"{name}(...) takes one argument")
        text = args[0].value if isinstance(args[0], ast.Constant) else None
        if name == "column" and isinstance(text, str):
            return self.column(text)
        if name == "date" and isinstance(text, str):
            return Node("constant", "date", (date.fromisoformat(text),))
        if name == "time" and isinstance(text, str):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError(f"time({text!r}) has no zone; end it with Z")
            return Node("constant", "time", (moment.astimezone(UTC),))
        if name in ("missing", "present"):
            inner = self.read(args[0])
            if inner.op != "column":
                raise ValueError(f"{name}(...) takes a column")
            return Node(name, "truth", (inner,))
        if name == "length":
            return Node("length", "number", (self.want(args[0], "text"),))
        if name == "abs":
            return Node("abs", "number", (self.want(args[0], "number"),))
        raise ValueError(f"there is no function {name!r}; there are column, date, time, missing, present, length, abs")


def _batch(node: Node, values: Mapping[str, pl.Expr], whole: Collection[str]) -> pl.Expr:
    if node.op == "column":
        value = values[node.args[0]]
        return value.cast(pl.Float64).fill_nan(None) if node.kind == "number" else value
    if node.op == "constant":
        if node.kind == "number":
            return pl.lit(float(node.args[0]))
        kind = {"text": pl.String, "truth": pl.Boolean, "date": pl.Date}.get(node.kind)
        return pl.lit(node.args[0]).cast(kind or pl.Datetime("us", "UTC"))
    if node.op in ("missing", "present"):
        inner = _batch(node.args[0], values, whole)
        return inner.is_null() if node.op == "missing" else inner.is_not_null()
    if node.op in _PYTHON and node.args[0].kind == "number":
        return _numbers(node, values, whole)
    args = [_batch(arg, values, whole) for arg in node.args]
    if node.op in ("and", "or"):
        return functools.reduce((lambda a, b: a & b) if node.op == "and" else (lambda a, b: a | b), args)
    if node.op == "not":
        return ~args[0]
    if node.op == "length":
        return args[0].str.len_chars().cast(pl.Float64)
    if node.op == "abs":
        return args[0].abs()
    left, right = args
    if node.op == "time-":
        return (left - right).dt.total_microseconds().cast(pl.Float64) / 1e6
    if node.op == "date-":
        return (left - right).dt.total_days().cast(pl.Float64)
    if node.op == "/":
        return pl.when(right != 0).then(left / right).fill_nan(None)
    if node.op in "+-*":
        made = left + right if node.op == "+" else left - right if node.op == "-" else left * right
        return made.fill_nan(None)
    return _PYTHON[node.op](left, right)  # type: ignore[no-any-return]


_PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def _numbers(node: Node, values: Mapping[str, pl.Expr], whole: Collection[str]) -> pl.Expr:
    """A comparison of numbers, exact for every pair of whole and broken ones."""
    op, (left, right) = node.op, node.args
    if left.op == "constant" and right.op == "constant":
        return pl.lit(_PYTHON[op](left.args[0], right.args[0]))
    if left.op == "constant":
        op, left, right = _TURNED[op], right, left
    own = left.op == "column" and left.args[0] in whole
    mine = values[left.args[0]] if own else _batch(left, values, whole)
    if right.op == "constant":
        limit = right.args[0]
        if own:
            return (
                compared(op, mine, pl.lit(limit))
                if isinstance(limit, float)
                else _PYTHON[op](mine, whole_literal(limit))
            )
        if exact(limit):
            return _PYTHON[op](mine, pl.lit(float(limit)))  # type: ignore[no-any-return]
        if op in ("==", "!="):
            return pl.when(mine.is_not_null()).then(pl.lit(op == "!="))
        return _PYTHON[op](mine, pl.lit(nearest(limit, up=op in ("<", ">="))))  # type: ignore[no-any-return]
    other = right.op == "column" and right.args[0] in whole
    theirs = values[right.args[0]] if other else _batch(right, values, whole)
    if own and not other:
        return compared(op, mine, theirs)
    if other and not own:
        return compared(_TURNED[op], theirs, mine)
    return _PYTHON[op](mine, theirs)  # type: ignore[no-any-return]


def _row(node: Node, places: Mapping[str, str], names: dict[str, Any], *, side: bool = False) -> str:
    """Python text of a node; None is unknown. `side`: it is compared, so that a number stays what it is."""
    if node.op == "column":
        convert = {"number": "known" if side else "number", "time": "moment"}.get(node.kind)
        return f"{convert}({places[node.args[0]]})" if convert else places[node.args[0]]
    if node.op == "constant":
        name = f"c{len(names)}"
        value = node.args[0] if side or node.kind != "number" else float(node.args[0])
        names[name] = (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
        return name
    if node.op in ("missing", "present"):
        return f"({_row(node.args[0], places, names)} is {'not ' if node.op == 'present' else ''}None)"
    args = ", ".join(_row(arg, places, names, side=node.op in _PYTHON) for arg in node.args)
    return f"{_FUNCTIONS[node.op]}({args})"


def _known(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def call(left: Any, right: Any) -> Any:
        return None if left is None or right is None else function(left, right)

    return call


def _finite(function: Callable[[float, float], float]) -> Callable[[Any, Any], Any]:
    def call(left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        made = function(left, right)
        return None if made != made else made

    return call


def _divide(left: float | None, right: float | None) -> float | None:
    if left is None or right is None or right == 0:
        return None
    made = left / right
    return None if math.isnan(made) else made


def _all(*parts: bool | None) -> bool | None:
    return False if any(p is False for p in parts) else None if any(p is None for p in parts) else True


def _any(*parts: bool | None) -> bool | None:
    return True if any(p is True for p in parts) else None if any(p is None for p in parts) else False


_FUNCTIONS = {
    "and": "all_of", "or": "any_of", "not": "not_", "length": "length", "abs": "size", "time-": "seconds",
    "date-": "days", "+": "plus", "-": "minus", "*": "times", "/": "over", "<": "lt", "<=": "le", ">": "gt",
    ">=": "ge", "==": "eq", "!=": "ne",
}  # fmt: skip
_ROW: dict[str, Any] = {
    "number": lambda v: None if v is None or v != v else float(v),
    "known": lambda v: None if v is None or v != v else v,
    "moment": lambda v: None if v is None else (v - _EPOCH) // _MICROSECOND,
    "all_of": _all,
    "any_of": _any,
    "not_": lambda v: None if v is None else not v,
    "length": lambda v: None if v is None else float(len(v)),
    "size": lambda v: None if v is None else abs(v),
    "seconds": _known(lambda a, b: float(a - b) / 1e6),
    "days": _known(lambda a, b: float((a - b).days)),
    "plus": _finite(lambda a, b: a + b),
    "minus": _finite(lambda a, b: a - b),
    "times": _finite(lambda a, b: a * b),
    "over": _divide,
    "lt": _known(lambda a, b: a < b),
    "le": _known(lambda a, b: a <= b),
    "gt": _known(lambda a, b: a > b),
    "ge": _known(lambda a, b: a >= b),
    "eq": _known(lambda a, b: a == b),
    "ne": _known(lambda a, b: a != b),
}
