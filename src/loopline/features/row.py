"""Expressions compiled to straight-line Python: the features of one row, for a request.

The same trees as `batch` compiles, with the same meaning for every value. What a column holds is not
known when the program is made, so each column is looked at once, where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from struct import Struct, error
from typing import Any

from loopline.base.errors import Invalid
from loopline.features.expr import LEAVES, Expr
from loopline.features.operators import NUMBER, WHOLE, text_of_float
from loopline.features.rowcode import Code
from loopline.features.views import Views

Value = float | str | None
LOW, HIGH = -(2**63), 2**63 - 1
_SINGLE = Struct("f")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A lookup or window that a program is given the value of."""

    view: str
    source: str | None
    on: tuple[tuple[str, str], ...]
    """Pairs of request column and source column."""
    ttl: timedelta | None
    refresh: timedelta | None
    expr: Expr


class RowProgram:
    """The features of one row. Safe to share between threads.

    `columns` are the request columns that it reads, `leaves` what it must be given,
    `names` the features in their order, `text` the program itself.
    """

    def __init__(self, views: Views) -> None:
        self.names = views.names
        self.plain = all(_passed(name, tree) for one in views.views for name, tree in one.features)
        """Whether every feature is a request column of the same name, as it is."""
        self.columns = tuple(views.spine_columns)
        self.leaves, places = _leaves(views)
        code = Code(places)
        results = []
        for one in views.views:
            for name, tree in one.features:
                try:
                    results.append(code.feature(tree))
                except Invalid as broken:
                    raise Invalid(
                        f"feature {name!r} of view {one.name} cannot be computed: {broken.what}",
                        why=f"{broken.why}; a feature is a number, a truth or a category",
                        fix=f"{broken.fix}; text ends with .category()",
                    ) from broken
        self.text = code.program(results)
        names: dict[str, Any] = {**_NAMES, **code.names}
        exec(compile(self.text, "<row program>", "exec"), names)
        self._run: Callable[[Mapping[str, Any], datetime | None, Sequence[Any]], tuple[Value, ...]] = names["row"]

    def __call__(
        self, row: Mapping[str, object], decision_time: datetime | None, leaves: Sequence[object] = ()
    ) -> tuple[Value, ...]:
        """The features in the order of `names`: floats as a float32 holds them, text, or None.

        Parameters
        ----------
        row : mapping
            Plain values by column; one that is absent is unknown. Moments are datetimes
            with a zone or RFC 3339 text.
        decision_time : datetime
            With a zone; None where the project declares none.
        leaves : sequence
            The values of `leaves`, in their order.

        Raises
        ------
        Invalid
            If a value is of a kind that its operators do not take.
        """
        return self._run(row, decision_time, leaves)


def compile_row(views: Views) -> RowProgram:
    """The row program of `views`; `Invalid` if an operator meets a value of another kind."""
    return RowProgram(views)


def _leaves(views: Views) -> tuple[tuple[Leaf, ...], dict[int, int]]:
    """The leaves of the views, each once per view, and the place of each node among them."""
    found: list[Leaf] = []
    places: dict[int, int] = {}
    for one in views.views:
        known: dict[str, int] = {}
        for _, tree in one.features:
            for node in _tops(tree):
                mark = repr(node.doc())
                if mark not in known:
                    known[mark] = len(found)
                    found.append(Leaf(one.name, one.source, one.on, one.ttl, one.refresh, node))
                places[id(node)] = known[mark]
    return tuple(found), places


def _tops(tree: Expr) -> list[Expr]:
    if tree.op in LEAVES:
        return [tree]
    return [leaf for arg in tree.args if isinstance(arg, Expr) for leaf in _tops(arg)]


def _passed(name: str, tree: Expr) -> bool:
    inner = tree.args[0] if tree.op == "category" else tree
    return isinstance(inner, Expr) and inner.op == "col" and inner.args[0] == name


