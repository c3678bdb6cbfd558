"""Columns that tell the answer: what one feature alone knows about the label, and how it came to know it.

All four questions are asked of a labelled frame, whatever made it. None needs a fixed limit that a good feature
could break by being good: each compares a column with what the rest of the same rows shows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.features.leakage_pairs import pairs
from loopline.features.nouns import Leak

ROWS = 12_000
"""Rows that single features are scored on, evenly spaced; suspects keep their score on as many."""
STRONG = 0.85
"""Area under the curve from which a single feature is looked at at all."""
COPY = 0.999
PURE, TOLD = 0.99, 0.05
"""A pattern of nulls is a leak when one side of it has this share of one answer, and it tells this share of the
label's entropy."""
GROUPS, MOST_GROUPS = 40, 2500
TERMS = 10
CALM, CERTAIN = 0.7, -5.0
"""A column is an encoded label when its groups scatter this much less than chance allows, at so many deviations,"""
ALIKE, NEAR = 0.2, 0.5
"""or when the rows of one value have one answer this much oftener, or this share of its groups fits a smoothed mean."""
FEWEST = 20
"""Answers of each kind below which nothing can be said."""

Codes = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Single:
    """What one column alone tells: its area under the curve and the log odds it gives each row, both cross-fitted."""

    auc: float
    evidence: Doubles


