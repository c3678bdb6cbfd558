"""Models scored on the same rows, and what can be said about them with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loopline.evaluation.intervals import (
    BlockSums,
    Doubles,
    Ints,
    block_sums,
    bound,
    draws,
    estimate,
    points,
    replicated,
)
from loopline.evaluation.nouns import Estimate
from loopline.framing.spec import ValueSpec

REPLICATES = 1000
Mask = npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Labels (n,) of 0 and 1 with their block numbers (n,), and what decisions are worth."""

    y: npt.NDArray[np.int8]
    block: Ints
    blocks: int
    value: ValueSpec | None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """Some metrics of one model on some rows: exact values and replicates of the draws."""

    values: dict[str, float]
    replicates: dict[str, Doubles]
    sums: BlockSums

    def estimate(self, name: str) -> Estimate:
        """The metric with its 95 % interval."""
        return estimate(name, self.values[name], self.replicates[name], self.sums)

    def minus(self, other: Figures) -> Figures:
        """The same metrics, this model's minus the other's, on the same rows and draws."""
        names = [n for n in self.values if n in other.values]
        return Figures(
            {n: self.values[n] - other.values[n] for n in names},
            {n: self.replicates[n] - other.replicates[n] for n in names},
            self.sums,
        )

    def difference(self, name: str) -> Estimate:
        """As `estimate`, for what `minus` made: no limits to keep within."""
        return estimate(name, self.values[name], self.replicates[name], self.sums, paired=True)

    def bound(self, name: str, share: float) -> float | None:
        """The `share` quantile of where the true figure may lie."""
        return bound(self.values[name], self.replicates[name], self.sums, share)


def figures(
    rows: Rows,
    scores: Doubles,
    threshold: float,
    metrics: tuple[str, ...],
    *,
    mask: Mask = None,
    replicates: int = REPLICATES,
) -> Figures:
    """Metrics of a model that gave `scores` (n,), on the rows of `mask` (all by default).

    `value` is left out where the framing states none.
    """
    names = tuple(m for m in metrics if m != "value" or rows.value is not None)
    y, p, block = rows.y, scores, rows.block
    if mask is not None:
        y, p, block = y[mask], p[mask], block[mask]
    sums = block_sums(y, p, block, rows.blocks, threshold=threshold, value=rows.value)
    drawn = draws(rows.blocks, replicates, rows.seed)
    return Figures(
        points(y, p, threshold, rows.value, names),
        replicated(sums, drawn, names),
        sums,
    )
