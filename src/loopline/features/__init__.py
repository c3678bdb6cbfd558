"""What was known at the time: views, point-in-time features, training sets."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "Expr": "expr",
    "FeatureRows": "nouns",
    "FeaturesSpec": "spec",
    "TrainingSet": "nouns",
    "View": "views",
    "Views": "views",
    "col": "expr",
    "column_views": "views",
    "compute": "assemble",
    "count": "expr",
    "decision_times": "spine",
    "history": "past",
    "latest": "expr",
    "load_views": "views",
    "lookup": "expr",
    "materialise": "verbs",
    "mean": "expr",
    "minutes_between": "expr",
    "plain_views": "spine",
    "project_views": "verbs",
    "read": "verbs",
    "share": "expr",
    "spine_rows": "spine",
    "table_of": "verbs",
    "together": "views",
    "total": "expr",
    "training_set": "verbs",
    "view": "views",
    "when": "expr",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_EXPORTS)
