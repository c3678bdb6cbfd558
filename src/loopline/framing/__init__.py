"""Framing: what is decided, and how we will know it went well."""

from loopline.base.lazy import exports

_HOMES = {
    "FramingSpec": "spec",
    "LabelSpec": "spec",
    "METRICS": "metrics",
    "OwnerSpec": "spec",
    "Problem": "nouns",
    "ValueSpec": "spec",
    "best_threshold": "metrics",
    "frame": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
