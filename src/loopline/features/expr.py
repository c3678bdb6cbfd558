"""The expression tree that features are written in: closed, so that it can be compiled twice.

An expression says what to compute, never how. It compiles to Polars (`batch`) and to straight-line
Python (`row`), which agree bit for bit; `operators` holds the list and what each one means.

Notes
-----
Null means unknown, NaN is read as null, and arithmetic whose result is not finite is null.
Arithmetic is in 64-bit floats; whole numbers and truths count as floats there, and `x / 0` is null.
Whole numbers stay exact where nothing is computed with them: in columns, lookups, comparisons and text.
Arithmetic and comparisons with null are null; `&`, `|` and `~` follow Kleene's logic.
A null condition of `when` takes the second branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from loopline.base.errors import Invalid
from loopline.base.ids import iso
from loopline.base.spec import duration

Value = "Expr | float | int | bool | str | datetime"

ARITHMETIC = ("+", "-", "*", "/", "%")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
LOGIC = ("and", "or")
PARTS = ("hour", "minute_of_day", "weekday", "month", "day_of_year")
CASTS = ("float", "int", "text")
AGGREGATES = ("count", "total", "mean", "share", "minimum", "maximum", "distinct")
"""Over a trailing window: the arguments are the value (null where it does not count) and the length."""
LEAVES = ("latest", "last_n", "lookup", *AGGREGATES)
MOST = 256
"""The most events that `last_n` looks back over."""
EXACT = 2**53 - 1
SUMMARIES = ("mean", "total", "minimum", "maximum")


@dataclass(frozen=True, eq=False, slots=True)
class Expr:
    """One node: an operator and what it is applied to.

    Build trees with `col`, `when`, `latest`, `lookup`, the windows (`count`, `mean`, ...) and Python's
    operators. A tree is not a value: comparing two gives a third.
    """

    op: str
    args: tuple[Any, ...]

    def __add__(self, other: Any) -> Expr:
        return Expr("+", (self, expr(other)))

    def __radd__(self, other: Any) -> Expr:
        return Expr("+", (expr(other), self))

    def __sub__(self, other: Any) -> Expr:
        return Expr("-", (self, expr(other)))

    def __rsub__(self, other: Any) -> Expr:
        return Expr("-", (expr(other), self))

    def __mul__(self, other: Any) -> Expr:
        return Expr("*", (self, expr(other)))

    def __rmul__(self, other: Any) -> Expr:
        return Expr("*", (expr(other), self))

    def __truediv__(self, other: Any) -> Expr:
        return Expr("/", (self, expr(other)))

    def __rtruediv__(self, other: Any) -> Expr:
        return Expr("/", (expr(other), self))

    def __mod__(self, other: Any) -> Expr:
        return Expr("%", (self, expr(other)))

    def __rmod__(self, other: Any) -> Expr:
        return Expr("%", (expr(other), self))

    def __floordiv__(self, other: Any) -> Expr:
        return Expr("/", (self, expr(other))).floor()

    def __rfloordiv__(self, other: Any) -> Expr:
        return Expr("/", (expr(other), self)).floor()

    def __abs__(self) -> Expr:
        return self.abs()

    def __neg__(self) -> Expr:
        return Expr("-", (literal(0), self))

    def __lt__(self, other: Any) -> Expr:
        return Expr("<", (self, expr(other)))

    def __le__(self, other: Any) -> Expr:
        return Expr("<=", (self, expr(other)))

    def __gt__(self, other: Any) -> Expr:
        return Expr(">", (self, expr(other)))

    def __ge__(self, other: Any) -> Expr:
        return Expr(">=", (self, expr(other)))

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return Expr("==", (self, expr(other)))

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return Expr("!=", (self, expr(other)))

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Any) -> Expr:
        return Expr("and", (self, expr(other)))

    def __or__(self, other: Any) -> Expr:
        return Expr("or", (self, expr(other)))

    def __invert__(self) -> Expr:
        return Expr("not", (self,))

    def __bool__(self) -> bool:
        raise Invalid(
            "an expression has no truth of its own",
            why="`and`, `or`, `not`, `if` and chained comparisons ask for one while the view is being read",
            fix="write &, | and ~ with parentheses, and when(condition, this, otherwise)",
        )

    def is_null(self) -> Expr:
        """True where the value is unknown; never null itself."""
        return Expr("is_null", (self,))

    def fill(self, value: Any) -> Expr:
        """The value, or `value` where it is unknown."""
        return Expr("fill", (self, expr(value)))

    def cast(self, to: str) -> Expr:
        """As `float`, `int` (towards zero) or `text`; null where impossible."""
        if to not in CASTS:
            raise _unknown("cast", to, CASTS)
        return Expr("cast", (self, to))

    def category(self) -> Expr:
        """As text that a model takes for a category, not for a number."""
        return Expr("category", (self,))

    def log1p(self) -> Expr:
        """Natural logarithm of one plus the value; null for -1 and below."""
        return Expr("log1p", (self,))

    def abs(self) -> Expr:
        """The value without its sign."""
        return Expr("abs", (self,))

    def floor(self) -> Expr:
        """The greatest whole number that is not above the value."""
        return Expr("floor", (self,))

    def clip(self, low: float | None = None, high: float | None = None) -> Expr:
        """The value, or the limit that it passes; null stays null."""
        made = self if low is None else greatest(self, low)
        return made if high is None else least(made, high)

    def is_in(self, values: Iterable[float | int | str | bool]) -> Expr:
        """Whether the value is one of `values`: constants of one kind. Null for null."""
        found = tuple(literal(value).args[0] for value in values)
        kinds = {float if type(value) is int else type(value) for value in found}
        if len(kinds) != 1 or not kinds <= {float, str, bool}:
            raise Invalid(
                f"is_in was given {', '.join(map(repr, found)) or 'nothing'}",
                why="it compares with constants of one kind: numbers, texts or truths",
                fix='write for example .is_in(["a", "b"])',
            )
        return Expr("is_in", (self, *found))

    def lower(self) -> Expr:
        """The text in lower case."""
        return Expr("lower", (self,))

    def strip(self) -> Expr:
        """The text without ASCII white space at its ends."""
        return Expr("strip", (self,))

    def length(self) -> Expr:
        """How many characters (code points) the text has."""
        return Expr("length", (self,))

    def starts_with(self, prefix: str) -> Expr:
        """Whether the text begins with `prefix`, letter by letter."""
        if not isinstance(prefix, str):
            raise Invalid(f"{prefix!r} is no text", why="a text begins with text", fix='write for example "AB"')
        return Expr("starts_with", (self, prefix))

    def hour(self, zone: str) -> Expr:
        """Hour of the day, 0 to 23, on a wall clock in `zone`."""
        return self._local("hour", zone)

    def minute_of_day(self, zone: str) -> Expr:
        """Minutes since midnight, 0 to 1439, on a wall clock in `zone`."""
        return self._local("minute_of_day", zone)

    def weekday(self, zone: str) -> Expr:
        """Day of the week in `zone`: Monday is 1, Sunday 7."""
        return self._local("weekday", zone)

    def month(self, zone: str) -> Expr:
        """Month in `zone`, 1 to 12."""
        return self._local("month", zone)

    def day_of_year(self, zone: str) -> Expr:
        """Day of the year in `zone`, 1 to 366."""
        return self._local("day_of_year", zone)

    def _local(self, part: str, zone: str) -> Expr:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise Invalid(
                f"{zone!r} is not a time zone",
                why="local hours and days need a zone of the IANA database",
                fix='write for example "Europe/Vienna" or "UTC"',
            ) from error
        return Expr("local", (self, part, zone))

    def doc(self) -> Any:
        """The tree as JSON; equal trees have equal documents."""
        return [self.op, *(_plain(arg) for arg in self.args)]

    def walk(self) -> Iterator[Expr]:
        """This node and all below it."""
        yield self
        for arg in self.args:
            if isinstance(arg, Expr):
                yield from arg.walk()


def _plain(arg: Any) -> Any:
    if isinstance(arg, datetime):
        return {"time": iso(arg)}
    if isinstance(arg, timedelta):
        return {"us": arg // timedelta(microseconds=1)}
    return arg.doc() if hasattr(arg, "doc") else arg


def _unknown(what: str, given: object, allowed: Iterable[str]) -> Invalid:
    return Invalid(
        f"{given!r} is not a {what}",
        why=f"the {what}s are {', '.join(allowed)}",
        fix="use one of those",
    )


def expr(value: Any) -> Expr:
    """`value` as an expression: itself, or a literal."""
    return value if isinstance(value, Expr) else literal(value)


def literal(value: Any) -> Expr:
    """A constant: number, text, truth, a moment with zone, or None for unknown."""
    if isinstance(value, datetime):
        iso(value)
    elif (value is not None and not isinstance(value, (bool, int, float, str))) or _endless(value):
        raise Invalid(
            f"{_shown(value)} cannot stand in an expression",
            why=f"expressions take finite numbers (whole ones to {EXACT:,}), text, truths, moments with zone and None",
            fix="convert it first",
        )
    return Expr("lit", (value,))


def _endless(value: Any) -> bool:
    """Whether a number is not finite, or whole and beyond what its canonical form holds."""
    return (isinstance(value, int) and abs(value) > EXACT) or (isinstance(value, float) and not isfinite(value))


def _shown(value: Any) -> str:
    """A value as it is said; of a number that fills a page, how long it is."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    return f"{value!r:.100}"


