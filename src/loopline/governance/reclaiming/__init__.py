"""Giving bytes back: what nothing needs any more, whose it is, and letting go of it."""

from loopline.base.lazy import exports

_HOMES = {
    "Reclaimed": "nouns",
    "Unneeded": "nouns",
    "gc": "verbs",
    "unneeded": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
