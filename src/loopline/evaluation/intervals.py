"""How sure a figure is: a bootstrap over blocks of days, from sums.

Rows of one day share what happened that day: they are not independent, and
an interval that treats them so is too narrow. Whole blocks are drawn again
instead. Each block is first summed up (one score histogram per label, and the
sums of what adds up), so that a draw costs a matrix product, not a pass over
the rows; and two models scored on the same rows are compared by drawing the
same blocks for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from loopline.evaluation.nouns import Estimate
from loopline.framing.metrics import CALIBRATION_BINS, METRICS, bin_of_mass, log_losses, values
from loopline.framing.spec import ValueSpec

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELLS = 2048
REACH = 10.0
"""Histogram cells span logits from -10 to 10; scores outside fall into the end cells."""
LEAST_ROWS = 50
LEAST_PER_CLASS = 10
LEAST_BLOCKS = 4
"""Below these an interval is not stated, and a gate that needs one does not pass."""
LIMITS: Mapping[str, tuple[float, float]] = {
    "roc_auc": (0.0, 1.0),
    "brier": (0.0, 1.0),
    "log_loss": (0.0, float("inf")),
    "calibration_error": (0.0, 1.0),
    "accuracy": (0.0, 1.0),
}
_LINEAR = ("brier", "log_loss", "accuracy", "value", "bias")


@dataclass(frozen=True, slots=True)
class BlockSums:
    """One model on some rows, summed up by block.

    `histogram` (blocks, 2, cells) counts rows by label and logit cell; `terms`
    holds, for each metric that is a mean over rows, its sum per block; `rows`
    and `positives` are counts per block.
    """

    rows: Doubles
    positives: Doubles
    histogram: npt.NDArray[np.float32]
    terms: Mapping[str, Doubles]

    @property
    def blocks(self) -> int:
        """Blocks that hold a row."""
        return int(np.count_nonzero(self.rows))

    @property
    def enough(self) -> bool:
        """Whether there are rows, positives, negatives and blocks enough for an interval."""
        rows, ones = float(self.rows.sum()), float(self.positives.sum())
        return rows >= LEAST_ROWS and min(ones, rows - ones) >= LEAST_PER_CLASS and self.blocks >= LEAST_BLOCKS


def block_sums(
    y: npt.NDArray[np.int8],
    p: Doubles,
    block: Ints,
    blocks: int,
    *,
    threshold: float,
    value: ValueSpec | None,
    cells: int = CELLS,
) -> BlockSums:
    """Sum up labels `y`, scores `p` and block numbers (each (n,)) by block. O(n)."""
    positive = np.asarray(y == 1, dtype=np.int64)
    cell = logit_cells(p, cells)
    flat = (block * 2 + positive) * cells + cell
    terms = {
        "brier": np.square(p - positive),
        "log_loss": log_losses(y, p),
        "accuracy": ((p >= threshold) == (positive == 1)).astype(np.float64),
        "bias": p - positive,
    }
    if value is not None:
        terms["value"] = values(y, p, threshold, value)
    return BlockSums(
        rows=np.bincount(block, minlength=blocks).astype(np.float64),
        positives=_sums(block, positive, blocks),
        histogram=np.bincount(flat, minlength=blocks * 2 * cells).reshape(blocks, 2, cells).astype(np.float32),
        terms={name: _sums(block, term, blocks) for name, term in terms.items()},
    )


def _sums(block: Ints, weights: npt.ArrayLike, blocks: int) -> Doubles:
    return np.bincount(block, weights=weights, minlength=blocks).astype(np.float64)


def logit_cells(p: Doubles, cells: int = CELLS) -> Ints:
    """The histogram cell of each score."""
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    logit = np.log(inside) - np.log1p(-inside)
    cell: Ints = np.clip((logit + REACH) * (cells / (2 * REACH)), 0, cells - 1).astype(np.int64)
    return cell


def cell_scores(cells: int = CELLS) -> Doubles:
    """The score in the middle of each cell."""
    middle = (np.arange(cells) + 0.5) * (2 * REACH / cells) - REACH
    score: Doubles = 1 / (1 + np.exp(-middle))
    return score


def draws(blocks: int, replicates: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """How often each block is drawn in each replicate; (replicates, blocks), rows sum to `blocks`."""
    generator = np.random.default_rng([seed, blocks])
    return generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=replicates).astype(np.float32)


def replicated(sums: BlockSums, drawn: npt.NDArray[np.float32], metrics: tuple[str, ...]) -> dict[str, Doubles]:
    """Each metric on each draw; (replicates,). NaN where a draw has no rows, or one class only."""
    out: dict[str, Doubles] = {}
    weights = drawn.astype(np.float64)
    rows = weights @ sums.rows
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in metrics:
            if name in _LINEAR and name in sums.terms:
                out[name] = (weights @ sums.terms[name]) / rows
    if "roc_auc" in metrics or "calibration_error" in metrics:
        used = np.flatnonzero(sums.histogram.any(axis=(0, 1)))
        zeros = np.ascontiguousarray(sums.histogram[:, 0, used])
        ones = np.ascontiguousarray(sums.histogram[:, 1, used])
        if "roc_auc" in metrics:
            out["roc_auc"] = block_auc(zeros, ones, weights)
        if "calibration_error" in metrics:
            scores = cell_scores(sums.histogram.shape[2])[used]
            out["calibration_error"] = histogram_calibration(drawn @ zeros, drawn @ ones, scores)
    return out


def block_auc(zeros: npt.NDArray[np.float32], ones: npt.NDArray[np.float32], weights: Doubles) -> Doubles:
    """AUC of each draw `weights` (r, blocks) of blocks of counts (blocks, cells); rows in one cell count half.

    Notes
    -----
    Pairs in order are counted once for each two blocks, and a draw weighs those counts. All are whole numbers and
    halves, exact below 2**53, so that no order of adding matters.
    """
    below = np.cumsum(zeros, axis=1, dtype=np.float64) - zeros / 2
    pairs = ones.astype(np.float64) @ below.T
    with np.errstate(divide="ignore", invalid="ignore"):
        in_order = np.einsum("rb,rb->r", weights @ pairs, weights)
        negatives, positives = (weights @ part.sum(axis=1, dtype=np.float64) for part in (zeros, ones))
        auc: Doubles = in_order / (negatives * positives)
    return auc


def histogram_calibration(
    zeros: npt.NDArray[np.float32], ones: npt.NDArray[np.float32], scores: Doubles, bins: int = CALIBRATION_BINS
) -> Doubles:
    """Expected calibration error of each row of counts (r, cells), cells kept whole."""
    rows = zeros.astype(np.float64) + ones
    end = np.cumsum(rows, axis=1)
    total = end[:, -1:]
    index = bin_of_mass(end - rows, end, total, bins) + np.arange(len(rows))[:, None] * bins
    gap = np.bincount(index.ravel(), weights=(rows * scores - ones).ravel(), minlength=len(rows) * bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        error: Doubles = np.abs(gap).reshape(len(rows), bins).sum(axis=1) / total[:, 0]
    return error


def points(
    y: npt.NDArray[np.int8], p: Doubles, threshold: float, value: ValueSpec | None, metrics: tuple[str, ...]
) -> dict[str, float]:
    """The exact figures, by `framing.metrics`; `bias` is mean score minus share of positives."""
    out = {name: METRICS[name](y, p, threshold, value) for name in metrics if name != "bias"}
    if "bias" in metrics:
        out["bias"] = float(np.mean(p - y)) if len(y) else float("nan")
    return out


def estimate(
    name: str, value: float, replicates: Doubles, sums: BlockSums, *, confidence: float = 0.95, paired: bool = False
) -> Estimate:
    """A figure with its two-sided interval; null bounds where rows are too few."""
    if np.isnan(value):
        return Estimate(None)
    tail = (1 - confidence) / 2
    low, high = (bound(value, replicates, sums, q) for q in (tail, 1 - tail))
    if low is None or high is None:
        return Estimate(value)
    least, most = LIMITS.get(name, (-np.inf, np.inf)) if not paired else (-np.inf, np.inf)
    return Estimate(value, max(low, least), min(high, most))


def bound(value: float, replicates: Doubles, sums: BlockSums, share: float) -> float | None:
    """The `share` quantile of where the true figure may lie; null where rows are too few.

    Notes
    -----
    The spread of the draws about their own mean is laid about `value`, so that
    a figure that grows with noise, as the calibration error does, is not
    counted twice. Drawing b blocks understates the variance by (b - 1) / b, and
    few blocks know their own spread badly: both are made good, the second by
    the ratio of Student's t with b - 1 degrees to the normal quantile.
    """
    ok = replicates[~np.isnan(replicates)]
    if not sums.enough or len(ok) < 0.95 * len(replicates) or np.isnan(value):
        return None
    blocks = sums.blocks
    stretch = np.sqrt(blocks / (blocks - 1)) * student_over_normal(share, blocks - 1)
    return float(value + (np.quantile(ok, share) - ok.mean()) * stretch)


def student_over_normal(share: float, degrees: int) -> float:
    """Quantile of Student's t divided by the normal one; within 2 % from 3 degrees and up to the 99 % quantile.

    References
    ----------
    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(share)
    first = (z**2 + 1) / 4
    second = (5 * z**4 + 16 * z**2 + 3) / 96
    third = (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / 384
    return 1 + first / degrees + second / degrees**2 + third / degrees**3
