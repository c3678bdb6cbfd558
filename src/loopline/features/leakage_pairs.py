"""Pairs of columns that tell the answer together while neither tells it alone: a leak that was split in two."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from loopline.features.nouns import Leak

Codes = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int64]

VALUES = 16
"""Values, or bins, of each column of a pair."""
MOST = 128
"""Columns that pairs are made of, the first ones."""
ROWS = 4000
"""Rows that all pairs are looked at by; those that stand out are scored on all."""
BELIEVED = 0.85
"""Area under the curve that a pair is believed up to, where chance does not reach further: five deviations."""
BLIND = 0.65
"""Area under the curve up to which a column alone tells little."""


def pairs(
    codes: Mapping[str, Codes],
    alone: Mapping[str, float],
    y: Truth,
    score: Callable[[Codes], float],
) -> Iterator[Leak]:
    """Pairs of columns that together tell what one good feature tells, though each alone tells little.

    Parameters
    ----------
    codes : mapping, n whole numbers each
        The values of each feature; 0 is null.
    alone : mapping
        Area under the curve of each feature alone.
    y : n rows
        The answers.
    score : callable
        The cross-fitted area under the curve of such values.

    Notes
    -----
    O(n) for each pair, of at most 128 columns. A pair is a leak only where its columns are blind alone: a rule over two
    honest columns (an amount above a limit) shows in each of them. Pairs of a year of flown trips and of the census of
    1994 stay below 0.70.
    """
    bound = max(BELIEVED, 0.5 + 5 * math.sqrt((len(y) + 1) / (12.0 * y.sum() * (len(y) - y.sum()))))
    blind = [name for name in codes if abs(alone[name] - 0.5) <= BLIND - 0.5][:MOST]
    few = {name: coarse(codes[name]) for name in blind}
    some = slice(None, None, -(-len(y) // ROWS))
    y_some = y[some].astype(np.float64)
    first = {name: code[some] for name, code in few.items()}
    for one, other in combinations(blind, 2):
        if _in_sample(first[one] * (VALUES + 1) + first[other], y_some) <= bound:
            continue
        both = score(few[one] * (VALUES + 1) + few[other])
        if both > bound:
            yield Leak(
                kind="too_good",
                column=f"{one} + {other}",
                score=both,
                bound=bound,
                evidence=(
                    f"{one} and {other} together have an AUC of {both:.3f}, alone {alone[one]:.3f} and "
                    f"{alone[other]:.3f}: the answer is split over both, and {bound:.3f} is believed"
                ),
                fix=f"find out how {one} and {other} are made, and take one of them out",
            )


def coarse(code: Codes) -> Codes:
    """At most `VALUES` values beside null: neighbours are put together; few values stay as they are."""
    highest = int(code.max(initial=0))
    return code if highest <= VALUES else np.where(code == 0, 0, (code - 1) * VALUES // highest + 1)


def _in_sample(cells: Codes, y: Doubles) -> float:
    """Area under the curve of the cells' own rates, which is never too small by more than chance."""
    n = np.bincount(cells, minlength=(VALUES + 1) ** 2)
    hits = np.bincount(cells, weights=y, minlength=(VALUES + 1) ** 2)
    seen = n > 0
    n, hits = n[seen], hits[seen]
    order = np.argsort(hits / n)
    hits, misses = hits[order], (n - hits)[order]
    below = np.cumsum(misses) - misses
    total = float(hits.sum() * misses.sum())
    return float((hits * (below + misses / 2)).sum()) / total if total else 0.5
