"""What a strange window means before anyone retrains: real, suspect or bug, with evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.monitoring.converted import Learn, unit_changes
from loopline.monitoring.drift import LEAST_WINDOWS, TOP, Reference, Summary, observed
from loopline.monitoring.finding import Budget, Finding, short

LEAST_ROWS = 20


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
                {"missing": short(share), "reference": [short(earlier.min()), short(earlier.max())]},
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
            evidence = _evidence(value=short(low), rows=int(finite), most_frequent_before=short(max(earlier)))
            yield Finding("constant", "bug", (name,), max(earlier) ** min(finite, 300), evidence)
    for name, values in window.values.items():
        if values is None or len(values) != 1 or sum(values.values()) < LEAST_ROWS:
            continue
        tops = [max(v.values()) / sum(v.values()) for r in reference if (v := r.values.get(name))]
        if len(tops) >= LEAST_WINDOWS and max(tops) < 0.8:
            evidence = _evidence(value=next(iter(values)), most_frequent_before=short(max(tops)))
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
            evidence = {"spelt_like": dict(list(variants.items())[:10]), "share": short(share)}
            yield Finding("new_category", "bug", (name,), min(1.0, p), evidence)
            continue
        share = sum(fresh.values()) / window.rows
        usual = _usual_news(earlier)
        p = _above(math.asin(math.sqrt(share)), np.arcsin(np.sqrt(usual)), max(0.02, 0.5 / math.sqrt(window.rows)))
        if share > usual.max() + 0.2 and p < level:
            top = sorted(fresh, key=lambda v: -fresh[v])[:10]
            yield Finding("new_category", "suspect", (name,), p, {"values": top, "share": short(share)})


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
                    "median": short(quantiles[i, 0, 2]),
                    "expected": short(known.center[i, 0]),
                    "reference": [short(known.low[i, 0, 2]), short(known.high[i, 0, 2])],
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
