"""Labels from people: what they are asked, who said what, and what it comes to.

A labelling has a name, a guideline with versions, and rounds of rows. Part of each round goes to two people; where
they differ a third is asked. What people agree on is a label, dated by when the row happened and when the last needed
answer came.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.errors import Denied, Invalid, NotFound
from loopline.base.ids import content_id, digest, iso
from loopline.data.agreement import Agreement, agreement
from loopline.data.history import known
from loopline.data.nouns import Guideline, LabelAnswer, LabelRound
from loopline.data.spec import TableSpec
from loopline.data.times import UTC_TIME
from loopline.data.tombstones import current
from loopline.workspace import Workspace, query, verb

OWN = ("chance", "stratum", "twice", "event_time")
"""Columns of a round beside the unit and what people see."""
FOLDER = "labels"
"""Folder of a project that published labels are written into."""
SETTLED_BY = 3


@dataclass(frozen=True, slots=True)
class Task:
    """One row that a person is asked about."""

    round: str
    unit: str
    fields: dict[str, Any]
    question: str
    answers: tuple[str, ...]
    text: str
    guideline: int
    left: int
    """Rows that this person can still be asked about, this one among them."""
    third: bool = False
    """Two people differ; this answer decides."""


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


@verb("data.write_guideline")
def write_guideline(
    ws: Workspace, name: str, *, question: str, answers: tuple[str, ...] = ("yes", "no"), text: str = ""
) -> Guideline:
    """Set what people are asked; the same words again change nothing, others are the next version.

    Parameters
    ----------
    name : str
        Of the labelling, for example the label it is for.
    answers : tuple of str
        Two or more; of two, the first is the true one. "It cannot be told" is always
        offered too.

    Raises
    ------
    Invalid
        If there is no question, or there are not at least two different answers.
    """
    if not name.isidentifier():
        raise Invalid(f"{name!r} cannot name a labelling", why="it becomes a file name", fix="letters, digits and `_`")
    if not question.strip() or len(answers) < 2 or len(set(answers)) != len(answers) or not all(answers):
        raise Invalid(
            "a guideline needs a question and two different answers",
            why="people choose between them",
            fix='question: "Was the parcel late?", answers: yes, no',
        )
    newest = guideline_of(ws, name)
    if newest and (newest.question, newest.answers, newest.text) == (question, tuple(answers), text):
        return newest
    number = newest.number + 1 if newest else 1
    doc = {"name": name, "number": number, "question": question, "answers": list(answers), "text": text}
    return Guideline(content_id(doc), name, number, question, tuple(answers), text, ws.actor, ws.clock())


def guideline_of(ws: Workspace, name: str) -> Guideline | None:
    """The newest guideline of a labelling; null without one."""
    found = ws.records.find(Guideline, name=name, limit=1)
    return found[0] if found else None


def ask(
    ws: Workspace,
    name: str,
    rows: pl.DataFrame,
    unit: str,
    *,
    strata: Mapping[str, int],
    twice: float = 0.2,
    why: str,
    seed: int = 0,
) -> LabelRound:
    """Have people asked about `rows`; for verbs, which draw them.

    Parameters
    ----------
    rows : DataFrame
        One row per unit, in the order to be asked, with `chance`, `stratum` and, if
        known, `event_time`; every other column is shown.
    twice : float
        Share of the rows that two people are asked about, at least one row.
    """
    guideline = guideline_of(ws, name)
    if guideline is None:
        raise NotFound(
            f"there is no guideline for {name}",
            why="people must know what they are asked",
            fix=f'loopline data label guideline {name} --question "..."',
        )
    if not rows.height:
        raise Invalid("there is no row to ask about", why="none was left to draw", fix="wait for more, or ask for less")
    if not 0 <= twice <= 1:
        raise Invalid(f"twice is {twice}", why="it is a share of the rows", fix="write for example 0.2")
    both = max(1, round(twice * rows.height)) if twice else 0
    frame = rows.with_columns(
        pl.col(unit).cast(pl.String),
        pl.Series("twice", [i < both for i in range(rows.height)]).shuffle(seed=seed),
    )
    if "event_time" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, UTC_TIME).alias("event_time"))
    blob = io.BytesIO()
    frame.rechunk().write_ipc(blob, compression="zstd")
    kept, at = ws.blobs.put(blob.getvalue()), ws.clock()
    id = content_id({"name": name, "rows": kept, "guideline": guideline.id, "at": iso(at)})
    return LabelRound(id, name, guideline.id, unit, kept, frame.height, both, dict(strata), why, ws.actor, at)


@verb("data.ask_rows")
def ask_rows(
    ws: Workspace,
    project: Path,
    tables: Mapping[str, TableSpec],
    name: str,
    *,
    table: str,
    unit: str,
    n: int = 100,
    twice: float = 0.2,
    seed: int = 0,
    hide: tuple[str, ...] = (),
) -> LabelRound:
    """Have people asked about `n` rows of a table, drawn at random from those never asked about.

    What they see is treated as the contract declares: columns that are, or may be,
    personal are masked.
    Columns of `hide`, such as an answer that is known already, are not shown.

    Raises
    ------
    NotFound
        If there is no such table, column or guideline.
    Invalid
        If no row is left.
    """
    from loopline.data.marks import visible
    from loopline.data.privacy import shown
    from loopline.data.pseudonyms import secret

    if table not in tables:
        raise NotFound(f"no table {table!r}", why=f"declared: {', '.join(sorted(tables))}", fix="correct the name")
    spec = tables[table]
    rows = known(ws, table, spec, ws.clock())
    if unit not in rows.collect_schema():
        raise NotFound(
            f"table {table} has no column {unit!r}",
            why="it names the rows",
            fix=f"name one of {', '.join(rows.collect_schema())}",
        )
    asked = already_asked(ws, name)
    left = rows.with_columns(pl.col(unit).cast(pl.String)).filter(
        pl.col(unit).is_not_null() & ~pl.col(unit).is_in(sorted(asked))
    )
    frame = left.unique(unit, keep="last", maintain_order=True).collect()
    drawn = frame.sample(min(n, frame.height), shuffle=True, seed=seed) if frame.height else frame
    event = pl.col(spec.event_time) if spec.event_time else pl.lit(None, UTC_TIME)
    declared = visible(ws, table, spec, project)
    key = secret(ws) if any(t.how == "pseudonym" for t in declared.values()) else None
    others = {c: t for c, t in declared.items() if c != unit}
    seen = shown(drawn.with_columns(event.alias("event_time")), others, key).drop(
        [column for column in hide if column in drawn.columns and column != unit]
    )
    chance = pl.lit(drawn.height / max(1, frame.height))
    seen = seen.with_columns(chance.alias("chance"), pl.lit("all").alias("stratum"))
    return ask(
        ws, name, seen, unit, strata={"all": frame.height}, twice=twice, why=f"drawn at random from {table}", seed=seed
    )


def already_asked(ws: Workspace, name: str) -> set[str]:
    """Units of all rounds of a labelling."""
    found: set[str] = set()
    for made in rounds_of(ws, name):
        found.update(rows_of(ws, made)[made.unit].to_list())
    return found


def rounds_of(ws: Workspace, name: str) -> list[LabelRound]:
    """Rounds of a labelling, oldest first."""
    return ws.records.find(LabelRound, name=name, newest_first=False)


def rows_of(ws: Workspace, made: LabelRound) -> pl.DataFrame:
    """The rows of a round."""
    return pl.read_ipc(ws.blobs.path(current(ws, made.rows)))


def answers_of(ws: Workspace, made: LabelRound) -> dict[str, list[LabelAnswer]]:
    """The standing answers of a round by unit: the newest of each person, oldest first."""
    newest: dict[tuple[str, str], LabelAnswer] = {}
    for answer in ws.records.find(LabelAnswer, round=made.id, newest_first=False):
        newest[answer.unit, answer.by] = answer
    found: dict[str, list[LabelAnswer]] = defaultdict(list)
    for answer in newest.values():
        found[answer.unit].append(answer)
    return {unit: sorted(given, key=lambda a: (a.at, a.by)) for unit, given in found.items()}


def needed(twice: bool, given: Sequence[LabelAnswer]) -> int:
    """How many people must be asked about a row, as answers stand."""
    wanted = 2 if twice else 1
    values = {answer.value for answer in given}
    return max(wanted, SETTLED_BY) if len(given) >= 2 and len(values) > 1 else wanted


def settled(twice: bool, given: Sequence[LabelAnswer]) -> tuple[bool, str | None]:
    """Whether a row is settled, and as what: what most say; null when it cannot be told, or three say three things."""
    if len(given) < needed(twice, given):
        return False, None
    ((value, times), *_) = Counter(answer.value for answer in given).most_common()
    return True, value if 2 * times > len(given) else None


@query("data.next_task")
def next_task(ws: Workspace, name: str) -> Task | None:
    """The row that whoever asks should label next; null when there is none for them.

    First rows on which two differ, then those that one other person has seen, then
    the others in the order in which they were drawn.
    """
    guideline = guideline_of(ws, name)
    best: tuple[int, LabelRound, dict[str, Any]] | None = None
    left = 0
    for made in rounds_of(ws, name):
        given = answers_of(ws, made)
        for row in rows_of(ws, made).iter_rows(named=True):
            own = given.get(row[made.unit], [])
            if any(answer.by == ws.actor for answer in own) or len(own) >= needed(row["twice"], own):
                continue
            left += 1
            rank = 0 if len(own) >= 2 else 1 if own else 2
            if best is None or rank < best[0]:
                best = rank, made, row
    if best is None or guideline is None:
        return None
    rank, made, row = best
    fields = {column: value for column, value in row.items() if column not in (*OWN, "score", "decision", "version")}
    return Task(
        made.id,
        row[made.unit],
        fields,
        guideline.question,
        guideline.answers,
        guideline.text,
        guideline.number,
        left,
        rank == 0,
    )


@verb("data.answer")
def answer(ws: Workspace, round: str, unit: str, *, value: str | None, note: str = "") -> LabelAnswer:
    """Say what a row is. The same person may say otherwise later: that answer names the one that it replaces (see
    `replaced`), and both stay in the records.

    Raises
    ------
    Denied
        If no person asks: models and services do not label.
    NotFound
        If the row is not in that round.
    Invalid
        If the value is none of the guideline's answers.
    """
    if not ws.actor.startswith("user:"):
        raise Denied(
            f"{ws.actor} may not label", why="labels come from people", fix="set LOOPLINE_ACTOR to user:<name>"
        )
    made = ws.records.get(LabelRound, round)
    guideline = ws.records.get(Guideline, made.guideline)
    newest = guideline_of(ws, made.name) or guideline
    if value is not None and value not in newest.answers:
        raise Invalid(f"{value!r} is no answer", why=f"one of {', '.join(newest.answers)}, or none", fix="choose one")
    if not (rows_of(ws, made)[made.unit] == unit).any():
        raise NotFound(f"{unit} is not in that round", why="people are asked about drawn rows", fix="ask for the next")
    at = ws.clock()
    before = ws.records.find(LabelAnswer, round=made.id, unit=unit, by=ws.actor)
    doc = {"round": made.id, "unit": unit, "by": ws.actor, "nth": len(before), "value": value, "at": iso(at)}
    if before and (before[0].value, before[0].note) == (value, note):
        return before[0]
    return LabelAnswer(
        content_id(doc), made.id, unit, value, ws.actor, at, note, replaces=before[0].id if before else None
    )


def replaced(ws: Workspace, given: LabelAnswer) -> str | None:
    """What an answer replaces, in a sentence; null for a person's first about a row."""
    if given.replaces is None:
        return None
    before = ws.records.get(LabelAnswer, given.replaces)
    return (
        f"replaces {given.by}'s own answer, {before.value or 'cannot tell'}, of {before.at:%Y-%m-%d %H:%M}Z, which "
        "counts no more; another person's answer is given under their own name"
    )


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


def names(ws: Workspace) -> list[str]:
    """Every labelling of the workspace."""
    return sorted({made.name for made in ws.records.find(Guideline)})


def dated(moment: datetime | None) -> str:
    """A moment as pages show it; nothing for none."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
