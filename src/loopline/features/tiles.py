"""What the online store keeps for one entity in one view, and how it is read.

A window that ends now needs only its left edge: with the totals up to each tile the sum over the window is the
whole minus the total up to the edge, found by one binary search; least and greatest are kept from each tile to
the end; a distinct value counts in the tile it was seen in last. So a blob is a few short lists of numbers, and
reading one takes neither frames nor arrays. Sums are 64-bit integers in fixed point, so adding and taking back
are exact and have no order.

What the tiles hold is what `pit` counts: see `hops` for the edge, and `writer` for when a row enters.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from loopline.base.ids import content_id
from loopline.features.expr import AGGREGATES, Expr
from loopline.features.hops import US, hop
from loopline.features.views import View

FORMAT = 1
UNITS = 2**20
"""Sums count in units of 2**-20, as `pit.FIXED`."""
TIMES = 3
"""A record begins with event time, known time and number of the row; its values follow."""

Record = tuple[Any, ...]
Blob = list[Any]
pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode


class Layout:
    """Which values of a source a view keeps, and where in its records and blobs they stand."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.leaves = _once(view.leaves())
        self.refresh = 0 if view.refresh is None else view.refresh // US
        self.timed = any(leaf.op != "lookup" for leaf in self.leaves)
        self.horizon = view.lookback // US
        self.trees: list[Expr] = []
        """What is computed of each source row; `columns` says in which shapes."""
        self.keys: list[str] = []
        """The trees as text: equal trees of several views are computed once."""
        self.columns: list[tuple[int, str]] = []
        """Of each value in a record: its tree, and `raw`, `float`, `fixed` or `present`."""
        self._seen: dict[str, int] = {}
        picked = ("latest", "lookup")
        self.picks = [self._column(leaf.args[0], "raw") for leaf in self.leaves if leaf.op in picked]
        self.windows = self._windows()
        self.sums = [(step, tuple(place for _, place in series)) for _, step, series in self.windows]
        self.only_sums = all(kind == "sum" for _, _, series in self.windows for kind, _ in series)
        self.lasts: list[int] = []
        self.most: list[int] = []
        for leaf in self.leaves:
            if leaf.op == "last_n":
                column = self._column(leaf.args[0], "float")
                if column not in self.lasts:
                    self.lasts.append(column)
                    self.most.append(0)
                place = self.lasts.index(column)
                self.most[place] = max(self.most[place], leaf.args[1])
        self.id = content_id({"format": FORMAT, **{k: v for k, v in view.doc().items() if k != "features"},
                              "leaves": [leaf.doc() for leaf in self.leaves]})[:16]  # fmt: skip

    def _column(self, tree: Expr, shape: str) -> int:
        key = repr(tree.doc())
        if key not in self._seen:
            self._seen[key] = len(self.trees)
            self.trees.append(tree)
            self.keys.append(key)
        found = self._seen[key], shape
        if found not in self.columns:
            self.columns.append(found)
        return TIMES + self.columns.index(found)

    def _windows(self) -> list[tuple[int, int, list[tuple[str, int]]]]:
        """Of each window length: the length, the hop, and its series as (kind, place in the record)."""
        found: dict[int, list[tuple[str, int]]] = {}
        for leaf in self.leaves:
            if leaf.op in AGGREGATES:
                series = found.setdefault(leaf.args[1] // US, [])
                series += [one for one in self.series(leaf) if one not in series]
        return [(length, hop(length, self.refresh or None), series) for length, series in sorted(found.items())]

    def series(self, leaf: Expr) -> list[tuple[str, int]]:
        """The series that a window aggregate is read from."""
        tree = leaf.args[0]
        match leaf.op:
            case "count" | "total":
                return [("sum", self._column(tree, "fixed"))]
            case "mean" | "share":
                return [("sum", self._column(tree, "fixed")), ("sum", self._column(tree, "present"))]
            case "distinct":
                return [("distinct", self._column(tree, "raw"))]
        return [(leaf.op, self._column(tree, "float"))]


class Tiles:
    """The tiles of one entity for one window length."""

    __slots__ = ("bounds", "columns")

    def __init__(self, series: int) -> None:
        self.bounds: list[int] = []
        self.columns: list[list[Any]] = [[] for _ in range(series)]


class Entity:
    """What the writer knows of one entity: the rows that are visible, and tiles over them."""

    __slots__ = ("_layout", "rows", "tiles")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.rows: list[Record] = []
        self.tiles = [Tiles(len(series)) for _, _, series in layout.windows]

    def add(self, row: Record) -> None:
        """A row becomes visible."""
        rows, layout = self.rows, self._layout
        if rows and row < rows[-1]:
            insort(rows, row)
        else:
            rows.append(row)
            if layout.only_sums:
                self._add_newest(row)
                return
        self._add_anywhere(row)

    def _add_newest(self, row: Record) -> None:
        """Add a row that happened last to the last tile of each window, or to a new one."""
        event = row[0]
        for tiles, (step, places) in zip(self.tiles, self._layout.sums, strict=True):
            bound = -(-event // step)
            bounds = tiles.bounds
            if bounds and bound == bounds[-1]:
                for column, place in zip(tiles.columns, places, strict=True):
                    column[-1] += row[place]
            elif not bounds or bound > bounds[-1]:
                bounds.append(bound)
                for column, place in zip(tiles.columns, places, strict=True):
                    column.append(row[place])
            else:  # what came later was taken back, and left its tile
                i = bisect_left(bounds, bound)
                if bounds[i] != bound:
                    bounds.insert(i, bound)
                    for column in tiles.columns:
                        column.insert(i, 0)
                for column, place in zip(tiles.columns, places, strict=True):
                    column[i] += row[place]

    def _add_anywhere(self, row: Record) -> None:
        for tiles, (_, step, series) in zip(self.tiles, self._layout.windows, strict=True):
            bound = -(-row[0] // step)
            bounds = tiles.bounds
            if bounds and bounds[-1] == bound:
                i = -1
            elif not bounds or bound > bounds[-1]:
                i = -1
                bounds.append(bound)
                for column, (kind, _) in zip(tiles.columns, series, strict=True):
                    column.append(0 if kind == "sum" else None)
            else:
                i = bisect_left(bounds, bound)
                if bounds[i] != bound:
                    bounds.insert(i, bound)
                    for column, (kind, _) in zip(tiles.columns, series, strict=True):
                        column.insert(i, 0 if kind == "sum" else None)
            for column, (kind, place) in zip(tiles.columns, series, strict=True):
                if kind == "sum":
                    column[i] += row[place]
                elif kind != "distinct" and row[place] is not None:
                    column[i] = row[place] if column[i] is None else choose(kind)(column[i], row[place])

    def take_back(self, row: Record) -> None:
        """A visible row was superseded."""
        rows = self.rows
        at = bisect_left(rows, row)
        if at == len(rows) or rows[at] != row:
            return  # older than the horizon: forgotten already
        del rows[at]
        for tiles, (_, step, series) in zip(self.tiles, self._layout.windows, strict=True):
            bound = -(-row[0] // step)
            i = bisect_left(tiles.bounds, bound)
            if i == len(tiles.bounds) or tiles.bounds[i] != bound:
                continue
            for column, (kind, place) in zip(tiles.columns, series, strict=True):
                if kind == "sum":
                    column[i] -= row[place]
                elif kind != "distinct":
                    low = bisect_left(rows, ((bound - 1) * step + 1,))
                    high = bisect_left(rows, (bound * step + 1,))
                    values = [one[place] for one in rows[low:high] if one[place] is not None]
                    column[i] = choose(kind)(values) if values else None

    def prune(self, oldest: int, edges: Sequence[int]) -> None:
        """Forget rows before `oldest`, and of each window the tiles up to its edge."""
        rows = self.rows
        if rows and rows[0][0] < oldest:
            del rows[: bisect_left(rows, (oldest,))]
        for tiles, edge in zip(self.tiles, edges, strict=True):
            if tiles.bounds and tiles.bounds[0] <= edge:
                gone = bisect_right(tiles.bounds, edge)
                del tiles.bounds[:gone]
                for column in tiles.columns:
                    del column[:gone]

    @property
    def empty(self) -> bool:
        """Whether nothing is known that could still matter."""
        return not self.rows

    def blob(self) -> bytes:
        """The entity as the store keeps it."""
        layout, rows = self._layout, self.rows
        newest = rows[-1] if rows else None
        return pack([
            None if newest is None else newest[0],
            [] if newest is None else [newest[place] for place in layout.picks],
            self._sums() if layout.only_sums else self._windows(),
            [_newest(rows, place, most) for place, most in zip(layout.lasts, layout.most, strict=True)],
        ])  # fmt: skip

    def _sums(self) -> list[Any]:
        return [[one.bounds, *[list(accumulate(column, initial=0)) for column in one.columns]] for one in self.tiles]

    def _windows(self) -> list[Any]:
        windows = []
        for tiles, (_, step, series) in zip(self.tiles, self._layout.windows, strict=True):
            one: list[Any] = [tiles.bounds]
            for column, (kind, place) in zip(tiles.columns, series, strict=True):
                if kind == "sum":
                    one.append(list(accumulate(column, initial=0)))
                elif kind == "distinct":
                    one.append(list(accumulate(_last_seen(self.rows, place, tiles.bounds, step), initial=0)))
                else:
                    one.append(_from_each(column, choose(kind)))
            windows.append(one)
        return windows


def _once(leaves: Sequence[Expr]) -> list[Expr]:
    """Each leaf once, where it comes first."""
    return list({repr(leaf.doc()): leaf for leaf in leaves}.values())


def choose(kind: str) -> Callable[..., Any]:
    """The function that `minimum` or `maximum` means."""
    return min if kind == "minimum" else max


def _from_each(column: Sequence[float | None], choose: Callable[..., float]) -> list[float | None]:
    """The least or greatest from each tile to the end."""
    found: list[float | None] = []
    best: float | None = None
    for value in reversed(column):
        if value is not None:
            best = value if best is None else choose(best, value)
        found.append(best)
    return found[::-1]


def _last_seen(rows: Sequence[Record], place: int, bounds: Sequence[int], step: int) -> list[int]:
    """How many distinct values were seen last in each tile."""
    counts = [0] * len(bounds)
    if bounds:
        seen = set()
        for row in reversed(rows):
            bound = -(-row[0] // step)
            if bound < bounds[0]:
                break
            value = row[place]
            if value is not None and value not in seen:
                seen.add(value)
                counts[bisect_left(bounds, bound)] += 1
    return counts


def _newest(rows: Sequence[Record], place: int, most: int) -> list[list[Any]]:
    """Event times and values of the newest rows that hold one, newest last."""
    found: list[Record] = []
    for row in reversed(rows):
        if row[place] is not None:
            found.append(row)
            if len(found) == most:
                break
    found.reverse()
    return [[row[0] for row in found], [row[place] for row in found]]
