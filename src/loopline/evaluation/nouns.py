"""The nouns of evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; null bounds where rows are too few."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate said, with the evidence: the bound must hold at `confidence`."""

    gate: str
    passed: bool
    metric: str
    slice: str
    observed: float | None
    bound: float | None
    """One-sided confidence bound that was compared."""
    threshold: float
    against: str | None
    why: str


@noun("report")
@dataclass(frozen=True, slots=True)
class Report:
    """Evidence about one model on held-out rows, made by the same code everywhere."""

    id: str
    model: str
    champion: str | None
    """Model id it was compared with, on the same rows."""
    rows: int
    test_from: datetime
    test_to: datetime
    metrics: dict[str, Estimate]
    champion_metrics: dict[str, Estimate]
    baseline_metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    """Candidate minus champion, paired by block."""
    baseline_differences: dict[str, Estimate]
    calibration: tuple[dict[str, float], ...]
    """Equal-mass bins: `predicted`, `observed`, `rows`."""
    slices: tuple[dict[str, Any], ...]
    verdicts: tuple[Verdict, ...]
    passed: bool
    threshold: float
    created_at: datetime
    beside: tuple[str, ...] = ()
    """Features of the champion that the candidate drops or defines otherwise; the champion was scored on them as they
    were defined when it was trained."""
    uncompared: dict[str, str] = field(default_factory=dict)
    """Features for whose lack the champion was not scored, and why; empty where it was."""
