"""Parts of the rows, by the value of a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.evaluation.intervals import Doubles
from loopline.evaluation.scored import Rows, figures

ALL = "all"
MOST = 50
"""Values shown per column, the most frequent first."""
REPLICATES = 400

Mask = npt.NDArray[np.bool_]


def masks(frame: pl.DataFrame, where: str) -> dict[str, Mask | None]:
    """Name to rows for a slice as a gate writes it.

    `all` is every row (mask null), `column=value` one part, `column` every part
    by itself, the most frequent 50; null counts as the value `null`.

    Raises
    ------
    Invalid
        If the rows have no such column, or no row has that value.
    """
    if where == ALL:
        return {ALL: None}
    column, equals, value = where.partition("=")
    texts = _texts(frame, column)
    if not equals:
        return {f"{column}={v}": mask for v, mask in parts(frame, column).items()}
    mask = texts == value
    if not mask.any():
        raise Invalid(
            f"no held-out row has {where}",
            why=f"a gate is asked of that slice; {column} holds {', '.join(list(parts(frame, column))[:8])}",
            fix="correct the slice in evaluation.gates",
        )
    return {where: mask}


def parts(frame: pl.DataFrame, column: str) -> Mapping[str, Mask]:
    """Value to rows, the most frequent values first, 50 at most."""
    texts = _texts(frame, column)
    names, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST]
    return {str(names[i]): codes == i for i in order}


def table(
    frame: pl.DataFrame, columns: tuple[str, ...], rows: Rows, scores: Doubles, threshold: float
) -> list[dict[str, Any]]:
    """One line per slice: how many rows, AUC and bias with 95 % intervals.

    Keys: `column`, `value`, `n`, `positives` (share), `roc_auc`, `roc_auc_low`,
    `roc_auc_high`, `bias` (mean score minus share of positives), `bias_low`,
    `bias_high`; null where the rows are too few to say.
    """
    lines = []
    for column in columns:
        for value, mask in parts(frame, column).items():
            found = figures(rows, scores, threshold, ("roc_auc", "bias"), mask=mask, replicates=REPLICATES)
            auc, bias = found.estimate("roc_auc"), found.difference("bias")
            lines.append(
                {
                    "column": column,
                    "value": value,
                    "n": int(mask.sum()),
                    "positives": float(rows.y[mask].mean()),
                    "roc_auc": auc.value,
                    "roc_auc_low": auc.low,
                    "roc_auc_high": auc.high,
                    "bias": bias.value,
                    "bias_low": bias.low,
                    "bias_high": bias.high,
                }
            )
    return lines


def _texts(frame: pl.DataFrame, column: str) -> npt.NDArray[np.str_]:
    if column not in frame.columns:
        raise Invalid(
            f"the held-out rows lack the slice column {column!r}",
            why="evaluation names it",
            fix=f"add {column} to evaluation.slices, so that the training set carries it",
        )
    return frame.get_column(column).cast(pl.String).fill_null("null").to_numpy().astype(np.str_)
