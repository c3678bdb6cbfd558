# ruff: noqa: E501 (a table reads best in rows)
"""The closed set of operators: what each takes and gives, and what it means at the edges.

Both compilers have a form for every row of this table and for nothing else; the reference page is
written from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from loopline.base.errors import Invalid

Kind = Literal["number", "truth", "text", "moment", "any"]
"""What a value is. `any` is a column of which only the rows will tell."""

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Text that `cast("float")` reads; the whole text."""
WHOLE = re.compile(r"[+-]?0*[0-9]{1,19}")
"""Text that `cast("int")` reads, where it fits into 64 bits."""
BLANKS = " \t\n\r\v\f"
"""What `strip` takes away."""
ZONES = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Where wall clocks are known: outside, tables of zones differ."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table. `takes` names the kinds of its arguments."""

    op: str
    written: str
    takes: tuple[Kind, ...]
    gives: Kind
    meaning: str


_N: Kind = "number"
_T: Kind = "truth"
_S: Kind = "text"
_M: Kind = "moment"

# fmt: off
OPERATORS: dict[str, Operator] = {
    row.op: row
    for row in (
        Operator("col", 'col("a")', (), "any", "A column of the row, or of the source inside a lookup or window. Null and NaN are unknown."),
        Operator("lit", "3, True, 'a', a moment, None", (), "any", "A constant. Whole numbers to 2**53 - 1, finite floats, moments with zone."),
        Operator("+", "a + b", (_N, _N), _N, "Sum in 64-bit floats. Null with null; null where the result is not finite."),
        Operator("-", "a - b, -a", (_N, _N), _N, "Difference; as sum."),
        Operator("*", "a * b", (_N, _N), _N, "Product; as sum."),
        Operator("/", "a / b", (_N, _N), _N, "Quotient; as sum. Null where b is 0."),
        Operator("%", "a % b", (_N, _N), _N, "Remainder a - floor(a / b) * b, each step in floats: it has the sign of b. Null where b is 0. `a // b` is floor(a / b)."),
        Operator("abs", "a.abs(), abs(a)", (_N,), _N, "Value without sign."),
        Operator("floor", "a.floor()", (_N,), _N, "Greatest whole number not above; infinities stay."),
        Operator("least", "least(a, b)", (_N, _N), _N, "The smaller; null where one is null. `a.clip(low, high)` is built from it."),
        Operator("greatest", "greatest(a, b)", (_N, _N), _N, "The greater; null where one is null."),
        Operator("log1p", "a.log1p()", (_N,), _N, "Natural logarithm of 1 + a; null for -1 and below. The two forms agree within 4 units in the last place."),
        Operator("<", "a < b", ("any", "any"), _T, "Order of two numbers (whole with whole exactly, else as floats), two texts (by code point), two moments or two truths; null with null."),
        Operator("<=", "a <= b", ("any", "any"), _T, "As `<`."),
        Operator(">", "a > b", ("any", "any"), _T, "As `<`."),
        Operator(">=", "a >= b", ("any", "any"), _T, "As `<`."),
        Operator("==", "a == b", ("any", "any"), _T, "As `<`; null is not equal to null but null."),
        Operator("!=", "a != b", ("any", "any"), _T, "As `<`."),
        Operator("and", "a & b", (_T, _T), _T, "Kleene: false with anything is false, else null with null."),
        Operator("or", "a | b", (_T, _T), _T, "Kleene: true with anything is true, else null with null."),
        Operator("not", "~a", (_T,), _T, "Null for null."),
        Operator("is_null", "a.is_null()", ("any",), _T, "Whether the value is unknown; never null."),
        Operator("is_in", 'a.is_in(["x", "y"])', ("any",), _T, "Whether the value is one of the constants, all of one kind; null for null."),
        Operator("fill", "a.fill(b)", ("any", "any"), "any", "a, or b where a is null. Numbers become floats; both must be of one kind."),
        Operator("when", "when(c, a, b)", (_T, "any", "any"), "any", "a where c is true, b where it is false or null. Numbers become floats; both must be of one kind."),
        Operator("cast", 'a.cast("float" | "int" | "text")', ("any",), "any", "Number: of truths 1 and 0; of text as written in ASCII (no blanks, no nan or inf), else null. `int` goes towards zero, null beyond 64 bits. Text: see category."),
        Operator("category", "a.category()", ("any",), _S, "Text for a model's category; the last word of a feature. A number that is whole reads `3`, whether it came as 3 or 3.0; a truth reads `true` or `false`."),
        Operator("lower", "a.lower()", (_S,), _S, "Lower case by Unicode. Letters that Unicode adds after the interpreter was built may stay."),
        Operator("strip", "a.strip()", (_S,), _S, "Without spaces, tabs, line ends, VT and FF at both ends."),
        Operator("length", "a.length()", (_S,), _N, "Number of code points."),
        Operator("starts_with", 'a.starts_with("x")', (_S,), _T, "Whether the text begins so; null for null."),
        Operator("minutes", "minutes_between(a, b), minutes_since(a)", (_M, _M), _N, "Minutes from a to b, to the microsecond; negative when b comes first. `minutes_since` goes to the decision time."),
        Operator("local", "a.hour(zone), .minute_of_day, .weekday, .month, .day_of_year", (_M,), _N, "On a wall clock of the zone: 0-23, 0-1439, Monday 1 to Sunday 7, 1-12, 1-366. Null before 1900 and from 2100 on."),
        Operator("call", "@row_function(inputs=..., returns=...)", (), "any", "A Python function of one row, the same offline and online; slow on many rows. Numbers reach it as floats."),
        Operator("latest", "latest(a)", (), "any", "The value in the newest event known at the decision time, within the view's ttl."),
        Operator("lookup", "lookup(a)", (), "any", "The value in the entity's row of a table without times."),
        Operator("last_n", 'last_n(a, n, how="mean")', (), _N, "Mean, total, minimum or maximum of the newest n events that hold a value, within the ttl; null without any."),
        Operator("count", "count(window, where)", (), _N, "Events of the trailing window for which `where` is true; 0 without any."),
        Operator("total", "total(a, window, where)", (), _N, "Sum over the window, nulls left out; 0 without any."),
        Operator("mean", "mean(a, window, where)", (), _N, "Mean over the window, nulls left out; null without any."),
        Operator("share", "share(c, window)", (), _N, "Share of the window's events for which c is true, nulls left out; null without any."),
        Operator("minimum", "minimum(a, window, where)", (), _N, "Least value in the window; null without any."),
        Operator("maximum", "maximum(a, window, where)", (), _N, "Greatest value in the window; null without any."),
        Operator("distinct", "distinct(a, window, where)", (), _N, "Different values in the window, null not counted; 0 without any."),
    )
}
# fmt: on


