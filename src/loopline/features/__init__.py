"""What was known at the time: views, point-in-time features, training sets."""

from loopline.base.lazy import exports

_HOMES = {
    "Expr": "expr",
    "FeatureRows": "nouns",
    "FeaturesSpec": "spec",
    "TrainingSet": "nouns",
    "View": "views",
    "Views": "views",
    "col": "expr",
    "column_views": "views",
    "compute": "assemble",
    "count": "expr",
    "decision_times": "spine",
    "distinct": "expr",
    "history": "past",
    "last_n": "expr",
    "latest": "expr",
    "load_views": "views",
    "lookup": "expr",
    "materialise": "verbs",
    "maximum": "expr",
    "mean": "expr",
    "minimum": "expr",
    "minutes_between": "expr",
    "plain_views": "spine",
    "project_views": "verbs",
    "read": "verbs",
    "share": "expr",
    "spine_rows": "spine",
    "table_of": "verbs",
    "together": "views",
    "total": "expr",
    "training_set": "verbs",
    "view": "views",
    "when": "expr",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
