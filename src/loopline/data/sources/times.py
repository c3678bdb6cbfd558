"""Times of sources, brought to UTC with zone; a missing zone is never guessed."""

from __future__ import annotations

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.contracts.column_texts import UTC_TIME, beyond, read_times
from loopline.data.contracts.contract import Contract
from loopline.data.spec import TableSpec


def to_utc(frame: pl.DataFrame, table: str, spec: TableSpec, contract: Contract | None) -> pl.DataFrame:
    """Every time as UTC microseconds.

    A time without zone takes the one that the contract (`defaultTimezone`) or the
    table (`zone`) declares. A calendar date as `event_time` is its first moment,
    as `known_at` its end, because during that day it was not known for sure; both
    in the declared zone, UTC without one. Text is read as RFC 3339 where a time is
    declared.

    Raises
    ------
    Invalid
        If a time carries no zone and none is declared, if a local time does not
        exist or is ambiguous, or if text is no time.
    """
    changes: list[pl.Series] = []
    for name, dtype in frame.schema.items():
        role = name in (spec.event_time, spec.known_at)
        zone = (contract.zone(name) if contract else None) or spec.zone
        if role and dtype == pl.String:
            read = read_times(frame[name], zone)
            lost = frame[name].filter(read.is_null() & frame[name].is_not_null())
            if lost.len():
                if lost[0].strip().count("-") == 2 and len(lost[0].strip()) == 10 and lost.len() < frame[name].count():
                    raise Invalid(
                        f"{table}.{name} holds dates and times, for example {lost[0]!r} ({lost.len():,} dates)",
                        why="a date is a whole day and a time is a moment; one column means one of them",
                        fix=f"write the dates as times, for example {lost[0].strip()}T00:00:00Z",
                    )
                raise Invalid(
                    f"{table}.{name}: {lost[0]!r} is not a time with zone ({lost.len():,} such values)",
                    why=f"{name} is declared as a time of the table, and a zone is never guessed",
                    fix=f"write times as 2026-01-31T12:00:00Z, or declare `zone: UTC` for table {table}",
                )
            changes.append(read)
        elif role and dtype == pl.Date:
            late = pl.duration(days=1) if name == spec.known_at else pl.duration(days=0)
            local = frame.select((pl.col(name) + late).cast(pl.Datetime("us"))).to_series()
            changes.append(_localised(local, table, zone or "UTC"))
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            if zone is None:
                raise Invalid(
                    f"{table}.{name} carries no time zone, for example {frame[name].drop_nulls().first()!s}",
                    why="Loopline never guesses a zone",
                    fix=f"declare `zone: UTC` (or another) for table {table} under data in loop.yaml, "
                    "or defaultTimezone in its contract",
                )
            changes.append(_localised(frame[name].dt.cast_time_unit("us"), table, zone))
        elif isinstance(dtype, pl.Datetime) and dtype != UTC_TIME:
            changes.append(frame[name].dt.convert_time_zone("UTC").dt.cast_time_unit("us"))
        elif role and dtype != UTC_TIME and dtype != pl.Null:
            raise Invalid(
                f"{table}.{name} is {dtype}, not a time",
                why="event_time and known_at are moments",
                fix="give times with zone, for example 2026-01-31T12:00:00Z",
            )
        elif role and dtype == pl.Null:
            changes.append(frame[name].cast(UTC_TIME))
    made = frame.with_columns(changes) if changes else frame
    for column in made.get_columns():
        if (far := beyond(column)) is not None:
            raise Invalid(
                f"{table}.{column.name} names {int(far.sum()):,} times outside the years 1 to 9999",
                why="no request, and no model, can name such a time",
                fix=f"write null there, or declare {column.name} in a contract of {table}: it sets such rows aside",
            )
    return made


def _localised(local: pl.Series, table: str, zone: str) -> pl.Series:
    there = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    lost = local.filter(there.is_null() & local.is_not_null())
    if lost.len():
        raise Invalid(
            f"{table}.{local.name}: {lost[0]} does not name one moment in {zone} ({lost.len():,} such values)",
            why="clocks change there: a local time may come twice, or never",
            fix="give these times with their offset, for example 2026-10-25T02:30:00+01:00",
        )
    return there.dt.convert_time_zone("UTC")
