"""Exchange: histories of other trackers come in, runs go out in open files."""

from loopline.base.lazy import exports

_HOMES = {
    "Brought": "nouns",
    "Left": "nouns",
    "export_runs": "verbs",
    "import_mlflow": "verbs",
    "import_runs": "verbs",
    "import_wandb": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
