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
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.features.past import EVENT, KNOWN, SUPERSEDED

Ints = npt.NDArray[np.int64]
FIXED = 2**20
"""Sums count in units of 2**-20, so that adding is exact and has no order."""
NEVER = np.iinfo(np.int64).max
DENSE = 2**16


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
            if size > DENSE:
                _, dense = np.unique(np.concatenate((mine, theirs)), return_inverse=True)
                mine, theirs, size = dense[: mine.size], dense[mine.size :], int(dense.max(initial=0)) + 1
        null = np.zeros(mine.size, bool)
        lost = np.zeros(theirs.size, bool)
        for left_name, right_name in on:
            if self._spine[left_name].null_count():
                null |= self._spine[left_name].is_null().to_numpy()
            if self._source[right_name].null_count():
                lost |= self._source[right_name].is_null().to_numpy()
        return np.where(null, -1, mine), np.where(lost, size, theirs), size + 1

    def _column(self, left: str, right: str) -> tuple[Ints, Ints, int]:
        if (left, right) not in self._columns:
            mine, theirs = self._spine[left], self._source[right]
            if mine.dtype != theirs.dtype and not (mine.dtype.is_integer() and theirs.dtype.is_integer()):
                raise Invalid(
                    f"the spine's {left} is {mine.dtype} and the source's {right} is {theirs.dtype}",
                    why="rows of one entity are found by equal keys",
                    fix="give both columns one type",
                )
            both = pl.concat([mine.cast(pl.String).alias("key"), theirs.cast(pl.String).alias("key")])
            codes = both.cast(pl.Categorical(pl.Categories.random())).to_physical().fill_null(0)
            numbers = codes.cast(pl.Int64).to_numpy()
            size = int(numbers.max(initial=0)) + 1
            self._columns[left, right] = numbers[: mine.len()], numbers[mine.len() :], size
        return self._columns[left, right]


@dataclass(frozen=True)
class Events:
    """All rows of a source, by their times in microseconds."""

    event: Ints
    known: Ints
    superseded: Ints

    @classmethod
    def of(cls, source: pl.DataFrame) -> Events:
        """The rows of a source as `history` returns it."""
        times = (source[name].to_physical() for name in (EVENT, KNOWN))
        superseded = source[SUPERSEDED].to_physical().fill_null(NEVER)
        event, known = (column.to_numpy() for column in times)
        return cls(event, known, superseded.to_numpy())

    @cached_property
    def enter(self) -> Ints:
        """When a row becomes visible: it has happened and is known."""
        return np.maximum(self.event, self.known)

    @cached_property
    def by_entry(self) -> Ints:
        """Rows by entry; ties by event, then known, then row."""
        return np.lexsort((self.known, self.event, self.enter))

    @cached_property
    def by_event(self) -> Ints:
        """Rows by event."""
        return np.argsort(self.event, kind="stable")

    @cached_property
    def greatest_lag(self) -> int:
        """Longest time from event to entry."""
        return int((self.enter - self.event).max(initial=0))

    @cached_property
    def corrected(self) -> bool:
        """Whether any row was superseded."""
        return bool((self.superseded != NEVER).any())


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
        return order[np.argsort(codes.astype(np.uint16) if self.size <= DENSE else codes, kind="stable")]

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

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask, or nobody to answer."""
        return not self.codes.size or not self.code.size


def asked(events: Events, codes: Ints, size: int, code: Ints, at: Ints) -> Asked:
    """The spine rows with a code, sorted."""
    row = np.flatnonzero(code >= 0)
    row = row[np.lexsort((at[row], code[row]))]
    return Asked(events, codes, size, code[row], at[row], row)


def latest(ask: Asked, ttl_us: int) -> Ints:
    """For each question the source row of the newest event known then, -1 without one.

    Among the versions that have entered the latest event wins, so a late
    correction of an old event never hides a newer one; ties go to the later
    `known_at`, then to the later row. Older than `ttl_us` counts as none.
    """
    found = np.full(ask.code.size, -1, np.int64)
    if ask.empty:
        return found
    ev = ask.events
    order = ask.grouped(ev.by_entry)
    _, moment = np.unique(ev.event[order], return_inverse=True)
    happened = ask.codes[order] * (int(moment.max()) + 1) + moment
    order = order[happened >= np.maximum.accumulate(happened)]
    position = ask.positions(order, ev.enter, ask.at) - 1
    hit = order[np.maximum(position, 0)]
    good = (position >= 0) & (ask.codes[hit] == ask.code) & (ask.at - ev.event[hit] <= ttl_us)
    found[good] = hit[good]
    return found


class Windows:
    """Sums over trailing windows: what entered by a time minus what left by then.

    A window of length w at time t holds the newest version known at t of each event with
    `t - w < event_time <= t`.
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
                leave = np.maximum(np.minimum(ev.event + length_us, ev.superseded), ev.enter)
                order = ask.grouped(np.argsort(leave, kind="stable"))
                self._left[length_us] = order, ask.positions(order, leave, ask.at)
            else:
                order = self._happened
                self._left[length_us] = order, ask.positions(order, ev.event, ask.at - length_us)
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


def fixed(values: npt.NDArray[np.float64]) -> Ints:
    """Values in units of 2**-20; `Invalid` where their sum could leave 64 bits."""
    if values.size and float(np.abs(values).sum()) * FIXED >= 2**62:
        raise Invalid(
            "the values of a window are too large to be summed exactly",
            why=f"their sum must stay below {2**62 / FIXED:.0e}",
            fix="scale them in the view, for example value / 1e6",
        )
    return np.rint(values * FIXED).astype(np.int64)
