"""What a stretch of answers was worth: the figures of one policy, with intervals between days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import numpy as np
import numpy.typing as npt

from loopline.monitoring.quality import DayCounts, trailing

RESAMPLES = 400
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Month:
    """One calendar month of answers."""

    month: str
    rows: int
    auc: float
    brier: float
    calibration_error: float
    value: float


@dataclass(frozen=True, slots=True)
class Worth:
    """Figures of one policy over all labelled rows, by the answer that was given.

    `auc` is the mean of the monthly areas under the ROC curve; `value` is the
    sum over all decisions in the currency of the framing (null when none is
    declared). Intervals are 95 %, from resampling whole days (within months for
    `auc`).
    """

    n: int
    auc: float
    auc_interval: Interval
    brier: float
    brier_interval: Interval
    calibration_error: float
    calibration_error_interval: Interval
    value: float | None
    value_interval: Interval | None
    months: tuple[Month, ...]


def worth(days: Mapping[date, DayCounts], *, seed: int = 0) -> Worth:
    """The figures of the given days.

    Parameters
    ----------
    days : mapping
        Counts by UTC day; days without labelled rows do not matter.
    seed : int
        Of the bootstrap.
    """
    held = [(day, days[day]) for day in sorted(days) if days[day].rows]
    pooled = trailing([d for _, d in held], seed=seed, resamples=RESAMPLES, level=LEVEL)
    months = [
        (month, [d for _, d in group]) for month, group in groupby(held, key=lambda item: item[0].strftime("%Y-%m"))
    ]
    rng = np.random.default_rng(seed)
    areas = [_auc_resampled(counts, rng) for _, counts in months]
    draws = np.nanmean([drawn for _, drawn in areas], axis=0)
    rows = sum(d.rows for _, d in held)
    value = pooled.get("value")
    return Worth(
        n=rows,
        auc=float(np.nanmean([point for point, _ in areas])),
        auc_interval=_interval(draws),
        brier=pooled["brier"][0],
        brier_interval=pooled["brier"][1:],
        calibration_error=pooled["calibration_error"][0],
        calibration_error_interval=pooled["calibration_error"][1:],
        value=value[0] * rows if value else None,
        value_interval=(value[1] * rows, value[2] * rows) if value else None,
        months=tuple(_month(name, counts, area) for (name, counts), (area, _) in zip(months, areas, strict=True)),
    )


def _month(name: str, counts: Sequence[DayCounts], area: float) -> Month:
    figures = trailing(counts, resamples=2)
    rows = sum(d.rows for d in counts)
    value = figures.get("value")
    return Month(
        name,
        rows,
        area,
        figures["brier"][0],
        figures["calibration_error"][0],
        value[0] * rows if value else float("nan"),
    )


def _auc_resampled(days: Sequence[DayCounts], rng: np.random.Generator) -> tuple[float, npt.NDArray[np.float64]]:
    """The month's area, and the areas of resamples of its days."""
    stack = np.stack([d.counts for d in days]).astype(np.float64)
    size = len(days)
    weights = rng.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float64)
    weights = np.vstack([np.ones(size), weights])
    false, true = weights @ stack[:, 0], weights @ stack[:, 1]
    below = np.cumsum(false, axis=1) - false / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = (true * below).sum(axis=1) / (true.sum(axis=1) * false.sum(axis=1))
    return float(areas[0]), areas[1:]


def _interval(draws: npt.NDArray[np.float64]) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)
