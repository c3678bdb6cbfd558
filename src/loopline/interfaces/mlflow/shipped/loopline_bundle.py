"""Scores rows with a model that Loopline trained: `model.onnx` or a native file, and how its inputs are coded.

Rows are given as training saw them: numbers, and texts for categories. A number
becomes a float32, a category its place in the vocabulary; what is missing, and a
text that training never saw, is NaN. The answer is the probability of the positive
class and whether it reaches the model's threshold.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Model:
    """What `mlflow.pyfunc.load_model` hands out."""

    def __init__(self, folder: str) -> None:
        self.manifest = json.loads(Path(folder, "loopline.json").read_text(encoding="utf-8"))
        self.inputs = self.manifest["inputs"]
        self.threshold = float(self.manifest["threshold"])
        runtime = self.manifest.get("runtime")
        if runtime is None:
            self.score = _onnx(str(Path(folder, "model.onnx")))
        else:
            self.score = importlib.import_module("loopline_native").opened(folder, runtime)

    def matrix(self, rows: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Rows as the model reads them; a plain array is taken as coded already."""
        if isinstance(rows, np.ndarray):
            return np.ascontiguousarray(rows, dtype=np.float32)
        if isinstance(rows, dict):
            rows = {
                name: value if isinstance(value, (list, tuple, np.ndarray)) else [value] for name, value in rows.items()
            }
        elif isinstance(rows, (list, tuple)):
            rows = {spec["name"]: [row.get(spec["name"]) for row in rows] for spec in self.inputs}
        columns = []
        for spec in self.inputs:
            name = spec["name"]
            if name not in rows and not spec["nullable"]:
                raise ValueError(f"the column {name!r} is missing: the model reads {[i['name'] for i in self.inputs]}")
            columns.append(_coded(list(rows[name]), spec) if name in rows else None)
        height = next((len(column) for column in columns if column is not None), 0)
        out = np.full((height, len(columns)), np.nan, dtype=np.float32)
        for at, column in enumerate(columns):
            if column is not None:
                out[:, at] = column
        return out

    def predict(self, rows: Any, params: dict[str, Any] | None = None) -> Any:
        """One line per row: `probability` of the positive class, and `decision`."""
        scores = self.score(self.matrix(rows))
        answer = {"probability": scores, "decision": scores >= self.threshold}
        try:
            import pandas
        except ImportError:
            return answer
        return pandas.DataFrame(answer)


def _onnx(path: str) -> Callable[[np.ndarray[Any, np.dtype[np.float32]]], np.ndarray[Any, np.dtype[np.float64]]]:
    """The scores of an ONNX model: the last column of its last output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    out, given = session.get_outputs()[-1].name, session.get_inputs()[0].name

    def score(matrix: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.asarray(session.run([out], {given: matrix})[0])[:, 1].astype(np.float64)

    return score


def _coded(values: list[Any], spec: dict[str, Any]) -> list[float]:
    if spec["kind"] != "category":
        return [float("nan") if value is None else float(value) for value in values]
    codes = {text: float(at) for at, text in enumerate(spec["categories"])}
    return [codes.get(_text(value), float("nan")) for value in values]


def _text(value: Any) -> str | None:
    """A category as training read it: Booleans and whole numbers as text."""
    if value is None or value != value:
        return None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return str(value)


def _load_pyfunc(path: str) -> Model:
    return Model(path)
