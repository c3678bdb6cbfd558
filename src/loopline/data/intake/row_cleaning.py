"""A request made a row of its table: repaired and read, in the order in which intake does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import polars as pl

from loopline.data.contracts.contract import Contract
from loopline.data.contracts.row_texts import row_reader
from loopline.data.contracts.rules import Column, LogicalType
from loopline.data.intake.cleaning import compile_cleaning, is_textual
from loopline.data.intake.columns import read_declared
from loopline.data.spec import CleanSpec

NUMBERS = ("integer", "number", "boolean")
Row = Mapping[str, Any]


def compile_row_intake(
    rules: Sequence[CleanSpec], moments: Mapping[str, Sequence[str | None]], contract: Contract | None
) -> Callable[[Row], Row]:
    """A function that does to one request what intake does to rows, before the contract judges.

    Parameters
    ----------
    rules : sequence of CleanSpec
        Repairs; `duplicates` means nothing here.
    moments : mapping
        Column to `timestamp` or `date`, and the zone of texts that carry none.
    contract : Contract, optional
        Of a column that a repair of texts names, a text is read as the type that is declared here.

    Notes
    -----
    A column that `fill` names and the request leaves out is missing, and filled. What cannot be read stays the
    text it is, for the contract to refuse.
    """
    texts = [rule for rule in rules if is_textual(rule) and rule.duplicates is None]
    values = [rule for rule in rules if not is_textual(rule) and rule.duplicates is None]
    declared = [(name, cast(LogicalType, kind), zone) for name, (kind, zone) in moments.items()]
    read = row_reader(tuple(Column(name, kind, False, zone) for name, kind, zone in declared))
    if not texts and not values:
        return read
    types = contract.types if contract is not None else {}
    numbers = {name: str(types[name]) for rule in texts for name in rule.column if types.get(name) in NUMBERS}
    absent = dict.fromkeys(name for rule in rules if rule.rule == "fill" for name in rule.column)
    clean_texts, clean_values = compile_cleaning(texts), compile_cleaning(values)

    def intake(row: Row) -> Row:
        made = read(clean_texts({**absent, **row}))
        told = {
            name: _number(value, kind) for name, kind in numbers.items() if (value := made.get(name)).__class__ is str
        }
        return clean_values({**made, **told} if told else made)

    return intake


@lru_cache(maxsize=4096)
def _number(text: str, kind: str) -> Any:
    """A text as intake reads a column of a declared type; itself where it is none."""
    frame, lost = read_declared(pl.DataFrame({"value": [text]}, schema={"value": pl.String}), _one_column(kind))
    value = frame["value"][0]
    return text if lost.width else None if value != value else value


@lru_cache(maxsize=8)
def _one_column(kind: str) -> Contract:
    return Contract("row", "", (Column("value", cast(LogicalType, kind), False),), (), {})
