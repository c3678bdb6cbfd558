"""Evaluation: evidence about a model, with intervals, and the verdicts of its gates."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "Estimate": "loopline.evaluation.nouns",
    "EvaluationSpec": "loopline.evaluation.spec",
    "GateSpec": "loopline.evaluation.spec",
    "Report": "loopline.evaluation.nouns",
    "Verdict": "loopline.evaluation.nouns",
    "evaluate": "loopline.evaluation.verbs",
}


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
