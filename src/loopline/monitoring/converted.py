"""Columns that came in another unit: they make sense only once a known conversion is undone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loopline.monitoring.continuity import CAP, Steps
from loopline.monitoring.drift import LEAST_WINDOWS, Floats, Reference, Summary, observed
from loopline.monitoring.finding import Budget, Finding, short
from loopline.monitoring.units import CONVERSIONS

DECISIVE = 4.0
"""Evidence (in nats) of its steps that stands in for a converted column to lie inside the reference."""
TOGETHER = 8.0
"""Evidence (in nats) that the steps of all columns can give for a conversion at most: real jumps hit one, too."""
ALONE = 6.0
"""Further evidence (in nats) asked of a unit change that a single column shows: one column may have moved by itself."""
_AGREES = 0.5
_SCALES = np.array([c.scale for c in CONVERSIONS])[:, None, None]
_OFFSETS = np.array([c.offset for c in CONVERSIONS])[:, None, None]
Learn = Callable[[tuple[str, ...]], Reference]
"""What the reference windows let one expect of some columns, learned once for all checks."""
_NEIGHBOUR = 3.0


def unit_changes(
    window: Summary, reference: Sequence[Summary], budget: Budget, learn: Learn | None = None
) -> Iterator[Finding]:
    """Columns that make sense only once a known conversion is undone.

    A column speaks for a conversion where its median lies outside all reference
    windows, all its quantiles lie inside once converted back, and the likelihood
    of the window rises. Where readings go on from window to window (see
    `continuity`), the steps over the borders of what may have been converted add to
    the likelihood; decisive ones, after which the readings go on once converted
    back, stand in for lying inside: a record day is still a day like no other, and
    yet follows the one before. Columns that speak for the same conversion add up: `log
    likelihood ratio > log(looks / (budget * weight of the conversion))`, which by
    Markov's inequality keeps the budget if columns move independently; since they
    do not always, one column alone must show e^6 times more. The window is
    tested as a whole and in parts, for files that went wrong midway.
    """
    names = tuple(n for n in window.numbers if all(r.kinds.get(n) == "number" for r in reference[-LEAST_WINDOWS:]))
    if not names:
        return
    known = learn(names) if learn else Reference.of(reference, names)
    quantiles = observed(window, names)
    with np.errstate(invalid="ignore"):
        outside = known.outside(quantiles) & known.level
    first = np.flatnonzero(outside.any(axis=1))
    # Nothing speaks unless a column that lies outside does: mostly few do, and none of them speaks.
    if not first.size:
        return
    some = tuple(names[i] for i in first)
    known = Reference.of(reference, some)
    if not _weighed(window, reference, some, known, quantiles[first], outside[first]).speaks.any():
        return
    known = Reference.of(reference, names)
    restored, speaks, joins, steps, level, gain, naming = _weighed(window, reference, names, known, quantiles, outside)
    weights = np.log([c.weight for c in CONVERSIONS])[:, None]
    scopes = np.full(quantiles.shape[1], math.log(2.0 * max(1, quantiles.shape[1] - 1)))
    scopes[0] = math.log(2.0)
    base = math.log(1.0 / budget.level("unit_change"))
    while speaks.any():
        # Columns jump together: what their steps say for a conversion is capped once for all of them.
        score = np.where(speaks, level, 0.0).sum(axis=1)
        score += np.minimum(np.where(speaks, steps, 0.0).sum(axis=1), TOGETHER)
        needed = base - weights + scopes + ALONE * (speaks.sum(axis=1) == 1)
        margin = np.where(speaks.any(axis=1), score - needed, -math.inf)
        if margin.max() <= 0:
            return
        # The window as a whole where it passes and no step shows that a part went wrong alone, else its clearest part.
        best, clearest = int(margin[:, 0].argmax()), int(margin.max(axis=0).argmax())
        shown = np.where(speaks[best], steps[best], 0.0).sum(axis=0)
        scope = 0 if margin[best, 0] > 0 and shown.max() < shown[0] + DECISIVE else clearest
        fits = np.where(speaks[:, :, scope], naming[:, :, scope], 0.0).sum(axis=1) + weights[:, 0]
        which = int(np.where(margin[:, scope] > 0, fits, -math.inf).argmax())
        columns = np.flatnonzero(speaks[which, :, scope] | joins[which, :, scope])
        parts = None if scope == 0 else _stretch(np.where(speaks[which], gain[which], 0.0)[columns].sum(axis=0), scope)
        yield Finding(
            "unit_change",
            "bug",
            tuple(names[c] for c in columns),
            math.exp(-float(score[which, scope])),
            {
                "conversion": CONVERSIONS[which].name,
                "scale": CONVERSIONS[which].scale,
                "offset": CONVERSIONS[which].offset,
                "log_likelihood_ratio": round(float(score[which, scope]), 2),
                "needed": round(float(needed[which, scope]), 2),
                "columns": {
                    names[c]: {
                        "median": short(quantiles[c, scope, 2]),
                        "expected": short(known.center[c, scope]),
                        "reference": [short(known.low[c, scope, 2]), short(known.high[c, scope, 2])],
                        "converted_back": short(restored[which, c, scope, 2]),
                        "steps": round(float(steps[which, c, scope]), 2),
                    }
                    for c in columns
                },
            },
            parts,
        )
        speaks[:, columns, :] = joins[:, columns, :] = False


class _Weighed(NamedTuple):
    """What each column says for each conversion: conversions x columns x scopes."""

    restored: Floats
    """The quantiles once converted back."""
    speaks: npt.NDArray[np.bool_]
    joins: npt.NDArray[np.bool_]
    steps: Floats
    level: Floats
    gain: Floats
    naming: Floats


def _weighed(
    window: Summary,
    reference: Sequence[Summary],
    names: Sequence[str],
    known: Reference,
    quantiles: Floats,
    outside: npt.NDArray[np.bool_],
) -> _Weighed:
    restored = (quantiles - _OFFSETS[..., None]) / _SCALES[..., None]
    with np.errstate(invalid="ignore"):
        gain = known.log_likelihood(restored) - np.log(_SCALES) - known.log_likelihood(quantiles)
        steps, goes_on = continuity(window, reference, names, outside)
        # What names the unit: where steps are known, the level may say no more than they do.
        naming = np.where(steps != 0, np.minimum(gain, CAP) + steps, gain)
        # A real jump is likely to hit a factor of two or so: steps may name one, and speak against, not for it.
        steps = np.where([[[c.near]] for c in CONVERSIONS], np.minimum(steps, 0.0), steps)
        level, gain = gain, gain + steps
        follows = goes_on & (steps >= DECISIVE)
        agrees = (known.inside(restored) | follows) & (gain > _AGREES)
        speaks = outside & agrees
        # Beside a column that speaks, another whose steps show it need not lie outside; one that lies outside need
        # not lie inside once converted back, but then it is only named with them.
        speaks |= known.level & follows & agrees & speaks.any(axis=1, keepdims=True)
        joins = outside & (gain > CAP)
    return _Weighed(restored, speaks, joins, steps, level, gain, naming)


def continuity(
    window: Summary, reference: Sequence[Summary], names: Sequence[str], outside: npt.NDArray[np.bool_]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Evidence of the steps from reading to reading, in windows where a column lies outside in any scope.

    Conversions x columns x scopes: the log-likelihood ratio, and whether readings go
    on once converted back; 0 and false where nothing is known.
    """
    shape = (len(CONVERSIONS), *outside.shape)
    if outside.any() and window.ends is not None and window.ends.parts + 1 == outside.shape[1]:
        steps = Steps.of(window.ends, [r.ends for r in reference], names)
        if steps is not None:
            scales, offsets = ([getattr(c, part) for c in CONVERSIONS] for part in ("scale", "offset"))
            return steps.evidence(np.array(scales), np.array(offsets))
    return np.zeros(shape), np.zeros(shape, dtype=bool)


def _stretch(gains: npt.NDArray[np.float64], scope: int) -> tuple[int, int]:
    """The parts next to `scope` that speak the same way."""
    first = last = scope
    while first > 1 and gains[first - 1] > _NEIGHBOUR:
        first -= 1
    while last + 1 < gains.size and gains[last + 1] > _NEIGHBOUR:
        last += 1
    return first - 1, last - 1
