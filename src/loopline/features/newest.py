"""Features without a spine: the newest values of every entity, as of a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.data.spec import TableSpec
from loopline.features.assemble import compute
from loopline.features.external import frame_rows
from loopline.features.past import EVENT, KNOWN, SUPERSEDED, between, history
from loopline.features.spec import FeaturesSpec
from loopline.features.verbs import FIRST
from loopline.features.views import View, Views, load_views, together
from loopline.workspace import Workspace

UTC_US = pl.Datetime("us", "UTC")
_ROW = "_row"


def latest_of(views: Views, tables: Mapping[str, pl.DataFrame], *, entity: Sequence[str], at: datetime) -> pl.DataFrame:
    """The features of every entity that anything was known of at `at`.

    Parameters
    ----------
    views : Views
        Those that are joined by `entity` and read nothing else of a request take part.
    tables : mapping
        The sources, each as `history` returns it.
    entity : sequence of str
        The request columns that name an entity.
    at : datetime
        With a zone; what became known later does not count.

    Returns
    -------
    DataFrame
        The entity's columns, `decision_time` (= `at`) and the features; one row for
        each entity, in the order of its columns.

    Raises
    ------
    Invalid
        If no view is joined by that entity.
    """
    mine = [one for one in views.views if _joined(one, entity)]
    if not mine:
        raise Invalid(
            f"no view is joined by {', '.join(entity) or 'nothing'} alone",
            why="without a request only features of one entity have a value",
            fix=f"entities are {'; '.join(sorted({', '.join(p[0] for p in v.on) for v in views.views if v.on}))}",
        )
    keys = pl.concat([_known(one, tables, entity, at) for one in mine], how="vertical_relaxed").unique()
    spine = keys.sort(entity).with_row_index(_ROW).with_columns(pl.lit(at).cast(UTC_US).alias("decision_time"))
    made = compute(together(mine), spine, tables, unit=_ROW)
    return spine.select(entity).hstack(made.drop(_ROW))


def latest_set(
    ws: Workspace,
    project: Path,
    *,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    entity: Sequence[str],
    at: datetime | None = None,
) -> pl.DataFrame:
    """As `latest_of`, of a project's views and the workspace's tables; as known now by default.

    Raises
    ------
    Invalid
        If no view is joined by that entity.
    NotFound
        If a table holds nothing yet.
    """
    now = min(at or ws.clock(), ws.clock())
    views = load_views(project, features.views)
    sources = {}
    for name in views.tables:
        if name not in tables or ws.tables.version(name) is None:
            raise NotFound(
                f"table {name} holds nothing yet", why="no rows were ingested", fix="run `loopline data ingest`"
            )
        seen = views.available(name)
        rows = between(ws.tables.scan(name).collect(), tables[name], since=FIRST, until=now, available=seen)
        sources[name] = history(rows, tables[name], seen)
    return latest_of(views, sources, entity=entity, at=now)


def _joined(one: View, entity: Sequence[str]) -> bool:
    return bool(one.on) and {pair[0] for pair in one.on} == set(entity) >= set(Views((one,)).spine_columns)


def _known(one: View, tables: Mapping[str, pl.DataFrame], entity: Sequence[str], at: datetime) -> pl.DataFrame:
    """The entities that a view's source has a row of at `at`."""
    rows = frame_rows(one, tables) if one.maker is not None else tables[str(one.source)]
    if SUPERSEDED in rows.columns:
        rows = rows.filter((pl.col(one.available_at or KNOWN) <= at) & (pl.col(EVENT) <= at))
    columns = dict(one.on)
    return rows.select(pl.col(columns[name]).alias(name) for name in entity).drop_nulls().unique()
