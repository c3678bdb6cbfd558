"""The types of CSV columns: guessed from the first lines, then held against all of them.

A guess over every line costs twenty times as much as reading the file does.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from loopline.data.contracts.row_texts import DAY
from loopline.data.nouns import Mixed
from loopline.data.sources.mixed import mixed_texts, promised

SAMPLE = 10_000
"""Lines, or values of a column that is empty there, from which types are guessed."""
_WHOLE = r"^(?:0|-?[1-9][0-9]*)$"
"""A whole number as one is written: no leading zero, no sign but minus."""
_DIGITS = r"^-?[0-9]+$"
_NUMBER = r"^-?[0-9]{1,18}$|^[-+]?(?:[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|[0-9]+\.|inf|NaN)$"
_SHORT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
_DATE = f"^{DAY}$|^[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}}$|^[0-9]{{2}}([-/])[0-9]{{2}}[-/][0-9]{{4}}$"
_EDGE = "^0000-|^(?:0001-01-01[T ][0-9:.]*[+]|9999-12-31[T ][0-9:.]*-)(?:0[1-9]|[12]|00:?[1-9])"
"""Begins what may be a moment of no year from 1 to 9999: such a column is read with its texts."""
_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class CsvTypes:
    """How the columns of a CSV file are read."""

    types: dict[str, pl.DataType]
    moments: frozenset[str] = frozenset()
    """Of the columns, those whose every value is written 2026-01-31T12:00:00Z, which is quick to read."""
    complete: bool = False
    """Whether the last field is there in each line, so that none is short."""
    mixed: tuple[Mixed, ...] = ()
    """Columns that are text because their values are not all of the kind that most, or the first, are of."""

    def scan(self, path: Path, separator: str) -> pl.LazyFrame:
        """The rows of the file in these types."""
        types = self.types | dict.fromkeys(self.moments, pl.String())
        rows = _scan(path, separator, types, dates=True)
        return rows.with_columns(_moment(c) for c in self.moments)


def csv_types(path: Path, separator: str, texts: Collection[str] = ()) -> CsvTypes:
    """The type of each column, such that every value is written as values of it are; else text.

    The file can be read in them. Columns that `texts` names are text, whatever they look like.

    Raises
    ------
    PolarsError
        If the file cannot be read as CSV.
    """
    try:
        return _quick(path, separator, texts)
    except pl.exceptions.PolarsError:  # a moment that is none, or lines of different lengths
        return _slow(path, separator, texts)


def _slow(path: Path, separator: str, texts: Collection[str]) -> CsvTypes:
    found = _guessed(path, separator, None)
    found |= {c: pl.String() for c in found if c in texts}
    plain = _scan(path, separator, {})
    try:
        head = plain.head(SAMPLE).collect()
        plain.select(pl.len()).collect(engine="streaming")
    except pl.exceptions.PolarsError:  # it is refused for its lines
        return CsvTypes(found)
    for name in [c for c, kind in found.items() if kind.is_temporal()]:
        try:
            _scan(path, separator, {name: found[name]}, dates=True).select(pl.col(name).null_count()).collect(
                engine="streaming"
            )
        except pl.exceptions.PolarsError:
            found[name] = pl.String()
    return CsvTypes(found, mixed=_mixed(plain, head, found, {}, texts))


def _quick(path: Path, separator: str, texts: Collection[str]) -> CsvTypes:
    plain = _scan(path, separator, {})
    head = plain.head(SAMPLE).collect()
    found = _guessed(path, separator, SAMPLE)
    found |= {c: pl.String() for c in found if c in texts}
    late = [c for c in found if head.height == SAMPLE and c not in texts and head[c].null_count() == SAMPLE]
    firsts = {c: head[c] for c in found}
    for name in late:
        values = plain.select(name).drop_nulls().head(SAMPLE).collect()
        if values.height:
            found |= _guessed(io.BytesIO(values.write_csv().encode()), ",", SAMPLE)
            firsts[name] = values[name]
    last = list(found)[-1]
    checks = [check.all().alias(c) for c, kind in found.items() if (check := _written(c, kind)) is not None]
    short = [_is_moment(c).all().alias(f"\0{c}") for c, kind in found.items() if kind == _UTC]
    asked = plain.select(*checks, *short, pl.col(last).null_count().alias("\0"))
    row = asked.collect(engine="streaming").row(0, named=True)
    moments = frozenset(c for c in found if row.get(f"\0{c}"))
    lost = [c for c in found if row.get(c) is False]
    wider = [c for c in lost if found[c].is_integer()]
    guessed = dict(found)
    found |= dict.fromkeys(lost, pl.String())
    if wider:
        whole, numbers, digits = (
            plain.select(pl.col(wider).str.contains(form).all()).collect(engine="streaming").row(0, named=True)
            for form in (_WHOLE, _NUMBER, _DIGITS)
        )
        found |= {c: pl.Int128() for c in wider if whole[c]}
        found |= {c: pl.Float64() for c in wider if numbers[c] and not digits[c]}
    if odd := {c: kind for c, kind in found.items() if kind.is_temporal() and c not in moments}:
        _scan(path, separator, odd, dates=True).select(pl.col(list(odd)).null_count()).collect(engine="streaming")
    mixed = _mixed(plain, firsts, found, {c: guessed[c] for c in lost}, texts)
    return CsvTypes(found, moments, row["\0"] == 0, mixed)


def _mixed(
    plain: pl.LazyFrame,
    firsts: Mapping[str, pl.Series] | pl.DataFrame,
    found: Mapping[str, pl.DataType],
    lost: Mapping[str, pl.DataType],
    texts: Collection[str],
) -> tuple[Mixed, ...]:
    """The columns that became text though their values, or the first of them, promise something else."""
    there = [c for c, kind in found.items() if kind == pl.String and c not in texts]
    promises = {c: kind for c in there if (kind := promised(firsts[c])) is not None}
    own = {c: check for c in promises if c in lost and (check := _written(c, lost[c])) is not None}
    return tuple(mixed_texts(plain, promises, own, list(found)))


_UTC = pl.Datetime("us", "UTC")


def _scan(path: Path, separator: str, types: dict[str, pl.DataType], *, dates: bool = False) -> pl.LazyFrame:
    return pl.scan_csv(
        path, separator=separator, infer_schema=False, schema_overrides=types, try_parse_dates=dates, glob=False
    )


def _guessed(source: Path | io.BytesIO, separator: str, lines: int | None) -> dict[str, pl.DataType]:
    scan = pl.scan_csv(source, separator=separator, try_parse_dates=True, infer_schema_length=lines, glob=False)
    return dict(scan.collect_schema())


def _moment(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime(_FORM, time_unit="us", time_zone="UTC", strict=False)


def _is_moment(name: str) -> pl.Expr:
    return (
        pl.col(name).str.contains(_SHORT)
        & ~pl.col(name).str.starts_with("0000-")
        & (_moment(name).is_not_null() | pl.col(name).is_null())
    )


def _written(name: str, kind: pl.DataType) -> pl.Expr | None:
    """Whether values are written as those of a type are; null where any text will do."""
    column = pl.col(name)
    if kind.is_integer():
        return column.str.contains(_WHOLE) & (column.cast(kind, strict=False).is_not_null() | column.is_null())
    if kind.is_float():
        return column.str.contains(_NUMBER)
    if kind == pl.Boolean:
        return column.str.contains("^(?i:true|false)$")
    if kind == pl.Date:
        return column.str.contains(_DATE) & ~column.str.starts_with("0000")
    if isinstance(kind, pl.Datetime):
        return (column.str.len_bytes() > 10) & ~column.str.contains(_EDGE)
    return None
