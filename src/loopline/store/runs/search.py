"""Search: which index leads, and pages that hold while rows come and go.

Two ways through a part (one experiment, one stage). In order: walk the index of what is sorted by, test each run,
stop when the page is full. Selected: take what the rarest comparison finds, test the rest, sort. The first is
cheap when much fits, the second when little does; a bounded count of the rarest decides.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from loopline.base.errors import Invalid
from loopline.store.runs import tokens
from loopline.store.runs.compiling import RANGES, Driver, SortKey, Statement
from loopline.store.runs.filters import Compare, Term, Tree, comparisons, parse, parse_order
from loopline.store.runs.targets import Target

LIMIT = 1_000_000
TERMS = 20
_FEW = 50
"""So many candidates are sorted, whatever the order."""

Data = tuple[str | None, str | None]


def search(
    connection: sqlite3.Connection,
    target: Target,
    parts: Sequence[tuple[Any, ...]],
    filter: str,
    order_by: Sequence[str | Term],
    limit: int,
    token: str | None,
    datasets: Sequence[Data] = (),
) -> tuple[list[int], str | None]:
    """Numbers of what fits, in order, and the token of the next page (null on the last).

    Parameters
    ----------
    parts : sequence of tuple
        Values of the columns that partition the target; each is searched by itself.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT:
        raise Invalid(
            f"{limit!r:.100} entries were asked for",
            why=f"a page has 1 to {LIMIT:,}",
            fix="ask for a whole number in between",
        )
    if len(order_by) > TERMS:
        raise Invalid(f"an order of {len(order_by)} terms", why=f"it may have {TERMS}", fix="leave some out")
    tree = parse(filter)
    terms = [parse_order(term) if isinstance(term, str) else term for term in order_by]
    asked = tokens.question(target.what, sorted(map(str, parts)), filter, [str(term) for term in terms], datasets)
    keys, _ = Statement(connection, target).sort_keys(terms)
    place = tokens.read(token, asked, [key.type for key in keys]) if token else None
    if tree is not None:  # an impossible filter is told even where nothing could fit
        Statement(connection, target, datasets).condition(tree)
    rows: list[tuple[Any, ...]] = []
    for part in dict.fromkeys(parts):
        rows += _part(connection, target, part, tree, terms, limit + 1, place, datasets)
    if len(parts) > 1:
        for column, key in reversed(list(enumerate(keys, 1))):
            rows.sort(key=itemgetter(column), reverse=key.descending)
    following = tokens.write(asked, rows[limit - 1][1:]) if len(rows) > limit else None
    return [row[0] for row in rows[:limit]], following


def count(connection: sqlite3.Connection, target: Target, parts: Sequence[tuple[Any, ...]], filter: str) -> int:
    """How many fit."""
    tree = parse(filter)
    total = 0
    for part in dict.fromkeys(parts):
        statement = Statement(connection, target)
        source, where = part_of(statement, connection, target, part, tree)
        total += connection.execute(f"SELECT count(*) FROM {source} WHERE {where}", statement.values).fetchone()[0]
    return total


def part_of(
    statement: Statement, connection: sqlite3.Connection, target: Target, part: tuple[Any, ...], tree: Tree | None
) -> tuple[str, str]:
    """FROM and WHERE for all of a part that fits, led by the rarest comparison."""
    driver = None if tree is None else _rarest(connection, target, part, tree, LIMIT)[0]
    return _source(statement, target, part, tree, driver)


