"""Training: a recipe applied to a set makes a model."""

from loopline.base.lazy import exports

_HOMES = {
    "Bundle": "bundle",
    "Input": "encoding",
    "Model": "nouns",
    "Run": "nouns",
    "SplitSpec": "spec",
    "TrainingSpec": "spec",
    "load_bundle": "bundle",
    "read_bundle": "bundle",
    "train": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
