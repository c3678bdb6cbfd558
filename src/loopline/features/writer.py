"""The writing side of online features: rows come in as they become known, changed entities go out.

What one view knows lives in memory: it is a small part of the tables (its lookback) and can be built from them at
any time, so only blobs and how far they go are kept in the store.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from math import isfinite
from types import NoneType
from typing import Any

import numpy as np
import polars as pl

from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec
from loopline.features.batch import as_read
from loopline.features.expr import Expr
from loopline.features.past import EVENT, KNOWN, moments, timeless, tombstone
from loopline.features.reader import joined, text_of
from loopline.features.reading import evaluated
from loopline.features.tiles import UNITS, Entity, Layout, Record, pack

_PLAIN_TABLE = TableSpec.model_validate({"source": "rows.parquet", "event_time": EVENT, "known_at": KNOWN})
Row = tuple[int, int, int, Any, str | None, Record]
"""Known, number, event, key of the row, key of its entity, record."""
LARGEST = 2**62
EXACT = 2**53
NOT_A_TIME = -(2**63)
PLAIN = (pl.Float64, pl.Int64, pl.String, pl.Boolean)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


class Rows:
    """New rows of one source, each column and expression evaluated once for all views."""

    def __init__(self, frame: pl.DataFrame, spec: TableSpec | None, first: int) -> None:
        self.height = frame.height
        self._frame, self._spec = frame, spec or _PLAIN_TABLE
        self._read: pl.DataFrame | None = None
        self.numbers = range(first, first + frame.height)
        self._lists: dict[object, list[Any]] = {}

    @property
    def timeless(self) -> bool:
        return timeless(self._spec)

    def times(self, available: str | None) -> tuple[list[int | None], list[int | None]]:
        """Event and known time of each row, in microseconds; null where there is none."""
        key = ("times", available)
        if key not in self._lists:
            event, known = (_micros(times) for times in moments(self._frame, self._spec, available))
            if gone := self.gone():
                event = [k if dead and e is None else e for e, k, dead in zip(event, known, gone, strict=True)]
            self._lists[key] = [event, known]
        event_us, known_us = self._lists[key]
        return event_us, known_us

    def gone(self) -> list[bool | None]:
        """Whether each row says that its key is gone; empty where no column does."""
        if "gone" not in self._lists:
            column = tombstone(self._frame, self._spec)
            self._lists["gone"] = [] if column is None else self._frame[column].to_list()
        return self._lists["gone"]

    def keys(self) -> Iterable[Any]:
        """What names each row; null where the table has no key."""
        if not self._spec.key:
            return repeat(None, self.height)
        if "key" not in self._lists:
            parts = [self._frame[name].to_list() for name in self._spec.key]
            self._lists["key"] = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
        return self._lists["key"]

    def entities(self, on: Sequence[str]) -> list[str | None]:
        """The key of each row's entity; null where a part is null."""
        key = ("on", *on)
        if key not in self._lists:
            parts = [self._texts(name) for name in on]
            if len(parts) == 1:
                self._lists[key] = parts[0]
            else:
                self._lists[key] = [joined(one) for one in zip(*parts, strict=True)] if parts else [""] * self.height
            if gone := self.gone():
                self._lists[key] = [None if no else one for one, no in zip(self._lists[key], gone, strict=True)]
        return self._lists[key]

    def _texts(self, name: str) -> list[str | None]:
        if ("text", name) not in self._lists:
            column = self._frame[name]
            values = column.to_list()
            self._lists["text", name] = values if column.dtype == pl.String else [text_of(value) for value in values]
        return self._lists["text", name]

    def values(self, layout: Layout) -> list[list[Any]]:
        """The columns of the view's records."""
        return [self._shaped(layout.keys[n], layout.trees[n], shape) for n, shape in layout.columns]

    def _shaped(self, key: str, tree: Expr, shape: str) -> list[Any]:
        if (key, shape) not in self._lists:
            self._lists[key, shape] = (
                self._raw(key, tree) if shape == "raw" else _shaped(self._floats(key, tree), shape)
            )
        return self._lists[key, shape]

    def _floats(self, key: str, tree: Expr) -> list[float | None]:
        if (key, "numbers") not in self._lists:
            raw = self._raw(key, tree)
            if not {type(value) for value in raw} <= {float, int, bool, NoneType}:
                raise Invalid(
                    f"a window cannot sum or compare {next(v for v in raw if isinstance(v, str) or v is not None)!r}",
                    why="only numbers and truths can be",
                    fix="take distinct(...) for text, or minutes_between(...) for times",
                )
            self._lists[key, "numbers"] = [None if v is None or not isfinite(v) else float(v) for v in raw]
        return self._lists[key, "numbers"]

    def _raw(self, key: str, tree: Expr) -> list[Any]:
        """Values of an expression over the rows, null for NaN."""
        if (key, "raw") not in self._lists:
            found = self._simple(tree)
            if found is None:
                if self._read is None:
                    self._read = as_read(self._frame)
                found = evaluated(self._read, [tree])[0].to_list()
            self._lists[key, "raw"] = found
        return self._lists[key, "raw"]

    def _simple(self, tree: Expr) -> list[Any] | None:
        """Columns, literals and their comparisons without frames: most of what windows hold, for few rows at once."""
        if tree.op == "lit":
            return [tree.args[0]] * self.height
        if tree.op == "col" and tree.args[0] in self._frame.columns:
            column = self._frame[tree.args[0]]
            if column.dtype in PLAIN:
                values = column.to_list()
                return [None if v != v else v for v in values] if column.dtype == pl.Float64 else values
        if tree.op in _COMPARE and tree.args[1].op == "lit" and type(tree.args[1].args[0]) in (int, float):
            compare, limit, values_ = _COMPARE[tree.op], tree.args[1].args[0], self._simple(tree.args[0])
            if values_ is not None and all(v is None or (type(v) in (int, float) and abs(v) < EXACT) for v in values_):
                return [None if v is None else compare(v, limit) for v in values_]
        return None


