"""The part of the training rows that trials are judged on."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from loopline.base.errors import Invalid
from loopline.features.spec import SplitSpec

LEAST = 2


def cut(
    train: pl.DataFrame, split: SplitSpec, share: float, *, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """The rows to fit and the rows to judge on, and how they were cut.

    By time the newest `share` is judged on, all rows of one moment on one side; at random units are drawn by `seed`,
    or groups where `split.group` stands in the rows.

    Parameters
    ----------
    train : DataFrame
        Training rows only, with `unit`, `decision_time` and `label`.

    Returns
    -------
    tuple
        Rows to fit, rows to judge on, and `by`, `rows`, `fitted`, `from` (null at random).

    Raises
    ------
    Invalid
        If a side is too small, or holds labels of one class only.
    """
    start = None
    if split.by == "time" and train["decision_time"].null_count() == 0:
        ordered = train["decision_time"].sort()
        start = ordered[min(len(ordered) - 1, int(np.ceil(len(ordered) * (1 - share))))]
        judged = train["decision_time"] >= start
    else:
        column = split.group if split.group is not None and split.group in train.columns else "unit"
        groups = train[column].unique().sort()
        dealt = groups.gather(np.random.default_rng(seed).permutation(len(groups)))
        judged = train[column].is_in(dealt.head(max(1, round(len(groups) * share))).implode(), nulls_equal=True)
    fit, rest = train.filter(~judged), train.filter(judged)
    for side, name in ((fit, "fit"), (rest, "judge")):
        if side.height < LEAST or side["label"].n_unique() < 2:
            raise Invalid(
                f"the {side.height:,} training rows to {name} trials on hold one class only, or nothing",
                why=f"{share:.0%} of the training rows are set aside to judge trials on; held-out rows never are",
                fix="change training.search.validation, or wait for more labels",
            )
    about = {
        "by": "time" if start is not None else "random",
        "rows": rest.height,
        "fitted": fit.height,
        "from": start.isoformat() if start is not None else None,
    }
    return fit, rest, about
