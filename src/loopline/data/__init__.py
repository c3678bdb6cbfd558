"""Rows that keep their contract, and what was known of them at a time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Contract": "contract",
    "Checked": "contract",
    "Rule": "rules",
    "draft": "drafting",
    "load_source": "sources",
    "ingest": "verbs",
    "snapshot": "verbs",
    "catalogue": "cards",
    "TableCard": "cards",
    "known": "history",
    "known_column": "history",
    "labels": "outcomes",
    "profile": "profiles",
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
