"""The spine: one row per unit to predict, with the moment its prediction is due."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from loopline.base.errors import Invalid
from loopline.base.spec import duration
from loopline.data.spec import TableSpec
from loopline.features.past import planned
from loopline.features.views import RESERVED, Views, column_views
from loopline.framing.spec import FramingSpec

_TIME = re.compile(r"\s*(?P<column>[^\s+-]+)\s*(?:(?P<sign>[+-])\s*(?P<length>\S+)\s*)?")
UTC_US = pl.Datetime("us", "UTC")


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
    """When each spine row's prediction is due, in UTC with microseconds; null without a decision time.

    Raises
    ------
    Invalid
        If its column is absent, holds nulls, or carries no zone.
    """
    if framing.decision_time is None:
        return pl.Series("decision_time", [None], UTC_US).new_from_index(0, spine.height)
    column, shift = due(framing.decision_time)
    _require(spine, column, f"framing.decision_time is {framing.decision_time!r}")
    dtype = spine.schema[column]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        raise Invalid(
            f"column {column!r} is {dtype}",
            why="a decision time carries a zone; Loopline never guesses one",
            fix=f'convert it in the source: pl.col("{column}").dt.replace_time_zone("UTC")',
        )
    if nulls := spine[column].null_count():
        raise Invalid(
            f"{nulls:,} spine rows have no {column}",
            why="nobody can say when their prediction is due",
            fix=f"demand {column} in the contract of the spine, so that such rows are quarantined",
        )
    at = spine[column].dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return (at + shift).alias("decision_time")


def spine_rows(framing: FramingSpec, spine: pl.DataFrame) -> pl.DataFrame:
    """The spine with `decision_time`.

    Raises
    ------
    Invalid
        If the unit column is absent, or the decision time cannot be told.
    """
    _require(spine, framing.unit, "framing.unit names it")
    return spine.with_columns(decision_times(framing, spine))


def due_rows(
    framing: FramingSpec, spec: TableSpec, spine: pl.DataFrame, since: datetime, until: datetime
) -> pl.DataFrame:
    """The units whose prediction is due in `[since, until)`, each with the row of it that was known then."""
    rows = spine_rows(framing, spine)
    return planned(rows.filter(pl.col("decision_time").is_between(since, until, closed="left")), spec, framing.unit)


def plain_views(framing: FramingSpec, table: str, spec: TableSpec, schema: Mapping[str, pl.DataType]) -> Views:
    """The features of a project without views: all columns but unit, label (with its confidence) and times.

    Text becomes categories; nested columns are left out.

    Raises
    ------
    Invalid
        If nothing is left.
    """
    hidden = {framing.unit, *RESERVED}
    if framing.label.table in (None, table):
        hidden |= label_columns(framing.label.value) | {str(framing.label.confidence)}
    for weak in framing.label.weak:
        if weak.table == table:
            hidden |= label_columns(weak.value) | {str(weak.confidence)}
    kept = {
        name: dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum))
        for name, dtype in schema.items()
        if name not in hidden
        and not dtype.is_temporal()
        and not dtype.is_nested()
        and dtype not in (pl.Null, pl.Binary)
    }
    if not kept:
        raise Invalid(
            f"table {table} holds no features",
            why="unit, label and times are left out, and nothing else is there",
            fix="add columns to learn from, or views under `features`",
        )
    return column_views(kept)


def label_columns(text: str) -> set[str]:
    """Columns that a label expression reads."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return {text}
    return {text} | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _require(spine: pl.DataFrame, column: str, why: str) -> None:
    if column not in spine.columns:
        raise Invalid(
            f"the spine has no column {column!r}",
            why=why,
            fix=f"its columns are {', '.join(spine.columns)}",
        )
