"""Metrics as people read them: name, unit, digits, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loopline.evaluation.nouns import Estimate, Report
from loopline.framing.metrics import HIGHER_IS_BETTER
from loopline.interfaces.ui.words import NOTHING, number, signed

NAMES = {
    "roc_auc": "AUC",
    "brier": "Brier score",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "accuracy": "accuracy",
    "value": "value per decision",
}
DIGITS = {"roc_auc": 3, "brier": 4, "log_loss": 4, "calibration_error": 4, "accuracy": 3, "value": 3}
ORDER = tuple(NAMES)
ABSURD = 1e12
"""Bounds beyond this say nothing and are not drawn."""


def name(metric: str, currency: str = "") -> str:
    """What a metric is called, with its unit."""
    found = NAMES.get(metric, metric.replace("_", " "))
    return f"{found}, {currency}" if metric == "value" and currency else found


def better(metric: str) -> str:
    """Which way is better, in a word."""
    return "higher is better" if HIGHER_IS_BETTER.get(metric, True) else "lower is better"


def figure(metric: str, value: float | None) -> str:
    """A value with the digits of its metric."""
    return number(value, DIGITS.get(metric, 4)) if value is None or abs(value) < ABSURD else NOTHING


def delta(metric: str, value: float | None) -> str:
    """A difference with the digits of its metric."""
    return signed(value, DIGITS.get(metric, 4))


def interval(metric: str, low: float | None, high: float | None) -> str:
    """`[low, high]`, or nothing where it is not known."""
    if low is None or high is None or max(abs(low), abs(high)) >= ABSURD:
        return ""
    return f"[{figure(metric, low)}, {figure(metric, high)}]"


def judged(metric: str, low: float | None, high: float | None) -> str:
    """Tone of a difference: `good` or `no` when its whole interval lies on one side of zero."""
    if low is None or high is None or low <= 0 <= high:
        return "quiet"
    return "good" if (low > 0) == HIGHER_IS_BETTER.get(metric, True) else "no"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of a report, ready for a table."""

    metric: str
    candidate: Estimate
    champion: Estimate | None
    baseline: Estimate | None
    difference: Estimate | None
    to_baseline: Estimate | None


def leading(primary: str) -> list[str]:
    """The metrics in the order people ask for them, the primary one first."""
    return sorted(ORDER, key=lambda metric: metric != primary)


def rows(report: Report, primary: str) -> list[Row]:
    """The metrics of a report, the primary one first."""
    order = leading(primary)

    def one(found: Mapping[str, Estimate], metric: str) -> Estimate | None:
        estimate = found.get(metric)
        return estimate if estimate is not None and estimate.value is not None else None

    known = sorted(report.metrics, key=lambda m: order.index(m) if m in order else len(order))
    return [
        Row(
            metric,
            report.metrics[metric],
            one(report.champion_metrics, metric),
            one(report.baseline_metrics, metric),
            one(report.differences, metric),
            one(report.baseline_differences, metric),
        )
        for metric in known
        if report.metrics[metric].value is not None
    ]
