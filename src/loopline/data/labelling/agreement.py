"""How far people who label agree beyond chance: Krippendorff's alpha with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Ratings = Sequence[Sequence[Hashable]]
"""For each unit the values that people gave it; missing ones are left out."""

RESAMPLED = 2_000
RELIABLE, TENTATIVE = 0.8, 0.667
"""Krippendorff's own limits: conclusions are drawn from 0.8 on, tentative ones from 0.667 on."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha: 1 full agreement, 0 what chance gives, below 0 less than that."""

    alpha: float | None
    """Null when no unit has two values, or all values are the same."""
    low: float | None
    high: float | None
    """Ends of a bootstrap interval over units."""
    units: int
    """With two values or more; others say nothing."""
    values: int
    """In those units."""
    observed: float | None
    """Share of pairs within units that are equal."""


def agreement(ratings: Ratings, *, confidence: float = 0.9, seed: int = 0) -> Agreement:
    """Alpha for nominal values, with a percentile bootstrap interval over units.

    Krippendorff, *Content Analysis*, 4th edition, chapter 12: alpha = 1 - Do / De, where
    Do is the share of unequal pairs within units (a unit of m values weighs m) and De
    that among all pairs of values. O(n) in the values, times 2,000 resamples over the
    distinct patterns of values, of which there are few.

    Parameters
    ----------
    ratings : sequence of sequences
        Values by unit, in no order; any number of people, not the same for each unit.
    """
    pairable = [tuple(unit) for unit in ratings if len(unit) >= 2]
    patterns = Counter(tuple(sorted(Counter(unit).items(), key=str)) for unit in pairable)
    kinds = list(patterns)
    value = _alpha([(kind, patterns[kind]) for kind in kinds])
    pairs = sum(len(u) * (len(u) - 1) for u in pairable)
    equal = sum(n * (n - 1) for unit in pairable for n in Counter(unit).values())
    low = high = None
    if value is not None and len(pairable) > 1:
        found = _resampled(kinds, [patterns[kind] for kind in kinds], len(pairable), seed)
        low, high = (float(q) for q in np.quantile(found, ((1 - confidence) / 2, (1 + confidence) / 2)))
    return Agreement(value, low, high, len(pairable), sum(map(len, pairable)), equal / pairs if pairs else None)


Pattern = tuple[tuple[Hashable, int], ...]


def _alpha(weighted: Sequence[tuple[Pattern, int]]) -> float | None:
    """Alpha of units given as patterns with how often each occurs."""
    totals: Counter[Hashable] = Counter()
    unequal = 0.0
    for pattern, times in weighted:
        size = sum(n for _, n in pattern)
        for value, n in pattern:
            totals[value] += n * times
        unequal += times * (size * size - sum(n * n for _, n in pattern)) / (size - 1)
    whole = sum(totals.values())
    expected = whole * whole - sum(n * n for n in totals.values())
    if whole < 2 or not expected:
        return None
    return 1.0 - (whole - 1) * unequal / expected


def _resampled(
    kinds: Sequence[Pattern], weights: Sequence[int], units: int, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Alpha of 2,000 resamples of the units; one in which all values are the same says nothing against agreement."""
    names = {value: at for at, value in enumerate(dict.fromkeys(value for kind in kinds for value, _ in kind))}
    held = np.zeros((len(kinds), len(names)))
    for at, kind in enumerate(kinds):
        for value, n in kind:
            held[at, names[value]] = n
    size = held.sum(axis=1)
    unequal = (size**2 - (held**2).sum(axis=1)) / (size - 1)
    share = np.asarray(weights, dtype=np.float64) / units
    drawn = np.random.default_rng(seed).multinomial(units, share, size=RESAMPLED)
    totals = drawn @ held
    whole = totals.sum(axis=1)
    expected = whole**2 - (totals**2).sum(axis=1)
    alpha = 1.0 - (whole - 1) * (drawn @ unequal) / np.where(expected > 0, expected, 1.0)
    return np.where(expected > 0, alpha, 1.0)


def slow_alpha(ratings: Ratings, distance: Callable[[Hashable, Hashable], float] = lambda a, b: float(a != b)) -> float:
    """Alpha by its definition, pair by pair; for tests, and for other distances."""
    units = [list(unit) for unit in ratings if len(unit) >= 2]
    values = [value for unit in units for value in unit]
    n = len(values)
    observed = sum(
        sum(distance(a, b) for i, a in enumerate(u) for j, b in enumerate(u) if i != j) / (len(u) - 1) for u in units
    )
    expected = sum(distance(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
    return 1.0 - (observed / n) / (expected / (n * (n - 1)))
