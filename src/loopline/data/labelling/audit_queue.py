"""Which answered rows to ask people about, so that few labels tell most about live quality.

Rows are put into strata by their score. A stratum gets labels by its size times the spread that its scores predict
(Neyman's allocation), so uncertain rows are asked about more often; within a stratum each row has the same chance.
Since the chances are known, the estimate for all rows is unbiased, however wrong the scores are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

STRATA = 10
LEAST = 2
"""Labels of a stratum: fewer give no variance."""
FLOOR = 0.15
"""Spread that a stratum is given at least: a sure score may be wrong."""
Z90 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Estimated:
    """A share over all rows, from the labels of some."""

    value: float
    low: float
    high: float
    """Ends of the 90 % interval."""
    labels: int
    rows: int
    effective: float
    """How many labels drawn with equal chances would tell as much."""


def drawn(rows: pl.DataFrame, n: int, *, seed: int, strata: int = STRATA) -> tuple[pl.DataFrame, dict[str, int]]:
    """`n` of the rows with their chance, and the sizes of all strata.

    Parameters
    ----------
    rows : DataFrame
        One row per unit with `score` (0 to 1, no nulls).
    n : int
        Rows to draw; all of them when there are no more. Where they are too few for two
        of each stratum, strata are wider.

    Returns
    -------
    DataFrame, dict
        The drawn rows in random order with `stratum` (text) and `chance` (of having
        been drawn), and how many rows each stratum has.
    """
    if not rows.height or n <= 0:
        return rows.head(0).with_columns(pl.lit("").alias("stratum"), pl.lit(0.0).alias("chance")), {}
    marked, sizes = _stratified(rows, strata)
    while sum(min(LEAST, size) for size in sizes.values()) > n and strata > 1:
        strata -= 1
        marked, sizes = _stratified(rows, strata)
    spread = {
        str(k): max(FLOOR, math.sqrt(max(0.0, m * (1 - m))))
        for k, m in marked.group_by("stratum").agg(pl.col("score").mean()).iter_rows()
    }
    taken = allocated(sizes, spread, n) if n >= LEAST else dict.fromkeys(sizes, n)
    parts = [
        marked.filter(pl.col("stratum") == name)
        .sample(count, shuffle=True, seed=seed + int(name))
        .with_columns(pl.lit(count / sizes[name]).alias("chance"))
        for name, count in taken.items()
    ]
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=seed), sizes


def _stratified(rows: pl.DataFrame, strata: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Strata of equal width: what scores say is what matters, not how many share it."""
    place = (pl.col("score") * strata).floor().clip(0, strata - 1).cast(pl.Int64)
    marked = rows.with_columns(pl.format("{}", place).alias("stratum"))
    return marked, {str(k): int(v) for k, v in sorted(marked["stratum"].value_counts().iter_rows())}


def allocated(sizes: Mapping[str, int], spread: Mapping[str, float], n: int) -> dict[str, int]:
    """Labels for each stratum: by size times spread, at least two where there are two, `n` together.

    Fewer labels than strata need go to the largest; the sum is never above `n` unless the least of each is.
    """
    least = {name: min(LEAST, size) for name, size in sizes.items()}
    taken = dict(least)
    left = min(n, sum(sizes.values())) - sum(taken.values())
    while left > 0:
        open_ = {name: sizes[name] * spread[name] for name in sizes if taken[name] < sizes[name]}
        whole = sum(open_.values())
        # The stratum that lies furthest below its share gets the next label.
        name = max(open_, key=lambda s: (open_[s] / whole * n - taken[s], s))
        step = max(1, min(left, sizes[name] - taken[name], int((open_[name] / whole * n - taken[name]) / 2)))
        taken[name] += step
        left -= step
    return taken


def estimated(answers: pl.DataFrame, sizes: Mapping[str, int]) -> Estimated | None:
    """The share of `value` over all rows, from the labelled ones; null without any.

    The stratified estimator: the mean of the strata's means by their sizes, unbiased
    when a stratum's labels are a simple random sample of it. A stratum whose labels
    did not come yet borrows the mean of the labelled ones; its variance is counted
    as the greatest. The interval is Wilson's (1927) with as many labels as draws with
    equal chances would need for that variance (Korn and Graubard 1998): a share has
    no end below 0 or above 1.

    Parameters
    ----------
    answers : DataFrame
        Columns `stratum` and `value` (0 to 1, or a Boolean; nulls are left out).
    sizes : mapping
        Rows of each stratum of the population.
    """
    known = answers.filter(pl.col("value").is_not_null())
    if not known.height:
        return None
    found = {
        str(name): (float(mean), float(var) if var is not None else 0.25, int(count))
        for name, mean, var, count in known.group_by("stratum")
        .agg(
            pl.col("value").cast(pl.Float64).mean(),
            pl.col("value").cast(pl.Float64).var().alias("var"),
            pl.len().alias("n"),
        )
        .iter_rows()
    }
    whole = sum(sizes.values())
    labelled = sum(sizes[name] for name in found)
    mean = sum(sizes[name] * found[name][0] for name in found) / labelled
    variance = 0.0
    for name, size in sizes.items():
        if name in found:
            _, var, count = found[name]
            # A stratum of equal answers is not sure: one more of each kind (Agresti and Coull).
            share = (found[name][0] * count + 1) / (count + 2)
            var = max(var, share * (1 - share) if count < size else 0.0)
            variance += (size / whole) ** 2 * (1 - count / size) * var / count
        else:
            variance += (size / whole) ** 2 * 0.25
    # A mean of 0 or 1 has no spread of its own: one more of each kind, as above.
    near = (mean * known.height + 1) / (known.height + 2)
    effective = near * (1 - near) / variance if variance > 0 else float(known.height)
    low, high = wilson(mean, effective) if variance > 0 else (mean, mean)
    return Estimated(mean, low, high, known.height, whole, effective)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 90 % interval of a share seen in `n` draws, which need not be whole; it stays within 0 and 1.

    Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22 (1927).
    """
    square = Z90 * Z90
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z90 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
