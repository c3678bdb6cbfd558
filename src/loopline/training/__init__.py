"""Training: a recipe applied to a set makes a model."""

from loopline.base.lazy import exports

_HOMES = {
    "Bundle": "bundle",
    "Input": "encoding",
    "Model": "nouns",
    "Reproduction": "nouns",
    "Run": "nouns",
    "Search": "nouns",
    "SearchSpec": "spec",
    "SplitSpec": "spec",
    "TrainingSpec": "spec",
    "Trial": "nouns",
    "load_bundle": "bundle",
    "read_bundle": "bundle",
    "reproduce": "reproducing.verbs",
    "reproductions": "reproducing.verbs",
    "search": "searching.verbs",
    "search_result": "searching.result",
    "searches": "searching.result",
    "train": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
