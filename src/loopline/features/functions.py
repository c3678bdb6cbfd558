"""Functions of a project: of one row, or of whole frames.

A row function is the way out of the closed set of operators. The same function runs over a year of rows
and for one request. It is slow on many rows, since Polars has to call it for each, and it stays in the
project: a bundle cannot carry it.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, get_args

from loopline.base.code import calling_user_code
from loopline.base.errors import Invalid, LooplineError
from loopline.base.ids import digest
from loopline.features.expr import Expr, col, expr

Returns = Literal["number", "truth", "text"]


@dataclass(frozen=True, slots=True)
class RowFunction:
    """A Python function of one row, named by its source text."""

    name: str
    source: str
    """Digest of the function's own text; what it calls elsewhere does not count."""
    returns: Returns
    function: Callable[..., Any]

    def doc(self) -> dict[str, str]:
        """What identifies it, as JSON."""
        return {"name": self.name, "source": self.source, "returns": self.returns}

    def of(self, values: Sequence[Any]) -> Any:
        """What it says of one row; null for NaN and infinities.

        Raises
        ------
        UserCodeError
            If it raises.
        Invalid
            If it returns something else than it declares.
        """
        with calling_user_code(self.name):
            found = self.function(*values)
        if found is None:
            return None
        if self.returns == "number" and isinstance(found, (int, float)):
            number = float(found)
            return number if isfinite(number) else None
        if isinstance(found, bool if self.returns == "truth" else str) and self.returns != "number":
            return found
        raise Invalid(
            f"{self.name} returned {found!r}",
            why=f"it declares returns={self.returns!r}",
            fix="return that, or None where it is not known",
        )


@dataclass(frozen=True, slots=True)
class FrameFunction:
    """A Python function from whole tables to rows of features, named by its source text."""

    name: str
    source: str
    """Digest of the function's own text; what it calls elsewhere does not count."""
    inputs: tuple[str, ...]
    """Tables, in the order of its parameters."""
    function: Callable[..., Any]

    def doc(self) -> dict[str, Any]:
        """What identifies it, as JSON."""
        return {"name": self.name, "source": self.source, "inputs": list(self.inputs)}


def text_of(function: Callable[..., Any]) -> str:
    """Digest of a function's own text.

    Raises
    ------
    Invalid
        If it cannot be read.
    """
    try:
        return digest(textwrap.dedent(inspect.getsource(function)).encode())
    except (OSError, TypeError) as error:
        raise Invalid(
            f"the text of {getattr(function, '__name__', function)} cannot be read: {error}",
            why="a function is identified by its text",
            fix="write it with def in a file of the project",
        ) from error


class _Passing(Exception):
    """An error on its way through Polars, which keeps the text of an exception only."""


_BETWEEN, _ADDED = "\x1f", "\n\nThis error occurred in the following expression"


def over_rows(function: RowFunction, rows: Iterable[Sequence[Any]]) -> list[Any]:
    """What a row function says of many rows, called by Polars inside `row_errors`."""
    try:
        return [function.of(values) for values in rows]
    except LooplineError as error:
        raise _Passing(_BETWEEN.join((error.what, error.why, error.fix))) from error


@contextmanager
def row_errors() -> Iterator[None]:
    """Raise what row functions raise below Polars as it was."""
    try:
        yield
    except _Passing as passing:
        what, why, fix = str(passing).split(_ADDED)[0].split(_BETWEEN)
        raise Invalid(what, why=why, fix=fix) from None


def row_function(*, inputs: Sequence[Any], returns: Returns) -> Callable[[Callable[..., Any]], Expr]:
    """Make a Python function of one row an expression.

    Parameters
    ----------
    inputs : sequence of str or Expr
        What it is called with, in order: columns by name, or expressions. Numbers
        reach it as floats, moments in UTC, unknown values as None.
    returns : {"number", "truth", "text"}
        What it returns; None is always allowed.

    Raises
    ------
    Invalid
        If its source text cannot be read, or it cannot be called so.

    Notes
    -----
    It must depend on its arguments alone. On many rows it costs a Python call each
    [about 1 us], which the catalogue shows as `slow`.
    """
    if returns not in get_args(Returns):
        raise Invalid(
            f"returns={returns!r}",
            why=f"a row function returns one of {', '.join(get_args(Returns))}",
            fix="name one of them",
        )
    trees = tuple(col(one) if isinstance(one, str) else expr(one) for one in inputs)

    def wrap(function: Callable[..., Any]) -> Expr:
        try:
            inspect.signature(function).bind(*trees)
        except TypeError as error:
            raise Invalid(
                f"{function.__name__} cannot be a row function: {error}",
                why=f"it is called with {len(trees)} values",
                fix="give it one parameter for each input",
            ) from error
        return Expr("call", (RowFunction(function.__name__, text_of(function), returns, function), *trees))

    return wrap