class WrongValue(Invalid):
    """A value of a row is of a kind that nothing that reads it takes."""

    code = "invalid"

    def __init__(self, what: str, *, why: str, fix: str, column: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.column = column


def _wrong(value: object, name: str, kind: str) -> WrongValue:
    return WrongValue(
        f"{name} is {value!r}, not a {kind}",
        why="the expressions that read it take nothing else",
        fix=f"send {name} as a {kind}, or null where it is not known",
        column=name,
    )


def _wide(value: int) -> float | None:
    """A whole number beyond 64 bits."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def _number(value: Any, name: str) -> int | float | bool | None:
    """What is neither a plain float nor a plain whole number, as a number."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, bytes, datetime)) or not hasattr(value, "__float__"):
        raise _wrong(value, name, "number")
    if hasattr(value, "__index__"):
        whole = int(value)
        return whole if LOW <= whole <= HIGH else _wide(whole)
    number = float(value)
    return number if number == number else None


def _truth(value: Any, name: str) -> bool:
    if type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise _wrong(value, name, "truth")


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return str(value)
    raise _wrong(value, name, "text")


def _moment(value: Any, name: str) -> datetime:
    """A moment in UTC: of a datetime with zone, or of RFC 3339 text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong(value, name, "moment") from None
    if not isinstance(value, datetime):
        raise _wrong(value, name, "moment")
    if value.tzinfo is None:
        raise _wrong(value, name, "moment with a zone")
    return value.astimezone(UTC)


def _any(value: Any, name: str) -> Any:
    """A value of whatever kind, as columns hold it."""
    if isinstance(value, (bool, str)):
        return value
    return _moment(value, name) if isinstance(value, datetime) else _number(value, name)


def _singles(values: Sequence[float]) -> list[float]:
    """As float32 holds them, where one of them is too large for it."""
    made: list[float] = []
    for value in values:
        try:
            made += _SINGLE.unpack(_SINGLE.pack(value))
        except (OverflowError, error):
            made.append(inf)
    return made


def _digits(value: Any) -> str:
    """Text of a number or a truth; text stays."""
    kind = value.__class__
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is datetime:
        raise _wrong(value, "a category", "text")
    whole = float(value)
    if -9.223372036854775808e18 <= whole < 9.223372036854775808e18 and whole == int(whole):
        return str(int(whole))
    return text_of_float(whole)


def _chosen(value: Any) -> Any:
    """What a choice gives: numbers as floats."""
    return float(value) if value.__class__ is int else value


def _ordered(left: Any, right: Any) -> tuple[Any, Any]:
    """Two values of unknown kind as they are compared."""
    one, other = left.__class__, right.__class__
    if one is other:
        return left, right
    if one in _NUMBERS and other in _NUMBERS:
        return (int(left), int(right)) if float not in (one, other) else (float(left), float(right))
    raise Invalid(
        f"{left!r} meets {right!r} in a comparison",
        why="both must be of one kind",
        fix="send the columns as numbers, or both as text",
    )


def _decimal(value: Any) -> float | None:
    """As a float; of text as written, where it is finite."""
    if value.__class__ is not str:
        return float(value)
    number = float(value) if NUMBER.fullmatch(value) else inf
    return number if -inf < number < inf else None


def _integer(value: Any) -> int | None:
    """Towards zero, where 64 bits hold it; of text as written."""
    if value.__class__ is str:
        whole = int(value) if WHOLE.fullmatch(value) else HIGH + 1
        return whole if LOW <= whole <= HIGH else None
    if value.__class__ is not float:
        return int(value)
    return int(value) if -9.223372036854775808e18 <= value < 9.223372036854775808e18 else None


_NUMBERS = (int, float, bool)
_NAMES: dict[str, Any] = {
    "LOW": LOW,
    "HIGH": HIGH,
    "wide": _wide,
    "number": _number,
    "truth": _truth,
    "text": _text,
    "moment": _moment,
    "anything": _any,
    "singles": _singles,
    "digits": _digits,
    "chosen": _chosen,
    "ordered": _ordered,
    "decimal": _decimal,
    "integer": _integer,
}