def col(name: str) -> Expr:
    """A column: of the spine row, or of the source inside `latest`, `lookup` and the windows."""
    return Expr("col", (name,))


def when(condition: Any, then: Any, otherwise: Any) -> Expr:
    """`then` where the condition is true, `otherwise` where it is false or null."""
    return Expr("when", (expr(condition), expr(then), expr(otherwise)))


def minutes_between(start: Any, end: Any) -> Expr:
    """Minutes from one moment to a later one; negative when the later one comes first."""
    return Expr("minutes", (expr(start), expr(end)))


def minutes_since(start: Any) -> Expr:
    """Minutes from a moment to the decision time; negative for one that lies ahead."""
    return minutes_between(start, col("decision_time"))


def least(one: Any, other: Any) -> Expr:
    """The smaller of two numbers; null where one is null."""
    return Expr("least", (expr(one), expr(other)))


def greatest(one: Any, other: Any) -> Expr:
    """The greater of two numbers; null where one is null."""
    return Expr("greatest", (expr(one), expr(other)))


def _of(value: Any) -> Expr:
    """A value of the source: an expression, or a column by its name."""
    found = col(value) if isinstance(value, str) else expr(value)
    for node in found.walk():
        if node.op in LEAVES:
            raise Invalid(
                f"{node.op} stands inside another lookup or window",
                why="these read rows of the source, which have no history of their own",
                fix="combine their results outside",
            )
    return found