def _part(
    connection: sqlite3.Connection,
    target: Target,
    part: tuple[Any, ...],
    tree: Tree | None,
    terms: Sequence[Term],
    n: int,
    place: Sequence[Any] | None,
    datasets: Sequence[Data],
) -> list[tuple[Any, ...]]:
    """The first `n` rows of a part after a place: numbers, with what they are sorted by."""
    first = terms[0] if terms else None
    walk = first is not None and first.kind == "metric" and target.keyed["metric"].indexes is not None
    driver: Compare | None = None
    if tree is not None:
        (highest,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {target.table}").fetchone()
        most = max(_FEW, math.isqrt(n * highest)) if walk or not terms else LIMIT
        driver, found = _rarest(connection, target, part, tree, most)
        if found >= most:
            driver = None
    if walk and driver is None and first is not None:
        return _in_order(connection, target, part, tree, terms, n, place)
    statement = Statement(connection, target, datasets)
    keys, joins = statement.sort_keys(terms)
    source, where = _source(statement, target, part, tree, driver)
    if place is not None:
        where += f" AND {statement.after(keys, place)}"
    return _rows(connection, statement, f"{source}{joins}", where, keys, n)


def _in_order(
    connection: sqlite3.Connection,
    target: Target,
    part: tuple[Any, ...],
    tree: Tree | None,
    terms: Sequence[Term],
    n: int,
    place: Sequence[Any] | None,
) -> list[tuple[Any, ...]]:
    """Walk the index of the metric that is sorted by: numbers, then NaN, then the runs that lack it."""
    first, keyed = terms[0], target.keyed["metric"]
    ranges = [one for one in comparisons(tree) if (one.kind, one.key) == ("metric", first.key) and one.op in RANGES]
    rows: list[tuple[Any, ...]] = []
    for rank in range(max(0, place[0]) if place else 0, 1 if ranges else 3):
        statement = Statement(connection, target)
        rest, joins = statement.sort_keys(terms[1:])
        value = SortKey("o.value" if rank == 0 else "0", first.descending if rank == 0 else False, float)
        keys = [SortKey(str(rank), False, int), value, *rest]
        source, where = _source(statement, target, part, tree, None)
        key = statement.key(first.key)
        if rank == 2:
            where += f" AND NOT EXISTS (SELECT 1 FROM {keyed.table} o WHERE o.{keyed.owner} = r.id AND o.key = {key})"
        else:
            where += f" AND o.experiment = {statement.bind(part[0])} AND o.key = {key}"
            where += f" AND o.value IS {'NOT NULL' if rank == 0 else 'NULL'}"
            where += "".join(f" AND o.value {one.op} {statement.bind(one.value)}" for one in ranges if rank == 0)
            source = f"{keyed.table} o INDEXED BY {keyed.indexes[0]} CROSS JOIN runs r ON r.id = o.run"  # type: ignore[index]
        if place is not None and int(place[0]) == rank:
            where += f" AND {statement.after(keys[1:] if rank == 0 else keys[2:], place[1 if rank == 0 else 2 :])}"
        rows += _rows(connection, statement, f"{source}{joins}", where, keys, n - len(rows))
        if len(rows) >= n:
            break
    return rows


def _source(
    statement: Statement, target: Target, part: tuple[Any, ...], tree: Tree | None, driver: Compare | None
) -> tuple[str, str]:
    """FROM and WHERE for a part and a filter."""
    conditions = [f"r.{column} = {statement.bind(value)}" for column, value in zip(target.partition, part, strict=True)]
    if target.only:
        conditions.append(target.only)
    if tree is not None:
        conditions.append(statement.condition(tree))
    source = f"{target.table} r"
    found: Driver | None = statement.driver(driver, part[0]) if driver is not None else None
    if found is not None:
        source = f"{found.source} CROSS JOIN {target.table} r ON r.id = d.run"
        conditions.append(found.where)
    return source, " AND ".join(conditions)


def _rows(
    connection: sqlite3.Connection,
    statement: Statement,
    source: str,
    where: str,
    keys: Sequence[SortKey],
    n: int,
) -> list[tuple[Any, ...]]:
    order = ", ".join(f"{key.sql} DESC" if key.descending else key.sql for key in keys if not key.sql.isdigit())
    columns = ", ".join(key.sql for key in keys)
    sql = f"SELECT r.id, {columns} FROM {source} WHERE {where} ORDER BY {order} LIMIT {statement.bind(n)}"
    return connection.execute(sql, statement.values).fetchall()


def _rarest(
    connection: sqlite3.Connection, target: Target, part: tuple[Any, ...], tree: Tree, most: int
) -> tuple[Compare | None, int]:
    """The comparison that an index finds the fewest candidates for, and how many, up to `most`."""
    best: tuple[Compare | None, int] = (None, most)
    for comparison in comparisons(tree):
        statement = Statement(connection, target)
        driver = statement.driver(comparison, part[0])
        if driver is not None:
            (found,) = connection.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM {driver.source} WHERE {driver.where}"
                f" LIMIT {statement.bind(best[1])})",
                statement.values,
            ).fetchone()
            if found < best[1]:
                best = (comparison, found)
    return best
