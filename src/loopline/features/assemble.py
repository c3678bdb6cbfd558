"""Features from frames: pure, the same for a day and for a year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from loopline.base.errors import Invalid
from loopline.features.batch import as_features, as_read, compiled
from loopline.features.external import frame_rows
from loopline.features.functions import row_errors
from loopline.features.past import EVENT, KNOWN, SUPERSEDED, superseded_by
from loopline.features.reading import Reading
from loopline.features.views import View, Views


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
    ground = as_read(spine.select(list(dict.fromkeys((unit, "decision_time", *views.spine_columns)))))
    ground = ground.with_columns(pl.col("decision_time").dt.cast_time_unit("us"))
    made = {str(one.source): frame_rows(one, tables) for one in views.views if one.maker is not None}
    given = {**tables, **made}
    names = dict.fromkeys(one.source for one in views.views if one.source is not None)
    sources = {name: _source(views, name, given) for name in names}
    found: dict[int, str] = {}
    columns: list[pl.Series] = []
    for name, groups in _groups(views).items():
        reading = Reading(ground, sources[name])
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
    trees = []
    for one in views.views:
        for name, tree in one.features:
            try:
                made, _ = compiled(tree, found, ground.schema, "text" if tree.op == "category" else "number", last=True)
            except Invalid as error:
                raise Invalid(
                    f"feature {name!r} of view {one.name} cannot be computed: {error.what}",
                    why=f"{error.why}; a feature is a number, a truth or a category",
                    fix=f"{error.fix}; text ends with .category()",
                ) from error
            trees.append(made.alias(name))
    with row_errors():
        return as_features(ground.lazy().with_columns(trees).select(views.names).collect(), views)


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
    times = [c for c in (EVENT, KNOWN, SUPERSEDED) if c in frame.columns]
    for column in dict.fromkeys(one.available_at for one in views.views if one.source == name and one.available_at):
        _require(f"table {name}", frame.columns, (column, superseded_by(column)))
        times += [column, superseded_by(column)]
    return as_read(frame.select(list(dict.fromkeys((*needed, *keys, *times)))))


def _groups(views: Views) -> dict[str, list[list[View]]]:
    """Views by source, and within it by entity and by when rows are seen, so that rows are sorted once."""
    groups: dict[str, dict[object, list[View]]] = {}
    for one in views.views:
        if one.source is not None and one.leaves():
            groups.setdefault(one.source, {}).setdefault((one.on, one.refresh, one.available_at), []).append(one)
    return {source: list(alike.values()) for source, alike in groups.items()}
