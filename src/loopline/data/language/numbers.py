"""Whole numbers beside 64-bit floats, compared exactly: no float is every whole number beyond 2**53."""

from __future__ import annotations

import math
from collections.abc import Callable

import polars as pl

MOST = 1.7976931348623157e308
"""The greatest 64-bit float."""
WIDEST = 2**65
"""Beyond every number of 64 bits: an end that far out is any end that far out."""
WHOLE = pl.Int128


def exact(value: float) -> bool:
    """Whether a 64-bit float is this very number."""
    try:
        return float(value) == value
    except OverflowError:
        return False


def nearest(value: float, *, up: bool) -> float:
    """The least 64-bit float that is not below a number, or the greatest that is not above it."""
    try:
        found = float(value)
    except OverflowError:
        found = math.inf if value > 0 else -math.inf
    if up:
        return found if found >= value else math.nextafter(found, math.inf)
    return found if found <= value else math.nextafter(found, -math.inf)


def whole_literal(value: int) -> pl.Expr:
    """A whole number to compare columns of at most 64 bits with."""
    return pl.lit(max(-WIDEST, min(WIDEST, value)), WHOLE if abs(value) >= 2**63 else pl.Int64)


def compared(op: str, whole: pl.Expr, broken: pl.Expr) -> pl.Expr:
    """`whole op broken` of integers of at most 64 bits and floats, exactly; null where one is null, never NaN."""
    ends: dict[str, Callable[[], pl.Expr]] = {
        "<": lambda: whole < _cut(broken.ceil()),
        "<=": lambda: whole <= _cut(broken.floor()),
        ">": lambda: whole > _cut(broken.floor()),
        ">=": lambda: whole >= _cut(broken.ceil()),
        "==": lambda: (broken == broken.floor()) & (whole == _cut(broken.floor())),
        "!=": lambda: (broken != broken.floor()) | (whole != _cut(broken.floor())),
    }
    return ends[op]()


def _cut(broken: pl.Expr) -> pl.Expr:
    return broken.clip(-float(WIDEST), float(WIDEST)).cast(WHOLE)
