"""The keyword `report` of a recipe: how good the model is so far, so that a search may give it up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from loopline.training.tracking.recipes import Track

SERIES = "reported"


class Pruned(BaseException):
    """A trial that is given up. No `Exception`, so that a recipe that catches those does not go on."""


class Report:
    """Call it with the value that the search judges, on rows that the recipe set aside, and the step.

    def fit(X, y, report):
        for step in range(50):
            ...
            report(score, step)

    Outside a search the values are logged and nothing ends.

    Parameters
    ----------
    track : Track, optional
        Where values are logged as `reported`.
    should_end : callable, optional
        Takes value and step; whether the trial is given up.
    """

    def __init__(self, track: Track | None = None, should_end: Callable[[float, int], bool] | None = None) -> None:
        self._track, self._should_end = track or Track(), should_end
        self.values: dict[int, float] = {}
        """The first value of each step; those that are no number are left out."""

    def __call__(self, value: Any, step: int | None = None) -> None:
        """Report a value; the step counts on from the last one by default."""
        found = float(value)
        at = int(step) if step is not None else max(self.values, default=-1) + 1
        self._track.log_metric(SERIES, found, at)
        if at in self.values or not math.isfinite(found):
            return
        self.values[at] = found
        if self._should_end is not None and self._should_end(found, at):
            raise Pruned

    @property
    def lightgbm(self) -> Callable[[Any], None]:
        """A callback of LightGBM: reports the last metric of the last evaluation set after each iteration."""

        def told(env: Any) -> None:
            if env.evaluation_result_list:
                self(env.evaluation_result_list[-1][2], env.iteration)

        return told

    @property
    def xgboost(self) -> Any:
        """A callback of XGBoost: reports the last metric of the last evaluation set after each round."""
        from xgboost.callback import TrainingCallback

        report = self

        class Told(TrainingCallback):
            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                if evals_log:
                    values = list(list(evals_log.values())[-1].values())[-1]
                    report(values[-1][0] if isinstance(values[-1], tuple) else values[-1], epoch)
                return False

        return Told()
