"""Which labelled rows train and which judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from loopline.base.errors import Invalid
from loopline.features.spec import SplitSpec

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows with their `split`, and the times between which it was made."""

    frame: pl.DataFrame
    train_to: datetime | None
    test_to: datetime | None


def by_time(rows: pl.DataFrame, split: SplitSpec, window: timedelta | None) -> Cut:
    """Hold out the newest part: a duration, or a share of the rows.

    Parameters
    ----------
    rows : DataFrame
        Labelled rows with `decision_time`, at least one.
    window : timedelta, optional
        Train on this much before the held-out part only; older rows go.
    """
    last = rows["decision_time"].max()
    assert isinstance(last, datetime)
    if isinstance(split.test, timedelta):
        cut = last - split.test
    else:
        cut = rows["decision_time"].sort()[min(rows.height - 1, int(np.ceil(rows.height * (1 - split.test))))]
    at = pl.col("decision_time")
    kept = rows if window is None else rows.filter(at >= cut - window)
    return Cut(kept.with_columns(_named(at >= cut)), cut, last)


def at_random(rows: pl.DataFrame, split: SplitSpec, unit: str, seed: int) -> Cut:
    """Hold out a share of the units (or of `split.group`), drawn by `seed`; the order of the rows does not matter.

    Raises
    ------
    Invalid
        If `split.test` is a duration.
    """
    if isinstance(split.test, timedelta):
        raise Invalid(
            "training.split.test is a duration, but rows are held out at random",
            why="without framing.decision_time, or with `by: random`, nobody knows which rows are the newest",
            fix="give a share, for example `test: 20%`, or name framing.decision_time",
        )
    ordered = rows.sort(unit)
    if split.group is None:
        drawn = np.random.default_rng(seed).permutation(rows.height) < round(rows.height * split.test)
        return Cut(ordered.with_columns(_named(pl.lit(pl.Series(drawn)))), None, None)
    groups = ordered[split.group].unique().sort()
    dealt = groups.gather(np.random.default_rng(seed).permutation(groups.len()))
    held = dealt.head(max(1, round(groups.len() * split.test)))
    return Cut(ordered.with_columns(_named(pl.col(split.group).is_in(held.implode(), nulls_equal=True))), None, None)


def inside(windows: Sequence[Span]) -> pl.Expr:
    """Whether `decision_time` lies in one of the windows `[from, to)`."""
    within = [pl.col("decision_time").is_between(low, high, closed="left") for low, high in windows]
    return pl.any_horizontal(pl.lit(False), *within).fill_null(False)


def _named(test: pl.Expr) -> pl.Expr:
    return pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split")
