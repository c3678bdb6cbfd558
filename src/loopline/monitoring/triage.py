"""What a strange window means before anyone retrains: real, suspect or bug, with evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loopline.monitoring.continuity import CAP, Steps
from loopline.monitoring.drift import LEAST_WINDOWS, TOP, Floats, Reference, Summary, observed
from loopline.monitoring.units import CONVERSIONS

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

DECISIVE = 4.0
"""Evidence (in nats) of its steps that stands in for a converted column to lie inside the reference."""

TOGETHER = 8.0
"""Evidence (in nats) that the steps of all columns can give for a conversion at most: real jumps hit one, too."""

ALONE = 6.0
"""Further evidence (in nats) asked of a unit change that a single column shows: one column may have moved by itself."""

LEAST_ROWS = 20
_AGREES = 0.5
_SCALES = np.array([c.scale for c in CONVERSIONS])[:, None, None]
_OFFSETS = np.array([c.offset for c in CONVERSIONS])[:, None, None]
Learn = Callable[[tuple[str, ...]], Reference]
"""What the reference windows let one expect of some columns, learned once for all checks."""

_NEIGHBOUR = 3.0


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


def findings(window: Summary, reference: Sequence[Summary], budget: Budget) -> list[Finding]:
    """Compare a window with the trailing ones, oldest first.

    Returns
    -------
    list of Finding
        Bugs before suspects before real changes. A column is reported under its
        gravest cause only. Empty while there are fewer than 14 reference windows.
    """
    if len(reference) < LEAST_WINDOWS:
        return []
    found = [*schema_changes(window, reference), *volume(window, reference, budget)]
    learn = cache(lambda names: Reference.of(reference, names, tails=False))
    if window.rows:
        found += [
            *null_bursts(window, reference, budget),
            *constants(window, reference),
            *unit_changes(window, reference, budget, learn),
            *categories(window, reference, budget),
            *shifts(window, reference, budget, learn),
        ]
    found.sort(key=lambda f: ("bug", "suspect", "real").index(f.verdict))
    taken: set[str] = set()
    kept = []
    for finding in found:
        if finding.columns and taken.issuperset(finding.columns):
            continue
        taken.update(finding.columns)
        kept.append(finding)
    return kept


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
                        "median": _short(quantiles[c, scope, 2]),
                        "expected": _short(known.center[c, scope]),
                        "reference": [_short(known.low[c, scope, 2]), _short(known.high[c, scope, 2])],
                        "converted_back": _short(restored[which, c, scope, 2]),
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


def null_bursts(window: Summary, reference: Sequence[Summary], budget: Budget) -> Iterator[Finding]:
    """Columns with at least 20 points more missing than in any reference window."""
    if window.rows < LEAST_ROWS:
        return
    level = budget.level("null_burst", len(window.missing))
    for name, share in window.missing.items():
        earlier = np.array([r.missing[name] for r in reference if name in r.missing and r.rows >= LEAST_ROWS])
        if earlier.size < LEAST_WINDOWS:
            continue
        if share < earlier.max() + max(0.2, 0.5 * float(np.ptp(earlier))):
            continue
        angles = np.arcsin(np.sqrt(earlier))
        p = _above(math.asin(math.sqrt(share)), angles, max(0.02, 0.5 / math.sqrt(window.rows)))
        if p < level:
            yield Finding(
                "null_burst",
                "bug",
                (name,),
                p,
                {"missing": _short(share), "reference": [_short(earlier.min()), _short(earlier.max())]},
            )


def constants(window: Summary, reference: Sequence[Summary]) -> Iterator[Finding]:
    """Columns that always varied and now show a single value."""
    if window.rows < LEAST_ROWS:
        return
    for i, name in enumerate(window.numbers):
        finite, top, low, *_ = window.stats[i, 0]
        if finite < LEAST_ROWS or top < 1 or low != window.stats[i, 0, -1]:
            continue
        earlier = [r.stats[r.numbers.index(name), 0, TOP] for r in reference if name in r.numbers and r.rows]
        if len(earlier) >= LEAST_WINDOWS and max(earlier) < 0.8:
            evidence = _evidence(value=_short(low), rows=int(finite), most_frequent_before=_short(max(earlier)))
            yield Finding("constant", "bug", (name,), max(earlier) ** min(finite, 300), evidence)
    for name, values in window.values.items():
        if values is None or len(values) != 1 or sum(values.values()) < LEAST_ROWS:
            continue
        tops = [max(v.values()) / sum(v.values()) for r in reference if (v := r.values.get(name))]
        if len(tops) >= LEAST_WINDOWS and max(tops) < 0.8:
            evidence = _evidence(value=next(iter(values)), most_frequent_before=_short(max(tops)))
            yield Finding("constant", "bug", (name,), max(tops) ** min(window.rows, 300), evidence)


def volume(window: Summary, reference: Sequence[Summary], budget: Budget) -> Iterator[Finding]:
    """Fewer than half or more than twice the rows of any reference window."""
    earlier = np.array([r.rows for r in reference], dtype=np.float64)
    if earlier.min() / 2 <= window.rows <= earlier.max() * 2 or earlier.max() < LEAST_ROWS:
        return
    p = _above(abs(math.log1p(window.rows) - float(np.log1p(earlier).mean())), np.log1p(earlier), 0.1, about=0.0)
    if p < budget.level("volume"):
        yield Finding(
            "volume", "suspect", (), p, _evidence(rows=window.rows, reference=[int(earlier.min()), int(earlier.max())])
        )


def schema_changes(window: Summary, reference: Sequence[Summary]) -> Iterator[Finding]:
    """Columns that are gone or have changed their kind."""
    if not window.rows:
        return
    before = reference[-1].kinds
    for name, kind in before.items():
        if not all(r.kinds.get(name) == kind for r in reference[-LEAST_WINDOWS:]):
            continue
        now = window.kinds.get(name)
        if now != kind:
            yield Finding("schema", "bug", (name,), 0.0, {"was": kind, "is": now or "absent"})


def categories(window: Summary, reference: Sequence[Summary], budget: Budget) -> Iterator[Finding]:
    """Values never seen before: old ones spelt differently (bug), or new ones (suspect)."""
    level = budget.level("category", len(window.values))
    for name, values in window.values.items():
        earlier = [v for r in reference if (v := r.values.get(name)) is not None]
        if values is None or len(earlier) < LEAST_WINDOWS:
            continue
        seen = set().union(*earlier)
        fresh = {v: n for v, n in values.items() if v not in seen}
        if not fresh or window.rows < LEAST_ROWS:
            continue
        plain = {_plain(v): v for v in seen}
        variants = {v: plain[_plain(v)] for v in fresh if _plain(v) in plain}
        share = sum(fresh[v] for v in variants) / window.rows
        if variants and (share >= 0.05 or sum(fresh[v] for v in variants) >= 10 * len(variants)):
            # One reading: were these values merely new, chance would spell few of them like old ones.
            p = (len(seen) / 36.0 ** min(map(len, variants))) ** len(variants)
            evidence = {"spelt_like": dict(list(variants.items())[:10]), "share": _short(share)}
            yield Finding("new_category", "bug", (name,), min(1.0, p), evidence)
            continue
        share = sum(fresh.values()) / window.rows
        usual = _usual_news(earlier)
        p = _above(math.asin(math.sqrt(share)), np.arcsin(np.sqrt(usual)), max(0.02, 0.5 / math.sqrt(window.rows)))
        if share > usual.max() + 0.2 and p < level:
            top = sorted(fresh, key=lambda v: -fresh[v])[:10]
            yield Finding("new_category", "suspect", (name,), p, {"values": top, "share": _short(share)})


def _usual_news(earlier: Sequence[Mapping[str, int]]) -> npt.NDArray[np.float64]:
    """Share of rows with values new at the time, for the second half of the reference windows."""
    half = len(earlier) // 2
    seen = set().union(*earlier[:half])
    shares = []
    for values in earlier[half:]:
        rows = sum(values.values())
        shares.append(sum(n for v, n in values.items() if v not in seen) / rows if rows else 0.0)
        seen |= set(values)
    return np.array(shares)


def shifts(
    window: Summary, reference: Sequence[Summary], budget: Budget, learn: Learn | None = None
) -> Iterator[Finding]:
    """Columns whose median lies where no trend of the reference windows leads.

    A median that hardly ever moved (a point mass, a bounded scale) has shown no
    variance between windows to judge it by, and is left alone.
    """
    names = window.numbers
    if not names:
        return
    known = learn(names) if learn else Reference.of(reference, names)
    quantiles = observed(window, names)
    level = budget.level("shift", len(names))
    with np.errstate(invalid="ignore"):
        z = (quantiles[:, 0, 2] - known.center[:, 0]) / known.scale[:, 0]
        outside = known.outside(quantiles)[:, 0] & (known.distinct[:, 0] >= LEAST_WINDOWS // 2)
    outside &= known.windows[:, 0] >= LEAST_WINDOWS
    for i in np.flatnonzero(outside):
        p = min(1.0, 2 * t_tail(abs(float(z[i]))))
        if p < level:
            yield Finding(
                "shift",
                "real",
                (names[i],),
                p,
                {
                    "median": _short(quantiles[i, 0, 2]),
                    "expected": _short(known.center[i, 0]),
                    "reference": [_short(known.low[i, 0, 2]), _short(known.high[i, 0, 2])],
                },
            )


def t_tail(z: float) -> float:
    """Chance that Student's t with 8 degrees of freedom exceeds `z` >= 0."""
    if z > 30:
        return 0.5 * 35 / 32 * (8 / (8 + z * z)) ** 4 / 4
    c = 8 / (8 + z * z)
    return 0.5 * (1 - z / math.sqrt(8 + z * z) * (1 + c / 2 + 3 * c * c / 8 + 5 * c**3 / 16))


def _above(value: float, earlier: npt.NDArray[np.float64], least: float, about: float | None = None) -> float:
    """Chance of so large a value, from the spread between earlier windows (at least `least`)."""
    center = float(earlier.mean()) if about is None else about
    scale = max(float(earlier.std(ddof=1)) * math.sqrt(1 + 1 / earlier.size), least)
    return t_tail(max(0.0, (value - center) / scale))


def _plain(value: str) -> str:
    return re.sub(r"[\W_]+", "", value).casefold()


def _evidence(**facts: Any) -> dict[str, Any]:
    return facts


def _short(value: float) -> float:
    return float(f"{value:.4g}")
