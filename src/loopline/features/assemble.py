"""Features from frames: pure, the same for a day and for a year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.features import pit
from loopline.features.batch import as_feature, compiled, without_nan
from loopline.features.expr import AGGREGATES, Expr
from loopline.features.past import EVENT, SUPERSEDED
from loopline.features.views import View, Views

US = timedelta(microseconds=1)
Floats = npt.NDArray[np.float64]


def compute(views: Views, spine: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The features of every spine row, from what was known at its decision time.

    Parameters
    ----------
    views : Views
    spine : DataFrame, n rows
        Columns `unit`, `decision_time` (UTC) and those that the views read.
    tables : mapping
        The sources of `views.tables`, each as `history` returns it. Events older
        than `views.lookback` before the first decision time may be left out, and
        so may rows known after the last.

    Returns
    -------
    DataFrame, n rows
        `unit`, `decision_time` and the features, Float32 or String, in spine
        order. No row is lost or doubled. Null means unknown.

    Raises
    ------
    Invalid
        If a table or a column is missing, or a feature is neither number nor category.

    Notes
    -----
    O((n + m) log m) for m source rows. See `pit` for what *latest* and *window* mean.
    """
    _require("the spine", spine.columns, ("unit", "decision_time", *views.spine_columns))
    ground = without_nan(spine.select(list(dict.fromkeys(("unit", "decision_time", *views.spine_columns)))))
    ground = ground.with_columns(pl.col("decision_time").dt.cast_time_unit("us"))
    sources = {name: _source(views, name, tables) for name in views.tables}
    found: dict[int, str] = {}
    columns: list[pl.Series] = []
    for group in _groups(views):
        source = sources[group[0].source or ""]
        for leaf, values in _leaves(group, ground, source):
            name = f"_leaf{len(columns)}"
            found[id(leaf)] = name
            columns.append(values.alias(name))
    ground = ground.with_columns(columns)
    made = [
        as_feature(column, categorical=tree.op == "category", owner=one.name)
        for one in views.views
        for (_, tree), column in zip(one.features, _evaluate(one, ground, found), strict=True)
    ]
    return ground.select("unit", "decision_time").with_columns(made)


def _evaluate(one: View, ground: pl.DataFrame, found: Mapping[int, str]) -> list[pl.Series]:
    try:
        return ground.select(compiled(tree, found).alias(name) for name, tree in one.features).get_columns()
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            f"view {one.name} cannot be computed: {error}",
            why="an operator met a column of another type",
            fix=f"correct the expressions of {one.name}",
        ) from error


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


def _groups(views: Views) -> list[list[View]]:
    """Views that share source and entity, so that rows are matched and sorted once."""
    groups: dict[tuple[str | None, tuple[tuple[str, str], ...]], list[View]] = {}
    for one in views.views:
        if one.leaves():
            groups.setdefault((one.source, one.on), []).append(one)
    return list(groups.values())


def _leaves(group: Sequence[View], ground: pl.DataFrame, source: pl.DataFrame) -> list[tuple[Expr, pl.Series]]:
    """Every lookup and window of some views over one source and entity, each a column in spine order."""
    spine_code, code, row = pit.matched(ground, source, group[0].on)
    timed = SUPERSEDED in source.columns
    result: list[tuple[Expr, pl.Series]] = []
    for one in group:
        if any(leaf.op == "lookup" for leaf in one.leaves()) == timed:
            raise Invalid(
                f"view {one.name} reads {one.source} {'by lookup' if timed else 'in time'}",
                why=f"that table has {'event times' if timed else 'no times'}",
                fix="use latest(...) on tables with times and lookup(...) on tables without",
            )
    if not timed:
        place = np.full(int(spine_code.max(initial=-1)) + 2, -1, np.int64)
        place[code] = row
        picked = np.where(spine_code >= 0, place[spine_code], -1)
        return [(leaf, _pick(leaf, source, picked)) for one in group for leaf in one.leaves()]
    at = ground["decision_time"].to_physical().to_numpy()
    ev, ask = pit.events(source, code, row), pit.asks(spine_code, at)
    for one in group:
        newest = [leaf for leaf in one.leaves() if leaf.op == "latest"]
        if newest and one.ttl is not None:
            picked = np.full(ground.height, -1, np.int64)
            picked[ask.row] = pit.latest(ev, ask, one.ttl // US)
            result += [(leaf, _pick(leaf, source, picked)) for leaf in newest]
    aggregates = [leaf for one in group for leaf in one.leaves() if leaf.op in AGGREGATES]
    if aggregates:
        windows, values = pit.Windows(ev, ask), _Values(source, row)
        result += [(leaf, _aggregate(leaf, windows, values, ask, ground.height)) for leaf in aggregates]
    return result


def _pick(leaf: Expr, source: pl.DataFrame, row: npt.NDArray[np.int64]) -> pl.Series:
    """A value of the source rows `row`, null where that is -1."""
    values = source.select(compiled(leaf.args[0], {}).alias("value"))["value"]
    if values.len() == 1 and source.height != 1:
        values = values.new_from_index(0, source.height)
    index = pl.Series(np.where(row < 0, 0, row))
    if not source.height:
        return pl.Series("value", [None] * len(row), dtype=values.dtype)
    known = pl.Series(row >= 0)
    return values.gather(index).to_frame().select(pl.when(known).then(pl.col("value"))).to_series()


class _Values:
    """What windows add up, as integers, each made once."""

    def __init__(self, source: pl.DataFrame, row: pit.Ints) -> None:
        self._source, self._row = source, row
        self._made: dict[str, tuple[pit.Ints, pit.Ints]] = {}

    def __call__(self, tree: Expr) -> tuple[pit.Ints, pit.Ints]:
        """Fixed-point values of an expression, 0 for null, and whether each is not null."""
        key = repr(tree.doc())
        if key not in self._made:
            values = self._source.select(pl.repeat(0, pl.len()), compiled(tree, {}).cast(pl.Float64).alias("value"))
            column = values["value"].gather(pl.Series(self._row))
            present = (column.is_not_null() & column.is_finite()).fill_null(False)
            numbers: Floats = column.fill_null(0.0).to_numpy()
            present_n = present.to_numpy()
            self._made[key] = pit.fixed(np.where(present_n, numbers, 0.0)), present_n.astype(np.int64)
        return self._made[key]


def _aggregate(leaf: Expr, windows: pit.Windows, values: _Values, ask: pit.Asks, height: int) -> pl.Series:
    """A window aggregate in spine order; null where the entity is."""
    fixed, present = values(leaf.args[0])
    length = leaf.args[1] // US
    total = windows.sums(fixed, length)
    numbers: Floats = total / pit.FIXED
    empty = np.zeros(total.size, bool)
    if leaf.op in ("mean", "share"):
        n = windows.sums(present, length)
        empty = n == 0
        numbers = numbers / np.where(empty, 1, n)
    out = np.zeros(height, np.float64)
    null = np.ones(height, bool)
    out[ask.row], null[ask.row] = numbers, empty
    return pl.Series("value", out).to_frame().select(pl.when(pl.lit(pl.Series(~null))).then(pl.first())).to_series()