def columns(
    frame: pl.DataFrame,
    features: Sequence[str],
    categorical: Collection[str],
    *,
    answers: Sequence[str] = (),
    rows: int = ROWS,
    seed: int = 0,
) -> Iterator[Leak]:
    """The leaks that show in single columns of a labelled frame.

    Parameters
    ----------
    frame : DataFrame, n rows
        The features, Float32 or String, null where unknown; `label`, Boolean, no
        nulls; `split`.
    features, categorical : names
        The columns to look at, and those of them that hold categories.
    answers : names
        Number columns of `frame` that the label is cut from, for example the delay
        behind `delay > 15`; null where not known.
    rows : int
        Rows that single features are scored on.
    seed : int
        Deals those rows into the two halves that score each other.

    Notes
    -----
    O(n) for each feature, one group-by each.
    """
    some = frame.gather_every(-(-frame.height // rows)) if frame.height > rows else frame
    y = some["label"].cast(pl.Int64).to_numpy()
    if min(int(y.sum()), int((1 - y).sum())) < FEWEST:
        return
    half = np.random.default_rng(seed).permutation(len(y)) < len(y) // 2
    coded = {name: codes(some[name], name in categorical) for name in features}
    found = {name: single(code, y, half) for name, code in coded.items()}
    told = list(_too_good(found, y))
    told += pairs(coded, {name: one.auc for name, one in found.items()}, y, lambda both: single(both, y, half).auc)
    told += _nulls(some, features, y)
    told += _running_numbers(frame, features, categorical, found, y)
    named = {leak.column for leak in told}
    yield from told
    yield from _encoded(frame, [f for f in features if f not in categorical and f not in named], ("label", *answers))


def codes(column: pl.Series, category: bool) -> Codes:
    """The values of a column as whole numbers: its categories, its few values, or bins of equal mass; 0 is null."""
    if category or column.dtype == pl.String:
        kinds = column.cast(pl.String).cast(pl.Categorical).to_physical().cast(pl.Int64)
        return (kinds.fill_null(-1) + 1).to_numpy()
    values = column.cast(pl.Float64).fill_nan(None)
    known = np.sort(values.drop_nulls().to_numpy())
    bins = int(np.clip(len(known) // 50, 4, 64))
    edges = np.unique(known) if len(known) < 2 or len(np.unique(known[:: max(len(known) // 2000, 1)])) <= bins else None
    if edges is None or len(edges) > bins:
        edges = np.unique(known[np.linspace(0, len(known) - 1, bins, dtype=np.int64)])
    place = np.searchsorted(edges, values.fill_null(0.0).to_numpy(), side="right") + 1
    return np.where(values.is_null().to_numpy(), 0, place).astype(np.int64)


def single(code: Codes, y: Truth, half: npt.NDArray[np.bool_]) -> Single:
    """How well a column alone orders the rows: each half is scored by the rates of the other."""
    evidence = np.empty(len(y))
    size = int(code.max(initial=0)) + 1
    prior = float(y.mean())
    parts = []
    for mine in (half, ~half):
        n = np.bincount(code[~mine], minlength=size)
        hits = np.bincount(code[~mine], weights=y[~mine], minlength=size)
        rate = (hits + prior) / (n + 1)
        odds = np.log(rate / (1 - rate)) - np.log(prior / (1 - prior))
        evidence[mine] = odds[code[mine]]
        parts.append(auc(evidence[mine], y[mine]))
    return Single(float(np.mean(parts)), evidence)


def auc(score: Doubles, y: Truth) -> float:
    """Area under the receiver operating characteristic curve; ties count half. 0.5 where one answer is absent."""
    values, place = np.unique(score, return_inverse=True)
    hits = np.bincount(place, weights=y, minlength=len(values))
    misses = np.bincount(place, minlength=len(values)) - hits
    if not hits.sum() or not misses.sum():
        return 0.5
    below = np.cumsum(misses) - misses
    return float((hits * (below + misses / 2)).sum() / (hits.sum() * misses.sum()))


def _too_good(found: dict[str, Single], y: Truth) -> Iterator[Leak]:
    """Single features that leave less than half of the error that all ordinary features together leave."""
    strong = {name: one for name, one in found.items() if one.auc >= STRONG}
    if not strong:
        return
    rest = [one.evidence for name, one in found.items() if name not in strong]
    others = auc(np.sum(rest, axis=0), y) if rest else 0.5
    bound = max(STRONG, (1 + others) / 2)
    for name, one in strong.items():
        if one.auc >= COPY:
            yield Leak(
                kind="target_copy",
                column=name,
                score=one.auc,
                bound=COPY,
                evidence=f"{name} alone orders the rows almost without error (AUC {one.auc:.4f}): it is the answer",
                fix=f"take {name} out of the features; it is made of what framing.label reads",
            )
        elif one.auc > bound:
            yield Leak(
                kind="too_good",
                column=name,
                score=one.auc,
                bound=bound,
                evidence=(
                    f"{name} alone has an AUC of {one.auc:.3f}; the {len(rest)} ordinary features together have "
                    f"{others:.3f}, and one feature is believed up to {bound:.3f}"
                ),
                fix=f"find out when {name} becomes known; take it out, or give its table the true known_at",
            )


def _nulls(frame: pl.DataFrame, features: Sequence[str], y: Truth) -> Iterator[Leak]:
    """Features that are missing just where the answer is one of the two."""
    entropy = _entropy(y.mean())
    for name in features:
        null = frame[name].is_null().to_numpy()
        n = int(null.sum())
        if min(n, len(y) - n) < FEWEST:
            continue
        inside, outside = float(y[null].mean()), float(y[~null].mean())
        share = n / len(y)
        told = 1 - (share * _entropy(inside) + (1 - share) * _entropy(outside)) / entropy
        pure = max(inside, 1 - inside, outside, 1 - outside)
        if pure >= PURE and told >= TOLD:
            yield Leak(
                kind="missing_values",
                column=name,
                score=told,
                bound=TOLD,
                evidence=(
                    f"where {name} is null {inside:.1%} of the answers are true, elsewhere {outside:.1%}: "
                    f"that it is missing tells {told:.0%} of the answer"
                ),
                fix=f"{name} is filled in, or emptied, after the outcome: take it out, or read it as it was before",
            )


def _entropy(share: float) -> float:
    return 0.0 if share in (0.0, 1.0) else float(-share * np.log2(share) - (1 - share) * np.log2(1 - share))


def _running_numbers(
    frame: pl.DataFrame, features: Sequence[str], categorical: Collection[str], found: dict[str, Single], y: Truth
) -> Iterator[Leak]:
    """Features that number the rows, in an order that knows the answer."""
    n = frame.height
    noise = 5 * math.sqrt((len(y) + 1) / (12.0 * y.sum() * (len(y) - y.sum())))
    for name in features:
        if name in categorical or found[name].auc >= COPY or abs(found[name].auc - 0.5) <= noise:
            continue
        column = frame[name]
        low, high = column.min(), column.max()
        if not isinstance(low, (int, float)) or not isinstance(high, (int, float)) or column.null_count():
            continue
        if high - low + 1 > 2 * n or high - low + 1 < n or column.n_unique() < n or (column != column.round()).any():
            continue
        yield Leak(
            kind="row_number",
            column=name,
            score=found[name].auc,
            bound=0.5 + noise,
            evidence=(
                f"{name} numbers the rows from {low:,.0f} to {high:,.0f} without repeating, and the order it gives "
                f"them knows the answer (AUC {found[name].auc:.3f})"
            ),
            fix=f"take {name} out: a new row has a number that no rule learned here can know",
        )


def _encoded(frame: pl.DataFrame, features: Sequence[str], answers: Sequence[str]) -> Iterator[Leak]:
    """Features that carry the answers of the very rows they stand in, averaged over a group."""
    wanted = frame.select(*features, "split", *(pl.col(a).cast(pl.Float64).alias(f"_{a}") for a in answers))
    parts = {"all": wanted, "training": wanted.filter(pl.col("split") == "train")}
    for name in features:
        many = int(frame[name].to_frame().select(pl.all().approx_n_unique()).item())
        found = (
            leak
            for which, part in (parts.items() if GROUPS <= many <= 0.7 * frame.height else ())
            for groups in _groups(part, name, answers, many)
            if (leak := _encodes(groups, name, which)) is not None
        )
        if (first := next(found, None)) is not None:
            yield first


def _encodes(groups: _Groups, name: str, which: str) -> Leak | None:
    """Whether groups of equal values hold answers that agree with the value better than chance allows.

    Notes
    -----
    For a value that knows nothing of its own rows' answers, their mean over a
    group of n rows scatters around any function of the value by at least the
    variance inside the group over n. A mean of these very answers leaves less. The
    variance between groups that a flexible regression leaves, over that inside
    them, is the F ratio of an analysis of variance (Fisher 1925, ch. VII), read at
    its lower end. A mean that leaves out the row itself shows at the other end:
    all rows that share a value have the same answer.
    """
    v, n, mean, within, answer = groups.value, groups.rows, groups.mean, groups.within, groups.answer
    fitted = _smooth(v, n, mean)
    left = n * (mean - fitted) ** 2
    ratio = float(left.sum() / within.sum()) * len(v) / max(len(v) - TERMS, 1)
    spread = float(np.sqrt(((left - within) ** 2).sum()) / within.sum())
    shown = answer.removeprefix("_answer_")
    behind = "" if answer == "label" else f" ({shown})"
    said = f"{name} has {len(v):,} values, and the answers{behind} of {which} rows that share one of them"
    if ratio < CALM and (ratio - 1) / spread < CERTAIN:
        told = f"{said} scatter {ratio:.2f} times as much as by chance"
        return _encoding(name, ratio, CALM, told)
    if answer == "label" and len(v) >= 4 * GROUPS:
        chance = np.clip(fitted, 0.01, 0.99)
        alike = float(np.average((within == 0) - chance**n - (1 - chance) ** n, weights=n))
        if alike > ALIKE:
            told = f"{said} are all the same for {alike:.0%} more of the rows than chance makes them"
            return _encoding(name, alike, ALIKE, told)
    if answer == "label" and v.min() >= 0 and v.max() <= 1 and (near := _shrunk(v, n, mean)) > NEAR:
        told = f"{said} have it as their mean, drawn towards a constant, in {near:.0%} of the groups"
        return _encoding(name, near, NEAR, told)
    return None


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows of equal value: the value, how many, their mean answer and its variance inside."""

    answer: str
    value: Doubles
    rows: Doubles
    mean: Doubles
    within: Doubles


def _groups(frame: pl.DataFrame, name: str, answers: Sequence[str], many: int) -> Iterator[_Groups]:
    """Groups of two rows or more, where there are enough; of very many some are drawn, whole."""
    rows = frame.lazy().select(pl.col(name).alias("v"), *(f"_{a}" for a in answers)).filter(pl.col("v").is_finite())
    if many > MOST_GROUPS:
        rows = rows.filter(pl.col("v").hash(7) % (many // MOST_GROUPS + 1) == 0)
    y = [pl.col(f"_{a}") for a in answers]
    grouped = (
        rows.group_by("v")
        .agg(
            *(one.count().cast(pl.Float64).name.prefix("n") for one in y),
            *(one.mean().name.prefix("mean") for one in y),
            *(one.var().name.prefix("within") for one in y),
        )
        .with_columns(pl.col("v").cast(pl.Float64))
        .sort("v")
        .collect()
    )
    for answer in answers:
        several = grouped.filter(pl.col(f"n_{answer}") > 1)
        covered, all_rows = (float(part.get_column(f"n_{answer}").to_numpy().sum()) for part in (several, grouped))
        if several.height < GROUPS or covered < 0.2 * all_rows:
            continue
        figures = [several[c].to_numpy() for c in ("v", f"n_{answer}", f"mean_{answer}", f"within_{answer}")]
        if figures[-1].sum() > 0:
            yield _Groups(answer, *figures)


def _encoding(name: str, score: float, bound: float, evidence: str) -> Leak:
    return Leak(
        kind="encoded_target",
        column=name,
        score=score,
        bound=bound,
        evidence=f"{evidence}: it was computed from these very answers",
        fix=(
            f"compute {name} from what was known before each row (a window over the outcomes), "
            "or declare it under training.transforms with `encode: target`"
        ),
    )


def _shrunk(v: Doubles, n: Doubles, mean: Doubles) -> float:
    """Share of groups whose answers fit `v = (answers + a) / (rows + m)` for one a and m, to a fifth of a deviation.

    Chance gives a sixth. Several groups may share a value; they are few, so the
    line is fitted by least absolute deviations.
    """
    big = n >= 5
    if big.sum() < 2 * GROUPS:
        return 0.0
    v, n, mean = v[big], n[big], mean[big]
    off = n * (mean - v)
    deviation = np.sqrt(n * np.clip(mean * (1 - mean), 0.01, None))
    basis = np.column_stack([np.ones_like(v), v])
    weight: npt.NDArray[Any] = 1 / deviation**2
    line: npt.NDArray[Any] = np.zeros(2)
    for _ in range(30):
        left = basis * weight[:, None]
        line = np.linalg.solve(left.T @ basis + 1e-12 * np.eye(2), left.T @ off)
        weight = 1 / (deviation**2 * np.maximum(np.abs(off - basis @ line) / deviation, 1e-3))
    return float((np.abs(off - basis @ line) < 0.2 * deviation).mean())


def _smooth(v: Doubles, n: Doubles, mean: Doubles) -> Doubles:
    """What a value promises of its group: a weighted least squares fit in the value, its rank and the group's size."""
    z = (v - np.average(v, weights=n)) / (v.std() or 1.0)
    z = np.clip(z, -6, 6)
    rank = (np.arange(len(v)) + 0.5) / len(v) - 0.5
    basis = np.column_stack([np.ones_like(z), z, z**2, z**3, rank, rank**2, rank**3, 1 / n, z / n, np.tanh(z)])
    weight = np.sqrt(n)
    left, right = basis * weight[:, None], mean * weight
    normal = left.T @ left
    normal[np.diag_indices_from(normal)] *= 1 + 1e-9
    return np.asarray(basis @ np.linalg.solve(normal + 1e-9 * np.eye(len(normal)), left.T @ right))
