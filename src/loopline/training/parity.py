"""Does the packaged model answer as the fitted one? Conversion is often silently wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid
from loopline.training.encoding import Floats, Input

TOLERANCE = 1e-5
SINGLES = 100
MOST_ROWS = 100_000
MOST_AUC = 1e-4

_WRONG = "its conversion is wrong for this estimator, and nothing wrong is registered"
_FIX = "use an estimator that converts exactly (LightGBM, or HistGradientBoosting without categorical_features)"

Scores = npt.NDArray[np.float64]
Score = Callable[[Floats], Scores]


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate saw: per kind of row how many, and the greatest difference.

    `threshold` is the one asked for, unless float32 noise put scores of the two
    models on its two sides: then the nearest one above that they agree about.
    """

    kinds: dict[str, dict[str, Any]]
    threshold: float


class Differs(Invalid):
    """The packaged model does not answer as the fitted one: on which rows, by how much."""

    code = "invalid"

    def __init__(
        self, what: str, *, why: str = _WRONG, fix: str = _FIX, kind: str = "", worst: float = np.inf, rows: int = 0,
        off: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(what, why=why, fix=fix)
        self.kind, self.worst, self.rows, self.off = kind, worst, rows, off

    def doc(self) -> dict[str, Any]:
        """As JSON: what was found, on which of how many rows, and the greatest difference."""
        worst = {"worst": self.worst} if np.isfinite(self.worst) else {}
        return {"why": self.what, "kind": self.kind, "rows": self.rows, "off": self.off, **worst}


def boundary_rows(rows: Floats, inputs: Sequence[Input], thresholds: Mapping[int, npt.NDArray[np.float64]]) -> Floats:
    """Rows at the edges of every input.

    Parameters
    ----------
    rows : (n, k) float32
        Real rows, n >= 1; each boundary row is one of them with one value
        changed.
    inputs : sequence of Input, k
    thresholds : mapping
        Index of an input to the values that trees split at.

    Returns
    -------
    (m, k) float32
        Per input its least and greatest value, 0, null (which is also what an
        unseen category becomes), and each threshold with its two float32
        neighbours.
    """
    columns, values = [], []
    for j, _ in enumerate(inputs):
        finite = rows[:, j][np.isfinite(rows[:, j])]
        edges = [finite.min(), finite.max()] if len(finite) else []
        split = np.asarray(thresholds.get(j, ()), dtype=np.float64)
        with np.errstate(over="ignore"):
            near = split.astype(np.float32)
        near = near[np.isfinite(near)]
        below = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
        above = np.nextafter(near, np.float32(np.inf), dtype=np.float32)
        here = np.concatenate([np.array([*edges, 0.0, np.nan], dtype=np.float32), below, near, above])
        columns.append(np.full(len(here), j))
        values.append(here)
    column, value = np.concatenate(columns), np.concatenate(values)
    out = rows[(np.arange(len(column)) * 7919) % len(rows)].copy()
    out[np.arange(len(column)), column] = value
    return np.ascontiguousarray(out)


def check(
    native: Score,
    packaged: Score,
    *,
    evaluation: Floats,
    boundary: Floats,
    threshold: float,
    framework: str,
    labels: npt.NDArray[np.int8] | None = None,
) -> Parity:
    """Compare both models on held-out rows, boundary rows, and single rows against batches.

    Parameters
    ----------
    native, packaged : callable
        (n, k) float32 to (n,) float64.
    evaluation, boundary : (n, k) and (m, k) float32
        At most 100,000 evaluation rows are compared, evenly spaced.
    threshold : float
        Positive from here on.
    framework : str
        For messages.
    labels : (n,), optional
        Of the evaluation rows, 0 and 1.

    Raises
    ------
    Differs
        If a score differs by more than 1e-5, a decision flips, or AUC or
        calibration move.
    Invalid
        If the fitted model cannot score the evaluation rows.
    """
    every = -(-len(evaluation) // MOST_ROWS) or 1
    evaluation = evaluation[::every]
    nulls = np.isnan(boundary).any(axis=1)
    kinds: dict[str, dict[str, Any]] = {}
    left, right = _both(native, packaged, evaluation, framework)
    pairs = {"evaluation": (left, right)}
    pairs["boundary"] = _both(native, packaged, boundary[~nulls], framework)
    try:
        pairs["null"] = (_answers(native, boundary[nulls]), packaged(boundary[nulls]))
    except ValueError as refusal:
        met = np.isnan(evaluation).any(axis=0)
        ever = boundary[nulls & ~np.isnan(boundary[:, ~met]).any(axis=1)]
        pairs["null"] = _both(native, packaged, ever, framework)
        kinds["null"] = {"refused": str(refusal).splitlines()[0]}
    some = np.concatenate([evaluation[:SINGLES], boundary[~nulls][:SINGLES]])
    singles = np.concatenate([packaged(some[i : i + 1]) for i in range(len(some))])
    pairs["single"] = (singles, packaged(some))

    for kind, (a, b) in pairs.items():
        worst, off = _difference(a, b)
        if off:
            raise _differs(kind, worst, off, len(a), framework)
        kinds[kind] = {"rows": len(a), "worst": worst, **kinds.get(kind, {})}
    if labels is not None:
        _same_evidence(*pairs["evaluation"], labels[::every], framework)
    agreed = clear_threshold(
        threshold,
        np.concatenate([a for a, _ in pairs.values()]),
        np.concatenate([b for _, b in pairs.values()]),
    )
    if abs(agreed - threshold) > TOLERANCE:
        raise _differs("decisions of", agreed - threshold, 1, len(evaluation), framework)
    return Parity(kinds, agreed)


def clear_threshold(threshold: float, a: Scores, b: Scores) -> float:
    """The least threshold from `threshold` up that no pair of scores straddles."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    while True:
        straddled = high[(low < threshold) & (threshold <= high)]
        if not len(straddled):
            return threshold
        threshold = float(np.nextafter(straddled.max(), np.inf))


def _both(native: Score, packaged: Score, rows: Floats, framework: str) -> tuple[Scores, Scores]:
    if not len(rows):
        return np.empty(0), np.empty(0)
    try:
        return _answers(native, rows), packaged(rows)
    except ValueError as error:
        raise _cannot_score(framework, error) from error


def _answers(native: Score, rows: Floats) -> Scores:
    """The fitted model's scores; NaN is no answer, so it counts as refusing the rows."""
    scores = native(rows)
    if np.isnan(scores).any():
        raise ValueError(f"it answers NaN for {int(np.isnan(scores).sum()):,} rows")
    return scores


def _difference(a: Scores, b: Scores) -> tuple[float, int]:
    gap = np.abs(a - b)
    gap[np.isnan(gap)] = np.inf
    return float(gap.max(initial=0.0)), int(np.sum(gap > TOLERANCE))


def _cannot_score(framework: str, error: ValueError) -> Invalid:
    return Invalid(
        f"the fitted model cannot score held-out rows: {str(error).splitlines()[0]}",
        why=f"{framework} refuses them; null and unseen categories reach it as NaN",
        fix="have the recipe impute, for example make_pipeline(SimpleImputer(), ...)",
    )


def _same_evidence(native: Scores, packaged: Scores, labels: npt.NDArray[np.int8], framework: str) -> None:
    """AUC must not move by more than 1e-4, nor the mean squared error by more than 1e-5.

    Scores that differ by rounding alone can part rows that were level, and level
    rows that were not; that moves the AUC only where very many rows are so close.
    """
    if len(np.unique(labels)) < 2:
        return
    for name, figure, most in (("AUC", _auc, MOST_AUC), ("calibration", _brier, TOLERANCE)):
        moved = abs(figure(native, labels) - figure(packaged, labels))
        if not moved <= most:
            raise _differs(f"{name} of", moved, len(labels), len(labels), framework)


def _auc(scores: Scores, labels: npt.NDArray[np.int8]) -> float:
    """Share of pairs in order, ties counting half (Mann and Whitney, 1947)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    ones = int(labels.sum())
    return float((rank[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones)))


def _brier(scores: Scores, labels: npt.NDArray[np.int8]) -> float:
    return float(np.mean((scores - labels) ** 2))


def _differs(kind: str, worst: float, off: int, rows: int, framework: str) -> Differs:
    return Differs(
        f"the packaged model differs from the fitted one by up to {worst:.2g} on {off:,} of {rows:,} {kind} rows",
        why=f"its conversion from {framework} is wrong for this estimator, and nothing wrong is registered",
        kind=kind,
        worst=worst,
        rows=rows,
        off=off,
    )
