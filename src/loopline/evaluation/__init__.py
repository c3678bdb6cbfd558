"""Evaluation: evidence about a model, with intervals, and the verdicts of its gates."""

from loopline.base.lazy import exports

_HOMES = {
    "Estimate": "nouns",
    "EvaluationSpec": "spec",
    "GateSpec": "spec",
    "Report": "nouns",
    "Verdict": "nouns",
    "evaluate": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
