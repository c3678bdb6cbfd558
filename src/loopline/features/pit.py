"""What was known at the time: as-of lookups and trailing windows over a source's events.

Every version of an event is visible during one stretch of time: from `enter`, when it has happened and is
known, until it leaves. Both questions then need only counting and comparing:

- *latest*: of the events that have entered, the one that happened last. A version that was superseded has left.
- *window* of length w: a version leaves at `event_time + w`, or earlier when a newer version of it becomes
  known. What is inside at a decision time has entered and has not left, so a sum over the window is the sum
  over all that entered minus the sum over all that left: two prefix sums, exact in 64-bit integers.

A view with `refresh` sees what happened and became known only from the next multiple of it on, and its windows
leave in steps (`hops`): that is what its online twin can hold (`tiles`), so both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.features.hops import hop
from loopline.features.past import EVENT, KNOWN, SUPERSEDED, superseded_by

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[Any]
FIXED = 2**20
"""Sums count in units of 2**-20, so that adding is exact and has no order."""
NEVER = 2**62
DENSE = 2**16
SPARSE = 2**20
"""So many codes leave room for a time beside each in 64 bits; more are numbered anew."""


class Matching:
    """Spine and source rows numbered by entity, each column encoded once."""

    def __init__(self, spine: pl.DataFrame, source: pl.DataFrame) -> None:
        self._spine, self._source = spine, source
        self._columns: dict[tuple[str, str], tuple[Ints, Ints, int]] = {}

    def __call__(self, on: Sequence[tuple[str, str]]) -> tuple[Ints, Ints, int]:
        """Codes of the spine rows, of the source rows, and how many codes there may be.

        A null key has code -1 in the spine and a code of its own, that nobody asks for, in the source.
        """
        mine, theirs, size = np.zeros(self._spine.height, np.int64), np.zeros(self._source.height, np.int64), 1
        for pair in on:
            left, right, n = self._column(*pair)
            mine, theirs, size = mine * n + left, theirs * n + right, size * n
            if size > SPARSE:
                _, dense = np.unique(np.concatenate((mine, theirs)), return_inverse=True)
                mine, theirs, size = dense[: mine.size], dense[mine.size :], int(dense.max(initial=0)) + 1
        for frame, side in ((self._spine, 0), (self._source, 1)):
            for pair in on:
                if frame[pair[side]].null_count():
                    lost = frame[pair[side]].is_null().to_numpy()
                    if side == 0:
                        mine = np.where(lost, -1, mine)
                    else:
                        theirs = np.where(lost, size, theirs)
        return mine, theirs, size + 1

    def _column(self, left: str, right: str) -> tuple[Ints, Ints, int]:
        if (left, right) not in self._columns:
            mine, theirs = self._spine[left], self._source[right]
            if mine.dtype != theirs.dtype and not (mine.dtype.is_integer() and theirs.dtype.is_integer()):
                raise Invalid(
                    f"the spine's {left} is {mine.dtype} and the source's {right} is {theirs.dtype}",
                    why="rows of one entity are found by equal keys",
                    fix="give both columns one type",
                )
            if mine.dtype.is_integer() and (found := _whole(mine, theirs)) is not None:
                self._columns[left, right] = found
                return found
            both = pl.concat([mine.cast(pl.String).alias("key"), theirs.cast(pl.String).alias("key")])
            codes = both.cast(pl.Categorical(pl.Categories.random())).to_physical().fill_null(0)
            numbers = codes.cast(pl.Int64).to_numpy()
            size = int(numbers.max(initial=0)) + 1
            self._columns[left, right] = numbers[: mine.len()], numbers[mine.len() :], size
        return self._columns[left, right]


def _whole(mine: pl.Series, theirs: pl.Series) -> tuple[Ints, Ints, int] | None:
    """Whole numbers that lie close together are codes as they are."""
    ends = [int(end) for one in (mine, theirs) for end in (one.min(), one.max()) if end is not None]  # type: ignore[arg-type]
    low, high = min(ends, default=0), max(ends, default=0)
    if high - low >= SPARSE:
        return None
    codes = [one.fill_null(low).cast(pl.Int64).to_numpy() - low for one in (mine, theirs)]
    return codes[0], codes[1], high - low + 1


@dataclass(frozen=True)
class Events:
    """All rows of a source, by their times in microseconds."""

    event: Ints
    known: Ints
    superseded: Ints
    refresh: int | None = None

    @classmethod
    def of(cls, source: pl.DataFrame, refresh: int | None = None, available: str | None = None) -> Events:
        """The rows of a source as `history` returns it, as a view with `refresh` and `available_at` sees them."""
        known, end = (KNOWN, SUPERSEDED) if available is None else (available, superseded_by(available))
        event, seen, superseded = (source[c].to_physical().fill_null(NEVER).to_numpy() for c in (EVENT, known, end))
        return cls(event, seen, superseded, refresh)

    def _seen(self, times: Ints) -> Ints:
        """The refresh at or after each time; itself in a view without."""
        if self.refresh is None:
            return times
        return np.where(times == NEVER, NEVER, -(-times // self.refresh) * self.refresh)

    @cached_property
    def enter(self) -> Ints:
        """When a row becomes visible: it has happened, is known, and is seen."""
        return self._seen(np.maximum(self.event, self.known))

    @cached_property
    def leave(self) -> Ints:
        """When a newer version of a row is seen, but not before the row was."""
        return np.maximum(self._seen(self.superseded), self.enter)

    @cached_property
    def by_entry(self) -> Ints:
        """Rows by entry; ties by event, then known, then row."""
        keys = self.known, self.event, self.enter
        return np.arange(self.event.size) if _sorted(keys) else np.lexsort(keys)

    @cached_property
    def by_event(self) -> Ints:
        """Rows by event."""
        return np.argsort(self.event, kind="stable")

    @cached_property
    def newness(self) -> Ints:
        """Place of each row by event, then known, then row: the newest has the greatest."""
        place = np.empty(self.event.size, np.int64)
        place[np.lexsort((self.known, self.event))] = np.arange(self.event.size)
        return place

    @cached_property
    def greatest_lag(self) -> int:
        """Longest time from event to entry."""
        return int((self.enter - self.event).max(initial=0))

    @cached_property
    def in_turn(self) -> bool:
        """Whether rows surely enter in the order of their events: all equally late."""
        return self.event.size > 0 and self.greatest_lag == int((self.enter - self.event).min())

    @cached_property
    def corrected(self) -> bool:
        """Whether any row was superseded."""
        return bool((self.superseded != NEVER).any())

    def out(self, length_us: int) -> Ints:
        """When each row is out of a window of `length_us`."""
        step = hop(length_us, self.refresh)
        return np.maximum(np.minimum(-(-self.event // step) * step + length_us, self.leave), self.enter)


@dataclass(frozen=True)
class Asked:
    """Questions to a source about its entities, sorted by (code, time); `row` is their place in the spine.

    `codes` numbers the source's rows, `size` says below which number all codes lie.
    """

    events: Events
    codes: Ints
    size: int
    code: Ints
    at: Ints
    row: Ints

    def grouped(self, order: Ints) -> Ints:
        """`order`, by entity first."""
        codes = self.codes[order]
        if self.size <= DENSE:
            return order[np.argsort(codes.astype(np.uint16), kind="stable")]
        low = np.argsort((codes % DENSE).astype(np.uint16), kind="stable")  # 16 bits at a time are sorted by counting
        if self.size <= DENSE**2:
            return order[low[np.argsort((codes[low] // DENSE).astype(np.uint16), kind="stable")]]
        return order[np.argsort(codes, kind="stable")]

    def positions(self, order: Ints, times: Ints, at: Ints) -> Ints:
        """How many source rows in `order` come up to and with each question's entity and time `at`."""
        rows, asked = self._places(self.codes[order], times[order], at)
        return np.searchsorted(rows, asked, side="right").astype(np.int64)

    def _places(self, codes: Ints, times: Ints, at: Ints) -> tuple[Ints, Ints]:
        """(code, time) as single integers of the same order, for rows and questions."""
        low, high = min(int(times.min()), int(at.min())), int(at.max())
        span = high - low + 2
        if self.size * span < 2**62:
            return codes * span + (np.minimum(times, high + 1) - low), self.code * span + (at - low)
        moments = np.unique(times)
        span = moments.size + 1
        rank = np.searchsorted(moments, times, side="right")
        return codes * span + rank, self.code * span + np.searchsorted(moments, at, side="right")

    def spans(self, enter: Ints, leave: Ints) -> tuple[Ints, Ints]:
        """For each source row the questions from `enter` on and before `leave`, as first and last + 1."""
        first, low = self._places(self.codes, enter, self.at)
        last, high = self._places(self.codes, leave, self.at)
        return np.searchsorted(low, first).astype(np.int64), np.searchsorted(high, last).astype(np.int64)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask, or nobody to answer."""
        return not self.codes.size or not self.code.size


def asked(events: Events, codes: Ints, size: int, code: Ints, at: Ints) -> Asked:
    """The spine rows with a code, sorted."""
    row = np.flatnonzero(code >= 0)
    first, last = (int(at[row].min()), int(at[row].max())) if row.size else (0, 0)
    span = last - first + 1
    if size * span < 2**62:
        row = row[np.argsort(code[row] * span + (at[row] - first))]
    else:
        row = row[np.lexsort((at[row], code[row]))]
    return Asked(events, codes, size, code[row], at[row], row)


def latest(ask: Asked, ttl_us: int) -> Ints:
    """For each question the source row of the newest event known then, -1 without one.

    Among the versions that have entered and were not superseded the latest event
    wins, so a late correction of an old event never hides a newer one; ties go to
    the later `known_at`, then to the later row. Older than `ttl_us` counts as none.
    """
    found = np.full(ask.code.size, -1, np.int64)
    if ask.empty:
        return found
    ev = ask.events
    if ev.corrected:
        newest = overlaid(*ask.spans(ev.enter, ev.leave), ev.newness, np.maximum, -1, ask.code.size)
        hit = np.argsort(ev.newness)[np.maximum(newest, 0)]
        good = (newest >= 0) & (ask.at - ev.event[hit] <= ttl_us)
        found[good] = hit[good]
        return found
    order = ask.grouped(ev.by_entry)
    if not ev.in_turn:
        moment = ev.event[order] - int(ev.event.min())
        if ask.size * (int(moment.max()) + 1) >= 2**62:
            _, moment = np.unique(moment, return_inverse=True)
        happened = ask.codes[order] * (int(moment.max()) + 1) + moment
        order = order[happened >= np.maximum.accumulate(happened)]
    position = ask.positions(order, ev.enter, ask.at) - 1
    hit = order[np.maximum(position, 0)]
    good = (position >= 0) & (ask.codes[hit] == ask.code) & (ask.at - ev.event[hit] <= ttl_us)
    found[good] = hit[good]
    return found


def _sorted(keys: Sequence[Ints]) -> bool:
    """Whether rows are sorted by the last key, then the one before, and so on."""
    fine = np.ones(max(0, keys[0].size - 1), bool)
    for key in keys:
        fine = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & fine)
    return bool(fine.all())


class Windows:
    """Sums over trailing windows: what entered by a time minus what left by then.

    A window of length w at time t holds the newest version known at t of each event with
    `t - w < event_time <= t`; in a view with `refresh`, `t - w` is cut down to a multiple of the hop.
    """

    def __init__(self, ask: Asked) -> None:
        self._ask, self._events = ask, ask.events
        self._left: dict[int, tuple[Ints, Ints]] = {}
        self._prefixes: dict[tuple[int, int], Ints] = {}
        if not ask.empty:
            self._entered = ask.grouped(self._events.by_entry)
            self._happened = ask.grouped(self._events.by_event)
            self._upper = ask.positions(self._entered, self._events.enter, ask.at)

    def _leaving(self, length_us: int) -> tuple[Ints, Ints]:
        """Order in which rows leave, and how many have left at each question."""
        if length_us not in self._left:
            ask, ev = self._ask, self._events
            if ev.corrected or ev.greatest_lag > length_us:
                leave = ev.out(length_us)
                turns = leave[ev.by_event]
                in_turn = bool((turns[1:] >= turns[:-1]).all())
                order = self._happened if in_turn else ask.grouped(np.argsort(leave, kind="stable"))
                self._left[length_us] = order, ask.positions(order, leave, ask.at)
            else:
                order, step = self._happened, hop(length_us, ev.refresh)
                self._left[length_us] = order, ask.positions(order, ev.event, (ask.at - length_us) // step * step)
        return self._left[length_us]

    def _prefix(self, values: Ints, order: Ints) -> Ints:
        key = id(values), id(order)
        if key not in self._prefixes:
            sums = np.zeros(values.size + 1, np.int64)
            np.cumsum(values[order], out=sums[1:])
            self._prefixes[key] = sums
        return self._prefixes[key]

    def sums(self, values: Ints, length_us: int) -> Ints:
        """Sum of `values` (one per source row; keep the array alive) over the window before each question."""
        if self._ask.empty:
            return np.zeros(self._ask.code.size, np.int64)
        order, left = self._leaving(length_us)
        entered: Ints = self._prefix(values, self._entered)[self._upper]
        return entered - self._prefix(values, order)[left]


def overlaid(first: Ints, last: Ints, values: Floats, choose: np.ufunc, nothing: float, size: int) -> Floats:
    """For each of `size` places the least or greatest of the values whose span `[first, last)` holds it.

    Parameters
    ----------
    choose : np.minimum or np.maximum
    nothing : float
        What is found where no span is; it loses against every value.

    Notes
    -----
    A span is covered by two blocks whose length is a power of two; from the longest length down, blocks hand
    what they found to their halves. O(m + n log n) for m spans and n places; it is the sparse table of range
    minima (Bender and Farach-Colton, 2000) read backwards.
    """
    found = np.full(size, nothing, values.dtype)
    width = last - first
    some = np.flatnonzero(width > 0)
    level = np.frexp(width[some])[1] - 1
    for k in range(int(level.max(initial=-1)), -1, -1):
        half = 2**k
        lower = found.copy()
        choose(lower[half:], found[:-half], out=lower[half:])
        found = lower
        here = some[level == k]
        choose.at(found, first[here], values[here])
        choose.at(found, last[here] - half, values[here])
    return found


def fixed(values: npt.NDArray[np.float64]) -> Ints:
    """Values in units of 2**-20; `Invalid` where their sum could leave 64 bits."""
    if values.size and float(np.abs(values).sum()) * FIXED >= 2**62:
        raise Invalid(
            "the values of a window are too large to be summed exactly",
            why=f"their sum must stay below {2**62 / FIXED:.0e}",
            fix="scale them in the view, for example value / 1e6",
        )
    return np.rint(values * FIXED).astype(np.int64)
