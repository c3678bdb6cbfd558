"""Reading what the online store keeps of an entity: the values of a view's lookups and windows at a moment.

See `tiles` for what a blob holds. No frames and no arrays: one binary search a window.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from math import gcd
from typing import Any

from loopline.features.expr import Expr
from loopline.features.hops import US
from loopline.features.tiles import UNITS, Blob, Layout, choose

FIRST, LAST = -(2**62), 2**62
"""Before and after every moment, in microseconds."""
Keys = Callable[[Sequence[Mapping[str, Any]]], list[str | None]]


class Reader:
    """Answers the leaves of one view from a blob."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        view = layout.view
        self._ttl = None if view.ttl is None else view.ttl // US
        self._windows = [(length, step) for length, step, _ in layout.windows]
        self._steps = [self._step(leaf) for leaf in layout.leaves]
        self._grid = gcd(*[part for one in self._windows for part in one])
        """Of every window the left edge is the same in [k * grid, (k + 1) * grid); 0 where there are none."""
        self.nothing = tuple(None for _ in layout.leaves)
        self.none_seen = tuple((0.0 if leaf.op in ("count", "total", "distinct") else None) for leaf in layout.leaves)
        """What an entity is answered that nothing is known of."""
        self._leaves = self._compiled()

    def _step(self, leaf: Expr) -> tuple[Any, ...]:
        layout = self.layout
        if leaf.op in ("latest", "lookup"):
            place = sum(other.op in ("latest", "lookup") for other in layout.leaves[: _index(layout.leaves, leaf)])
            return (leaf.op, place)
        if leaf.op == "last_n":
            tree, n, how = leaf.args
            return ("last_n", layout.lasts.index(layout._column(tree, "float")), n, how)
        length = leaf.args[1] // US
        window = next(i for i, one in enumerate(layout.windows) if one[0] == length)
        series = layout.windows[window][2]
        places = [1 + series.index(one) for one in layout.series(leaf)]
        kind = {"count": "total", "share": "mean", "minimum": "edge", "maximum": "edge"}.get(leaf.op, leaf.op)
        return (kind, window, *places)

    def leaves(self, blob: Blob, at: int) -> tuple[Any, ...]:
        """The values of the view's lookups and windows at the moment `at` (microseconds)."""
        return self._leaves(blob, at)

    def lasting(self, blob: Blob, at: int) -> tuple[int, int]:
        """The moments around `at`, from the first up to the second, that the blob answers as at `at`."""
        if self.layout.lasts:
            return at, at + 1
        low, high = FIRST, LAST
        if self._grid:
            low = at - at % self._grid
            high = low + self._grid
        if self._ttl is not None and blob[0] is not None:
            ends = blob[0] + self._ttl + 1
            low, high = (low, min(high, ends)) if at < ends else (max(low, ends), high)
        return low, high

    def _compiled(self) -> Callable[[Blob, int], tuple[Any, ...]]:
        """Straight-line code for `leaves`: a request asks dozens of them."""
        names: dict[str, Any] = {"find": bisect_right, "last": self._last}
        lines = ["def leaves(blob, at):", "    newest, picks, windows, lasts = blob"]
        for i, (length, step) in enumerate(self._windows):
            lines += [f"    w{i} = windows[{i}]", f"    i{i} = find(w{i}[0], (at - {length}) // {step})"]
        lines.append(
            "    fresh = True"
            if self._ttl is None
            else f"    fresh = newest is not None and at - newest <= {self._ttl}"
        )
        values = "".join(f"{self._code(step)}, " for step in self._steps)
        exec("\n".join([*lines, f"    return ({values})"]), names)
        made: Callable[[Blob, int], tuple[Any, ...]] = names["leaves"]
        return made

    def _code(self, step: tuple[Any, ...]) -> str:
        kind, place = step[0], step[1]
        if kind in ("latest", "lookup"):
            return f"(picks[{place}] if {'fresh and ' if kind == 'latest' else ''}picks else None)"
        if kind == "last_n":
            return f"last(lasts[{place}], {step[2]}, {step[3]!r}, at)"
        column, edge = f"w{place}[{step[2]}]", f"i{place}"
        since = f"({column}[-1] - {column}[{edge}])"
        if kind == "mean":
            counts = f"w{place}[{step[3]}]"
            return f"({since} / {UNITS} / n if (n := {counts}[-1] - {counts}[{edge}]) else None)"
        if kind == "edge":
            return f"({column}[{edge}] if {edge} < len({column}) else None)"
        return f"float{since}" if kind == "distinct" else f"{since} / {UNITS}"

    def _last(self, kept: list[list[Any]], n: int, how: str, at: int) -> float | None:
        events, values = kept
        first = max(bisect_left(events, at - (self._ttl or 0)), len(events) - n)
        return summed(values[first:], how)


def _index(leaves: Sequence[Expr], leaf: Expr) -> int:
    return next(i for i, one in enumerate(leaves) if one is leaf)


def summed(values: Sequence[float], how: str) -> float | None:
    """`how` (mean, total, minimum, maximum) of some values, sums in fixed point; null without any."""
    if not values:
        return None
    if how in ("minimum", "maximum"):
        return choose(how)(values)  # type: ignore[no-any-return]
    total = sum(round(value * UNITS) for value in values) / UNITS
    return total / len(values) if how == "mean" else total


def text_of(value: Any) -> str | None:
    """A part of a key as text, the same for equal values; null for none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return str(round(value.timestamp() * 1e6))
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def joined(parts: Sequence[str | None]) -> str | None:
    """A key of several parts; null where one is."""
    if None in parts:
        return None
    text = "\x1e".join(parts)  # type: ignore[arg-type]
    if "\\" in text or text.count("\x1e") >= len(parts):
        return "\x1e".join(one.replace("\\", "\\\\").replace("\x1e", "\\e") for one in parts if one is not None)
    return text


def keys_of(names: Sequence[str]) -> Keys:
    """A function that reads of some requests the key that the columns `names` make; null where one is null."""
    if not names:
        return lambda rows: [""] * len(rows)
    if len(names) == 1:
        (name,) = names

        def single(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
            return [value if type(value := row.get(name)) is str else text_of(value) for row in rows]

        return single
    parts = [keys_of([name]) for name in names]
    return lambda rows: [joined(one) for one in zip(*[part(rows) for part in parts], strict=True)]
