"""A table with its past: every version of every row, and until when each was the newest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec

EVENT, KNOWN, SUPERSEDED = "event_time", "known_at", "superseded_at"
UTC_US = pl.Datetime("us", "UTC")


def superseded_by(available: str) -> str:
    """The column that says when a row's next version became known, by the times in `available`."""
    return f"{SUPERSEDED}:{available}"


def history(frame: pl.DataFrame, spec: TableSpec, available: Sequence[str] = ()) -> pl.DataFrame:
    """`frame` with `event_time`, `known_at` and `superseded_at`, as `compute` reads it.

    Parameters
    ----------
    frame : DataFrame, n rows
        All rows of a table, corrections included, in the order they came.
    spec : TableSpec
        Names the time columns and the key. Without `event_time` a row happens when
        it becomes known, without `known_at` it is known when it happens; without
        both the table has no times and is only good for `lookup`.
    available : sequence of str
        Columns that some views take for `known_at`; each gets a `superseded_at` of its own.

    Returns
    -------
    DataFrame
        The rows and their columns; rows whose `known_at` is null are not known and
        left out. `superseded_at` is the `known_at` of the next version with the same
        key, null for the newest; rows that say that a key is gone end the versions
        before them and are left out. A table without times keeps the last row of each
        key and gets none of the three columns.

    Raises
    ------
    Invalid
        If a time column is absent or carries no zone.
    """
    if SUPERSEDED in frame.columns:
        return frame
    if timeless(spec):
        return standing(frame.unique(spec.key, keep="last", maintain_order=True) if spec.key else frame, spec)
    event, known = times(frame, spec)
    if gone := tombstone(frame, spec):
        event = event.zip_with(~frame[gone].fill_null(False) | event.is_not_null(), known)
    timed = frame.with_columns(event.alias(EVENT), known.alias(KNOWN))
    if timed[KNOWN].null_count() or timed[EVENT].null_count():
        timed = timed.drop_nulls([EVENT, KNOWN])
    timed = timed.with_columns(_moment(timed, column).alias(column) for column in available)
    ends = {KNOWN: SUPERSEDED, **{column: superseded_by(column) for column in available}}
    if not spec.key or timed.select(spec.key).n_unique() == timed.height:
        return standing(timed.with_columns(pl.lit(None, UTC_US).alias(end) for end in ends.values()), spec)
    ended = timed.with_columns(_next_version(timed, spec.key, column).alias(end) for column, end in ends.items())
    return standing(ended, spec)


def tombstone(frame: pl.DataFrame, spec: TableSpec) -> str | None:
    """The column of `frame` that says that a key is gone; null where none does."""
    return spec.tombstone if spec.tombstone in frame.columns else None


def standing(frame: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """`frame` without the rows that say that a key is gone."""
    gone = tombstone(frame, spec)
    return frame if gone is None else frame.filter(~pl.col(gone).fill_null(False))


def _next_version(timed: pl.DataFrame, key: Sequence[str], column: str) -> pl.Series:
    """For each row the `column` of the next version with the same key; rows without one take no part."""
    order = timed.select(*key, column).with_row_index("_row").sort(column, maintain_order=True, nulls_last=True)
    after = order.select("_row", pl.col(column).shift(-1).over(key).alias("_next")).sort("_row")
    return after["_next"]


def timeless(spec: TableSpec) -> bool:
    """Whether the rows of a table hold at all times."""
    return spec.event_time is None and spec.known_at is None


def times(frame: pl.DataFrame, spec: TableSpec) -> tuple[pl.Series, pl.Series]:
    """When the rows of a table with times happened, and when they became known."""
    declared = spec.known_at or (KNOWN if KNOWN in frame.columns else None)
    known = _moment(frame, declared or spec.event_time)
    return known if spec.event_time is None else _moment(frame, spec.event_time), known


def moments(frame: pl.DataFrame, spec: TableSpec, available: str | None = None) -> tuple[pl.Series, pl.Series]:
    """As `times`, with the column `available` for when rows became known, where one is given."""
    event, known = times(frame, spec)
    return (event, known) if available is None else (event, _moment(frame, available))


def between(
    frame: pl.DataFrame, spec: TableSpec, *, since: datetime, until: datetime, available: Sequence[str] = ()
) -> pl.DataFrame:
    """The rows of a table that happened or became known at `since` or later and were known by `until`.

    All rows of a table without times. A row that one of the columns `available` says to be known by then stays too,
    and so does an earlier version of a row announced ahead, whatever time it says: it may have moved the event.
    """
    if timeless(spec):
        return frame
    event, known = times(frame, spec)
    by_then = known <= until
    for column in available:
        by_then |= (_moment(frame, column) <= until).fill_null(False)
    kept = frame.filter(((event >= since).fill_null(False) | (known >= since)) & by_then)
    if spec.key and kept.height < frame.height and bool(((event > known) & (event >= since)).any()):
        return frame.filter(by_then).join(kept.select(spec.key), on=spec.key, how="semi", nulls_equal=True)
    return kept


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
    order = spine.with_row_index("_order")
    if timeless(spec):
        keep = order
    else:
        order = order.with_columns(times(spine, spec)[1].alias("_known")).sort("_known", maintain_order=True)
        keep = order.filter(pl.col("_known") <= pl.col("decision_time"))
    last = keep.unique(unit, keep="last", maintain_order=True)
    late = order.join(last, on=unit, how="anti").unique(unit, keep="first", maintain_order=True)
    return pl.concat([last, late]).sort("_order").select(spine.columns)


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
    return frame[name] if dtype == UTC_US else frame[name].dt.convert_time_zone("UTC").dt.cast_time_unit("us")
