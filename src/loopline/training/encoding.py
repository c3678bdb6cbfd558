"""What a model is given: float32 columns, text coded by what training saw."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model, with what the training rows showed of it.

    `categories` is the vocabulary of a `category`: its index is the code, null
    and unseen texts are coded NaN. `null_share` is the share of training rows
    without a value; `nullable` says that there were some. `low` and `high` are
    the least and greatest finite training value of a `number`, null when there
    was none.
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()
    nullable: bool = False
    null_share: float = 0.0
    low: float | None = None
    high: float | None = None


def learn(train: pl.DataFrame, features: Sequence[str], categorical: Collection[str]) -> tuple[Input, ...]:
    """The inputs of a model that is fitted on the rows of `train`.

    Parameters
    ----------
    train : DataFrame
        The training split only, so that no held-out category enters the
        vocabulary.
    features : sequence of str
        Columns, in the order of the matrix; numbers, Booleans or text.
    categorical : collection of str
        Those that are coded by vocabulary; text columns always are.

    Returns
    -------
    tuple of Input
        In the order of `features`.
    """
    rows = max(train.height, 1)
    inputs = []
    for name in features:
        column = _column(train, name)
        if name in categorical or not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            text = _text(column)
            seen = tuple(sorted(text.drop_nulls().unique().to_list()))
            nulls = text.null_count()
            inputs.append(Input(name, "category", seen, nulls > 0, nulls / rows))
        else:
            value = column.cast(pl.Float32).fill_nan(None)
            finite = value.filter(value.is_finite()).cast(pl.Float64)
            low, high = (finite.min(), finite.max()) if finite.len() else (None, None)
            inputs.append(Input(name, "number", (), value.null_count() > 0, value.null_count() / rows, low, high))  # type: ignore[arg-type]
    return tuple(inputs)


def encode(frame: pl.DataFrame, inputs: Sequence[Input]) -> Floats:
    """The rows of `frame` as a C-ordered float32 matrix, one column per input.

    Null is NaN; so is a text outside the vocabulary. Other columns are ignored.

    Raises
    ------
    Invalid
        If a column is missing or cannot be read as numbers.
    """
    out = np.empty((frame.height, len(inputs)), dtype=np.float32)
    for j, spec in enumerate(inputs):
        column = _column(frame, spec.name)
        if spec.kind == "category":
            codes = pl.Series(range(len(spec.categories)), dtype=pl.Float32)
            words = pl.Series(spec.categories, dtype=pl.String)
            column = _text(column).replace_strict(words, codes, default=None, return_dtype=pl.Float32)
        else:
            try:
                column = column.cast(pl.Float32)
            except pl.exceptions.InvalidOperationError as error:
                raise Invalid(
                    f"column {spec.name!r} holds {column.dtype}, not numbers",
                    why="the model was trained on numbers there",
                    fix=f"give {spec.name} as a number, or null where it is not known",
                ) from error
        out[:, j] = column.fill_null(float("nan")).to_numpy()
    return out


def _text(column: pl.Series) -> pl.Series:
    return column.cast(pl.String)


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        raise Invalid(
            f"the rows lack the column {name!r}",
            why="the model has it as an input",
            fix=f"add {name}; null is allowed where the value is not known",
        )
    return frame.get_column(name)
