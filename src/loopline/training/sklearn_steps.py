"""Preparing steps of a scikit-learn pipeline, read as transforms.

The field writes `make_pipeline(ColumnTransformer(...), estimator)`. Its common parts (imputers, scalers, encoders)
are a fill value, a shift and a divisor, or a table: they become `Transforms`, which answer alike everywhere, and the
estimator behind them is packaged by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from loopline.training.encoding import Floats
from loopline.training.transforms import Column, Transforms


@dataclass(frozen=True, slots=True)
class Steps:
    """A pipeline as transforms and the estimator behind them."""

    transforms: Transforms
    estimator: Any


class _Unknown(Exception):
    """A part that has no form here."""


def read_steps(pipeline: Any, names: Sequence[str]) -> Steps | None:
    """A fitted pipeline as transforms and an estimator; null where a part of it is none that is known here.

    What was read is tried on rows of its own values, and given up where it
    differs from the pipeline's answer.
    """
    if not isinstance(pipeline, Pipeline) or len(pipeline.steps) < 2:
        return None
    columns = [Column(name, j, "number") for j, name in enumerate(names)]
    try:
        for _, step in pipeline.steps[:-1]:
            columns = _after(step, columns, names)
    except (_Unknown, ValueError, TypeError):
        return None
    found = Transforms(_unique(columns))
    return Steps(found, pipeline.steps[-1][1]) if _agrees(pipeline, found, names) else None


def _after(step: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    if isinstance(step, str) or step is None or (isinstance(step, FunctionTransformer) and step.func is None):
        return columns
    if isinstance(step, Pipeline):
        for _, inner in step.steps:
            columns = _after(inner, columns, names)
        return columns
    if isinstance(step, ColumnTransformer):
        return _side_by_side(step, columns, names)
    if isinstance(step, SimpleImputer) and not step.add_indicator and len(step.statistics_) == len(columns):
        return [_filled(c, float(v)) for c, v in zip(columns, step.statistics_, strict=True)]
    if isinstance(step, StandardScaler):
        shift = step.mean_ if step.with_mean else np.zeros(len(columns))
        return _scaled(columns, shift, step.scale_ if step.with_std else np.ones(len(columns)))
    if isinstance(step, RobustScaler):
        shift = step.center_ if step.with_centering else np.zeros(len(columns))
        return _scaled(columns, shift, step.scale_ if step.with_scaling else np.ones(len(columns)))
    if isinstance(step, MinMaxScaler) and not step.clip:
        return _scaled(columns, -step.min_ / step.scale_, 1 / step.scale_)
    if isinstance(step, MaxAbsScaler):
        return _scaled(columns, np.zeros(len(columns)), step.scale_)
    if isinstance(step, (OneHotEncoder, OrdinalEncoder, TargetEncoder)):
        return [made for n, one in enumerate(columns) for made in _encoded(step, n, one)]
    raise _Unknown


def _side_by_side(step: ColumnTransformer, columns: list[Column], names: Sequence[str]) -> list[Column]:
    made: list[Column] = []
    for _, part, chosen in step.transformers_:
        if part == "drop":
            continue
        places = np.arange(len(columns))[chosen] if not _are_names(chosen) else [list(names).index(c) for c in chosen]
        mine = [columns[int(n)] for n in np.atleast_1d(places)]
        made += _after(part, mine, [c.name for c in mine])
    return made


def _are_names(chosen: Any) -> bool:
    return not isinstance(chosen, (slice, str)) and len(chosen) > 0 and isinstance(next(iter(chosen)), str)


def _filled(column: Column, value: float) -> Column:
    if column.kind != "number" or column.fill is not None or (column.shift, column.by) != (0.0, 1.0):
        raise _Unknown
    return replace(column, fill=value)


def _scaled(columns: list[Column], shift: Any, by: Any) -> list[Column]:
    done = []
    for column, less, over in zip(columns, shift, by, strict=True):
        if column.kind != "number":
            raise _Unknown
        done.append(replace(column, shift=column.shift + column.by * float(less), by=column.by * float(over)))
    return done


def _encoded(step: Any, n: int, column: Column) -> list[Column]:
    """The columns of one encoded input: a table over its codes, the last entry for null and unseen."""
    if column.kind != "number" or (column.shift, column.by) != (0.0, 1.0):
        raise _Unknown
    seen = np.asarray(step.categories_[n], dtype=np.float64)
    known = seen[~np.isnan(seen)]
    size = int(known.max(initial=0)) + 1
    if ((known < 0).any() and column.fill is None) or (known != np.round(known)).any() or size > 100_000:
        raise _Unknown
    rows = np.array([*range(size), np.nan if column.fill is None else column.fill], dtype=np.float64)
    values = _alone(step, n, rows)
    return [
        Column(f"{column.name}_{k}" if values.shape[1] > 1 else column.name, column.source, "table",
               table=tuple(None if np.isnan(v) else float(v) for v in values[:, k]))
        for k in range(values.shape[1])
    ]  # fmt: skip


def _alone(step: Any, n: int, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What an encoder makes of one of its columns, the others standing still."""
    nameless = copy.copy(step)
    vars(nameless).pop("feature_names_in_", None)
    rows = np.tile([float(known[0]) for known in step.categories_], (len(values), 1))
    rows[:, n] = values
    made = _dense(nameless.transform(rows))
    if not isinstance(step, OneHotEncoder):
        return made[:, [n]]
    ends = np.cumsum(step._n_features_outs)
    return made[:, ends[n] - step._n_features_outs[n] : ends[n]]


def _dense(values: Any) -> npt.NDArray[np.float64]:
    return np.asarray(values.todense() if hasattr(values, "todense") else values, dtype=np.float64)


def _unique(columns: Sequence[Column]) -> tuple[Column, ...]:
    return tuple(replace(c, name=f"{n}_{c.name}") for n, c in enumerate(columns))


def _agrees(pipeline: Pipeline, found: Transforms, names: Sequence[str]) -> bool:
    """Whether both make the same of rows around the fitted values, of codes and of nulls."""
    rng = np.random.default_rng(0)
    rows: Floats = rng.normal(0, 3, (200, len(names))).astype(np.float32)
    for column in found.columns:
        if column.kind == "number":
            rows[:, column.source] = rows[:, column.source] * np.float32(column.by) + np.float32(column.shift)
        else:
            rows[:, column.source] = rng.integers(0, max(len(column.table) - 1, 1), len(rows))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    given = pl.from_numpy(rows, schema=list(names)) if hasattr(pipeline, "feature_names_in_") else rows
    try:
        theirs = pipeline[:-1].transform(given)
    except ValueError:
        return False
    theirs = _dense(theirs)
    ours = found.apply(rows).astype(np.float64)
    return theirs.shape == ours.shape and bool(np.allclose(theirs, ours, rtol=1e-5, atol=1e-6, equal_nan=True))
