"""Series: points of the tail turned into chunks, and read from both as one.

A point has a place in its series, counted from 0 in the order of logging and without exact repetitions. It keeps
that place when it moves from the tail into a chunk, so a page token names it whatever happens meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from loopline.store.runs.database import Tx
from loopline.store.runs.metrics import SPAN
from loopline.store.runs.packing import (
    CHUNK,
    FOLD_BITS,
    GROUP,
    Columns,
    counts_in,
    empty,
    folded,
    joined,
    no_groups,
    pack_chunk,
    pack_groups,
    points_in,
    rising,
    thinned,
    unpack_call,
    unpack_chunk,
    unpack_groups,
)

LEVELS = 4
AT_ONCE = 131_072
"""Points of the tail that are compacted in one transaction."""
SMALL_ROW = 8_192
"""Bytes of a row of the tail from which on it is left alone."""
_TAIL = "SELECT id, pack FROM tail WHERE id > ? AND id < ? ORDER BY id"


class Compacted(NamedTuple):
    """What becomes of some rows of the tail."""

    run: int
    generation: int
    last: int
    """The last row of the tail that is in it."""
    points: int
    chunks: list[tuple[int, int, Columns]]
    """Key, first place and points of each chunk, new or longer than before."""
    more: bool


# reading


def tail_rows(connection: sqlite3.Connection, run: int) -> Iterator[tuple[int, bytes]]:
    """The rows of the tail of a run, as they came."""
    return connection.execute(_TAIL, (run * SPAN, (run + 1) * SPAN))


def tail_points(connection: sqlite3.Connection, run: int) -> int:
    """How many points wait in the tail of a run."""
    return sum(points_in(pack) for _, pack in tail_rows(connection, run))


def in_tail(connection: sqlite3.Connection, run: int, key: int) -> Columns:
    """The points of a series that are in no chunk yet, without repetitions."""
    found = empty()
    for _, pack in tail_rows(connection, run):
        for _, columns in unpack_call(pack, key):
            found.extend(columns)
    return fresh(connection, run, key, found)


def lengths(connection: sqlite3.Connection, run: int) -> dict[int, int]:
    """How many points each series of a run has; repetitions count while they wait in the tail."""
    found: dict[int, int] = dict(
        connection.execute("SELECT key, max(first + points) FROM chunks WHERE run = ? GROUP BY key", (run,)).fetchall()
    )
    for _, pack in tail_rows(connection, run):
        for key, count in counts_in(pack):
            found[key] = found.get(key, 0) + count
    return found


def chunked(connection: sqlite3.Connection, run: int, key: int) -> int:
    """How many points of a series are in chunks."""
    row = connection.execute(
        "SELECT first + points FROM chunks WHERE run = ? AND key = ? ORDER BY first DESC LIMIT 1", (run, key)
    ).fetchone()
    return 0 if row is None else int(row[0])


def points(connection: sqlite3.Connection, run: int, key: int, start: int, n: int) -> tuple[Columns, int]:
    """At most `n` points of a series from a place on, and the place after the last point of the series."""
    kept = chunked(connection, run, key)
    found = empty()
    if start < kept:
        rows = connection.execute(
            "SELECT first, points, pack FROM chunks WHERE run = ? AND key = ? AND first > ? AND first < ?"
            " ORDER BY first",
            (run, key, start - CHUNK, start + n),
        )
        for first, size, pack in rows:
            found.extend(unpack_chunk(pack, size).some(max(0, start - first), max(0, start + n - first)))
    waiting = in_tail(connection, run, key)
    wanted = start + len(found.steps) - kept
    if len(found.steps) < n:
        found.extend(waiting.some(wanted, wanted + n - len(found.steps)))
    return found, kept + len(waiting.steps)


def fresh(connection: sqlite3.Connection, run: int, key: int, columns: Columns) -> Columns:
    """Points without those that are repeated in them or are in a chunk already."""
    if not columns.steps:
        return columns
    values, times, steps = columns
    known: set[tuple[int, int, int]] = set()
    overlapping = connection.execute(
        "SELECT points, pack FROM chunks WHERE run = ? AND key = ? AND step_most >= ? AND step_least <= ?"
        " AND at_most >= ? AND at_least <= ?",
        (run, key, min(steps), max(steps), min(times), max(times)),
    )
    for size, pack in overlapping:
        chunk = unpack_chunk(pack, size)
        known.update(zip(chunk.bits(), chunk.times, chunk.steps, strict=True))
    if not known and (rising(steps) or rising(times)):
        return columns
    rows = list(zip(columns.bits(), times, steps, strict=True))
    if not known and len(set(rows)) == len(rows):
        return columns
    keep = []
    for place, row in enumerate(rows):
        if row not in known:
            known.add(row)
            keep.append(place)
    if len(keep) == len(rows):
        return columns
    found = empty()
    found.values.extend(map(values.__getitem__, keep))
    found.times.extend(map(times.__getitem__, keep))
    found.steps.extend(map(steps.__getitem__, keep))
    return found


# compacting


def gather(tx: Tx, run: int) -> None:
    """Make one row of the small ones at the end of a run's tail, so that few rows are read for a chart."""
    small: list[tuple[int, bytes]] = []
    for id, pack in tx.execute(f"{_TAIL} DESC", (run * SPAN, (run + 1) * SPAN)):
        if len(pack) >= SMALL_ROW:
            break
        small.append((id, pack))
    if len(small) < 2:
        return
    first, last = small[-1][0], small[0][0]
    tx.execute("DELETE FROM tail WHERE id >= ? AND id <= ?", (first, last))
    tx.execute("INSERT INTO tail VALUES (?, ?)", (first, joined(pack for _, pack in reversed(small))))
    _next_generation(tx, run)


