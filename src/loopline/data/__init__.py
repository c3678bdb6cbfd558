"""Rows that keep their contract, and what was known of them at a time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Contract": "contract",
    "Checked": "contract",
    "Rule": "rules",
    "draft": "draft",
    "load_source": "sources",
    "ingest": "verbs",
    "snapshot": "verbs",
    "catalogue": "catalogue",
    "TableCard": "catalogue",
    "known": "known",
    "known_column": "known",
    "labels": "labels",
    "profile": "profile",
    "Ingestion": "nouns",
    "Snapshot": "nouns",
    "Violation": "nouns",
    "TableSpec": "spec",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value
