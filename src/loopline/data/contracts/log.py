"""A contract over the windows of a log: the same rules, by time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.contracts import judging
from loopline.data.contracts.contract import Contract

WINDOW, ROWS = "window", "rows"


def check_log(
    contract: Contract,
    log: pl.LazyFrame | pl.DataFrame,
    *,
    time: str = "decision_time",
    every: timedelta = timedelta(days=1),
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """How often each rule is broken in each window of a log, in one pass.

    Parameters
    ----------
    log : frame
        Rows with a time; more columns than the contract knows do not matter.
    time : str
        UTC time that a row belongs to a window by; rows without one are left out.
    every : timedelta
        Length of a window; windows begin at multiples of it since 1970.
    since, until : datetime, optional
        Rows in [since, until) only.
    columns : mapping, optional
        Where a column of the contract has another name in the log: name to name.

    Returns
    -------
    DataFrame
        `window` (its beginning, UTC), `rows`, `rule`, `column` (null where a rule has
        several), `severity`, `broken` (as `Contract.counts`). One row for each window
        with rows and each judged rule, ordered by window and contract. Freshness is
        judged at the end of the window.

    Raises
    ------
    Invalid
        If the log has no such time.
    """
    rows = log.lazy()
    schema = rows.collect_schema()
    if not isinstance(schema.get(time), pl.Datetime) or schema[time].time_zone is None:  # type: ignore[attr-defined]
        raise Invalid(
            f"the log has no time {time!r} with a zone",
            why=f"windows are cut by it; the log has {', '.join(schema.names()) or 'no columns'}",
            fix="name a column of times in UTC",
        )
    if since is not None:
        rows = rows.filter(pl.col(time) >= since)
    if until is not None:
        rows = rows.filter(pl.col(time) < until)
    start = pl.col(time).dt.convert_time_zone("UTC").dt.cast_time_unit("us").dt.truncate(every)
    wanted = {column.name: (columns or {}).get(column.name, column.name) for column in contract.columns}
    there = {name: source for name, source in wanted.items() if source in schema}
    narrowed = rows.filter(pl.col(time).is_not_null()).select(
        start.alias("\0window"), *(pl.col(source).alias(name) for name, source in there.items())
    )
    exprs, totals = judging.query(contract, {name: schema[source] for name, source in there.items()})
    found = narrowed.group_by("\0window").agg(exprs).sort("\0window").collect()
    rules = {rule.id: rule for rule in contract.rules}
    out: list[tuple[object, ...]] = []
    for row in found.iter_rows(named=True):
        window, total = row.pop("\0window"), int(row["\0rows"])
        begin = window.astimezone(UTC)
        counts = judging.gathered(replace(contract, at=begin + every), row, totals, total)
        out += [(begin, total, id, rules[id].column, rules[id].severity, count) for id, count in counts.items()]
    kinds: dict[str, Any] = {
        WINDOW: pl.Datetime("us", "UTC"),
        ROWS: pl.Int64,
        "rule": pl.String,
        "column": pl.String,
        "severity": pl.String,
        "broken": pl.Int64,
    }
    return pl.DataFrame(out, schema=kinds, orient="row")


def broken_by_rule(log: pl.LazyFrame | pl.DataFrame, *, column: str = "broken") -> dict[str, int]:
    """How often the rows of a log say that they broke each rule when they came as requests."""
    told = log.lazy().select(pl.col(column).list.explode().drop_nulls().alias("rule"))
    tally = told.group_by("rule").len("n").sort("rule").collect()
    return {str(rule): int(n) for rule, n in tally.rows()}
