"""How a column was distributed once, and how far a set of rows is from that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

Distance = Literal["psi", "total_variation"]
FLOOR = 1e-4
"""Shares below this count as this much, so that an empty class has a finite distance."""
CLASSES = 10
ROWS = 500
"""Fewer rows than this say too little about a distribution, unless a contract says otherwise."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Shares of a column's values, and the distance at which a set of rows breaks it.

    `edges` (ascending, numbers) make classes (-inf, e1], (e1, e2], ..., (ek, inf);
    `values` make one class each and one for the rest. `shares` has one share a class;
    missing values and values of the wrong type are in none. Sets of fewer than
    `rows` values are not judged.
    """

    distance: Distance
    at_most: float
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str | int | float | bool, ...] = ()
    rows: int = ROWS

    def far(self, counts: Sequence[int]) -> float | None:
        """The distance of a set of rows with `counts` values a class; null where they are too few."""
        total = sum(counts)
        if total < max(1, self.rows):
            return None
        return distance(self.distance, self.shares, [count / total for count in counts])

    def broken(self, counts: Sequence[int]) -> bool | None:
        """Whether the distance is beyond the limit; null where too few rows tell."""
        found = self.far(counts)
        return None if found is None else found > self.at_most


def distance(kind: Distance, old: Sequence[float], new: Sequence[float]) -> float:
    """How far two lists of shares are from each other.

    `psi` is the population stability index, the sum of (new - old) ln(new / old)
    with shares of at least 1e-4; `total_variation` half the sum of |new - old|.
    """
    if kind == "total_variation":
        return sum(abs(n - o) for o, n in zip(old, new, strict=True)) / 2
    pairs = [(max(o, FLOOR), max(n, FLOOR)) for o, n in zip(old, new, strict=True)]
    return sum((n - o) * math.log(n / o) for o, n in pairs)


def class_counts(value: pl.Expr, baseline: Baseline) -> list[pl.Expr]:
    """One expression a class: how many of `value` (nulls aside) are in it. Cumulative for edges.

    See `classes`, which turns a row of results into counts a class.
    """
    if baseline.edges:
        below = [(value <= edge).sum() for edge in baseline.edges]
    else:
        below = [(value == v).sum() for v in baseline.values]
    return [*below, value.count()]


def classes(found: Sequence[int], baseline: Baseline) -> list[int]:
    """Counts a class, from the results of `class_counts`."""
    *parts, total = found
    if not baseline.edges:
        return [*parts, total - sum(parts)]
    return [b - a for a, b in zip((0, *parts), (*parts, total), strict=True)]


def baseline_of(series: pl.Series, *, distance: Distance = "psi", at_most: float = 0.25) -> dict[str, Any] | None:
    """The baseline of a column as a contract writes it; null where it has none.

    Numbers: classes of about equal size, ten at most. Text and Booleans: the most
    frequent values, nine at most.
    """
    present = (series.fill_nan(None) if series.dtype.is_float() else series).drop_nulls()
    if not present.len():
        return None
    if series.dtype.is_numeric():
        values = present.cast(pl.Float64)
        cuts = [values.quantile(i / CLASSES, "lower") for i in range(1, CLASSES)]
        edges = sorted({float(c) for c in cuts if c is not None and math.isfinite(c) and c < float(values.max())})  # type: ignore[arg-type]
        if not edges:
            return None
        below = [int((values <= edge).sum()) for edge in edges]
        counts = [b - a for a, b in zip((0, *below), (*below, values.len()), strict=True)]
        classes: dict[str, Any] = {"edges": edges}
    else:
        text = present if present.dtype == pl.Boolean else present.cast(pl.String)
        tally = text.value_counts(name="n").sort("n", present.name, descending=[True, False]).head(CLASSES - 1).rows()
        counts = [int(n) for _, n in tally]
        counts.append(present.len() - sum(counts))
        classes = {"values": [value for value, _ in tally]}
    shares = [round(count / present.len(), 6) for count in counts]
    return {"distribution": distance, "atMost": at_most, **classes, "shares": shares, "rows": ROWS}
