"""A table with its past: every version of every row, and until when each was the newest."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec

EVENT, KNOWN, SUPERSEDED = "event_time", "known_at", "superseded_at"
UTC_US = pl.Datetime("us", "UTC")


def history(frame: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """`frame` with `event_time`, `known_at` and `superseded_at`, as `compute` reads it.

    Parameters
    ----------
    frame : DataFrame, n rows
        All rows of a table, corrections included, in the order they came.
    spec : TableSpec
        Names the time columns and the key. Without `event_time` a row happens when
        it becomes known, without `known_at` it is known when it happens; without
        both the table has no times and is only good for `lookup`.

    Returns
    -------
    DataFrame
        The rows and their columns; rows whose `known_at` is null are not known and
        left out. `superseded_at` is the `known_at` of the next version with the same
        key, null for the newest. A table without times keeps the last row of each
        key and gets none of the three columns.

    Raises
    ------
    Invalid
        If a time column is absent or carries no zone.
    """
    if SUPERSEDED in frame.columns:
        return frame
    if timeless(spec):
        return frame.unique(spec.key, keep="last", maintain_order=True) if spec.key else frame
    event, known = times(frame, spec)
    timed = frame.with_columns(event.alias(EVENT), known.alias(KNOWN))
    if timed[KNOWN].null_count() or timed[EVENT].null_count():
        timed = timed.drop_nulls([EVENT, KNOWN])
    if not spec.key or timed.select(spec.key).n_unique() == timed.height:
        return timed.with_columns(pl.lit(None, UTC_US).alias(SUPERSEDED))
    order = timed.select(*spec.key, KNOWN).with_row_index("_row").sort(KNOWN, maintain_order=True)
    after = order.select("_row", pl.col(KNOWN).shift(-1).over(spec.key).alias(SUPERSEDED)).sort("_row")
    return timed.with_columns(after[SUPERSEDED])


def timeless(spec: TableSpec) -> bool:
    """Whether the rows of a table hold at all times."""
    return spec.event_time is None and spec.known_at is None


def times(frame: pl.DataFrame, spec: TableSpec) -> tuple[pl.Series, pl.Series]:
    """When the rows of a table with times happened, and when they became known."""
    declared = spec.known_at or (KNOWN if KNOWN in frame.columns else None)
    known = _moment(frame, declared or spec.event_time)
    return known if spec.event_time is None else _moment(frame, spec.event_time), known


def between(frame: pl.DataFrame, spec: TableSpec, *, since: datetime, until: datetime) -> pl.DataFrame:
    """The rows of a table that happened at `since` or later and were known by `until`.

    All rows of a table without times.
    """
    if timeless(spec):
        return frame
    event, known = times(frame, spec)
    return frame.filter((event >= since) & (known <= until))


def back(moment: datetime, by: timedelta) -> datetime:
    """`moment` minus `by`, or the first moment there is."""
    first = datetime.min.replace(tzinfo=moment.tzinfo)
    return first if moment - first < by else moment - by


def planned(spine: pl.DataFrame, spec: TableSpec, unit: str) -> pl.DataFrame:
    """Of each unit's spine rows the newest that was known at its `decision_time`, else the first.

    Parameters
    ----------
    spine : DataFrame
        With `decision_time`; one or more versions of each unit.
    """
    if spine[unit].n_unique() == spine.height:
        return spine
    order = spine.with_row_index("_row")
    if timeless(spec):
        keep = order
    else:
        order = order.with_columns(times(spine, spec)[1].alias("_known")).sort("_known", maintain_order=True)
        keep = order.filter(pl.col("_known") <= pl.col("decision_time"))
    last = keep.unique(unit, keep="last", maintain_order=True)
    late = order.join(last, on=unit, how="anti").unique(unit, keep="first", maintain_order=True)
    return pl.concat([last, late]).sort("_row").select(spine.columns)


def _moment(frame: pl.DataFrame, name: str | None) -> pl.Series:
    if name is None or name not in frame.columns:
        raise Invalid(
            f"a table has no column {name!r}",
            why="loop.yaml names it as a time",
            fix=f"its columns are {', '.join(frame.columns)}",
        )
    dtype = frame.schema[name]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        raise Invalid(
            f"column {name!r} is {dtype}",
            why="times carry a zone; Loopline never guesses one",
            fix=f'convert it: pl.col("{name}").dt.replace_time_zone("UTC")',
        )
    return frame[name].dt.convert_time_zone("UTC").dt.cast_time_unit("us")
