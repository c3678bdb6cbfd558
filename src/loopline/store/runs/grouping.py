"""Runs put together by what they have in common, with the spread of their metrics."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from loopline.base.errors import Invalid
from loopline.store.runs.compiling import Statement
from loopline.store.runs.filters import Term, parse, parse_order
from loopline.store.runs.protocol import Group, Spread
from loopline.store.runs.search import part_of
from loopline.store.runs.targets import RUNS

METRICS = 20
"""Of one question at most: each is a join."""


def group(
    connection: sqlite3.Connection, parts: Sequence[tuple[Any, ...]], by: str, filter: str, metrics: Sequence[str]
) -> list[Group]:
    """Groups of the runs that fit, the largest first; those that lack the field are the group of null.

    Parameters
    ----------
    by : str
        A param, a tag or an attribute, as a filter writes it.
    metrics : sequence of str
        Keys whose latest values are summed up; NaN does not count.

    Raises
    ------
    Invalid
        If nothing can be grouped by `by`, or the filter is not of the language.
    """
    term, tree = parse_order(by), parse(filter)
    if term.kind not in ("param", "tag", "attribute"):
        raise Invalid(
            f"runs cannot be grouped by {by!r:.100}",
            why="groups are of runs that share a text: a param, a tag or an attribute",
            fix="write for example params.optimizer",
        )
    if len(metrics) > METRICS:
        raise Invalid(f"the spread of {len(metrics)} metrics", why=f"it may be of {METRICS}", fix="leave some out")
    found: dict[Any, list[list[Any]]] = {}
    for part in dict.fromkeys(parts):
        statement = Statement(connection, RUNS)
        value, joins, columns = _value(statement, term)
        for place, key in enumerate(metrics):
            joins += f" LEFT JOIN latest m{place} ON m{place}.run = r.id AND m{place}.key = {statement.key(key)}"
            columns += "".join(f", {what}(m{place}.value)" for what in ("count", "total", "min", "max"))
        source, where = part_of(statement, connection, RUNS, part, tree)
        rows = connection.execute(
            f"SELECT {value}, count(*){columns} FROM {source}{joins} WHERE {where} GROUP BY 1", statement.values
        )
        for told, *numbers in rows:
            found.setdefault(told, []).append(numbers)
    groups = [
        Group(None if told is None else str(told), sum(row[0] for row in rows), _spreads(metrics, rows))
        for told, rows in found.items()
    ]
    return sorted(groups, key=lambda one: (-one.runs, one.value is None, one.value or ""))


def _value(statement: Statement, term: Term) -> tuple[str, str, str]:
    """What is grouped by, the join it needs, and further columns (none yet)."""
    if term.kind == "attribute":
        return statement.attribute(term.key)[0], "", ""
    table = RUNS.keyed[term.kind].table
    return "g.value", f" LEFT JOIN {table} g ON g.run = r.id AND g.key = {statement.key(term.key)}", ""


def _spreads(metrics: Sequence[str], rows: list[list[Any]]) -> dict[str, Spread]:
    """The spread of each metric over the parts that a group has runs in."""
    found = {}
    for place, key in enumerate(metrics):
        own = [row[1 + 4 * place : 5 + 4 * place] for row in rows if row[1 + 4 * place]]
        if own:
            n = sum(one[0] for one in own)
            mean = sum(math.nan if one[1] is None else one[1] for one in own) / n
            found[key] = Spread(n, mean, min(one[2] for one in own), max(one[3] for one in own))
    return found
