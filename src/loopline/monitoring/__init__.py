"""Monitoring: profiles, quality, drift and what it means, incidents."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "DayCounts": "quality",
    "trailing": "quality",
    "Checked": "verbs",
    "check": "verbs",
    "excluded_windows": "verbs",
    "open_incidents": "verbs",
    "quality_history": "verbs",
    "resolve": "verbs",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"loopline.monitoring.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
