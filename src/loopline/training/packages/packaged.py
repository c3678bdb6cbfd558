"""What a packager makes of a fitted model: one to serve, one to compare with, and ways to ship it otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid, install
from loopline.training.encoding import Floats
from loopline.training.transforms import Transforms

Scores = npt.NDArray[np.float64]
Score = Callable[[Floats], Scores]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Permission:
    """What a project allows its packages to be.

    `types` are those that a skops file may build beyond Loopline's own list;
    `unsafe` lets a model ship as a pickle.
    """

    types: frozenset[str] = frozenset()
    unsafe: bool = False
    risk: str = "limited"


@dataclass(frozen=True, slots=True)
class Way:
    """A native runtime that a model may ship in, when ONNX may not.

    `build` gives the file and what its loader must know (JSON); it raises
    `Invalid` where the model cannot be written so, or is not permitted to.
    """

    runtime: str
    file: str
    build: Callable[[Permission], tuple[bytes, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model twice: `onnx` to serve, `native` to compare with.

    `onnx` is null where there is no conversion, and `refusal` says why. `ways`
    are tried in their order when there is none, or when it answers differently.
    `thresholds` maps the index of an input to the values its trees split at.
    `transforms` stand before the native model, the first one sees the raw inputs.
    """

    onnx: bytes | None
    native: Score
    files: Mapping[str, bytes]
    framework: str
    thresholds: Mapping[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    ways: tuple[Way, ...] = ()
    refusal: str | None = None
    transforms: tuple[Transforms, ...] = ()

    def behind(self, transforms: Transforms, inputs: int) -> Packaged:
        """The same model for raw inputs, as many as `inputs`, that are transformed first."""
        from loopline.training.transform_graph import with_transforms

        native = self.native
        return replace(
            self,
            onnx=None if self.onnx is None else with_transforms(self.onnx, transforms, inputs),
            native=lambda matrix: native(transforms.apply(matrix)),
            thresholds=transforms.thresholds(self.thresholds),
            transforms=(transforms, *self.transforms),
        )


def positive(answer: Any, rows: int) -> Scores:
    """The probability of the positive class, (rows,) float64, from what a model gives for it.

    Takes (n,), (n, 1), or (n, 2) with the positive class last.

    Raises
    ------
    Invalid
        If it has another shape, or is not between 0 and 1; NaN is let through
        and found by the gate.
    """
    found = np.asarray(answer, dtype=np.float64)
    if found.ndim == 2 and found.shape[1] in (1, 2):
        found = found[:, -1]
    if found.shape != (rows,):
        raise Invalid(
            f"the model gives an array of shape {found.shape} for {rows} rows",
            why="Loopline decides between two classes: one probability per row, or one column per class",
            fix="return (n,), (n, 1) or (n, 2), the positive class last",
        )
    outside = found[(found < 0) | (found > 1)]
    if len(outside):
        raise Invalid(
            f"the model gives {outside[0]:.4g}, which is no probability",
            why="scores are compared with thresholds that mean money, so they must lie between 0 and 1",
            fix="end the model with a sigmoid or softmax, or return predict_proba instead of predict",
        )
    return found


def cannot_package(kind: str, why: str, fix: str) -> Invalid:
    """The refusal of a fitted model that is none of ours to ship."""
    return Invalid(f"the fitted {kind} cannot be packaged", why=why, fix=fix)


def stopped(error: Exception) -> str:
    """Why a conversion stopped, in one line; converters raise whatever they like."""
    cause = str(error).strip().splitlines() or [type(error).__name__]
    return f"its conversion to ONNX stopped: {_COLOUR.sub('', cause[0])[:200]}"


def missing(package: str, extra: str, what: str) -> Invalid:
    """A framework that is not installed."""
    return Invalid(
        f"{package} is not installed here",
        why=f"{what} needs it",
        fix=install(extra),
    )
