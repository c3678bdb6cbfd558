"""What was known at the time: as-of lookups and trailing windows over a source's events.

Every version of an event is visible during one stretch of time: from `enter`, when it has happened and is
known, until it leaves. Both questions then need only counting and comparing:

- *latest*: of the events that have entered, the one that happened last.
- *window* of length w: a version leaves at `event_time + w`, or earlier when a newer version of it becomes
  known. What is inside at a decision time has entered and has not left, so a sum over the window is the sum
  over all that entered minus the sum over all that left: two prefix sums, exact in 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.features.past import EVENT, KNOWN, SUPERSEDED

Ints = npt.NDArray[np.int64]
FIXED = 2**20
"""Sums count in units of 2**-20, so that adding is exact and has no order."""
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Events:
    """Rows of a source that belong to some spine row: their entity's code, times in microseconds, row number."""

    code: Ints
    event: Ints
    known: Ints
    enter: Ints
    superseded: Ints
    row: Ints


@dataclass(frozen=True, slots=True)
class Asks:
    """Spine rows that have an entity, sorted by (code, time); `row` is their place in the spine."""

    code: Ints
    at: Ints
    row: Ints


def matched(
    spine: pl.DataFrame, source: pl.DataFrame, on: Sequence[tuple[str, str]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number the entities that the spine asks about.

    Returns
    -------
    spine_code : array, n
        Code of each spine row; -1 where a key is null.
    source_code, source_row : arrays, k
        Code and row number of the source rows that belong to one of them.
    """
    if not on:
        return np.zeros(spine.height, np.int64), np.zeros(source.height, np.int64), np.arange(source.height)
    left, right = [pair[0] for pair in on], [pair[1] for pair in on]
    keys = spine.select(left)
    codes = keys.unique().drop_nulls().with_row_index("_code")
    mine = keys.join(codes, on=left, how="left", maintain_order="left")["_code"].cast(pl.Int64).fill_null(-1)
    theirs = (
        source.select(right).with_row_index("_row").join(codes, left_on=right, right_on=left, maintain_order="left")
    )
    return (
        mine.to_numpy(),
        theirs["_code"].cast(pl.Int64).to_numpy(),
        theirs["_row"].cast(pl.Int64).to_numpy(),
    )


def events(source: pl.DataFrame, code: Ints, row: Ints) -> Events:
    """The rows `row` of a source with their times."""
    times = source.select(EVENT, KNOWN, SUPERSEDED)[row].select(pl.all().to_physical())
    event, known = times[EVENT].to_numpy(), times[KNOWN].to_numpy()
    superseded = times[SUPERSEDED].fill_null(NEVER).to_numpy()
    return Events(code, event, known, np.maximum(event, known), superseded, row)


def asks(code: Ints, at: Ints) -> Asks:
    """The spine rows with a code, sorted."""
    row = np.flatnonzero(code >= 0)
    row = row[np.lexsort((at[row], code[row]))]
    return Asks(code[row], at[row], row)


class Line:
    """(code, time) pairs as single integers that keep their order."""

    def __init__(self, codes: int, low: int, high: int) -> None:
        self._low, self._span = low, high - low + 2
        if codes * self._span >= 2**63:
            raise Invalid(
                f"{codes} entities over {self._span / 86_400e6:.0f} days do not fit one computation",
                why="entity and time share one 64-bit integer",
                fix="compute shorter spans of the spine, one after the other",
            )

    def __call__(self, code: Ints, time: Ints) -> Ints:
        """Place of each pair; times before the line begins come before all of their code."""
        return code * self._span + np.clip(time - self._low + 1, 0, self._span - 1)


def line(ev: Events, ask: Asks) -> Line:
    """A line that holds the events' times and every moment at which something is asked."""
    highest = max(int(x.max()) for x in (ev.event, ev.enter, ask.at) if x.size)
    lowest = min(int(x.min()) for x in (ev.event, ask.at) if x.size)
    codes = 1 + max(int(x.max()) for x in (ev.code, ask.code) if x.size)
    return Line(codes, lowest, highest)


def latest(ev: Events, ask: Asks, ttl_us: int) -> Ints:
    """For each question the source row of the newest event known then, -1 without one.

    Among the versions that have entered the latest event wins, so a late
    correction of an old event never hides a newer one; ties go to the later
    `known_at`, then to the later row. Older than `ttl_us` counts as none.
    """
    found = np.full(ask.code.size, -1, np.int64)
    if not ev.code.size or not ask.code.size:
        return found
    place = line(ev, ask)
    order = np.lexsort((ev.row, ev.known, ev.event, place(ev.code, ev.enter)))
    happened = place(ev.code[order], ev.event[order])
    order = order[happened >= np.maximum.accumulate(happened)]
    position = np.searchsorted(place(ev.code[order], ev.enter[order]), place(ask.code, ask.at), side="right") - 1
    hit = order[np.maximum(position, 0)]
    good = (position >= 0) & (ev.code[hit] == ask.code) & (ask.at - ev.event[hit] <= ttl_us)
    found[good] = ev.row[hit[good]]
    return found


class Windows:
    """Sums over trailing windows: what entered by a time minus what left by then.

    A window of length w at time t holds the newest version known at t of each event with
    `t - w < event_time <= t`.
    """

    def __init__(self, ev: Events, ask: Asks) -> None:
        self._events, self._ask = ev, ask
        self._empty = not ev.code.size or not ask.code.size
        if self._empty:
            return
        self._line = line(ev, ask)
        self._entered = np.argsort(self._line(ev.code, ev.enter), kind="stable")
        self._upper = self._positions(self._entered, ev.enter, ask.at)
        self._happened = np.argsort(self._line(ev.code, ev.event), kind="stable")
        self._lower: dict[int, tuple[Ints, Ints]] = {}
        self._prefixes: dict[tuple[int, int], Ints] = {}

    def _positions(self, order: Ints, times: Ints, at: Ints) -> Ints:
        ev = self._events
        return np.searchsorted(
            self._line(ev.code[order], times[order]), self._line(self._ask.code, at), side="right"
        ).astype(np.int64)

    def _left(self, length_us: int) -> tuple[Ints, Ints]:
        """Order in which events leave, and how many have left at each question."""
        if length_us not in self._lower:
            ev = self._events
            leave = np.minimum(ev.event + length_us, ev.superseded)
            if bool(((leave < ev.enter) | (ev.superseded < ev.event + length_us)).any()):
                leave = np.maximum(leave, ev.enter)
                order = np.argsort(self._line(ev.code, leave), kind="stable")
                self._lower[length_us] = order, self._positions(order, leave, self._ask.at)
            else:
                order = self._happened
                self._lower[length_us] = order, self._positions(order, ev.event, self._ask.at - length_us)
        return self._lower[length_us]

    def _prefix(self, values: Ints, order: Ints) -> Ints:
        key = id(values), id(order)
        if key not in self._prefixes:
            sums = np.zeros(values.size + 1, np.int64)
            np.cumsum(values[order], out=sums[1:])
            self._prefixes[key] = sums
        return self._prefixes[key]

    def sums(self, values: Ints, length_us: int) -> Ints:
        """Sum of `values` (one per event) over the window before each question."""
        if self._empty:
            return np.zeros(self._ask.code.size, np.int64)
        order, left = self._left(length_us)
        entered: Ints = self._prefix(values, self._entered)[self._upper]
        return entered - self._prefix(values, order)[left]


def fixed(values: npt.NDArray[np.float64]) -> Ints:
    """Values in units of 2**-20; `Invalid` where their sum could leave 64 bits."""
    if values.size and float(np.abs(values).sum()) * FIXED >= 2**62:
        raise Invalid(
            "the values of a window are too large to be summed exactly",
            why=f"their sum must stay below {2**62 / FIXED:.0e}",
            fix="scale them in the view, for example value / 1e6",
        )
    return np.rint(values * FIXED).astype(np.int64)
