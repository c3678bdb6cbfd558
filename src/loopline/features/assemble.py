"""Features from frames: pure, the same for a day and for a year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.features import pit
from loopline.features.batch import as_features, compiled, without_nan
from loopline.features.expr import AGGREGATES, Expr
from loopline.features.past import EVENT, SUPERSEDED
from loopline.features.views import View, Views

US = timedelta(microseconds=1)
Floats = npt.NDArray[np.float64]


def compute(
    views: Views, spine: pl.DataFrame, tables: Mapping[str, pl.DataFrame], *, unit: str = "unit"
) -> pl.DataFrame:
    """The features of every spine row, from what was known at its decision time.

    Parameters
    ----------
    views : Views
    spine : DataFrame, n rows
        The unit's column, `decision_time` (UTC; null where no time is declared) and
        those that the views read.
    tables : mapping
        The sources of `views.tables`, each as `history` returns it. Events older
        than `views.lookback` before the first decision time may be left out, and
        so may rows known after the last.
    unit : str
        Name of the unit's column.

    Returns
    -------
    DataFrame, n rows
        The unit, `decision_time` and the features, Float32 or String, in spine
        order. No row is lost or doubled. Null means unknown.

    Raises
    ------
    Invalid
        If a table or a column is missing, or a feature is neither number nor category.

    Notes
    -----
    O((n + m) log m) for m source rows. See `pit` for what *latest* and *window* mean.
    """
    _require("the spine", spine.columns, (unit, "decision_time", *views.spine_columns))
    ground = without_nan(spine.select(list(dict.fromkeys((unit, "decision_time", *views.spine_columns)))))
    ground = ground.with_columns(pl.col("decision_time").dt.cast_time_unit("us"))
    sources = {name: _source(views, name, tables) for name in views.tables}
    found: dict[int, str] = {}
    columns: list[pl.Series] = []
    for name, groups in _groups(views).items():
        reading = _Reading(ground, sources[name])
        for group in groups:
            for leaf, values in reading.leaves(group):
                column = f"_leaf{len(columns)}"
                found[id(leaf)] = column
                columns.append(values.alias(column))
    if unit in views.names:
        raise Invalid(
            f"a feature is called {unit!r}, like the unit",
            why="a name stands for one column, and what names a row teaches nothing",
            fix="rename the feature",
        )
    ground = ground.with_columns(columns)
    return ground.select(unit, "decision_time").hstack(_evaluate(views, ground, found))


def _evaluate(views: Views, ground: pl.DataFrame, found: Mapping[int, str]) -> pl.DataFrame:
    """All features in one pass, Float32 or String."""
    try:
        made = ground.select(compiled(tree, found).alias(name) for one in views.views for name, tree in one.features)
        return as_features(made, views)
    except pl.exceptions.PolarsError as error:
        for one in views.views:
            for name, tree in one.features:
                try:
                    ground.select(compiled(tree, found))
                except pl.exceptions.PolarsError as own:
                    raise Invalid(
                        f"feature {name!r} of view {one.name} cannot be computed: {own}",
                        why="an operator met a column of another type",
                        fix=f"correct its expression, or cast the column in {one.source or 'the spine'}",
                    ) from error
        raise


def _require(what: str, present: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in present]:
        raise Invalid(
            f"{what} lacks {', '.join(missing)}",
            why="the views read them",
            fix=f"its columns are {', '.join(present)}",
        )


def _source(views: Views, name: str, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    if name not in tables:
        raise Invalid(
            f"the views read a table {name!r} that is not given",
            why=f"there are {', '.join(tables) or 'none'}",
            fix="declare it under `data` in loop.yaml, or correct the view's source",
        )
    frame = tables[name]
    needed = dict.fromkeys(
        node.args[0]
        for one in views.views
        if one.source == name
        for leaf in one.leaves()
        for node in leaf.args[0].walk()
        if node.op == "col"
    )
    keys = dict.fromkeys(pair[1] for one in views.views if one.source == name for pair in one.on)
    _require(f"table {name}", frame.columns, (*needed, *keys))
    times = [c for c in (EVENT, "known_at", SUPERSEDED) if c in frame.columns]
    return without_nan(frame.select(list(dict.fromkeys((*needed, *keys, *times)))))


def _groups(views: Views) -> dict[str, list[list[View]]]:
    """Views by source, and by entity within it, so that rows are matched and sorted once."""
    groups: dict[str, dict[tuple[tuple[str, str], ...], list[View]]] = {}
    for one in views.views:
        if one.source is not None and one.leaves():
            groups.setdefault(one.source, {}).setdefault(one.on, []).append(one)
    return {source: list(by_entity.values()) for source, by_entity in groups.items()}


class _Reading:
    """One source as the spine asks it: encoded, ordered and evaluated once for all views."""

    def __init__(self, ground: pl.DataFrame, source: pl.DataFrame) -> None:
        self._source, self._height = source, ground.height
        self._matching = pit.Matching(ground, source)
        self._at = ground["decision_time"].to_physical().to_numpy()
        self._timed = SUPERSEDED in source.columns
        self._events = pit.Events.of(source) if self._timed else None
        self._values: dict[str, tuple[pit.Ints, pit.Ints]] = {}

    def leaves(self, group: Sequence[View]) -> list[tuple[Expr, pl.Series]]:
        """Every lookup and window of views with one entity, each a column in spine order."""
        mine, theirs, size = self._matching(group[0].on)
        for one in group:
            if any(leaf.op == "lookup" for leaf in one.leaves()) == self._timed:
                raise Invalid(
                    f"view {one.name} reads {one.source} {'by lookup' if self._timed else 'in time'}",
                    why=f"that table has {'event times' if self._timed else 'no times'}",
                    fix="use latest(...) on tables with times and lookup(...) on tables without",
                )
        if self._events is None:
            place = np.full(size + 1, -1, np.int64)
            place[theirs] = np.arange(theirs.size)
            picked = np.where(mine >= 0, place[mine], -1)
            return self._picked([leaf for one in group for leaf in one.leaves()], picked)
        ask = pit.asked(self._events, theirs, size, mine, self._at)
        result: list[tuple[Expr, pl.Series]] = []
        for one in group:
            newest = [leaf for leaf in one.leaves() if leaf.op == "latest"]
            if newest and one.ttl is not None:
                picked = np.full(self._height, -1, np.int64)
                picked[ask.row] = pit.latest(ask, one.ttl // US)
                result += self._picked(newest, picked)
        aggregates = [leaf for one in group for leaf in one.leaves() if leaf.op in AGGREGATES]
        return result + (self._aggregated(aggregates, ask) if aggregates else [])

    def _inner(self, trees: Sequence[Expr]) -> list[pl.Series]:
        """Expressions over the source rows, each as long as the source."""
        length = pl.repeat(0, pl.len()).alias("_length")
        try:
            made = self._source.select(length, *(compiled(tree, {}).alias(f"_{n}") for n, tree in enumerate(trees)))
        except pl.exceptions.PolarsError as error:
            raise Invalid(
                f"a lookup or window cannot be computed: {error}",
                why=f"an operator met a column of another type among {', '.join(self._source.columns)}",
                fix="correct the expression inside it",
            ) from error
        return made.get_columns()[1:]

    def _picked(self, leaves: Sequence[Expr], row: pit.Ints) -> list[tuple[Expr, pl.Series]]:
        """Values of the source rows `row`, null where that is -1."""
        index = pl.Series(np.where(row < 0, np.nan, row), nan_to_null=True).cast(pl.UInt32)
        found = pl.DataFrame(self._inner([leaf.args[0] for leaf in leaves])).select(pl.all().gather(index))
        return list(zip(leaves, found.get_columns(), strict=True))

    def _aggregated(self, leaves: Sequence[Expr], ask: pit.Asked) -> list[tuple[Expr, pl.Series]]:
        """Window aggregates; null where the spine names no entity."""
        if other := [leaf.op for leaf in leaves if leaf.op not in ("count", "total", "mean", "share")]:
            raise Invalid(f"{other[0]} has no batch form", why="only sums over windows have one", fix="use mean")
        windows = pit.Windows(ask)
        result = []
        for leaf, (fixed, present) in zip(leaves, self._whole([leaf.args[0] for leaf in leaves]), strict=True):
            length = leaf.args[1] // US
            numbers: Floats = windows.sums(fixed, length) / pit.FIXED
            if leaf.op in ("mean", "share"):
                n = windows.sums(present, length)
                numbers = np.where(n > 0, numbers / np.maximum(n, 1), np.nan)
            out = np.full(self._height, np.nan)
            out[ask.row] = numbers
            result.append((leaf, pl.Series(out, nan_to_null=True)))
        return result

    def _whole(self, trees: Sequence[Expr]) -> list[tuple[pit.Ints, pit.Ints]]:
        """Values of the source rows in fixed point, 0 for null, and 1 where they are not null."""
        keys = [repr(tree.doc()) for tree in trees]
        new = {key: tree for key, tree in zip(keys, trees, strict=True) if key not in self._values}
        for key, column in zip(new, self._inner(list(new.values())) if new else (), strict=True):
            numbers: Floats = column.cast(pl.Float64).to_numpy()
            present = np.isfinite(numbers)
            self._values[key] = pit.fixed(np.where(present, numbers, 0.0)), present.astype(np.int64)
        return [self._values[key] for key in keys]
