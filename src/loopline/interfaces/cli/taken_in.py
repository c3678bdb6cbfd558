"""What is said of rows that came in: everything about them that is out of the ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopline.data.nouns import Ingestion, Mixed
    from loopline.loop.project import Project
    from loopline.workspace import Workspace


def told(ws: Workspace, found: Project, taken: Sequence[Ingestion]) -> list[str]:
    """Repairs, rows that came late or stay out, columns that changed, and rules that were broken, line by line."""
    tables = found.spec.data
    lines = [f"{i.table}: {count:,} values repaired by {rule}" for i in taken for rule, count in i.cleaned.items()]
    lines += [f"{i.table}: {i.gone:,} keys are gone" for i in taken if i.gone]
    lines += [
        f"{i.table}: {i.late:,} rows came late (their source says a time before the last ingestion): "
        f"they are known from now on, and their own time stays in {tables[i.table].known_at}_given"
        for i in taken
        if i.late
    ]
    lines += [
        f"{i.table}: {i.superseded:,} rows came late and stay out: newer ones of their keys are known already"
        for i in taken
        if i.superseded
    ]
    lines += [
        f"{i.table}: {i.differing:,} rows differ from what is known under the same key and time; "
        f"they were not taken: give them a later {tables[i.table].known_at}"
        for i in taken
        if i.differing
    ]
    lines += [
        f"{i.table}: its source no longer has the column {column}; it did until {at:%Y-%m-%d %H:%M} UTC"
        for i in taken
        for column, at in i.lost.items()
    ]
    lines += [
        f"{i.table}: {i.expired:,} rows are as old as those that were let go of, and stay out"
        for i in taken
        if i.expired
    ]
    lines += [f"{i.table}: {line}" for i in taken if i.rows + i.quarantined for line in _at_odds(ws, found, i)]
    lines += [line for i in taken for m in i.mixed for line in mixed_lines(i.table, m)]
    lines += [f"{i.table}: {i.waiting:,} rows say that they become known later, and wait" for i in taken if i.waiting]
    lines += [
        f"{i.table}: rule {v.rule} broken {v.count:,} times"
        + (f", for example {', '.join(map(repr, v.examples[:3]))}" if v.examples else "")
        for i in taken
        for v in i.violations
    ]
    return lines


def _at_odds(ws: Workspace, found: Project, taken: Ingestion) -> tuple[str, ...]:
    """What the contract of a table says that its rows know nothing of."""
    from loopline.data.contracts.contract import contract_of
    from loopline.data.intake.contract_source import at_odds

    contract = contract_of(found.root, taken.table, found.spec.data[taken.table])
    return at_odds(taken.table, contract, ws.tables.scan(taken.table).collect_schema().names())


def mixed_lines(table: str, found: Mixed) -> list[str]:
    """What is said of a column that is text for values of several kinds."""
    shown = f": {', '.join(map(repr, found.examples))}" if found.examples else ""
    return [
        f"{table}: column {found.column} is kept as text: {found.values:,} of its values are {found.kind}, "
        f"{found.others:,} are not, first in line {found.line:,} of {found.source}{shown}",
        f"  if it is to be {found.kind}, declare its logicalType in a contract (loopline data contract draft {table}), "
        "and give the table another name, as a column keeps its type: what is not one is set aside then",
    ]
