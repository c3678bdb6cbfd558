"""One source as the spine asks it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.features import pit, several
from loopline.features.batch import compiled
from loopline.features.expr import AGGREGATES, Expr
from loopline.features.past import SUPERSEDED
from loopline.features.views import View

US = timedelta(microseconds=1)
SUMS = ("count", "total", "mean", "share")
Floats = npt.NDArray[np.float64]
Leaves = list[tuple[Expr, pl.Series]]


class Reading:
    """One source as the spine asks it: encoded, ordered and evaluated once for all views."""

    def __init__(self, ground: pl.DataFrame, source: pl.DataFrame) -> None:
        self._source, self._height = source, ground.height
        self._matching = pit.Matching(ground, source)
        self._at = ground["decision_time"].to_physical().to_numpy()
        self._timed = SUPERSEDED in source.columns
        self._events: dict[tuple[int | None, str | None], pit.Events] = {}
        self._made: dict[str, pl.Series] = {}
        self._values: dict[str, tuple[pit.Ints, pit.Ints]] = {}

    def leaves(self, group: Sequence[View]) -> Leaves:
        """Every lookup and window of views with one entity and one `refresh`, each a column in spine order."""
        mine, theirs, size = self._matching(group[0].on)
        for one in group:
            if any(leaf.op == "lookup" for leaf in one.leaves()) == self._timed:
                raise Invalid(
                    f"view {one.name} reads {one.source} {'by lookup' if self._timed else 'in time'}",
                    why=f"that table has {'event times' if self._timed else 'no times'}",
                    fix="use latest(...) on tables with times and lookup(...) on tables without",
                )
        if not self._timed:
            place = np.full(size + 1, -1, np.int64)
            place[theirs] = np.arange(theirs.size)
            picked = np.where(mine >= 0, place[mine], -1)
            return self._picked([leaf for one in group for leaf in one.leaves()], picked)
        ask = pit.asked(self._seen(group[0]), theirs, size, mine, self._at)
        result: Leaves = []
        for one in group:
            found = self._newest(one, ask) + self._lasts(one, ask)
            windows = [leaf for leaf in one.leaves() if leaf.op in AGGREGATES]
            result += _fresh(one, found + (self._aggregated(windows, ask) if windows else []), ask, self._height)
        return result

    def _seen(self, one: View) -> pit.Events:
        refresh = None if one.refresh is None else one.refresh // US
        if (refresh, one.available_at) not in self._events:
            made = pit.Events.of(self._source, refresh, one.available_at)
            self._events[refresh, one.available_at] = made
        return self._events[refresh, one.available_at]

    def _newest(self, one: View, ask: pit.Asked) -> Leaves:
        leaves = [leaf for leaf in one.leaves() if leaf.op == "latest"]
        if not leaves or one.ttl is None:
            return []
        picked = np.full(self._height, -1, np.int64)
        picked[ask.row] = pit.latest(ask, one.ttl // US)
        return self._picked(leaves, picked)

    def _lasts(self, one: View, ask: pit.Asked) -> Leaves:
        result: Leaves = []
        for leaf in one.leaves():
            if leaf.op == "last_n" and one.ttl is not None:
                tree, n, how = leaf.args
                numbers = several.last_n(ask, self._numbers(tree), n, how, one.ttl // US)
                result.append((leaf, self._column(ask, numbers)))
        return result

    def _inner(self, trees: Sequence[Expr]) -> list[pl.Series]:
        """Expressions over the source rows, each as long as the source."""
        keys = [repr(tree.doc()) for tree in trees]
        new = {key: tree for key, tree in zip(keys, trees, strict=True) if key not in self._made}
        if new:
            self._made.update(zip(new, evaluated(self._source, list(new.values())), strict=True))
        return [self._made[key] for key in keys]

    def _picked(self, leaves: Sequence[Expr], row: pit.Ints) -> Leaves:
        """Values of the source rows `row`, null where that is -1."""
        index = pl.Series(np.where(row < 0, np.nan, row), nan_to_null=True).cast(pl.UInt32)
        inner = [s.alias(f"_{n}") for n, s in enumerate(self._inner([leaf.args[0] for leaf in leaves]))]
        found = pl.DataFrame(inner).select(pl.all().gather(index))
        return list(zip(leaves, found.get_columns(), strict=True))

    def _column(self, ask: pit.Asked, numbers: Floats) -> pl.Series:
        """Answers in spine order; null where they are NaN or the spine names no entity."""
        out = np.full(self._height, np.nan)
        out[ask.row] = numbers
        return pl.Series(out, nan_to_null=True)

    def _aggregated(self, leaves: Sequence[Expr], ask: pit.Asked) -> Leaves:
        """Window aggregates; null where the spine names no entity."""
        windows = pit.Windows(ask)
        result: Leaves = []
        for leaf in leaves:
            tree, length = leaf.args[0], leaf.args[1] // US
            if leaf.op == "distinct":
                numbers = several.distinct(ask, self._inner([tree])[0], length)
            elif leaf.op in SUMS:
                numbers = self._sums(windows, leaf.op, tree, length)
            else:
                numbers = several.extreme(ask, self._numbers(tree), length, leaf.op)
            result.append((leaf, self._column(ask, numbers)))
        return result

    def _sums(self, windows: pit.Windows, op: str, tree: Expr, length: int) -> Floats:
        fixed, present = self._whole(tree)
        numbers: Floats = windows.sums(fixed, length) / pit.FIXED
        if op in ("mean", "share"):
            n = windows.sums(present, length)
            numbers = np.where(n > 0, numbers / np.maximum(n, 1), np.nan)
        return numbers

    def _numbers(self, tree: Expr) -> Floats:
        """Values of the source rows as floats, NaN where null."""
        return floats(self._inner([tree])[0])

    def _whole(self, tree: Expr) -> tuple[pit.Ints, pit.Ints]:
        """Values of the source rows in fixed point, 0 for null, and 1 where they are not null."""
        key = repr(tree.doc())
        if key not in self._values:
            numbers = self._numbers(tree)
            present = ~np.isnan(numbers)
            self._values[key] = pit.fixed(np.where(present, numbers, 0.0)), present.astype(np.int64)
        return self._values[key]


def evaluated(source: pl.DataFrame, trees: Sequence[Expr]) -> list[pl.Series]:
    """Expressions over the rows of a source, each as long as it, null instead of NaN.

    Raises
    ------
    Invalid
        If an operator meets a column of another type.
    """
    if all(tree.op == "col" for tree in trees):
        return [source[tree.args[0]] for tree in trees]
    length = pl.repeat(0, pl.len()).alias("_length")
    try:
        made = [compiled(tree, {}, source.schema)[0].alias(f"_{n}") for n, tree in enumerate(trees)]
    except Invalid as error:
        raise Invalid(f"a lookup or window cannot be computed: {error.what}", why=error.why, fix=error.fix) from error
    return source.select(length, *made).get_columns()[1:]


def floats(column: pl.Series) -> Floats:
    """A column as 64-bit floats, NaN for null and for what is not finite."""
    try:
        numbers: Floats = column.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            f"a window cannot sum or compare {column.dtype}",
            why="only numbers and truths can be",
            fix="take distinct(...) for text, or minutes_between(...) for times",
        ) from error
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _fresh(one: View, found: Leaves, ask: pit.Asked, height: int) -> Leaves:
    """What a view answers: nothing for an entity that is too old, where it says so."""
    if one.freshness is None or one.on_stale == "serve" or not found:
        return found
    keep = np.ones(height, bool)
    keep[ask.row] = pit.latest(ask, one.freshness // US) >= 0
    mask = pl.Series(keep)
    nothing = [pl.Series([None], dtype=column.dtype) for _, column in found]
    return [(leaf, column.zip_with(mask, none)) for (leaf, column), none in zip(found, nothing, strict=True)]
