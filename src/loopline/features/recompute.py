"""Truncate and recompute: features built again with the history cut when the prediction was due must not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from loopline.features.nouns import Leak

Build = Callable[[pl.DataFrame, Mapping[str, pl.DataFrame]], pl.DataFrame]
"""Features of spine rows from tables: any function of frames, in spine order."""
Cut = Callable[[datetime], Mapping[str, pl.DataFrame]]
"""The tables as they were known at a moment: no row that became known later."""


@dataclass(slots=True)
class Difference:
    """How often one feature changed when the future was taken away, with one example."""

    rows: int = 0
    first: tuple[object, object, object, datetime] | None = None
    """Unit, value with the future, value without it, decision time."""


@dataclass(slots=True)
class Recomputed:
    """What came of it: rows compared, and the features that differ."""

    rows: int = 0
    differing: dict[str, Difference] = field(default_factory=dict)


def moments(at: pl.Series, cuts: int, seed: int = 0) -> list[datetime]:
    """Decision times to cut at: drawn from the rows, so that busy moments come oftener; at most `cuts`, rising."""
    if not len(at):
        return []
    ordered = at.sort()
    rng = np.random.default_rng(seed)
    edges = np.linspace(0, len(ordered), cuts + 1).astype(np.int64)
    drawn = [int(rng.integers(low, high)) for low, high in pairwise(edges) if high > low]
    return list(dict.fromkeys(ordered[n] for n in drawn))


def recompute(
    build: Build,
    spine: pl.DataFrame,
    kept: pl.DataFrame,
    cut: Cut,
    *,
    unit: str,
    features: Sequence[str],
    at: Sequence[datetime],
    rows: int = 200,
) -> Recomputed:
    """Build the features of sampled rows again from what was known when they were due.

    Parameters
    ----------
    build : callable
        What made the features.
    spine : DataFrame
        The unit, `decision_time` and what `build` reads.
    kept : DataFrame
        The unit and the features, as they would be trained on.
    cut : callable
        The tables at a moment.
    at : moments
        Where to cut. Each row due just then is compared; of the rows due shortly
        before, as many as bring them to `rows`: what those read from after the cut
        shows too.

    Notes
    -----
    Values are compared bit for bit; null equals null.
    """
    done = Recomputed()
    for moment in at:
        due = spine.filter(pl.col("decision_time") <= moment).sort("decision_time", maintain_order=True).tail(rows)
        due = due.join(kept.select(unit), on=unit, how="semi", maintain_order="left")
        if not due.height:
            continue
        again = build(due, cut(moment)).select(unit, *features)
        before = due.select(unit, "decision_time").join(kept, on=unit, how="left", maintain_order="left")
        done.rows += due.height
        for name in features:
            other = ~before[name].eq_missing(again[name])
            if count := int(other.sum()):
                found = done.differing.setdefault(name, Difference())
                found.rows += count
                if found.first is None:
                    row = int(other.arg_max() or 0)
                    found.first = before[unit][row], before[name][row], again[name][row], before["decision_time"][row]
    return done


def leaks(done: Recomputed) -> Iterator[Leak]:
    """What the differences say: each feature that differs read something that was not known."""
    for name, one in done.differing.items():
        assert one.first is not None
        unit, with_future, without, at = one.first
        yield Leak(
            kind="reads_future",
            column=name,
            score=one.rows / done.rows,
            bound=0.0,
            evidence=(
                f"{name} is another one when it is computed from what was known at its decision time, on {one.rows:,} "
                f"of {done.rows:,} rows; for {unit!r}, due {at}, it is {without!r} instead of {with_future!r}"
            ),
            fix=f"compute {name} from rows known before the decision time; correct the known_at of what it reads",
        )