def of_value(value: object) -> Kind:
    """The kind of a constant; None fits everywhere."""
    if value is None:
        return "any"
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "moment"


def common(op: str, one: Kind, other: Kind, wanted: Kind) -> Kind:
    """The kind of two values that stand for each other under `op`.

    Raises
    ------
    Invalid
        If they are of two kinds, and not a truth with a number where a number is `wanted`.
    """
    if wanted == "number" and {one, other} <= {"number", "truth", "any"}:
        return "number"
    if one == other or other == "any":
        return one
    if one == "any":
        return other
    if op not in ("when", "fill") and {one, other} == {"number", "truth"}:
        return "number"
    raise Invalid(
        f"{OPERATORS[op].written}: a {one} meets a {other}",
        why="both must be of one kind",
        fix='cast one of them, for example .cast("float") or .cast("text")',
    )


def fits(op: str, kind: Kind, wanted: Kind, column: object = None) -> None:
    """`Invalid` unless a value of `kind` can be taken as `wanted`; a truth counts as a number. `column` is named."""
    if "any" in (kind, wanted) or kind == wanted or (kind, wanted) == ("truth", "number"):
        return
    written = f'col("{column}")' if op == "col" and column is not None else OPERATORS[op].written
    raise Invalid(
        f"{written}: a {kind} stands where a {wanted} is due",
        why=f"{op} takes {', '.join(OPERATORS[op].takes) or wanted}",
        fix='cast the column, for example .cast("float"), or use another operator',
    )


def text_of_float(value: float) -> str:
    """A number that is no 64-bit whole number, as text: the fewest digits that read back as it."""
    if abs(value) >= 1e-4:
        return repr(value)
    digits, _, exponent = repr(value).partition("e-")
    if exponent == "05":
        sign, bare = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
        return f"{sign}0.0000{bare.replace('.', '')}"
    return f"{digits}e-{int(exponent)}"
