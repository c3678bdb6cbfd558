"""Whether labels may be learned from: do people still agree, and are they labels at all and no echo of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from loopline.data.agreement import TENTATIVE, Agreement, agreement
from loopline.data.labelling import answers_of, names, rounds_of, rows_of
from loopline.workspace import Workspace, query

ENOUGH = 20
"""Rows that two people saw from which agreement is judged."""
LEAST_EXPECTED = 20.0
"""Wrong answers that must be expected before their absence says something."""
UNLIKELY = 1e-6
OWN = ("service:", "model:", "version:")
WHO = ("who", "labelled_by", "annotator")
"""Columns of a label table that may say who gave a label."""


@dataclass(frozen=True, slots=True)
class Echo:
    """How often the model was wrong by its labels, and how often it should have been by its own scores."""

    rows: int
    wrong: int
    expected: float
    probability: float
    """Of so few wrong answers or fewer, if the scores were right."""
    by_machines: float
    """Share of the labels that a service or a model gave."""


@dataclass(frozen=True, slots=True)
class LabelHealth:
    """Whether to learn from the labels as they are; `stop` holds retraining back."""

    stop: bool
    why: str
    """What is wrong, or that nothing is."""
    newest: Agreement | None
    """Of the newest rounds that were seen twice often enough; null when no people label."""
    before: Agreement | None
    """Of the rounds before those."""
    echo: Echo | None
    """Null without answers to compare with."""


@query("data.label_health")
def label_health(
    ws: Workspace, *, name: str | None = None, judged: pl.DataFrame | None = None, labels: pl.DataFrame | None = None
) -> LabelHealth:
    """The fact that retraining asks before it learns from labels.

    Parameters
    ----------
    name : str, optional
        One labelling; all by default.
    judged : DataFrame, optional
        Answers with their labels: `score` (0 to 1), `decision` and `label` (Boolean).
    labels : DataFrame, optional
        Rows of the label table, for who gave them (a column `who`).

    Notes
    -----
    People agree too little when the whole 90 % interval of alpha lies below 0.667,
    and less than before when the intervals of the newest rounds and of those before
    do not meet. Labels echo the model when answers are wrong so rarely that the
    scores themselves, which say how often they will be, give it less than one chance
    in a million; or when a machine gave more than half of them.
    """
    newest, before = _rounds(ws, [name] if name else names(ws))
    echo = _echo(judged, labels)
    wrong = [text for text in (_agreeing(newest, before), _echoing(echo)) if text]
    return LabelHealth(bool(wrong), "; ".join(wrong) or "nothing speaks against the labels", newest, before, echo)


def _rounds(ws: Workspace, labellings: list[str]) -> tuple[Agreement | None, Agreement | None]:
    """Agreement of the newest answers seen twice, at least 20 rows of them, and of all before."""
    pairs: list[tuple[float, list[str | None]]] = []
    for name in labellings:
        for made in rounds_of(ws, name):
            given = answers_of(ws, made)
            for unit in rows_of(ws, made)[made.unit].to_list():
                said = given.get(unit, [])[:2]
                if len(said) == 2:
                    # Answers of different labellings are different words, even where they are written alike.
                    pairs.append((said[1].at.timestamp(), [f"{name}: {a.value}" for a in said]))
    pairs.sort(key=lambda pair: pair[0])
    if len(pairs) < ENOUGH:
        return None, None
    half = max(ENOUGH, len(pairs) // 3)
    older = [values for _, values in pairs[:-half]]
    newest = agreement([values for _, values in pairs[-half:]])
    return newest, agreement(older) if len(older) >= ENOUGH else None


def _agreeing(newest: Agreement | None, before: Agreement | None) -> str:
    if newest is None or newest.high is None or newest.low is None or newest.alpha is None:
        return ""
    if newest.high < TENTATIVE:
        return f"people who label agree too little: alpha {newest.alpha:.2f} [{newest.low:.2f}, {newest.high:.2f}]"
    if before is not None and before.low is not None and before.alpha is not None and newest.high < before.low:
        return (
            f"people who label agree less than before: alpha {newest.alpha:.2f} "
            f"[{newest.low:.2f}, {newest.high:.2f}], it was {before.alpha:.2f}"
        )
    return ""


def _echo(judged: pl.DataFrame | None, labels: pl.DataFrame | None) -> Echo | None:
    machines = 0.0
    if labels is not None and labels.height:
        column = next((c for c in WHO if labels.schema.get(c) == pl.String), None)
        if column is not None:
            said = pl.col(column).fill_null("")
            machines = float(labels.select(pl.any_horizontal(said.str.starts_with(p) for p in OWN).mean()).item())
    if judged is None:
        return Echo(0, 0, 0.0, 1.0, machines) if labels is not None else None
    known = judged.filter(pl.col("label").is_not_null() & pl.col("score").is_not_null())
    score, decision = known["score"].clip(0.0, 1.0).to_list(), known["decision"].to_list()
    chance = [1 - s if d else s for s, d in zip(score, decision, strict=True)]
    wrong = int((known["decision"] != known["label"]).sum())
    return Echo(known.height, wrong, sum(chance), at_most(chance, wrong), machines)


def at_most(chances: list[float], wrong: int) -> float:
    """A bound on the probability of `wrong` or fewer, of events with these chances.

    Chernoff's bound for sums of independent events: exp(-mu) (e mu / k)^k for k below
    the mean mu, and 1 otherwise. Never too small, so it raises no false alarm by itself.
    """
    mean = sum(chances)
    if wrong >= mean:
        return 1.0
    return math.exp(-mean + (wrong * math.log(math.e * mean / wrong) if wrong else 0.0))


def _echoing(echo: Echo | None) -> str:
    if echo is None:
        return ""
    if echo.by_machines > 0.5:
        return f"{echo.by_machines:.0%} of the labels were given by a service or a model"
    # Scores that are a little too unsure are no echo: half of what they expect is asked for.
    unlikely = echo.probability < UNLIKELY and echo.wrong < echo.expected / 4
    if echo.expected >= LEAST_EXPECTED and unlikely:
        return (
            f"labels repeat the model's answers: {echo.wrong:,} of {echo.rows:,} differ, "
            f"its own scores expect {echo.expected:,.0f}"
        )
    return ""
