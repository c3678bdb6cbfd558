"""What a model must beat: a constant, or the project's own simple rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.code import calling_user_code, load_function
from loopline.base.errors import Invalid

CONSTANT = "constant"


def baseline_scores(project: Path, ref: str | None, train: pl.DataFrame, test: pl.DataFrame) -> npt.NDArray[np.float64]:
    """A score per row of `test` from the baseline `ref`; (n,) float64 within [0, 1].

    Parameters
    ----------
    project : Path
        Folder that holds the code.
    ref : str or None
        `constant` (the default: the share of positives in `train`), or
        `file.py:function`, called as `function(train, rows)` with the training
        rows and the held-out rows without their labels; it returns one score
        per row (a Series, an array, or a frame of one column).
    train, test : DataFrame
        Rows of a training set.

    Raises
    ------
    UserCodeError
        If the function raises.
    Invalid
        If it does not return one finite score within [0, 1] per row.
    """
    if ref is None or ref == CONSTANT:
        mean = train.get_column("label").cast(pl.Float64).mean()
        return np.full(test.height, mean, dtype=np.float64)
    function = load_function(project, ref)
    with calling_user_code(ref):
        answer = function(train.drop("split"), test.drop("label", "split"))
        if isinstance(answer, pl.DataFrame):
            answer = answer.to_series(answer.width - 1)
        if isinstance(answer, pl.Series):
            answer = answer.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        scores = np.asarray(answer, dtype=np.float64).ravel()
    if scores.shape != (test.height,):
        raise _wrong(ref, f"{len(scores):,} scores for {test.height:,} rows")
    bad = ~((scores >= 0) & (scores <= 1))
    if bad.any():
        raise _wrong(ref, f"{scores[bad][0]} for row {int(np.argmax(bad)):,} ({int(bad.sum()):,} such rows)")
    return scores


def _wrong(ref: str, what: str) -> Invalid:
    return Invalid(
        f"the baseline {ref} returned {what}",
        why="it answers one probability between 0 and 1 for every row it is given, in their order",
        fix=f"mend {ref}; a left join keeps every row, fill_null gives those without a match a score",
    )
