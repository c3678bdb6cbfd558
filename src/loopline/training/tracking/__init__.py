"""Tracking: everything a training says of itself, recorded without slowing it."""

from loopline.base.lazy import exports

_HOMES = {
    "ActiveRun": "client",
    "Scrubber": "scrubbing",
    "start_run": "client",
    "sync": "syncing",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
