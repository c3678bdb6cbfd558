"""The rows of a window, profiled part by part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.history.known import known_column
from loopline.data.spec import TableSpec
from loopline.monitoring.continuity import Ends, ends_of, entity_columns
from loopline.monitoring.drift import PARTS
from loopline.monitoring.profile import Profile, profile_slices

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def between(rows: pl.DataFrame, since: datetime, until: datetime, time: str) -> pl.DataFrame:
    """Rows of the window (since, until]: known when it closed, and not before."""
    known = rows.get_column(time)
    at = stamps(known)
    inside = (at > stamp(since)) & (at <= stamp(until))
    if known.null_count():
        inside &= known.is_not_null().to_numpy()
    return rows if inside.all() else rows.filter(pl.Series(inside))


def stamps(times: pl.Series) -> npt.NDArray[np.int64]:
    """UTC times as microseconds since 1970; 0 for null."""
    plain = times.cast(pl.Datetime("us", "UTC")).cast(pl.Int64)
    return (plain.fill_null(0) if plain.null_count() else plain).to_numpy()


def stamp(at: datetime) -> int:
    """A UTC moment as microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def profile_parts(
    rows: pl.DataFrame, time: str, since: datetime, until: datetime, columns: Sequence[str]
) -> list[Profile]:
    """Profiles of the consecutive parts of (since, until], by the column `time`."""
    ordered, bounds = _parts(rows, time, since, until)
    return profile_slices(ordered[list(columns)], bounds)


def series_ends(
    rows: pl.DataFrame, spec: TableSpec, since: datetime, until: datetime, columns: Sequence[str]
) -> Ends | None:
    """First and last readings of the series that a table holds, in the same parts; null where it holds none."""
    if entity_columns(spec) is None:
        return None
    ordered, bounds = _parts(rows, known_column(spec), since, until)
    return ends_of(ordered, bounds, spec, columns, (until - since).total_seconds())


def _parts(rows: pl.DataFrame, time: str, since: datetime, until: datetime) -> tuple[pl.DataFrame, list[int]]:
    ordered = rows if rows[time].is_sorted() else rows.sort(time, maintain_order=True)
    step = (until - since) // timedelta(microseconds=1) / PARTS
    offsets = stamps(ordered.get_column(time)) - stamp(since)
    inner = np.searchsorted(offsets, step * np.arange(1, PARTS), side="right")
    return ordered, [0, *inner.tolist(), ordered.height]


def watched(rows: pl.DataFrame, spec: TableSpec) -> list[str]:
    """The columns of a table that are profiled: all but its clock and a name that is unique by itself."""
    left = {known_column(spec)} | (set(spec.key) if len(spec.key) == 1 else set())
    return [c for c, kind in rows.schema.items() if c not in left and not isinstance(kind, pl.Datetime)]


def corrections(bad: pl.DataFrame, later: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """Of rows that became known later, those that say anew what `bad` rows said.

    By the table's key, else by the span of event times; none where it has neither.
    """
    if spec.key:
        return later.join(bad.select(spec.key), on=list(spec.key), how="semi", nulls_equal=True)
    if spec.event_time and bad.height:
        first, last = bad[spec.event_time].min(), bad[spec.event_time].max()
        return later.filter(pl.col(spec.event_time).is_between(first, last))
    return later.clear()


def corrected(bad: pl.DataFrame, news: pl.DataFrame, spec: TableSpec) -> tuple[pl.DataFrame, float]:
    """The window as it should have been, and the share of its rows that `news` replaces.

    A corrected row takes the place of the row it corrects, also in time.
    """
    time = known_column(spec)
    if not spec.key:
        return news.with_columns(pl.lit(bad[time].max()).alias(time)), min(1.0, news.height / max(bad.height, 1))
    newest = news.sort(time, maintain_order=True).unique(list(spec.key), keep="last", maintain_order=True)
    places = bad.select(*spec.key, pl.col(time).alias("_place"))
    moved = newest.join(places, on=list(spec.key), how="inner", nulls_equal=True).with_columns(
        pl.col("_place").alias(time)
    )
    rest = bad.join(newest, on=list(spec.key), how="anti", nulls_equal=True)
    return pl.concat([rest, moved.select(rest.columns)]), moved.height / max(bad.height, 1)
