"""Point metrics of a binary problem: labels and scores in, one figure out.

Every function takes labels `y` (n,) of 0 and 1 and scores `p` (n,), the
probability of 1, and returns a float; NaN where the rows cannot say (none at
all, or one class only for `roc_auc`). A row is decided positive when its score
is at least the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid
from loopline.framing.spec import ValueSpec

Labels = npt.NDArray[np.generic]
Scores = npt.NDArray[np.float64]

CALIBRATION_BINS = 15
CLIP = 1e-7
"""Scores are kept this far from 0 and 1 in the logarithm: float32 can say no more."""


def roc_auc(y: Labels, p: Scores) -> float:
    """Chance that a positive row scores above a negative one; ties count half. O(n log n)."""
    positive = np.asarray(y) == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return float("nan")
    order = np.argsort(p, kind="stable")
    first = np.flatnonzero(np.concatenate(([True], np.diff(np.asarray(p)[order]) != 0)))
    pos = np.add.reduceat(positive[order].astype(np.float64), first)
    neg = np.diff(np.append(first, len(order))) - pos
    below = np.cumsum(neg) - neg
    return float(np.sum(pos * (below + neg / 2)) / (ones * zeros))


def brier(y: Labels, p: Scores) -> float:
    """Mean squared distance between score and label."""
    return _mean(np.square(np.asarray(p, dtype=np.float64) - np.asarray(y, dtype=np.float64)))


def log_loss(y: Labels, p: Scores) -> float:
    """Mean negative log-likelihood, scores clipped to [1e-7, 1 - 1e-7]; natural logarithm."""
    return _mean(log_losses(y, p))


def log_losses(y: Labels, p: Scores) -> Scores:
    """Negative log-likelihood of each row."""
    inside = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    return np.where(np.asarray(y) == 1, -np.log(inside), -np.log1p(-inside))


def calibration_error(y: Labels, p: Scores, *, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean distance of score and label over bins of equal mass.

    See Also
    --------
    calibration_bins : the bins it is made of.
    """
    found = calibration_bins(y, p, bins=bins)
    total = sum(rows for _, _, rows in found)
    if not total:
        return float("nan")
    return float(sum(rows * abs(predicted - observed) for predicted, observed, rows in found) / total)


def calibration_bins(y: Labels, p: Scores, *, bins: int = CALIBRATION_BINS) -> list[tuple[float, float, int]]:
    """Mean score, share of positives and rows of each bin of equal mass, by rising score.

    Rows with equal scores stay together, in the bin that holds the middle of
    their ranks; so the order of the rows does not matter, and a constant score
    makes one bin.
    """
    scores = np.asarray(p, dtype=np.float64)
    if not len(scores):
        return []
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    first = np.flatnonzero(np.concatenate(([True], np.diff(ranked) != 0)))
    ends = np.append(first[1:], len(ranked))
    bin_of = np.repeat(bin_of_mass(first, ends, len(ranked), bins), ends - first)
    rows = np.bincount(bin_of, minlength=bins)
    predicted = np.bincount(bin_of, weights=ranked, minlength=bins)
    observed = np.bincount(bin_of, weights=(np.asarray(y)[order] == 1).astype(np.float64), minlength=bins)
    return [(float(predicted[b] / n), float(observed[b] / n), int(n)) for b, n in enumerate(rows) if n]


def bin_of_mass(first: npt.ArrayLike, end: npt.ArrayLike, total: npt.ArrayLike, bins: int) -> npt.NDArray[np.intp]:
    """The equal-mass bin of a group of ranks [first, end) among `total` rows."""
    middle = (np.asarray(first, dtype=np.float64) + np.asarray(end, dtype=np.float64)) / 2
    share = middle / np.maximum(np.asarray(total, dtype=np.float64), 1)
    return np.minimum((share * bins).astype(np.intp), bins - 1)


def accuracy(y: Labels, p: Scores, threshold: float) -> float:
    """Share of rows decided as they turned out."""
    return _mean(((np.asarray(p) >= threshold) == (np.asarray(y) == 1)).astype(np.float64))


def value(y: Labels, p: Scores, threshold: float, spec: ValueSpec) -> float:
    """Expected value per decision, in the currency of `spec`."""
    return _mean(values(y, p, threshold, spec))


def values(y: Labels, p: Scores, threshold: float, spec: ValueSpec) -> Scores:
    """What the decision about each row was worth."""
    acted, happened = np.asarray(p) >= threshold, np.asarray(y) == 1
    return np.where(
        acted,
        np.where(happened, spec.true_positive, spec.false_positive),
        np.where(happened, spec.false_negative, spec.true_negative),
    ).astype(np.float64)


def best_threshold(spec: ValueSpec | None) -> float:
    """The score from which acting is worth more than not acting; 0.5 without a value.

    For a calibrated score p, acting earns `p TP + (1 - p) FP` and waiting
    `p FN + (1 - p) TN`; they meet at `(TN - FP) / ((TN - FP) + (TP - FN))`.

    Raises
    ------
    Invalid
        If acting pays at every score, or at none: there is nothing to decide.
    """
    if spec is None:
        return 0.5
    restraint = spec.true_negative - spec.false_positive
    action = spec.true_positive - spec.false_negative
    if restraint <= 0 or action <= 0:
        raise Invalid(
            f"framing.value leaves nothing to decide: acting on a positive gains {action:g}, "
            f"waiting on a negative gains {restraint:g}",
            why="both must be above zero for a threshold to exist",
            fix="set true_positive above false_negative and true_negative above false_positive",
        )
    return restraint / (restraint + action)


Metric = Callable[[Labels, Scores, float, ValueSpec | None], float]


def _value(y: Labels, p: Scores, threshold: float, spec: ValueSpec | None) -> float:
    return float("nan") if spec is None else value(y, p, threshold, spec)


METRICS: Mapping[str, Metric] = {
    "roc_auc": lambda y, p, threshold, spec: roc_auc(y, p),
    "brier": lambda y, p, threshold, spec: brier(y, p),
    "log_loss": lambda y, p, threshold, spec: log_loss(y, p),
    "calibration_error": lambda y, p, threshold, spec: calibration_error(y, p),
    "accuracy": lambda y, p, threshold, spec: accuracy(y, p, threshold),
    "value": _value,
}
"""Metric name to function `(y, p, threshold, value)`; `value` is NaN where the framing states none."""

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "roc_auc": True,
    "brier": False,
    "log_loss": False,
    "calibration_error": False,
    "accuracy": True,
    "value": True,
}


def _mean(terms: Scores) -> float:
    return float(np.mean(terms)) if len(terms) else float("nan")
