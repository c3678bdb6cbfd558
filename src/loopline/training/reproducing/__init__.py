"""Models made again from their records, and how near they come."""

from loopline.base.lazy import exports

_HOMES = {"newest": "verbs", "reproduce": "verbs", "reproductions": "verbs"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
