"""Points come in: one packed row of the tail a call, and the latest value of each key, in the same commit."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence

from loopline.base.errors import Invalid
from loopline.store.runs import checks
from loopline.store.runs.database import Tx
from loopline.store.runs.packing import Columns, columns_of, pack_call
from loopline.store.runs.protocol import Point

SPAN = 2**32
"""Rows of the tail that a run may number: row r of run n has the id n * SPAN + r."""
ROW = 65_536
"""Points of one row at most."""

_APPEND = "INSERT INTO tail VALUES ((SELECT coalesce(max(id), ?1) + 1 FROM tail WHERE id > ?1 AND id < ?1 + ?2), ?3)"
_LATEST = """
INSERT INTO latest (run, key, experiment, value, at, step) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run, key) DO UPDATE
SET value = excluded.value, at = excluded.at, step = excluded.step
WHERE (excluded.step, excluded.at, excluded.value IS NOT NULL, coalesce(excluded.value, 0))
    > (latest.step, latest.at, latest.value IS NOT NULL, coalesce(latest.value, 0))
"""
_OF_MODEL = "INSERT OR IGNORE INTO model_metrics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def by_key(points: Sequence[Point]) -> dict[str, Columns]:
    """Points as columns by key, in the order they came.

    Raises
    ------
    Invalid
        If a value is no float, or a time or step no whole number of 64 bits.
    """
    groups: dict[str, list[Point]] = {}
    add: dict[str, Callable[[Point], None]] = {}
    for point in points:
        key = point[0]
        if key not in add:
            group: list[Point] = []
            groups[checks.key("metric", key)] = group
            add[key] = group.append
        add[key](point)
    return {key: _columns(group) for key, group in groups.items()}


def _columns(points: list[Point]) -> Columns:
    """The points of one key as columns."""
    try:
        _, values, times, steps, *_ = zip(*points, strict=False)
        return Columns(array("d", values), array("q", times), array("q", steps))
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(
            f"points of the metric {points[0][0]!r:.100} are not to be kept: {error}",
            why="a value is a float, a time and a step are whole numbers of 64 bits",
            fix="send such numbers",
        ) from error


def from_bytes(columns: Mapping[str, tuple[bytes, bytes, bytes]]) -> dict[str, Columns]:
    """Packed arrays as columns; `Invalid` if the three of a key differ in length."""
    found = {}
    for key, (values, times, steps) in columns.items():
        checks.key("metric", key)
        if len(values) % 8 or not len(values) == len(times) == len(steps):
            raise Invalid(
                f"the columns of {key!r:.100} have {len(values):,}, {len(times):,} and {len(steps):,} bytes",
                why="values, times and steps have eight bytes a point each",
                fix="pack as many of each",
            )
        if values:
            found[key] = columns_of(values, times, steps)
    return found


def append(tx: Tx, run: int, experiment: int, points: dict[str, Columns]) -> int:
    """Keep points of a run; how many they are."""
    numbered = {tx.key(key): columns for key, columns in points.items()}
    if not numbered:
        return 0
    total = sum([len(columns.steps) for columns in numbered.values()])
    for part in [numbered] if total <= ROW else _rows(numbered):
        tx.execute(_APPEND, (run * SPAN, SPAN, pack_call(part)))
    for key, columns in numbered.items():
        step, at, value = newest(columns)
        tx.execute(_LATEST, (run, key, experiment, value if value == value else None, at, step))
    return total


def _rows(numbered: dict[int, Columns]) -> list[dict[int, Columns]]:
    """Points as rows of `ROW` points at most."""
    rows: list[dict[int, Columns]] = []
    room = 0
    for key, columns in numbered.items():
        at, n = 0, len(columns.steps)
        while at < n:
            if not room:
                rows.append({})
                room = ROW
            some = columns.some(at, min(n, at + room))
            rows[-1][key] = some
            at += len(some.steps)
            room -= len(some.steps)
    return rows


def newest(columns: Columns) -> tuple[int, int, float]:
    """Step, time and value of the greatest point by (step, time, value); NaN is the least of values."""
    values, times, steps = columns
    step = max(steps)
    if steps[-1] == step and steps.count(step) == 1:
        return step, times[-1], values[-1]
    if steps.count(step) == 1:
        place = steps.index(step)
        return step, times[place], values[place]
    found = max((at, value == value, value) for value, at, one in zip(values, times, steps, strict=True) if one == step)
    return step, found[0], found[2]


def of_models(tx: Tx, run: int, points: Sequence[Point]) -> None:
    """Keep the points that were measured on a logged model with that model too."""
    rows = []
    for point in points:
        if len(point) > 4 and point.model is not None:
            name, digest = point.dataset or ("", "")
            value = float(point.value)
            (bits,) = array("q", array("d", [value]).tobytes())
            rows.append(
                (point.model, tx.key(point.key), point.step, point.at_ms, run, name, digest, bits,
                 value if value == value else None)
            )  # fmt: skip
    if rows:
        tx.executemany(_OF_MODEL, rows)
