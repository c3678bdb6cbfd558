"""One cause that a window shows, and how many false ones a year may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHARES: Mapping[str, float] = {
    "unit_change": 0.4,
    "null_burst": 0.2,
    "constant": 0.05,
    "contract": 0.05,
    "volume": 0.1,
    "category": 0.1,
    "shift": 0.1,
}
"""How the alarm budget is divided between the checks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause that a window shows, with what speaks for it.

    `parts` are the first and last part of the window concerned (0-based,
    inclusive); null when the cause concerns the window as a whole.
    """

    cause: str
    verdict: str
    columns: tuple[str, ...]
    p_value: float
    evidence: dict[str, Any] = field(default_factory=dict)
    parts: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """False alarms a year for all subjects together, and how often they are looked at."""

    false_alarms_per_year: float
    looks_per_year: float
    """Windows a year times subjects."""

    def level(self, check: str, tests: int = 1) -> float:
        """The p-value below which one of `tests` tests of a look may alarm.

        The expected number of false alarms is the sum of all levels, whatever the
        dependence between columns, windows and subjects.
        """
        share = self.false_alarms_per_year * SHARES[check]
        return min(0.05, share / (self.looks_per_year * max(tests, 1)))


def short(value: float) -> float:
    """A number as evidence shows it."""
    return float(f"{value:.4g}")
