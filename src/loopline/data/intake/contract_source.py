"""The rows of a source under a contract, before anything is taken in."""

from __future__ import annotations

from collections.abc import Mapping
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
    return SourceCheck(name, rows.height, checked.bad.height, bool(checked.stopped), checked.violations, unjudged)
