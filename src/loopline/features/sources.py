"""The tables that views read, from the workspace, as `compute` and the online store take them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.data.history.progress import POINTER, Progress, gone
from loopline.data.spec import TableSpec
from loopline.features.past import back, between, history
from loopline.features.views import Views
from loopline.workspace import Workspace


def declared(views: Views, tables: Mapping[str, TableSpec]) -> dict[str, TableSpec]:
    """The declarations of the tables that views read; `Invalid` where one is missing."""
    for name in views.tables:
        if name not in tables:
            raise Invalid(
                f"a view reads a table {name!r} that loop.yaml does not declare",
                why=f"under data there are {', '.join(tables)}",
                fix=f"declare {name}, or correct the view's source",
            )
    return {name: tables[name] for name in views.tables}


def version_of(ws: Workspace, name: str) -> int:
    """The newest version of a table; `NotFound` where it holds nothing, `Invalid` where it did."""
    version = ws.tables.version(name)
    if version is None:
        if pointer := ws.records.pointer(POINTER, name):
            raise gone(name, Progress.of(pointer))
        raise NotFound(f"table {name} holds nothing yet", why="no rows were ingested", fix="run `loopline data ingest`")
    return version


def rows_within(
    ws: Workspace, views: Views, name: str, spec: TableSpec, *, version: int, since: datetime, until: datetime
) -> pl.DataFrame:
    """Rows of a table that views can still see between `since` and `until`, in the order they came."""
    rows = ws.tables.scan(name, version=version).collect()
    return between(rows, spec, since=back(since, views.lookback), until=until, available=views.available(name))


def histories(
    ws: Workspace, views: Views, tables: Mapping[str, TableSpec], *, since: datetime, until: datetime
) -> dict[str, pl.DataFrame]:
    """The sources of `views` as `compute` reads them, for decision times from `since` to `until`."""
    return {
        name: history(
            rows_within(ws, views, name, spec, version=version_of(ws, name), since=since, until=until),
            spec,
            views.available(name),
        )
        for name, spec in declared(views, tables).items()
    }
