"""Scores coded rows by the library that a model was fitted with: ONNX would answer otherwise, or cannot hold it.

No pickle is opened. LightGBM reads its text, XGBoost its UBJSON, and skops builds
the types that the bundle names, no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Doubles = np.ndarray[Any, np.dtype[np.float64]]
Score = Callable[[Floats], Doubles]


def opened(folder: str, runtime: Mapping[str, Any]) -> Score:
    """The scores of the model in a folder: (n, inputs) float32 to the probability of the positive class, (n,)."""
    path = Path(folder, str(runtime["file"]).rpartition("/")[2])
    score = {"lightgbm": _lightgbm, "xgboost": _xgboost, "skops": _skops}[runtime["name"]](path, runtime)
    steps = runtime.get("transforms") or []

    def found(matrix: Floats) -> Doubles:
        for columns in steps:
            matrix = transformed(matrix, columns)
        return score(matrix) if len(matrix) else np.empty(0)

    return found


def transformed(matrix: Floats, columns: list[dict[str, Any]]) -> Floats:
    """The columns that the fitted model sees, in float32, as training made them."""
    out = np.empty((len(matrix), len(columns)), dtype=np.float32)
    for at, one in enumerate(columns):
        x = matrix[:, one["input"]]
        if one["kind"] == "number":
            fill = np.float32(np.nan if one["fill"] is None else one["fill"])
            out[:, at] = (np.where(np.isnan(x), fill, x) - np.float32(one["shift"])) / np.float32(one["by"])
        elif one["kind"] == "flag":
            out[:, at] = np.isnan(x)
        else:
            table = np.array([np.nan if value is None else value for value in one["table"]], dtype=np.float32)
            last = len(table) - 1
            out[:, at] = table[np.clip(np.where(np.isnan(x), np.float32(last), x).astype(np.int64), 0, last)]
    return out


def _lightgbm(path: Path, runtime: Mapping[str, Any]) -> Score:
    import lightgbm

    booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    return lambda matrix: np.asarray(booster.predict(matrix, num_threads=1), dtype=np.float64)


def _xgboost(path: Path, runtime: Mapping[str, Any]) -> Score:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(path.read_bytes()))
    linear = '"name":"gblinear"' in booster.save_config().replace(" ", "")

    def score(matrix: Floats) -> Doubles:
        if linear:  # the one kind that does not predict in place
            return np.asarray(booster.predict(xgboost.DMatrix(matrix, nthread=1)), dtype=np.float64)
        return np.asarray(booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)

    return score


def _skops(path: Path, runtime: Mapping[str, Any]) -> Score:
    import skops.io

    model = skops.io.load(path, trusted=list(runtime["types"]))
    names = runtime["call"]["names"]

    def score(matrix: Floats) -> Doubles:
        rows: Any = matrix
        if names is not None:
            import pandas

            rows = pandas.DataFrame(matrix, columns=names)
        answer = model.predict_proba(rows) if runtime["call"]["method"] == "predict_proba" else model(rows)
        found = np.asarray(answer, dtype=np.float64)
        return found[:, -1] if found.ndim == 2 else found

    return score
