"""Rows of PostgreSQL as Arrow columns, without a Python object for each value.

Taken where every column is of a type that has one meaning in both ways of reading, and the driver is installed
(`loopline[sql]`); `databases` reads whatever is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from loopline.base.errors import Invalid

PLAIN = frozenset({16, 17, 19, 20, 21, 23, 25, 700, 701, 1042, 1043, 1082, 1114, 1184, 1700})
"""Numbers of PostgreSQL's types: bool, bytea, name, integers, text, floats, char, varchar, date, times, numeric."""
_BOUND = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
"""Parameters, as SQLAlchemy finds them."""
_FIRST, _LAST = date(1, 1, 1), date(9999, 12, 31)


def fast(address: str, query: str, kinds: Sequence[int], names: Sequence[str], since: datetime) -> str | None:
    """The query with `:since` filled in, where rows can be read this way; else null."""
    if not re.match(r"postgresql(\+psycopg)?://", address) or not re.match(r"\s*(select|with)\b", query, re.IGNORECASE):
        return None
    if "\\:" in query or set(_BOUND.findall(query)) - {"since"}:
        return None
    if not set(kinds) <= PLAIN or len(set(names)) < len(names):
        return None
    try:
        import adbc_driver_postgresql  # noqa: F401
    except ImportError:
        return None
    moment = since.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    return _BOUND.sub(f"TIMESTAMPTZ '{moment}+00'", query)


def read(address: str, query: str, rows: int) -> Iterator[pl.DataFrame]:
    """The rows of a query that `fast` gave, at most `rows` at a time; whole numbers are int64, others float64, UTC.

    Raises
    ------
    Invalid
        If a moment lies outside the years 1 to 9999, such as `infinity`.
    """
    from adbc_driver_manager import AdbcConnection, AdbcStatement
    from adbc_driver_postgresql import connect
    from arro3.core import RecordBatchReader

    with (
        closing(connect(address.replace("+psycopg", "", 1))) as database,
        closing(AdbcConnection(database)) as connection,
        closing(AdbcStatement(connection)) as statement,
    ):
        statement.set_sql_query(query)
        stream: Any = RecordBatchReader.from_stream(statement.execute_query()[0])
        for batch in stream:
            for part in pl.DataFrame(batch).iter_slices(rows):
                yield _plain(part)


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns as the other way of reading gives them."""
    columns = []
    for series in frame:
        kind = series.dtype
        if kind.is_integer():
            series = series.cast(pl.Int64)
        elif kind.is_float():
            series = series.cast(pl.Float64)
        elif isinstance(kind, pl.Datetime | pl.Date):
            days = series.to_physical() if kind == pl.Date else series.dt.timestamp("us") // 86_400_000_000
            if not days.is_between(_day(_FIRST), _day(_LAST)).all():
                raise Invalid(
                    f"column {series.name} holds a moment outside the years 1 to 9999",
                    why="infinity and such are no moments here",
                    fix=f"give null for them in a query: NULLIF({series.name}, 'infinity')",
                )
        elif not (kind == pl.Boolean or kind == pl.String or kind == pl.Binary):  # numeric, which comes as text
            series = series.ext.storage().cast(pl.Float64)
        columns.append(series)
    return pl.DataFrame(columns)


def _day(day: date) -> int:
    return (day - date(1970, 1, 1)).days
