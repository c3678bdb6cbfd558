"""Training: a recipe applied to a set makes a model."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "Bundle": "loopline.training.bundle",
    "Input": "loopline.training.encoding",
    "Model": "loopline.training.nouns",
    "Run": "loopline.training.nouns",
    "SplitSpec": "loopline.training.spec",
    "TrainingSpec": "loopline.training.spec",
    "load_bundle": "loopline.training.bundle",
    "read_bundle": "loopline.training.bundle",
    "train": "loopline.training.verbs",
}


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
