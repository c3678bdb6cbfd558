"""Rows of databases: a cursor that streams, batch by batch into Arrow columns.

Any SQLAlchemy address works when its driver is installed, with one meaning: NULL is
null, NUMERIC is a float, JSON and UUID are text. PostgreSQL gives Arrow columns
itself where the types allow it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from loopline.base.errors import Invalid, LooplineError, NotFound, Unavailable, install
from loopline.base.settings import secret
from loopline.data.sources import arrow_databases
from loopline.data.spec import SourceSpec

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_PARTS = re.compile(r"[^.\"`\[\]]+")


def read(source: SourceSpec, since: datetime | None, rows: int) -> Iterator[pl.DataFrame]:
    """The rows of a table or query, `rows` at a time.

    Parameters
    ----------
    since : datetime, optional
        What `:since` in the query stands for; 1970 without it.

    Raises
    ------
    NotFound
        If an environment variable that the address names is not set, or the table is absent.
    Unavailable
        If the database does not answer, or its driver is not installed.
    Invalid
        If the query is refused, or a column holds values of several types.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    address = _address(source)
    try:
        engine = create_engine(address)
    except (NoSuchModuleError, ImportError) as error:
        raise Unavailable(
            f"{source} cannot be read: {str(error).splitlines()[0]}",
            why="the driver of this kind of database is not installed",
            fix=f"{install('sql')}; or install the driver that SQLAlchemy names for it",
        ) from error
    except SQLAlchemyError as error:
        raise _refused(source, error) from error
    try:
        with engine.connect().execution_options(stream_results=True, yield_per=rows) as connection:
            result = connection.execute(*_statement(source, since, engine))
            names = list(result.keys())
            found = False
            frames = _arrow(address, source, since, engine, result, rows) or _row_by_row(result, names, source, rows)
            for frame in frames:
                found = found or frame.height > 0
                yield frame
            if not found:
                yield pl.DataFrame(schema=dict.fromkeys(names, pl.Null))
    except LooplineError:
        raise
    except SQLAlchemyError as error:
        raise _refused(source, error) from error
    finally:
        engine.dispose()


def _row_by_row(result: Any, names: list[str], source: SourceSpec, rows: int) -> Iterator[pl.DataFrame]:
    for at, part in enumerate(result.partitions(rows)):
        yield _frame(names, part, source, at * rows)


def _arrow(
    address: str, source: SourceSpec, since: datetime | None, engine: Any, result: Any, rows: int
) -> Iterator[pl.DataFrame] | None:
    """The rows as Arrow columns; null where they cannot be had this way, or the first of them do not come."""
    cursor = result.cursor.description or ()
    query = str(_statement(source, since, engine)[0])
    quick = arrow_databases.fast(address, query, [c[1] for c in cursor], [c[0] for c in cursor], since or _BEGINNING)
    if quick is None:
        return None
    frames = arrow_databases.read(address, quick, rows)
    try:
        first = next(frames, None)
    except LooplineError:
        raise
    except Exception:  # whatever the driver says: the other way of reading asks again, and tells what is wrong
        return None
    result.close()
    return _going_on(source, first, frames)


def _going_on(source: SourceSpec, first: pl.DataFrame | None, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    try:
        if first is not None:
            yield first
            yield from frames
    except LooplineError:
        raise
    except Exception as error:
        raise _refused(source, error) from error


def _address(source: SourceSpec) -> str:
    def named(match: re.Match[str]) -> str:
        from urllib.parse import quote

        found = secret(match[1])
        if found is None:
            raise NotFound(
                f"the environment has no {match[1]}",
                why=f"the address {source.url} names it",
                fix=f"export {match[1]}=...",
            )
        return quote(found, safe="")

    # SQLAlchemy would look for the driver's predecessor first.
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", _NAME.sub(named, source.url))


def _statement(source: SourceSpec, since: datetime | None, engine: Any) -> tuple[Any, ...]:
    from sqlalchemy import text

    if source.query is not None:
        wanted = {"since": since or _BEGINNING} if re.search(r"(?<!:):since\b", source.query) else {}
        return text(source.query), wanted
    quote = engine.dialect.identifier_preparer.quote
    return (text("SELECT * FROM " + ".".join(quote(part) for part in _PARTS.findall(source.table or ""))),)


def _frame(names: list[str], rows: Any, source: SourceSpec, before: int) -> pl.DataFrame:
    columns = []
    for name, given in zip(names, zip(*rows, strict=True), strict=True):
        values = [_plain(value) for value in given]
        if any(isinstance(v, float) for v in values):
            values = [float(v) if type(v) is int else v for v in values]
        try:
            columns.append(pl.Series(name, values, strict=True))
        except (TypeError, pl.exceptions.PolarsError, OverflowError) as error:
            raise Invalid(
                f"column {name} of {source} holds values of several types (rows {before + 1} to {before + len(rows)})",
                why=str(error).splitlines()[0],
                fix=f"give it one type in a query: SELECT CAST({name} AS TEXT) AS {name}, ...",
            ) from error
    return pl.DataFrame(columns)


def _plain(value: Any) -> Any:
    """A value as columns keep it."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, datetime, date)):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)


def _refused(source: SourceSpec, error: Exception) -> LooplineError:
    from sqlalchemy.exc import DatabaseError, OperationalError

    said = (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0][:300]
    text = said.lower()
    if "no such table" in text or "does not exist" in text or "undefinedtable" in text:
        return NotFound(f"{source} is not there: {said}", why="the database says so", fix="correct the source")
    if isinstance(error, DatabaseError) and not isinstance(error, OperationalError):
        return Invalid(f"{source} was refused: {said}", why="the database says so", fix="correct the query")
    return Unavailable(
        f"{source} cannot be read: {said}",
        why="the database did not answer, or did not let us in; nothing was taken in",
        fix="check address and credentials (they come from the environment), then ingest again",
    )
