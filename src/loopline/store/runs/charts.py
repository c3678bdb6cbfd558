"""A series thinned to be drawn, from a coarse level that is read in milliseconds whatever its length."""

from __future__ import annotations

import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from math import isfinite, nan
from operator import le, ne
from typing import Literal

from loopline.base.errors import Invalid
from loopline.store.runs import packing, series
from loopline.store.runs.packing import Columns, Groups
from loopline.store.runs.protocol import Chart

EXACT = 16_384
"""Up to so many points a bucket holds exactly the points of its range; beyond, neighbours count as one."""
BUCKETS = 10_000
_GROUPS_EACH = 4
"""Groups of a bucket at least, so that an edge is off by a quarter of a bucket at most."""


def chart(
    connection: sqlite3.Connection,
    run: int,
    key: int,
    buckets: int,
    by: Literal["step", "time"] = "step",
    within: tuple[int, int] | None = None,
) -> Chart:
    """The series in `buckets` equal ranges of steps or times; those without points are left out.

    A series of no more points than buckets is given point by point. `within` gives the first and last step (or
    time) that is drawn; the fewer points lie between them, the finer they are.

    Raises
    ------
    Invalid
        If `buckets` or `by` is nothing that can be drawn.
    """
    if isinstance(buckets, bool) or not isinstance(buckets, int) or not 1 <= buckets <= BUCKETS:
        raise Invalid(f"a chart of {buckets!r:.100} buckets", why=f"it has 1 to {BUCKETS:,}", fix="ask for 320")
    if by not in ("step", "time"):
        raise Invalid(f"a chart by {by!r:.100}", why="it goes by step or by time", fix="write step or time")
    kept = series.chunked(connection, run, key)
    waiting = series.in_tail(connection, run, key)
    n = kept + len(waiting.steps)
    if within is not None:
        groups = _overlapping(connection, run, key, buckets, by, within)
        groups.extend(_single(waiting))
        groups = _inside(groups, groups.steps if by == "step" else groups.times, *within)
    elif n <= EXACT:
        columns, _ = series.points(connection, run, key, 0, n) if kept else (waiting, n)
        groups = _single(columns)
    else:
        groups = _coarse(connection, run, key, 0, kept, buckets)
        groups.extend(_single(waiting))
    return _drawn(groups, groups.steps if by == "step" else groups.times, buckets, n)


def _overlapping(
    connection: sqlite3.Connection,
    run: int,
    key: int,
    buckets: int,
    by: Literal["step", "time"],
    within: tuple[int, int],
) -> Groups:
    """What the chunks hold that reach into a range: point by point where these are few, else thinned."""
    name = "step" if by == "step" else "at"
    rows = connection.execute(
        f"SELECT first, points FROM chunks WHERE run = ? AND key = ? AND {name}_most >= ? AND {name}_least <= ?"
        " ORDER BY first",
        (run, key, *within),
    ).fetchall()
    if sum(size for _, size in rows) > EXACT:
        return _coarse(connection, run, key, rows[0][0], rows[-1][0] + rows[-1][1], buckets)
    groups = packing.no_groups()
    for first, size in rows:
        (pack,) = connection.execute(
            "SELECT pack FROM chunks WHERE run = ? AND key = ? AND first = ?", (run, key, first)
        ).fetchone()
        groups.extend(_single(packing.unpack_chunk(pack, size)))
    return groups


def _inside(groups: Groups, xs: Sequence[int], low: int, high: int) -> Groups:
    """The groups that lie in a range, both ends included."""
    kept = [place for place, x in enumerate(xs) if low <= x <= high]
    if len(kept) == len(xs):
        return groups
    steps, times = (array("q", [part[place] for place in kept]) for part in (groups.steps, groups.times))
    least, most, last = (
        array("d", [part[place] for place in kept]) for part in (groups.least, groups.most, groups.last)
    )
    return Groups(steps, times, least, most, last)


def _single(columns: Columns) -> Groups:
    """Each point as a group of its own."""
    values = columns.values
    if not isfinite(sum(values)):
        values = array("d", [value if isfinite(value) else nan for value in values])
    return Groups(columns.steps[:], columns.times[:], values[:], values[:], values[:])


def _coarse(connection: sqlite3.Connection, run: int, key: int, start: int, stop: int, buckets: int) -> Groups:
    """Places from `start` to `stop`: the coarsest level that is fine enough, finer ones where it is not there yet."""
    level = 0
    while level + 1 < series.LEVELS and stop - start >= series.width(level + 1) * _GROUPS_EACH * buckets:
        level += 1
    groups, covered = packing.no_groups(), start - start % series.row_width(level)
    for one in range(level, -1, -1):
        rows = connection.execute(
            "SELECT first, pack FROM coarse WHERE run = ? AND key = ? AND level = ? AND first >= ? AND first < ?"
            " ORDER BY first",
            (run, key, one, covered, stop),
        )
        for first, pack in rows:
            groups.extend(packing.unpack_groups(pack))
            covered = first + series.row_width(one)
    return groups


def _drawn(groups: Groups, xs: Sequence[int], buckets: int, points: int) -> Chart:
    least, most, last = groups.least, groups.most, groups.last
    if not all(map(le, xs, islice(xs, 1, None))):
        order = sorted(range(len(xs)), key=xs.__getitem__)
        xs = [xs[place] for place in order]
        least, most, last = (array("d", [part[place] for place in order]) for part in (least, most, last))
    n = len(xs)
    edges = list(range(1, n + 1)) if n <= buckets else _edges(xs, buckets)
    holes = any(map(ne, least, least))
    found = Chart([], [], [], [], points)
    start = 0
    for stop in edges:
        if stop == start:
            continue
        found.steps.append(xs[start])
        if holes:
            found.least.append(_or_none(packing.least(least[start:stop])))
            found.most.append(_or_none(packing.most(most[start:stop])))
            found.last.append(_or_none(packing.last(last[start:stop])))
        else:
            found.least.append(min(least[start:stop]))
            found.most.append(max(most[start:stop]))
            found.last.append(last[stop - 1])
        start = stop
    return found


def _edges(xs: Sequence[int], buckets: int) -> list[int]:
    """Where each of `buckets` equal ranges ends among sorted numbers."""
    low, span = xs[0], xs[-1] - xs[0] + 1
    edges, at = [], 0
    for bucket in range(1, buckets + 1):
        at = bisect_left(xs, low - (-bucket * span // buckets), at)
        edges.append(at)
    return edges


def _or_none(value: float) -> float | None:
    return None if value != value else value
