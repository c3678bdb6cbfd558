"""Monitoring: profiles, quality, drift and what it means, incidents."""

from loopline.base.lazy import exports

_HOMES = {
    "DayCounts": "quality",
    "trailing": "quality",
    "Checked": "verbs",
    "check": "verbs",
    "check_freshness": "levels",
    "late_views": "levels",
    "excluded_windows": "verbs",
    "open_incidents": "verbs",
    "quality_history": "verbs",
    "resolve": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
