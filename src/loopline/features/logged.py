"""What a log tells of the requests that were answered: what the model read, and the spine rows behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from loopline.base.errors import NotFound
from loopline.data.spec import TableSpec
from loopline.features.past import planned
from loopline.features.requests import brought
from loopline.features.sources import version_of
from loopline.features.spec import FeaturesSpec
from loopline.features.views import Views
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace

REQUEST = "request_"
"""Begins the log's columns of what a request brought, where a log keeps them."""
ROW = "_row"


def logged(
    ws: Workspace,
    endpoint: str,
    rows: int,
    since: datetime | None,
    until: datetime | None,
    versions: Sequence[str] | None,
) -> pl.DataFrame:
    """The newest requests of an endpoint that a model answered, numbered in `ROW`."""
    name = f"predictions/{endpoint}"
    at = pl.col("decision_time")
    if ws.tables.version(name) is None:
        raise _nothing(endpoint)
    log = ws.tables.scan(name).filter(pl.col("fallback").is_null() | (pl.col("fallback") != "baseline"))
    if since is not None:
        log = log.filter(at >= since)
    if until is not None:
        log = log.filter(at < until)
    if versions is not None:
        log = log.filter(pl.col("version").is_in(list(versions)))
    newest = log.collect().sort("recorded_at", maintain_order=True).tail(rows)
    if not newest.height:
        raise _nothing(endpoint)
    return newest.with_row_index(ROW)


def _nothing(endpoint: str) -> NotFound:
    return NotFound(
        f"the log of {endpoint} holds no such request",
        why="parity recomputes what was asked and answered",
        fix="serve some requests first, or widen --since and --until",
    )


def served_columns(log: pl.DataFrame, views: Views, reads: Sequence[str] | None) -> dict[str, str]:
    """The log's column of each feature that was read; where nothing tells which were, of each that is ever known."""
    found = {}
    for name in views.names:
        column = f"input_{name}" if f"input_{name}" in log.columns else name
        if column in log.columns and (name in reads if reads is not None else log[column].is_not_null().any()):
            found[name] = column
    return found


def unread(
    log: pl.DataFrame, views: Views, reads: Sequence[str] | None, served: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """Features that the log does not show, and why; without those that the versions do not read."""
    unread = {}
    for name in views.names if reads is None else reads:
        if name in served or name in known:
            continue
        if name not in views.names:
            unread[name] = "no view makes it"
        elif name in log.columns or f"input_{name}" in log.columns:
            unread[name] = "null in every request, and nothing tells whether their versions read it"
        else:
            unread[name] = "not in the log"
    return unread


def spine_of(
    ws: Workspace,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    views: Views,
    log: pl.DataFrame,
) -> tuple[pl.DataFrame, int]:
    """What each request brought, as spine rows, and for how many requests nothing tells.

    From the log where it keeps it, else from the version of the spine's row that was known then.
    """
    columns = [name for name in views.spine_columns if name != "decision_time"]
    asked = log.select(ROW, "decision_time", pl.col("entity").alias("_entity"))
    source = ws.tables.scan(features.spine, version=version_of(ws, features.spine))
    schema = source.collect_schema()
    read = brought(views)
    told = {name: log[f"{REQUEST}{name}"] for name in read if f"{REQUEST}{name}" in log.columns}
    own = pl.Series([False]).new_from_index(0, log.height)
    if len(told) == len(read):
        for column in told.values():
            own |= column.is_not_null()
    kept = [_typed(values.filter(own), schema[name]).alias(name) for name, values in told.items()]
    missing = [pl.lit(None, schema[name]).alias(name) for name in columns if name not in told]
    mine = asked.filter(own).drop("_entity").hstack(kept if own.any() else []).with_columns(missing)
    asked = asked.filter(~own)
    named = pl.col(framing.unit).cast(pl.String).alias("_entity")
    versions = source.filter(named.is_in(asked["_entity"].unique().implode())).with_columns(named).collect()
    joined = asked.join(versions.drop("decision_time", strict=False), on="_entity", how="inner", maintain_order="left")
    spine = planned(joined, tables[features.spine], ROW).select(ROW, "decision_time", *columns)
    if own.any():
        spine = pl.concat([mine.select(spine.columns), spine]).sort(ROW)
    return spine.sort(ROW), log.height - spine.height


def _moment(text: str) -> datetime:
    made = datetime.fromisoformat(text)
    return made if made.tzinfo is not None else made.replace(tzinfo=UTC)


def _typed(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """What the log keeps of a request, in the type of the spine's column; null where it cannot be read."""
    if values.dtype != pl.String or dtype == pl.String:
        return values.cast(dtype)
    if dtype.is_temporal():
        moments = [None if text is None else _moment(text) for text in values]
        return pl.Series(values.name, moments, pl.Datetime("us", "UTC")).cast(dtype)
    if dtype == pl.Boolean:
        return values.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    whole = values.cast(dtype, strict=False)
    return whole.fill_null(values.cast(pl.Float64, strict=False).cast(dtype, strict=False))
