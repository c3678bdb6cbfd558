"""Commands of labelling: what people are asked, which rows, their answers, and how far they agree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session

if TYPE_CHECKING:
    from loopline.data.labelling.agreement import Agreement
    from loopline.data.labelling.trust import LabelHealth

Labelling = Annotated[str, Parameter(help="Name of the labelling, for example the label it is for.")]


def guideline(
    name: Labelling,
    *,
    question: Annotated[str, Parameter(help="What people are asked about each row.")],
    answer: Annotated[tuple[str, ...], Parameter(help="Each possible answer; of two the first is true.")] = (
        "yes",
        "no",
    ),
    text: Annotated[str, Parameter(help="How to decide.")] = "",
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Write the guideline of a labelling; other words make the next version."""
    from loopline.data.labelling import guidelines

    ws, _ = session(project, create=True)
    made = guidelines.write_guideline(ws, name, question=question, answers=answer, text=text)
    said = f"guideline {made.number} of {name}: {made.question} ({', '.join(made.answers)})"
    return Answer(said, made, (f"loopline data label ask {name}",))


def ask(
    name: Labelling,
    *,
    n: Annotated[int, Parameter("--rows", help="How many rows.")] = 100,
    table_: Annotated[
        str | None, Parameter("--table", help="Draw from it; else from answers, the telling ones.")
    ] = None,
    twice: Annotated[float, Parameter(help="Share of the rows that two people are asked about.")] = 0.2,
    seed: Annotated[int, Parameter(help="Of the draw.")] = 0,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Draw rows that people are asked about, each with a known chance."""
    from loopline import governance, serving
    from loopline.data.labelling import rounds

    ws, found = session(project)
    spec = found.spec
    if table_ is not None:
        asked = {"table": table_, "unit": spec.framing.unit, "n": n, "twice": twice, "seed": seed}
        known = tuple(re.findall(r"[A-Za-z_]\w*", spec.framing.label.value))  # people are not shown the answer
        made = rounds.ask_rows(ws, found.root, spec.data, name, **asked, hide=known)  # type: ignore[arg-type]
    else:
        serving.flush(ws, found.name)
        made = governance.ask_about_answers(
            ws,
            found.root,
            spec.framing,
            spec.features,
            spec.data,
            name,
            endpoint=found.name,
            n=n,
            twice=twice,
            seed=seed,
        )
    said = f"{made.asked} rows, {made.twice} of them for two people: {made.why}"
    return Answer(said, made, (f"loopline data label next {name}", "loopline up"))


def following(name: Labelling, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show the row that you are asked about next."""
    from loopline.data.labelling import answers

    ws, _ = session(project)
    task = answers.next_task(ws, name)
    if task is None:
        return Answer(f"there is no row for {ws.actor}", {"task": None}, (f"loopline data label status {name}",))
    rows = [(column, _said(value)) for column, value in task.fields.items()]
    lines = [table(rows), "", task.question, *([task.text] if task.text else []), f"{task.left} rows are left for you"]
    hints = tuple(f'loopline data label answer {name} {task.unit} "{word}"' for word in (*task.answers, "cannot tell"))
    return Answer("\n".join(lines), {"task": task}, hints)


def answer(
    name: Labelling,
    unit: Annotated[str, Parameter(help="The row.")],
    value: Annotated[str, Parameter(help='One of the answers, or "cannot tell".')],
    *,
    note: Annotated[str, Parameter(help="Anything to add.")] = "",
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Say what a row is; you may say otherwise later."""
    from loopline.base.errors import NotFound
    from loopline.data.labelling import answers, rounds

    ws, _ = session(project)
    for made in reversed(rounds.rounds_of(ws, name)):
        if (rounds.rows_of(ws, made)[made.unit] == unit).any():
            given = answers.answer(ws, made.id, unit, value=None if value == "cannot tell" else value, note=note)
            before = answers.replaced(ws, given)
            said = f"{unit}: {value}" + (f"\n{before} (LOOPLINE_ACTOR=user:<name>)" if before else "")
            return Answer(said, given, (f"loopline data label next {name}",))
    raise NotFound(
        f"nobody is asked about {unit}",
        why=f"it is in no round of {name}",
        fix=f"loopline data label next {name}",
    )


def status(name: Labelling, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show how far a labelling has come, how far people agree, and what the answers say of live quality."""
    from loopline import governance
    from loopline.data.labelling import standing

    ws, found = session(project)
    now = standing.label_standing(ws, name)
    live = governance.live_quality(ws, name)
    health = governance.label_health(ws, found.spec.framing, found.spec.data, endpoint=found.name)
    rows = [
        (
            "rows",
            f"{now.rows:,}, {now.settled:,} settled, {now.void:,} void, {now.differing:,} wait for a third person",
        ),
        ("answers", ", ".join(f"{who} {n:,}" for who, n in sorted(now.answers.items())) or "none"),
        ("agreement", agreed(now.agreement)),
        ("trust", trusted(health)),
    ]
    if live.accuracy is not None:
        a = live.accuracy
        rows.append(
            ("right answers", f"{a.value:.1%} [{a.low:.1%}, {a.high:.1%}] of {a.rows:,}, from {a.labels} labels")
        )
    doc = {"standing": now, "live_quality": live, "health": health}
    return Answer(table(rows), doc, (f"loopline data label publish {name}",))


def publish(name: Labelling, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Write the settled answers as dated labels into labels/NAME.parquet, for a table to take in."""
    from loopline import data
    from loopline.data.labelling import standing

    ws, found = session(project)
    path = standing.publish(ws, found.root, name)
    rows = standing.labels_of(ws, name).height
    unit = found.spec.framing.unit
    shown = path.relative_to(found.root)
    used = [t for t, spec in found.spec.data.items() if spec.source == str(shown)]
    line = f"{name}: {{source: {shown}, event_time: event_time, known_at: known_at, key: [{unit}]}}"
    hint = f"loopline data ingest {used[0] if used else name}"
    health = data.label_health(ws, name=name)
    said = f"wrote {rows:,} labels to {shown}"
    if not used:
        said += f"\nno table takes them in; declare under data in loop.yaml: {line}"
    if health.verdict != "good":
        said += f"\nwarning: {trusted(health)}"
        hint = f"loopline data label status {name}" if health.stop else hint
    return Answer(said, {"path": str(shown), "rows": rows, "health": health}, (hint,))


def trusted(health: LabelHealth) -> str:
    """Whether labels may be learned from, and why, in words."""
    return f"do not learn from these labels: {health.why}" if health.stop else health.why


def agreed(found: Agreement) -> str:
    """Alpha with its interval, in words."""
    if found.alpha is None:
        return f"not known yet: {found.units} rows were seen by two people"
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None and found.high is not None else ""
    return f"alpha {found.alpha:.2f}{interval} over {found.units} rows seen by two people"


def _said(value: Any) -> str:
    return "" if value is None else str(value)
