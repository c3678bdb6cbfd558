"""What a labelling comes to: how far it is, how far people agree, and its labels.

What people agree on is a label, dated by when the row happened and when the last needed answer came.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.ids import digest
from loopline.data.contracts.column_texts import UTC_TIME
from loopline.data.labelling.agreement import Agreement, agreement
from loopline.data.labelling.answers import answers_of, settled
from loopline.data.labelling.guidelines import guideline_of
from loopline.data.labelling.rounds import rounds_of, rows_of
from loopline.data.nouns import Guideline, LabelRound
from loopline.workspace import Workspace, query

FOLDER = "labels"
"""Folder of a project that published labels are written into."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a labelling has come, and how far people agree."""

    name: str
    guideline: Guideline | None
    rounds: tuple[LabelRound, ...]
    rows: int
    settled: int
    void: int
    """Settled as not to be told."""
    differing: int
    """Rows on which two differ and a third is waited for."""
    answers: dict[str, int]
    """By person."""
    agreement: Agreement
    by_round: tuple[tuple[str, Agreement], ...]


@query("data.label_standing")
def label_standing(ws: Workspace, name: str) -> Standing:
    """How far a labelling has come, and how far people agree (Krippendorff's alpha, 90 % interval)."""
    rounds = rounds_of(ws, name)
    people: Counter[str] = Counter()
    every: list[list[str | None]] = []
    by_round: list[tuple[str, Agreement]] = []
    rows = done = void = differing = 0
    for made in rounds:
        given = answers_of(ws, made)
        own: list[list[str | None]] = []
        for row in rows_of(ws, made).iter_rows(named=True):
            said = given.get(row[made.unit], [])
            people.update(answer.by for answer in said)
            # The third answer decides; it was asked for because two differ, and would bias the measure.
            own.append([answer.value for answer in said[:2]])
            is_settled, value = settled(row["twice"], said)
            rows, done = rows + 1, done + is_settled
            void += is_settled and value is None
            differing += not is_settled and len(said) >= 2
        by_round.append((made.id, agreement(own)))
        every += own
    return Standing(
        name, guideline_of(ws, name), tuple(rounds), rows, done, void, differing, dict(people), agreement(every),
        tuple(by_round),
    )  # fmt: skip


def labels_of(ws: Workspace, name: str) -> pl.DataFrame:
    """The settled rows of a labelling as dated labels, oldest first.

    Returns
    -------
    DataFrame
        The unit (text); `label` (Boolean with two answers, else text; null = void);
        `event_time` (of the row, null where unknown) and `known_at` (the last needed
        answer), UTC; `who` (people, comma between), `answers` (how many), `agreed`
        (all said the same), `guideline` (version number of the round), `chance` and
        `stratum` of the draw.
    """
    guideline = guideline_of(ws, name)
    binary = guideline is None or len(guideline.answers) == 2
    found: list[dict[str, Any]] = []
    unit = "unit"
    for made in rounds_of(ws, name):
        given, asked, unit = answers_of(ws, made), ws.records.get(Guideline, made.guideline), made.unit
        for row in rows_of(ws, made).iter_rows(named=True):
            said = given.get(row[unit], [])
            is_settled, value = settled(row["twice"], said)
            if not is_settled:
                continue
            label: Any = value if not binary or value is None else value == asked.answers[0]
            found.append(
                {
                    unit: row[unit],
                    "label": label,
                    "event_time": row["event_time"],
                    "known_at": max(answer.at for answer in said),
                    "who": ", ".join(answer.by for answer in said),
                    "answers": len(said),
                    "agreed": len({answer.value for answer in said}) == 1,
                    "guideline": asked.number,
                    "chance": row["chance"],
                    "stratum": row["stratum"],
                }
            )
    schema: dict[str, Any] = {
        unit: pl.String, "label": pl.Boolean if binary else pl.String, "event_time": UTC_TIME, "known_at": UTC_TIME,
        "who": pl.String, "answers": pl.Int64, "agreed": pl.Boolean, "guideline": pl.Int64, "chance": pl.Float64,
        "stratum": pl.String,
    }  # fmt: skip
    return pl.DataFrame(found, schema=schema).sort("known_at", unit)


def publish(ws: Workspace, project: Path, name: str) -> Path:
    """Write the labels of a labelling into `labels/<name>.parquet` of the project, for a table to take in.

    Written whole or not at all; the same labels give the same rows.
    """
    path = Path(project) / FOLDER / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{digest(ws.actor.encode())[:8]}.part")
    labels_of(ws, name).write_parquet(part)
    part.replace(path)
    return path
