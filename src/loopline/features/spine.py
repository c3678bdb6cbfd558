"""The spine: one row per unit to predict, with the moment its prediction is due."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import polars as pl

from loopline.base.errors import Invalid
from loopline.base.spec import duration
from loopline.framing.spec import FramingSpec

_TIME = re.compile(r"\s*(?P<column>[^\s+-]+)\s*(?:(?P<sign>[+-])\s*(?P<length>\S+)\s*)?")


def due(text: str) -> tuple[str, timedelta]:
    """Column and shift of a decision time such as `starts_at - 2h`."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError(f"{text!r} is not a decision time")
        shift = duration(match["length"]) if match["length"] else timedelta(0)
    except ValueError as error:
        raise Invalid(
            f"framing.decision_time cannot be read: {error}",
            why="it is a column, or a column minus a duration",
            fix="write for example `starts_at` or `starts_at - 2h`",
        ) from error
    return match["column"], -shift if match["sign"] == "-" else shift


def decision_times(framing: FramingSpec, spine: pl.DataFrame) -> pl.Series:
    """When each spine row's prediction is due, in UTC with microseconds.

    Raises
    ------
    Invalid
        If the framing has no decision time, or its column is absent or without zone.
    """
    if framing.decision_time is None:
        raise Invalid(
            "the framing names no decision_time",
            why="without one nobody can say what was known at the time",
            fix="add framing.decision_time, for example `starts_at - 2h`",
        )
    column, shift = due(framing.decision_time)
    if column not in spine.columns:
        raise Invalid(
            f"the spine has no column {column!r}",
            why=f"framing.decision_time is {framing.decision_time!r}",
            fix=f"its columns are {', '.join(spine.columns)}",
        )
    dtype = spine.schema[column]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        raise Invalid(
            f"column {column!r} is {dtype}",
            why="a decision time carries a zone; Loopline never guesses one",
            fix=f'convert it in the source: pl.col("{column}").dt.replace_time_zone("UTC")',
        )
    at = spine[column].dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return (at + shift).alias("decision_time")


def spine_rows(framing: FramingSpec, spine: pl.DataFrame, *, otherwise: datetime | None = None) -> pl.DataFrame:
    """The spine with `unit` (text) and `decision_time`; `otherwise` is the time of framings without one.

    Raises
    ------
    Invalid
        If the unit column is absent.
    """
    if framing.unit not in spine.columns:
        raise Invalid(
            f"the spine has no column {framing.unit!r}",
            why="framing.unit names it",
            fix=f"its columns are {', '.join(spine.columns)}",
        )
    if framing.decision_time is None and otherwise is not None:
        at = pl.Series([otherwise], dtype=pl.Datetime("us", "UTC")).new_from_index(0, spine.height)
    else:
        at = decision_times(framing, spine)
    return spine.with_columns(pl.col(framing.unit).cast(pl.String).alias("unit"), at.alias("decision_time"))
