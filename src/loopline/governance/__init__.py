"""Reads across the stages: why something is as it is, and where it came from."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "why": "queries",
    "lineage": "queries",
    "Graph": "nouns",
    "Node": "nouns",
    "Edge": "nouns",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value
