"""A table with its past: every version of every row, and until when each was the newest."""

from __future__ import annotations

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
        it becomes known; without both the table has no times and is only good for `lookup`.

    Returns
    -------
    DataFrame
        The n rows and their columns. `superseded_at` is the `known_at` of the next
        version with the same key, null for the newest. A table without times keeps
        the last row of each key and gets none of the three columns.

    Raises
    ------
    Invalid
        If a time column is absent or carries no zone.
    """
    if SUPERSEDED in frame.columns:
        return frame
    if spec.event_time is None and spec.known_at is None:
        return frame.unique(spec.key, keep="last", maintain_order=True) if spec.key else frame
    known = _moment(frame, spec.known_at or KNOWN if spec.known_at or KNOWN in frame.columns else spec.event_time)
    event = known if spec.event_time is None else _moment(frame, spec.event_time)
    timed = frame.with_columns(event.alias(EVENT), known.alias(KNOWN))
    if not spec.key or not _repeats(timed, spec.key):
        return timed.with_columns(pl.lit(None, UTC_US).alias(SUPERSEDED))
    order = timed.select(*spec.key, KNOWN).with_row_index("_row").sort(KNOWN, maintain_order=True)
    after = order.select("_row", pl.col(KNOWN).shift(-1).over(spec.key).alias(SUPERSEDED)).sort("_row")
    return timed.with_columns(after[SUPERSEDED])


def _repeats(frame: pl.DataFrame, key: tuple[str, ...]) -> bool:
    return bool(frame.select(key).n_unique() < frame.height)


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
