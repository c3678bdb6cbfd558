"""Reads across the stages: why something is as it is, and where it came from."""

from loopline.base.lazy import exports

_HOMES = {
    "why": "queries",
    "lineage": "queries",
    "consumers": "datasets",
    "ask_about_answers": "audit_labels",
    "live_quality": "audit_labels",
    "label_health": "audit_labels",
    "where": "erasure",
    "erase": "erasure",
    "expire": "expiry",
    "fork": "forking",
    "ErasureProof": "nouns",
    "Expiry": "nouns",
    "Fork": "nouns",
    "ModelFlag": "nouns",
    "Place": "nouns",
    "feature_catalogue": "features",
    "feature_impact": "features",
    "FeatureEntry": "nouns",
    "FeatureImpact": "nouns",
    "Graph": "nouns",
    "Node": "nouns",
    "Edge": "nouns",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
