"""Rows that keep their contract, and what was known of them at a time."""

from loopline.base.lazy import exports

_HOMES = {
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
    "personal": "marks",
    "mark": "marks",
    "Ingestion": "nouns",
    "Snapshot": "nouns",
    "Violation": "nouns",
    "TableSpec": "spec",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
