"""A search for params: trials proposed, judged on a part of the training rows, and one of them picked."""

from loopline.base.lazy import exports

_HOMES = {
    "best": "choice",
    "drawn": "plots",
    "front": "choice",
    "search": "verbs",
    "search_result": "result",
    "searches": "result",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
