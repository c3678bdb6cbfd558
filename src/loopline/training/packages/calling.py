"""How a native model is called: the same words at training, in the server and in the process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopline.training.encoding import Floats
from loopline.training.packages.packaged import Score, Scores, positive


@dataclass(frozen=True, slots=True)
class Calling:
    """`method` is `predict_proba`, `torch` or null (a function); `names` are given where it reads columns by name."""

    method: str | None
    names: tuple[str, ...] | None

    def doc(self) -> dict[str, Any]:
        """As JSON, for the manifest."""
        return {"method": self.method, "names": None if self.names is None else list(self.names)}

    @classmethod
    def of(cls, doc: Mapping[str, Any]) -> Calling:
        """What `doc` wrote."""
        names = doc["names"]
        return cls(doc["method"], None if names is None else tuple(str(name) for name in names))

    def bound(self, model: Any) -> Score:
        """The scores of `model`: (n, k) float32 to (n,) float64, each a probability."""

        def score(matrix: Floats) -> Scores:
            if not len(matrix):
                return np.empty(0)
            return positive(self._answer(model, matrix), len(matrix))

        return score

    def _answer(self, model: Any, matrix: Floats) -> Any:
        if self.method == "torch":
            import torch

            with torch.inference_mode():
                return model(torch.from_numpy(np.array(matrix, order="C"))).numpy()
        rows: Any = matrix
        if self.names is not None:
            import polars as pl

            rows = pl.from_numpy(matrix, schema=list(self.names))
        return model.predict_proba(rows) if self.method == "predict_proba" else model(rows)


def calling(model: Any, names: Sequence[str] | None) -> Calling:
    """How `model` is called: by its `predict_proba` where it has one, as a function otherwise."""
    method = "predict_proba" if callable(getattr(model, "predict_proba", None)) else None
    return Calling(method, None if names is None else tuple(names))
