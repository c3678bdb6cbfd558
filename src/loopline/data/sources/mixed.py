"""Columns whose values change their kind midway: kept as text, and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from loopline.data.contracts.row_texts import DAY
from loopline.data.nouns import Mixed
from loopline.data.sources.json_types import apart

FIRST = 10
"""So many values of one kind at the beginning promise that kind."""
EXAMPLES = 3
SAMPLE = 10_000
"""Values that promise a kind, of a column of a draft."""
_NUMBER = r"^(?:0|-?[1-9][0-9]*)$|^[-+]?(?:[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|[0-9]+\.|inf|NaN)$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"


def _day(column: pl.Expr) -> pl.Expr:
    shaped = column.str.contains(f"^{DAY}") & ~column.str.starts_with("0000")
    return shaped & column.str.head(10).str.to_date("%Y-%m-%d", strict=False).is_not_null()


KINDS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "numbers": lambda c: c.str.contains(_NUMBER),
    "true or false": lambda c: c.str.contains("^(?i:true|false)$"),
    "dates": lambda c: (c.str.len_bytes() == 10) & _day(c),
    "times": lambda c: c.str.contains(_TIME) & _day(c),
}
"""Kinds of values that a text can be written as, and whether it is."""


def promised(first: pl.Series) -> str | None:
    """The kind that the first values of a column of texts promise: all of the first ten, or half of all; else null."""
    values = first.drop_nulls()
    if not values.len():
        return None
    counted = values.to_frame("v").select(
        *(is_one(pl.col("v")).sum().alias(kind) for kind, is_one in KINDS.items()),
        *(is_one(pl.col("v").head(FIRST)).all().alias(f"\0{kind}") for kind, is_one in KINDS.items()),
    )
    row = counted.row(0, named=True)
    for kind in KINDS:
        if 2 * row[kind] >= values.len() or (row[f"\0{kind}"] and values.len() >= FIRST):
            return kind
    return None


def mixed_texts(
    plain: pl.LazyFrame, promises: Mapping[str, str], own: Mapping[str, pl.Expr], header: Sequence[str]
) -> list[Mixed]:
    """Of the columns of texts that promise a kind, those where values are written as another.

    Parameters
    ----------
    plain : LazyFrame
        The rows as texts, one for each line below the header.
    own : mapping
        By column, which values are of the kind that it promises, where the types of the table are narrower.
    header : sequence
        Names of all columns.
    """
    if not promises:
        return []
    fits = {name: KINDS[kind](pl.col(name)) for name, kind in promises.items()}
    fits = {name: ok | own[name] if name in own else ok for name, ok in fits.items()}
    found = _counted(plain, fits)
    if narrow := {name: own[name] for name in own if not found[name]["others"]}:  # of the kind, and not of the type
        found |= _counted(plain, narrow)

    texts = [pl.col(name).str.count_matches("\n", literal=True).sum() for name in header]
    breaks = sum(name.count("\n") for name in header)
    made = []
    for name, one in found.items():
        if not one["others"]:
            continue
        within = plain.head(one["row"]).select(pl.sum_horizontal(texts)).collect().item() or 0
        made.append(
            Mixed(
                column=name,
                kind=promises[name],
                values=int(one["values"]),
                others=int(one["others"]),
                line=int(one["row"]) + 2 + breaks + int(within),
                examples=tuple(one["examples"]),
            )
        )
    return made


def _counted(plain: pl.LazyFrame, fits: Mapping[str, pl.Expr]) -> dict[str, dict[str, Any]]:
    """Of each column, how many values fit and how many do not, where the first of these is, and some of them."""
    asked = [
        pl.struct(
            ok.sum().alias("values"),
            (~ok).sum().alias("others"),
            (~ok).fill_null(False).arg_max().alias("row"),
            pl.col(name).filter(~ok).unique(maintain_order=True).head(EXAMPLES).implode().alias("examples"),
        ).alias(name)
        for name, ok in fits.items()
    ]
    return plain.select(asked).collect(engine="streaming").row(0, named=True)


class MixedTypes:
    """Columns of JSON whose values are of several types, gathered batch by batch."""

    def __init__(self) -> None:
        self.found: dict[str, Mixed] = {}
        self._rows = 0

    def add(self, batch: pl.DataFrame) -> None:
        """Count the next rows."""
        texts, kinds = apart(batch)
        for name, given in kinds.items():
            own = given.replace("number", "integer")
            first = own.drop_nulls().head(1).to_list()
            if not first:
                continue
            before = self.found.setdefault(name, Mixed(name, NAMES.get(first[0], first[0]), 0, 0, 0))
            same = own.replace_strict(NAMES, default=own) == before.kind
            other = own.is_not_null() & ~same
            row = before.line
            if other.any() and not row:
                row = self._rows + int(other.arg_max() or 0) + 1
            shown = [*before.examples, *texts[name].filter(other).head(EXAMPLES)]
            self.found[name] = replace(
                before,
                values=before.values + int(same.sum()),
                others=before.others + int(other.sum()),
                line=row,
                examples=tuple(dict.fromkeys(shown))[:EXAMPLES],
            )
        self._rows += batch.height

    def told(self, path: Path) -> list[Mixed]:
        """What is to be said; `line` counts lines of the file, blank ones too."""
        made = [one for one in self.found.values() if one.others]
        lines = _lines(path, {one.line for one in made})
        return [replace(one, line=lines[one.line]) for one in made]


def _lines(path: Path, rows: set[int]) -> dict[int, int]:
    """The lines of rows, both counted from 1."""
    found: dict[int, int] = {}
    row = 0
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if len(found) == len(rows):
                break
            row += bool(line.strip())
            if row in rows:
                found.setdefault(row, number)
    return found


NAMES = {
    "boolean": "true or false",
    "integer": "numbers",
    "string": "texts",
    "array": "arrays",
    "object": "objects",
    "huge": "numbers beyond 64 bits",
}
