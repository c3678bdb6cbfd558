"""The rows of a source under a contract, before anything is taken in."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from loopline.data.contracts.contract import Contract
from loopline.data.intake.admission import Quiet
from loopline.data.intake.columns import require_columns, text_columns
from loopline.data.intake.screening import judge
from loopline.data.nouns import Violation
from loopline.data.sources.parts import load_source, whole_source
from loopline.data.spec import TableSpec


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What a contract says of a source's rows."""

    table: str
    rows: int
    refused: int
    """Rows that would be set aside."""
    stops: bool
    """Whether a broken rule would stop the ingestion."""
    violations: tuple[Violation, ...]
    unjudged: tuple[str, ...]
    odd: tuple[str, ...] = ()
    """What the contract says of another table or of columns that are not there, in words."""


def check_source(project: Path, tables: Mapping[str, TableSpec], name: str, contract: Contract) -> SourceCheck:
    """Judge all rows of a table's source; references by the sources of the other tables.

    Freshness is left unjudged: it asks for the moment of an ingestion.

    Raises
    ------
    Invalid
        If the source cannot be read, or lacks a column that the contract requires.
    """
    spec = tables[name]
    rows, text = whole_source(project, spec, texts=text_columns(contract))
    require_columns(rows, name, spec, contract)
    others = {table: load_source(project, tables[table]) for table in contract.needs if table in tables}
    beside = contract.beside(others)
    typed, unreadable, _, given = Quiet(name, spec, contract)._prepared(rows, alone=True, text=text)
    checked = judge(typed, unreadable, given, name, spec, beside)
    judged = beside.counts(typed.lazy())
    unjudged = tuple(rule.id for rule in contract.rules if rule.id not in judged)
    odd = at_odds(name, contract, rows.columns)
    return SourceCheck(name, rows.height, checked.bad.height, bool(checked.stopped), checked.violations, unjudged, odd)


def at_odds(table: str, contract: Contract | None, columns: Collection[str]) -> tuple[str, ...]:
    """What a contract says of another table than `table`, or of columns that are not there, in words.

    A column that is declared, not required and absent is null in every row, which keeps each of its rules: it may
    come later, and may be a slip.
    """
    if contract is None:
        return ()
    told = []
    if contract.name != table:
        told.append(f"the schema of its contract is named {contract.name!r}, and judges {table} as the only one")
    for one in contract.columns:
        if one.name not in columns:
            near = difflib.get_close_matches(one.name, list(columns), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            told.append(f"its contract names the column {one.name!r}, which is not there: no value is judged{meant}")
    return tuple(told)