def _micros(times: pl.Series) -> list[int | None]:
    """Moments (UTC, microseconds) as whole numbers."""
    found = times.to_numpy().view(np.int64).tolist()
    return [None if value == NOT_A_TIME else value for value in found] if times.null_count() else found


def _shaped(numbers: list[float | None], shape: str) -> list[Any]:
    if shape == "float":
        return numbers
    if shape == "present":
        return [0 if value is None else 1 for value in numbers]
    return [0 if value is None else _fixed(value) for value in numbers]


def _fixed(value: float) -> int:
    found = round(value * UNITS)
    if abs(found) >= LARGEST:
        raise Invalid(
            "a value of a window is too large to be summed exactly",
            why=f"sums must stay below {LARGEST / UNITS:.0e}",
            fix="scale it in the view, for example value / 1e6",
        )
    return found


class ViewWriter:
    """One view's entities, as they are at its last refresh."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.upto = -LARGEST
        """The refresh that the entities stand at, in microseconds."""
        self.newest: int | None = None
        """The newest event that is visible."""
        self._entities: dict[str, Entity] = {}
        self._fixed: dict[str, bytes] = {}
        self._later: list[Row] = []
        self._ahead: list[tuple[int, int, Row]] = []
        self._versions: dict[Any, Row] = {}
        self._oldest = self._pruned = -LARGEST
        self._changed: set[str] = set()

    def take(self, rows: Rows, span: tuple[int, int] | None, upto: int) -> None:
        """Let rows in, as of `upto`; with a `span`, those that became known in it (first left out, last in)."""
        if rows.timeless:
            self._replace(rows)
            return
        layout = self.layout
        event, known = rows.times(layout.view.available_at)
        records = zip(event, known, rows.numbers, *rows.values(layout), strict=True)
        entities = rows.entities([right for _, right in layout.view.on])
        new: list[Row] = [
            (k, n, e, key, entity, record)
            for k, n, e, key, entity, record in zip(
                known, rows.numbers, event, rows.keys(), entities, records, strict=True
            )
            if k is not None and e is not None and (span is None or span[0] < k <= span[1])
        ]
        self._later += new
        self.advance(upto)

    def advance(self, upto: int) -> None:
        """Move to the last refresh at or before `upto`: what is due by then is seen."""
        refresh = self.layout.refresh
        now = max(self.upto, upto // refresh * refresh)
        self.upto, self._oldest = now, now - self.layout.horizon
        if self._later:
            due = sorted((row for row in self._later if row[0] <= now), key=lambda row: row[:2])
            if due:
                self._later = [row for row in self._later if row[0] > now]
            self._see(due, now)
        while self._ahead and self._ahead[0][0] <= now:
            row = heapq.heappop(self._ahead)[2]
            if row[3] is None or self._versions.get(row[3]) is row:
                self._enter(row)

    def _see(self, due: Sequence[Row], now: int) -> None:
        """Rows are known: each takes the place of its earlier version."""
        versions = self._versions
        for row in due:
            key = row[3]
            if key is not None:
                before = versions.get(key)
                if before is not None:
                    if before[:2] > row[:2]:
                        continue
                    self._leave(before)
                versions[key] = row
            if row[2] <= now:
                self._enter(row)
            else:
                heapq.heappush(self._ahead, (row[2], row[1], row))

    def _enter(self, row: Row) -> None:
        event, name = row[2], row[4]
        if self.newest is None or event > self.newest:
            self.newest = event
        if name is None or event < self._oldest:
            return
        entity = self._entities.get(name)
        if entity is None:
            entity = self._entities[name] = Entity(self.layout)
        entity.add(row[5])
        self._changed.add(name)

    def _leave(self, row: Row) -> None:
        name = row[4]
        entity = None if name is None else self._entities.get(name)
        if name is not None and entity is not None and row[2] <= self.upto:
            entity.take_back(row[5])
            self._changed.add(name)

    def _replace(self, rows: Rows) -> None:
        """Rows of a table without times: the last of each entity holds."""
        values = rows.values(self.layout)
        entities = rows.entities([right for _, right in self.layout.view.on])
        for name, *record in zip(entities, *values, strict=True):
            if name is None:
                continue
            picks = (None, None, None, *record)
            blob = pack([None, [picks[place] for place in self.layout.picks], [], []])
            if self._fixed.get(name) != blob:
                self._fixed[name] = blob
                self._changed.add(name)

    @property
    def known(self) -> int:
        """How many entities have something, once what changed was taken."""
        return len(self._entities) + len(self._fixed)

    def changed(self) -> dict[str, bytes | None]:
        """The blobs of the entities that changed since the last call; null for those of which nothing is left."""
        found: dict[str, bytes | None] = {}
        edges = [(self.upto - length) // step for length, step, _ in self.layout.windows]
        for name in self._changed:
            if name in self._fixed:
                found[name] = self._fixed[name]
                continue
            entity = self._entities[name]
            entity.prune(self._oldest, edges)
            if entity.empty:
                del self._entities[name]
            found[name] = None if entity.empty else entity.blob()
        self._changed = set()
        self._forget()
        return found

    def everything(self) -> dict[str, bytes | None]:
        """As `changed`, of all entities."""
        self._changed = set(self._entities) | set(self._fixed)
        return self.changed()

    def _forget(self) -> None:
        """Once in a while drop the versions that can no longer be taken back."""
        oldest = self._oldest
        if self._versions and oldest - self._pruned > self.layout.horizon // 4:
            self._versions = {key: row for key, row in self._versions.items() if row[2] >= oldest}
            self._pruned = oldest
