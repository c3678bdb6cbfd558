"""What a recipe may report while it trains, and what fitted estimators tell afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loopline.training.tracking.client import ActiveRun


class Track:
    """The keyword `track` of a recipe: its run, or nothing where none is logged. Each call is safe in both.

    def fit(X, y, track):
        model.fit(X, y, eval_set=..., callbacks=[track.lightgbm])
    """

    def __init__(self, run: ActiveRun | None = None) -> None:
        self.run = run
        self.keys: set[str] = set()
        """Names of the series that were logged."""

    def log_metric(self, key: str, value: Any, step: int | None = None) -> None:
        """Log a point of a series."""
        if self.run is not None:
            self.run.log_metric(key, value, step)
            self.keys.add(key)

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log a point of each series."""
        for key, value in values.items():
            self.log_metric(key, value, step)

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as a file of the run."""
        if self.run is not None:
            self.run.log_text(text, path)

    def log_figure(self, figure: Any, path: str) -> None:
        """Keep a figure as a file of the run."""
        if self.run is not None:
            self.run.log_figure(figure, path)

    def log_artifact(self, path: str | Path, to: str | None = None) -> None:
        """Keep a file with the run."""
        if self.run is not None:
            self.run.log_artifact(path, to)

    @property
    def lightgbm(self) -> Callable[[Any], None]:
        """A callback of LightGBM: logs each evaluation as `<data>/<metric>`."""

        def told(env: Any) -> None:
            for data, metric, value, *_ in env.evaluation_result_list or ():
                self.log_metric(f"{data}/{metric}", value, env.iteration)

        return told

    @property
    def xgboost(self) -> Any:
        """A callback of XGBoost: logs each evaluation as `<data>/<metric>`."""
        from xgboost.callback import TrainingCallback

        track = self

        class Told(TrainingCallback):
            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                for data, metrics in evals_log.items():
                    for metric, values in metrics.items():
                        last = values[-1]
                        track.log_metric(f"{data}/{metric}", last[0] if isinstance(last, tuple) else last, epoch)
                return False

        return Told()


def log_curves(track: Track, fitted: Any) -> None:
    """Log what a fitted estimator keeps of its training, if the recipe has not reported it."""
    for key, values in curves(fitted):
        if key not in track.keys:
            for step, value in enumerate(values):
                track.log_metric(key, value, step)


def curves(fitted: Any) -> Iterator[tuple[str, list[float]]]:
    """Series by name: evaluations of LightGBM and XGBoost, losses and scores of scikit-learn."""
    steps = getattr(fitted, "steps", None)
    if isinstance(steps, list) and steps:
        fitted = steps[-1][1]
    for data, metrics in _evaluations(fitted).items():
        for metric, values in metrics.items():
            yield f"{data}/{metric}", [float(value) for value in values]
    for name in ("loss_curve_", "validation_scores_", "train_score_", "validation_score_"):
        values = getattr(fitted, name, None)
        if values is not None and len(values):
            yield f"train/{name.rstrip('_')}", [float(value) for value in values]


def _evaluations(fitted: Any) -> Mapping[str, Mapping[str, Any]]:
    """What LightGBM keeps as an attribute and XGBoost tells when asked; empty where neither evaluated anything."""
    found = getattr(fitted, "evals_result_", None)
    if found is None and callable(asked := getattr(fitted, "evals_result", None)):
        try:
            found = asked()
        except Exception:  # XGBoost raises an error of its own where no evaluation set was given
            found = None
    return found if isinstance(found, Mapping) else {}
