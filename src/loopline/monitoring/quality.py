"""True quality over labelled days, from constant-size counts and never from rows twice."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid
from loopline.framing.metrics import CALIBRATION_BINS, CLIP
from loopline.framing.spec import ValueSpec

CELLS = 2048
"""Cells of a score histogram, equally wide in logit between -12 and 12."""

_REACH = 12.0
_ALONE = 200_000
"""Products that one thread does before others could have begun."""

_SUMS = ("squared", "log", "right", "value", "true_positive", "false_positive", "false_negative", "true_negative")
_HEAD = struct.Struct("<4sII8d")
_MAGIC = b"LDC1"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DayCounts:
    """Everything that quality needs to know of one day, whatever its number of rows.

    Days add exactly: `a + b` is what `of` makes of the rows of both.

    Attributes
    ----------
    counts : uint32 array, 2 x 2,048
        Rows per label (false, true) and cell of the score's logit.
    scores : float64 array, 2,048
        Sum of the scores in each cell.
    sums : float64 array, 8
        Squared error, log loss, right decisions, value (NaN where none is
        declared), then the four kinds of decision.
    """

    counts: npt.NDArray[np.uint32]
    scores: Floats
    sums: Floats

    @classmethod
    def of(
        cls,
        scores: npt.ArrayLike,
        labels: npt.ArrayLike,
        threshold: float = 0.5,
        value: ValueSpec | None = None,
        *,
        decisions: npt.ArrayLike | None = None,
    ) -> DayCounts:
        """Count the scored and labelled rows of one day.

        Parameters
        ----------
        scores : array, n
            Probabilities of true.
        labels : array, n
            Boolean, or numbers with NaN (None) for void or unknown labels; those
            rows, and rows without a score, do not count.
        threshold : float
            A score at or above it decides true.
        value : ValueSpec, optional
            What each kind of decision is worth.
        decisions : array, n, optional
            Decisions as they were really taken, where thresholds changed within
            the day; `threshold` is then not looked at.

        Raises
        ------
        Invalid
            If a score lies outside [0, 1] or the lengths differ.
        """
        p = _numbers(scores)
        y = _numbers(labels)
        if p.shape != y.shape or p.ndim != 1:
            raise Invalid(
                f"{p.size} scores for {y.size} labels",
                why="quality is counted over rows that have both",
                fix="join them by prediction first",
            )
        keep = ~(np.isnan(p) | np.isnan(y))
        taken = p >= threshold if decisions is None else np.nan_to_num(_numbers(decisions)) > 0.5
        p, truth, taken = p[keep], y[keep] > 0.5, taken[keep]
        if p.size and (p.min() < 0.0 or p.max() > 1.0):
            worst = p.min() if p.min() < 0.0 else p.max()
            raise Invalid(
                f"a score of {worst:g}",
                why="scores are probabilities between 0 and 1",
                fix="have the recipe return probabilities",
            )
        cell = _cells(p)
        counts = np.bincount(cell + CELLS * truth, minlength=2 * CELLS).astype(np.uint32).reshape(2, CELLS)
        safe = np.clip(p, CLIP, 1.0 - CLIP)
        kinds = np.bincount(2 * taken + truth, minlength=4).astype(np.float64)
        negative, missed, raised, hit = kinds
        worth = math.nan
        if value is not None:
            worth = (
                value.true_positive * hit
                + value.false_positive * raised
                + value.false_negative * missed
                + value.true_negative * negative
            )
        sums = np.array(
            [
                float(np.square(p - truth).sum()),
                float(-np.log(np.where(truth, safe, 1.0 - safe)).sum()),
                hit + negative,
                worth,
                hit,
                raised,
                missed,
                negative,
            ]
        )
        weight = np.bincount(cell, weights=p, minlength=CELLS).astype(np.float64)
        return cls(counts, weight, sums)

    @classmethod
    def empty(cls) -> DayCounts:
        """A day without labelled rows."""
        return cls(np.zeros((2, CELLS), np.uint32), np.zeros(CELLS), np.zeros(len(_SUMS)))

    @property
    def rows(self) -> int:
        """Labelled rows that count."""
        return int(self.counts.sum())

    def __add__(self, other: DayCounts) -> DayCounts:
        if not self.rows:
            return other
        if not other.rows:
            return self
        return DayCounts(self.counts + other.counts, self.scores + other.scores, self.sums + other.sums)

    def to_bytes(self) -> bytes:
        """The counts, compressed: about 12 bytes for each cell in use."""
        used = np.flatnonzero(self.counts.any(axis=0))
        body = (
            used.astype("<u2").tobytes()
            + self.counts[:, used].astype("<u4").tobytes()
            + self.scores[used].astype("<f8").tobytes()
        )
        return zlib.compress(_HEAD.pack(_MAGIC, CELLS, used.size, *self.sums.tolist()) + body, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> DayCounts:
        """What `to_bytes` wrote."""
        plain = zlib.decompress(data)
        magic, cells, size, *sums = _HEAD.unpack_from(plain)
        if magic != _MAGIC or cells != CELLS:
            raise Invalid(
                "counts of another layout",
                why=f"this Loopline reads {_MAGIC.decode()} with {CELLS} cells",
                fix="check the day again, so that it is counted anew",
            )
        at = _HEAD.size
        used = np.frombuffer(plain, "<u2", size, at)
        counts = np.zeros((2, CELLS), np.uint32)
        counts[:, used] = np.frombuffer(plain, "<u4", 2 * size, at + 2 * size).reshape(2, size)
        scores = np.zeros(CELLS)
        scores[used] = np.frombuffer(plain, "<f8", size, at + 10 * size)
        return cls(counts, scores, np.array(sums))


def trailing(
    days: Sequence[DayCounts], *, seed: int = 0, resamples: int = 200, level: float = 0.9
) -> dict[str, tuple[float, float, float]]:
    """Quality over several labelled days, with intervals between days.

    Parameters
    ----------
    days : sequence of DayCounts
        One per day (or per block of rows that share their luck). Order and days
        without rows do not matter.
    seed, resamples : int
        Of the bootstrap; the same seed gives the same interval.
    level : float
        Of the interval.

    Returns
    -------
    dict
        `roc_auc`, `brier`, `log_loss`, `calibration_error`, `accuracy` and, where
        declared, `value` (mean per decision), each as (value, low, high). Empty
        without rows; `roc_auc` is absent while only one label has been seen.

    Notes
    -----
    Days are drawn with replacement, because rows of one day are not independent.
    From a single day no variance between days can be learned: its interval is all
    that is possible. Fewer than about 10 days give intervals that are too short.

    `calibration_error` is the plain expected calibration error: rows sorted by
    score, cut into 15 bins of equal mass, mean of |mean score - share of true|.
    Noise raises it, by about 0.8 * sqrt(15 p (1 - p) / rows): .009 for a
    perfectly calibrated model on 25,000 rows at p = .25, and more where days
    differ. The value is not corrected, so that a bound in `loop.yaml` means the
    plain error. A resample is noisier than the data by the same amount again, so its interval
    is reflected about the value (the basic bootstrap), which takes that out;
    the others are percentile intervals.

    Scores count by cell of 24/2048 in logit: `roc_auc` differs from that of the
    rows by less than 1e-4, `calibration_error` (a cell falls into one bin as a whole) by
    less than 1e-3; the other metrics are exact. O(days * cells * resamples).
    """
    full = [day for day in days if day.rows]
    if not full:
        return {}
    counts = np.stack([day.counts for day in full]).astype(np.float64)
    used = np.flatnonzero(counts.any(axis=(0, 1)))
    counts = counts[:, :, used]
    scores = np.stack([day.scores for day in full])[:, used]
    sums = np.stack([day.sums for day in full])

    weights = np.ones((1 + resamples, len(full)))
    weights[1:] = np.random.default_rng(seed).multinomial(len(full), np.full(len(full), 1 / len(full)), size=resamples)
    negative, positive = _weighted(weights, counts[:, 0]), _weighted(weights, counts[:, 1])
    rows = weights @ counts.sum(axis=(1, 2))
    totals = dict(zip(_SUMS, (weights @ sums).T, strict=True))
    drawn = {
        "roc_auc": _auc(negative, positive),
        "brier": totals["squared"] / rows,
        "log_loss": totals["log"] / rows,
        "calibration_error": _calibration_error(negative + positive, _weighted(weights, scores) - positive),
        "accuracy": totals["right"] / rows,
        "value": totals["value"] / rows,
    }
    result: dict[str, tuple[float, float, float]] = {}
    for name, values in drawn.items():
        point = float(values[0])
        if math.isnan(point):
            continue
        if len(full) == 1:
            low, high = _possible(name)
        else:
            tail = 50 * (1 - level)
            low, high = (float(q) for q in np.nanpercentile(values[1:], [tail, 100 - tail]))
            if name == "calibration_error":
                low, high = max(0.0, 2 * point - high), max(point, 2 * point - low)
        result[name] = (point, low, high)
    return result


def _weighted(weights: Floats, figures: Floats) -> Floats:
    """`weights @ figures`, in pieces too small to wake the threads of a linear algebra library: they cost far more."""
    width = max(1, _ALONE // weights.size)
    pieces = [weights @ figures[:, at : at + width] for at in range(0, figures.shape[1], width)]
    return np.concatenate(pieces, axis=1)


def _possible(name: str) -> tuple[float, float]:
    if name == "value":
        return -1e300, 1e300
    return (0.0, -math.log(CLIP)) if name == "log_loss" else (0.0, 1.0)


def _auc(negative: Floats, positive: Floats) -> Floats:
    """Chance that a true row scores above a false one, per resample; NaN with one label only."""
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    return area


def _calibration_error(rows: Floats, excess: Floats) -> Floats:
    """Mean over equal-mass bins of |sum of scores - true| per row, for each resample."""
    mass = np.zeros((rows.shape[0], rows.shape[1] + 1))
    gap = np.zeros_like(mass)
    np.cumsum(rows, axis=1, out=mass[:, 1:])
    np.cumsum(excess, axis=1, out=gap[:, 1:])
    middle = mass[:, :-1] + rows / 2
    edges = mass[:, -1:] * np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    edges[:, -1] = np.inf
    cuts = np.stack([g[np.searchsorted(m, e)] for m, e, g in zip(middle, edges, gap, strict=True)])
    error: Floats = np.abs(np.diff(cuts, axis=1)).sum(axis=1) / mass[:, -1]
    return error


def _cells(p: Floats) -> npt.NDArray[np.int64]:
    with np.errstate(divide="ignore"):
        logit = np.log(p) - np.log1p(-p)
    place = (np.clip(logit, -_REACH, _REACH) + _REACH) * (CELLS / (2 * _REACH))
    cell: npt.NDArray[np.int64] = np.minimum(place.astype(np.int64), CELLS - 1)
    return cell


def _numbers(values: Any) -> Floats:
    """Numbers with NaN where nothing is known, from an array, a list or a column."""
    array = np.asarray(values)
    if array.dtype == object:
        array = np.array([math.nan if v is None else v for v in array.tolist()])
    return array.astype(np.float64)
