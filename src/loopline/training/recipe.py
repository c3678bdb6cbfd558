"""The user's recipe, called with what it is promised."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.code import calling_user_code, load_function
from loopline.base.errors import Invalid
from loopline.training.reporting import Report
from loopline.training.tracking.recipes import Track


def fit(
    project: Path,
    ref: str,
    x: pl.DataFrame,
    y: npt.NDArray[np.int8],
    *,
    params: Mapping[str, Any],
    seed: int,
    categorical: tuple[str, ...] = (),
    sample_weight: npt.NDArray[np.float64] | None = None,
    track: Track | None = None,
    report: Report | None = None,
) -> Any:
    """What the recipe `ref` returns for these rows.

    Parameters
    ----------
    project : Path
        Folder that holds the code.
    ref : str
        `file.py:function`.
    x : DataFrame
        Float32 columns; null, unseen and unknown are NaN.
    y : ndarray, (n,)
        0 and 1.
    params : mapping
        Passed as keywords.
    seed : int
        Seeds `random` and NumPy before the call; passed as well when the recipe
        has a parameter `seed`.
    categorical : tuple of str
        Columns that hold codes; passed when the recipe has a parameter
        `categorical`.
    sample_weight : ndarray, (n,), optional
        How sure each label is, 0 to 1; null where all are. Passed when the recipe has a
        parameter `sample_weight`, null included.
    track : Track, optional
        Takes what the recipe reports while it trains; passed when the recipe has a parameter `track`.
    report : Report, optional
        Takes the metric that a search judges, as it grows; may end a trial early. Passed when the recipe has a
        parameter `report`.

    Raises
    ------
    UserCodeError
        If the recipe raises; the user's traceback is kept.
    Invalid
        If the labels hold one class only, the params do not fit the recipe, or
        it returns nothing.
    """
    if len(np.unique(y)) < 2:
        raise Invalid(
            f"all {len(y):,} training rows have the same label",
            why="a recipe cannot learn to tell classes apart from one class",
            fix="check framing.label, or train on more rows",
        )
    function = load_function(project, ref)
    offered = _offered(
        function,
        seed=seed,
        categorical=categorical,
        sample_weight=sample_weight,
        track=track or Track(),
        report=report or Report(track),
    )
    keywords = {**offered, **params}
    try:
        inspect.signature(function).bind(x, y, **keywords)
    except TypeError as error:
        raise Invalid(
            f"{ref} cannot be called: {error}",
            why=f"training calls it with X, y and {', '.join(keywords) or 'no params'}",
            fix=f"give {ref} those parameters, or change training.params",
        ) from error
    random.seed(seed)
    np.random.seed(seed % 2**32)
    with calling_user_code(ref):
        fitted = function(x, y, **keywords)
    if fitted is None:
        raise Invalid(
            f"{ref} returned nothing",
            why="the recipe hands back the fitted estimator",
            fix=f"end {ref} with `return model`",
        )
    return fitted


def _offered(function: Any, **values: Any) -> dict[str, Any]:
    names = inspect.signature(function).parameters
    return {name: value for name, value in values.items() if name in names}


def takes(project: Path, ref: str, name: str) -> bool:
    """Whether a recipe has a parameter `name`."""
    return name in inspect.signature(load_function(project, ref)).parameters