def _length(window: str) -> timedelta:
    try:
        length = duration(window)
    except ValueError as error:
        raise Invalid(str(error), why="a window has a length", fix="write for example 1h or 28d") from error
    if length <= timedelta(0):
        raise Invalid(f"a window of {window} holds nothing", why="its length is zero", fix="write for example 1h")
    return length


def latest(value: Any) -> Expr:
    """`value` in the newest event of the source known at the decision time, within the view's ttl; else null."""
    return Expr("latest", (_of(value),))


def lookup(value: Any) -> Expr:
    """`value` in the row that a table without times holds for the entity; null without one."""
    return Expr("lookup", (_of(value),))


def count(window: str, where: Any = True) -> Expr:
    """How many events of the trailing `window` fulfil `where`; 0 where there are none."""
    return Expr("count", (_of(expr(where)), _length(window)))


def _counted(value: Any, where: Any) -> Expr:
    """`value` of the source, null where `where` is not true."""
    return _of(value) if where is True else _of(when(_of(where), _of(value), None))


def total(value: Any, window: str, where: Any = True) -> Expr:
    """Sum of `value` over the trailing `window`, nulls left out; 0 where there are none."""
    return Expr("total", (_counted(value, where), _length(window)))


def mean(value: Any, window: str, where: Any = True) -> Expr:
    """Mean of `value` over the trailing `window`, nulls left out; null without any."""
    return Expr("mean", (_counted(value, where), _length(window)))


def share(condition: Any, window: str) -> Expr:
    """Share of the events of the trailing `window` that fulfil `condition`, nulls left out; null without any."""
    return Expr("share", (_of(condition), _length(window)))


def minimum(value: Any, window: str, where: Any = True) -> Expr:
    """Least `value` in the trailing `window`, nulls left out; null without any."""
    return Expr("minimum", (_counted(value, where), _length(window)))


def maximum(value: Any, window: str, where: Any = True) -> Expr:
    """Greatest `value` in the trailing `window`, nulls left out; null without any."""
    return Expr("maximum", (_counted(value, where), _length(window)))


def distinct(value: Any, window: str, where: Any = True) -> Expr:
    """How many different values, numbers or text, the trailing `window` holds, null not counted; 0 without any."""
    return Expr("distinct", (_counted(value, where), _length(window)))


def last_n(value: Any, n: int, how: str = "mean") -> Expr:
    """`how` (mean, total, minimum or maximum) of `value` in the newest `n` events that hold one, within the ttl.

    Of fewer than `n` where there are not so many; null without any.
    """
    if how not in SUMMARIES:
        raise _unknown("summary", how, SUMMARIES)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
        raise Invalid(f"{n!r} is no number of events", why=f"last_n keeps 1 to {MOST}", fix="write for example 10")
    return Expr("last_n", (_of(value), n, how))
