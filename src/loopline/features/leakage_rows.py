"""Rows that stand on both sides, or come too early: overlap between training and test, answers before their time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from loopline.base.ids import iso
from loopline.features.leakage_columns import FEWEST, codes, single
from loopline.features.nouns import Leak


def noise(test_rows: int) -> float:
    """What chance alone moves the share of right answers on the held-out rows by: half over the root of their number.

    Fewer rows than this share cannot change a verdict that the intervals of a report would notice.
    """
    return 0.5 / float(np.sqrt(max(test_rows, 1)))


def rows(frame: pl.DataFrame, features: Sequence[str], unit: str, groups: Sequence[str] = ()) -> Iterator[Leak]:
    """The leaks between the two splits of a labelled frame.

    Parameters
    ----------
    frame : DataFrame, n rows
        The unit, `decision_time` (UTC, all null without a decision time), the
        features, `label`, `split` and the columns of `groups`.
    groups : names
        Columns whose values stand for one thing each (a patient, a house): no
        value may be on both sides.
    """
    named = frame.select(list(dict.fromkeys(("decision_time", "split", unit, *groups))))
    train, test = (named.filter(pl.col("split") == side) for side in ("train", "test"))
    if not train.height or not test.height:
        return
    yield from _time(train, test)
    yield from _groups(train, test, unit, groups)
    yield from _twins(frame, train.height, test.height, features)


def _time(train: pl.DataFrame, test: pl.DataFrame) -> Iterator[Leak]:
    first = test["decision_time"].min()
    if not isinstance(first, datetime):
        return
    late = int((train["decision_time"] >= first).sum())
    if late:
        yield Leak(
            kind="time_overlap",
            column=None,
            score=late / train.height,
            bound=0.0,
            evidence=(
                f"{late:,} of {train.height:,} training rows are due at or after {iso(first)}, when the held-out rows "
                "begin: the model is judged on days it was trained on"
            ),
            fix="hold out the newest rows: `split: {by: time}` under training",
        )


def _groups(train: pl.DataFrame, test: pl.DataFrame, unit: str, groups: Sequence[str]) -> Iterator[Leak]:
    for name in dict.fromkeys((unit, *groups)):
        known = train[name].drop_nulls().unique()
        shared = int(test[name].is_in(known.implode()).sum())
        if shared:
            what = "unit" if name == unit else "group"
            yield Leak(
                kind="group_overlap",
                column=name,
                score=shared / test.height,
                bound=0.0,
                evidence=(
                    f"{shared:,} of {test.height:,} held-out rows have a {what} ({name}) that stands among "
                    "the training rows too"
                ),
                fix=(
                    f"name what makes a row its own in framing.unit; {name} repeats"
                    if name == unit
                    else f"hold out whole groups: `split: {{by: random, group: {name}}}` under training"
                ),
            )


def _twins(frame: pl.DataFrame, n_train: int, n_test: int, features: Sequence[str]) -> Iterator[Leak]:
    """Held-out rows that are copies of training rows.

    Rows of few values meet by chance: as often as the frequencies of their values
    say, and then clearly more rows agree in all features but one, whichever that is.
    Copies do neither.
    """
    is_test = (frame["split"] == "test").to_numpy()
    limit = noise(n_test)
    whole = frame.select(features).hash_rows(3).to_numpy()
    twins = np.isin(whole[is_test], whole[~is_test])
    share = float(twins.mean())
    if share <= limit:
        return
    hashed = [frame[name].hash(index + 1).to_numpy() for index, name in enumerate(features)]
    total = np.zeros(frame.height, np.uint64)
    chance = np.zeros(n_test)
    for part in hashed:
        total += part
        _, place, count = np.unique(part, return_inverse=True, return_counts=True)
        chance += np.log(count[place[is_test]] / frame.height)
    expected = float((1 - np.exp(-n_train * np.exp(chance))).mean())
    nearly = [float(np.isin((total - part)[is_test], (total - part)[~is_test]).mean()) for part in hashed]
    if share - expected > limit and np.median(nearly) - share < 0.1 * share * (1 - share):
        yield Leak(
            kind="duplicate_rows",
            column=None,
            score=share,
            bound=limit,
            evidence=(
                f"{int(twins.sum()):,} of {n_test:,} held-out rows ({share:.1%}) equal a training row in all "
                f"{len(features)} features, where chance makes {expected:.1%}; {limit:.1%} would go unnoticed"
            ),
            fix="take copies out of the source, or give its table a key, so that a later row corrects an earlier one",
        )


def early_labels(frame: pl.DataFrame, answers: pl.DataFrame, unit: str, table: str) -> Iterator[Leak]:
    """Answers that are known when their question is asked, or before they can have happened.

    Parameters
    ----------
    frame : DataFrame
        The unit, `decision_time`, `split`.
    answers : DataFrame
        One row per unit: `event_time` (null where the table has none) and
        `known_at`, UTC.
    table : str
        The table that holds them, for messages.
    """
    joined = frame.select(unit, "decision_time", "split").join(answers, on=unit, how="inner")
    n = joined.height
    if not n or joined["decision_time"].null_count():
        return
    limit = noise(int((joined["split"] == "test").sum()))
    early = int((joined["known_at"] <= joined["decision_time"]).sum())
    if early / n > limit:
        yield Leak(
            kind="early_label",
            column=table,
            score=early / n,
            bound=limit,
            evidence=f"{early:,} of {n:,} answers in {table} are known when the prediction is due, or before",
            fix=f"correct data.{table}.known_at, or ask earlier: framing.decision_time",
        )
    before = int((joined["known_at"] < joined["event_time"]).fill_null(False).sum())
    if before / n > limit:
        yield Leak(
            kind="early_label",
            column=table,
            score=before / n,
            bound=limit,
            evidence=f"{before:,} of {n:,} answers in {table} are known before they happen",
            fix=f"correct data.{table}.known_at or event_time; their zones may differ",
        )


def answers_read(
    frame: pl.DataFrame, rows: pl.DataFrame, unit: str, table: str, features: Sequence[str]
) -> Iterator[Leak]:
    """Features made of answers in the rows to predict, which those rows say are known when they are asked about.

    Parameters
    ----------
    frame : DataFrame
        The unit, `decision_time`, `split`.
    rows : DataFrame
        All versions of the rows: the unit and `known_at`, UTC.
    """
    first = rows.group_by(unit).agg(pl.col("known_at").min())
    joined = frame.select(unit, "decision_time", "split").join(first, on=unit, how="inner")
    if not joined.height or joined["decision_time"].null_count():
        return
    early = int((joined["known_at"] <= joined["decision_time"]).sum())
    limit = noise(int((joined["split"] == "test").sum()))
    if early / joined.height > limit:
        for name in features:
            yield Leak(
                kind="early_label",
                column=name,
                score=early / joined.height,
                bound=limit,
                evidence=(
                    f"{name} is made of answers in {table}: {early:,} of {joined.height:,} count as known when their "
                    "own prediction is due, since nothing says when an answer came"
                ),
                fix="give answers a table of their own with the known_at of each, and name it in framing.label",
            )


def late_rows(
    spine: pl.DataFrame, unit: str, known: str, frame: pl.DataFrame, table: str, said: str | None = None
) -> Iterator[Leak]:
    """Rows to predict whose own columns became known only after the prediction was due.

    Parameters
    ----------
    spine : DataFrame
        All versions of the rows: the unit and `known`, UTC.
    frame : DataFrame
        The unit, `decision_time` and `split` of the labelled rows.
    said : str, optional
        What the table calls its `known_at`, where `known` was made of it.
    """
    first = spine.group_by(unit).agg(pl.col(known).min().alias("_first"))
    joined = frame.select(unit, "decision_time", "split").join(first, on=unit, how="inner")
    if not joined.height or joined["decision_time"].null_count():
        return
    late = int((joined["_first"] > joined["decision_time"]).sum())
    limit = noise(int((joined["split"] == "test").sum()))
    if late / joined.height > limit:
        yield Leak(
            kind="future_known_at",
            column=table,
            score=late / joined.height,
            bound=limit,
            evidence=(
                f"{late:,} of {joined.height:,} rows of {table} became known ({said or known}) after their prediction "
                "was due; whatever is read from their columns is the future"
            ),
            fix=f"move such columns to a table of their own with a known_at, or correct data.{table}.known_at",
        )


def own_outcomes(frame: pl.DataFrame, facts: pl.DataFrame, unit: str, table: str, *, bound: float) -> Iterator[Leak]:
    """Rows about the very unit that come before its prediction, and tell the answer: by being there, or by a number.

    Parameters
    ----------
    frame : DataFrame
        The unit, `decision_time`, `label`, `split`.
    facts : DataFrame
        A source of the views: the unit, `_enter` (UTC, from when the views read the
        row) and number columns.
    table : str
        Its name.
    bound : float
        Area under the curve that is believed of one column.
    """
    own = facts.join(frame.select(unit, "decision_time", "label"), on=unit, how="inner")
    own = own.filter(pl.col("_enter") <= pl.col("decision_time")).sort("_enter", maintain_order=True)
    own = own.unique(unit, keep="last", maintain_order=True)
    yield from _presence(frame, own[unit], unit, table, bound)
    y = own["label"].cast(pl.Int64).to_numpy()
    if min(int(y.sum()), int((1 - y).sum())) < FEWEST:
        return
    half = np.random.default_rng(0).permutation(len(y)) < len(y) // 2
    numbers = [c for c in own.columns if c not in (unit, "_enter", "decision_time", "label")]
    found = {name: single(codes(own[name], False), y, half).auc for name in numbers}
    best = max(found, key=lambda name: found[name], default=None)
    if best is not None and found[best] > bound:
        yield Leak(
            kind="own_outcome",
            column=f"{table}.{best}",
            score=found[best],
            bound=bound,
            evidence=(
                f"{own.height:,} of {frame.height:,} units have a row of their own in {table} before their prediction "
                f"is due, and its {best} tells the answer (AUC {found[best]:.3f})"
            ),
            fix=f"correct the times of {table}: a wall clock read as UTC, or an event_time that is the planned one",
        )


def _presence(frame: pl.DataFrame, there: pl.Series, unit: str, table: str, bound: float) -> Iterator[Leak]:
    """Whether that a unit has a row, whatever it says, tells the answer; sources with a row of each unit never do."""
    y = frame["label"].cast(pl.Int64).to_numpy()
    has = frame[unit].is_in(there.implode()).to_numpy()
    if min(int(y.sum()), int((1 - y).sum()), int(has.sum()), int((~has).sum())) < FEWEST:
        return
    half = np.random.default_rng(0).permutation(len(y)) < len(y) // 2
    score = single(has.astype(np.int64), y, half).auc
    if score > bound:
        true, false = (float(has[y == answer].mean()) for answer in (1, 0))
        yield Leak(
            kind="own_outcome",
            column=table,
            score=score,
            bound=bound,
            evidence=(
                f"{true:.1%} of the units whose answer is true have a row of their own in {table} before their "
                f"prediction is due, and {false:.1%} of the others: being there tells the answer (AUC {score:.3f})"
            ),
            fix=f"find out when {table} is written: give it the known_at of each row, or leave it out of the views",
        )
