"""Who said what of a row, who is asked next, and when a row is settled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loopline.base.errors import Denied, Invalid, NotFound
from loopline.base.ids import content_id, iso
from loopline.data.labelling.guidelines import guideline_of
from loopline.data.labelling.rounds import OWN, rounds_of, rows_of
from loopline.data.nouns import Guideline, LabelAnswer, LabelRound
from loopline.workspace import Workspace, query, verb

SETTLED_BY = 3
"""People who are asked at most: the third decides."""


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