def prepare(connection: sqlite3.Connection, run: int) -> Compacted | None:
    """What the oldest rows of a run's tail become; null where it has none."""
    by_key: dict[int, Columns] = {}
    n, last, more = 0, 0, False
    for id, pack in tail_rows(connection, run):
        if n >= AT_ONCE:
            more = True
            break
        last, n = id, n + points_in(pack)
        for key, columns in unpack_call(pack):
            by_key.setdefault(key, empty()).extend(columns)
    if not last:
        return None
    chunks = []
    for key, columns in by_key.items():
        new = fresh(connection, run, key, columns)
        start = chunked(connection, run, key)
        if new.steps and start % CHUNK:
            start -= start % CHUNK
            size, pack = connection.execute(
                "SELECT points, pack FROM chunks WHERE run = ? AND key = ? AND first = ?", (run, key, start)
            ).fetchone()
            old = unpack_chunk(pack, size)
            old.extend(new)
            new = old
        chunks += [(key, start + at, new.some(at, at + CHUNK)) for at in range(0, len(new.steps), CHUNK)]
    return Compacted(run, _generation(connection, run), last, n, chunks, more)


def settle(tx: Tx, found: Compacted, packs: list[tuple[bytes, bytes]]) -> bool:
    """Put chunks in place of the rows of the tail; false where another has done so, or forgotten the run, meanwhile."""
    run = found.run
    if _generation(tx.connection, run) != found.generation:
        return False
    if tx.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is None:
        return False
    for (key, first, columns), (pack, groups) in zip(found.chunks, packs, strict=True):
        tx.execute(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run,
                key,
                first,
                len(columns.steps),
                min(columns.steps),
                max(columns.steps),
                min(columns.times),
                max(columns.times),
                pack,
            ),
        )
        tx.execute("INSERT OR REPLACE INTO coarse VALUES (?, ?, 0, ?, ?)", (run, key, first, groups))
        if len(columns.steps) == CHUNK:
            _fold(tx, run, key, first + CHUNK)
    tx.execute("DELETE FROM tail WHERE id > ? AND id <= ?", (run * SPAN, found.last))
    _next_generation(tx, run)
    return True


def packed(found: Compacted) -> list[tuple[bytes, bytes]]:
    """The bytes of each chunk and of its coarse level. The costly part: no transaction is needed."""
    return [(pack_chunk(columns), pack_groups(thinned(columns))) for _, _, columns in found.chunks]


def width(level: int) -> int:
    """Points that a group of a coarse level stands for."""
    return GROUP << FOLD_BITS * level


def row_width(level: int) -> int:
    """Points that a whole row of a coarse level stands for."""
    return CHUNK << FOLD_BITS * level


def _fold(tx: Tx, run: int, key: int, end: int) -> None:
    """Make one row of the next level out of sixteen, where the sixteenth has become whole."""
    for level in range(1, LEVELS):
        wide = row_width(level)
        if end % wide:
            return
        groups = no_groups()
        rows = tx.execute(
            "SELECT pack FROM coarse WHERE run = ? AND key = ? AND level = ? AND first >= ? AND first < ?"
            " ORDER BY first",
            (run, key, level - 1, end - wide, end),
        )
        for (pack,) in rows.fetchall():
            groups.extend(folded(unpack_groups(pack)))
        tx.execute(
            "INSERT OR REPLACE INTO coarse VALUES (?, ?, ?, ?, ?)", (run, key, level, end - wide, pack_groups(groups))
        )


def _next_generation(tx: Tx, run: int) -> None:
    """Whoever has prepared something of this tail has to begin anew."""
    tx.execute("INSERT INTO compactions VALUES (?, 1) ON CONFLICT (run) DO UPDATE SET n = n + 1", (run,))


def _generation(connection: sqlite3.Connection, run: int) -> int:
    row = connection.execute("SELECT n FROM compactions WHERE run = ?", (run,)).fetchone()
    return 0 if row is None else int(row[0])
