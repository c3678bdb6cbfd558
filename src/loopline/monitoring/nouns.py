"""The nouns of monitoring."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun


@noun("profile")
@dataclass(frozen=True, slots=True)
class WindowProfile:
    """A constant-size, mergeable summary of one window of one subject."""

    id: str
    subject: str
    """`table:<name>` or `endpoint:<name>`."""
    window_from: datetime
    window_to: datetime
    rows: int
    blob: str


@noun("quality")
@dataclass(frozen=True, slots=True)
class Quality:
    """True quality over trailing labelled windows, with block intervals.

    `metrics` maps a name to `[value, low, high]`; the interval is 90 %.
    """

    id: str
    endpoint: str
    at: datetime
    over_from: datetime
    over_to: datetime
    days: int
    rows: int
    labelled: int
    metrics: dict[str, tuple[float, float, float]]
    version: str | None = None
    """The champion that is judged; null where nothing was released."""
    new_labels: int | None = None
    """Labels, void ones apart, that became known since it was trained; null without a champion."""
    trained_rows: int | None = None
    """Rows it was trained on."""


@noun("alert")
@dataclass(frozen=True, slots=True)
class Alert:
    """One finding with its evidence, inside one alarm budget."""

    id: str
    subject: str
    layer: str
    """`system`, `data`, `model` or `business`."""
    check: str
    column: str | None
    window_from: datetime
    window_to: datetime
    p_value: float
    cause: str
    """`unit_change`, `null_burst`, `constant`, `volume`, `new_category`, `shift`, `contract`, `guardrail`, ..."""
    verdict: str
    """`bug`, `suspect` or `real`."""
    evidence: dict[str, Any]
    at: datetime


@noun("incident")
@dataclass(frozen=True, slots=True)
class Incident:
    """Alerts of one cause, opened once. Open until a matching `Resolution`."""

    id: str
    subject: str
    area: str
    """`data`, `release` or `quality`."""
    title: str
    alerts: tuple[str, ...]
    bad_from: datetime
    bad_to: datetime
    opened_at: datetime
    playbook: str


@noun("resolution")
@dataclass(frozen=True, slots=True)
class Resolution:
    """Why an incident ended."""

    id: str
    incident: str
    reason: str
    at: datetime
    by: str
    real: bool = False
    """The data were right: the window may be trained on and compared with."""
