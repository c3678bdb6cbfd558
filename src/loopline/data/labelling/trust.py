"""Whether labels may be learned from: do people still agree, and are they labels at all and no echo of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from loopline.data.labelling.agreement import TENTATIVE, Agreement, agreement
from loopline.data.labelling.answers import answers_of
from loopline.data.labelling.guidelines import names
from loopline.data.labelling.rounds import rounds_of, rows_of
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
    """What is wrong, what cannot be told yet, or that nothing speaks against the labels."""
    newest: Agreement | None
    """Of the rows that two people saw last, of the labelling that agrees least; null when no row was seen twice."""
    before: Agreement | None
    """Of the rows before those, when they are enough."""
    echo: Echo | None
    """Null without answers to compare with."""
    told: bool = True
    """False where people label and too few rows were seen twice to say whether they agree."""

    @property
    def verdict(self) -> str:
        """`stop`, `unknown` or `good`, for whoever shows it."""
        return "stop" if self.stop else "good" if self.told else "unknown"


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
    Each labelling is judged by itself: a good one does not make up for a bad one.
    People agree too little when the whole 90 % interval of alpha lies below 0.667,
    however few rows that took, and less than before when the intervals of the newest
    rounds and of those before do not meet. With fewer than 20 rows seen twice, or
    answers that are all the same, nothing is said for the labels. Labels echo the
    model when answers are wrong so rarely that the scores themselves, which say how
    often they will be, give it less than one chance in a million; or when a machine
    gave more than half of them.
    """
    rounds = [(one, *_rounds(ws, one)) for one in ([name] if name else names(ws))]
    echo = _echo(judged, labels)
    agreeing = [_agreeing(one, newest, before) for one, newest, before in rounds]
    wrong = [text for text in (*agreeing, _echoing(echo)) if text]
    open_ = [text for one, newest, _ in rounds if (text := _untold(one, newest))]
    _, newest, before = min(rounds, key=lambda r: _worth(r[1]), default=("", None, None))
    why = "; ".join(wrong or open_) or "nothing speaks against the labels"
    return LabelHealth(bool(wrong), why, newest, before, echo, not open_)


def _rounds(ws: Workspace, name: str) -> tuple[Agreement | None, Agreement | None]:
    """Agreement of the newest rows that two people saw, at least 20 of them if there are so many, and of all before."""
    pairs: list[tuple[float, list[str | None]]] = []
    for made in rounds_of(ws, name):
        given = answers_of(ws, made)
        for unit in rows_of(ws, made)[made.unit].to_list():
            said = given.get(unit, [])[:2]
            if len(said) == 2:
                pairs.append((said[1].at.timestamp(), [a.value for a in said]))
    if not pairs:
        return None, None
    pairs.sort(key=lambda pair: pair[0])
    half = min(len(pairs), max(ENOUGH, len(pairs) // 3))
    older = [values for _, values in pairs[:-half]]
    newest = agreement([values for _, values in pairs[-half:]])
    return newest, agreement(older) if len(older) >= ENOUGH else None


def _worth(found: Agreement | None) -> tuple[int, float]:
    """Order of labellings: the least agreement first, those that cannot be told last."""
    return (1, 0.0) if found is None or found.alpha is None else (0, found.alpha)


def _agreeing(name: str, newest: Agreement | None, before: Agreement | None) -> str:
    if newest is None or newest.high is None or newest.low is None or newest.alpha is None:
        return ""
    found = f"alpha {newest.alpha:.2f} [{newest.low:.2f}, {newest.high:.2f}] over {_count(newest.units)} of {name}"
    if newest.high < TENTATIVE:
        return f"people who label agree too little: {found}"
    if before is not None and before.low is not None and before.alpha is not None and newest.high < before.low:
        return f"people who label agree less than before: {found}, it was {before.alpha:.2f}"
    return ""


def _untold(name: str, newest: Agreement | None) -> str:
    """Why nothing can be said for a labelling yet; empty where it can."""
    units = newest.units if newest is not None else 0
    if units < ENOUGH:
        return f"not enough rows to tell: two people saw {_count(units)} of {name}, {ENOUGH} are needed"
    if newest is None or newest.alpha is None:
        return f"not enough rows to tell: all answers of {name} are the same"
    return ""


def _count(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


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
