"""Column profiles of constant size that merge: what monitors read instead of rows."""

from __future__ import annotations

import itertools
import math
import operator
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

NAMES = 256
"""Values of a text column that keep their own count."""

HASH_CELLS = 64
_SMALL = 20_000
_FLOAT32 = float(np.finfo(np.float32).max)

Cells = npt.NDArray[np.uint16]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NumberProfile:
    """Counts of a numeric column over 65,536 fixed cells: the bfloat16 numbers.

    A cell is at most 0.8 % of its value wide; cells are numbered in the order of
    their values. They need no reference and have no limits, so a value a thousand
    times too large has a cell of its own.
    """

    rows: int
    null: int
    nan: int
    inf: int
    total: float
    squares: float
    low: float
    high: float
    cells: Cells
    counts: Counts

    @property
    def finite(self) -> int:
        """Rows with a number."""
        return self.rows - self.null - self.nan - self.inf

    @property
    def missing(self) -> float:
        """Share of rows without a number; 0 without rows."""
        return 1 - self.finite / self.rows if self.rows else 0.0

    @property
    def mean(self) -> float:
        """Mean of the numbers; NaN without one."""
        return self.total / self.finite if self.finite else math.nan

    def quantiles(self, shares: Sequence[float]) -> Floats:
        """Values below which those shares of the numbers lie, to half a cell; NaN without numbers."""
        if not self.finite:
            return np.full(len(shares), math.nan)
        reached = np.cumsum(self.counts)
        place = np.searchsorted(reached, np.asarray(shares) * reached[-1], side="left")
        values = cell_middles(self.cells[np.minimum(place, self.cells.size - 1)])
        return np.clip(values, self.low, self.high)

    def __add__(self, other: NumberProfile) -> NumberProfile:
        cells, where = np.unique(np.concatenate([self.cells, other.cells]), return_inverse=True)
        weights = np.concatenate([self.counts, other.counts])
        counts = np.bincount(where, weights, cells.size).astype(np.int64)
        return NumberProfile(
            self.rows + other.rows,
            self.null + other.null,
            self.nan + other.nan,
            self.inf + other.inf,
            self.total + other.total,
            self.squares + other.squares,
            min(self.low, other.low),
            max(self.high, other.high),
            cells,
            counts,
        )


@dataclass(frozen=True, slots=True)
class TextProfile:
    """Counts of a text column: up to 256 values by name, the others by hash cell.

    The values kept are those of smallest checksum, so merging is exact: what the
    union keeps, each part had kept. A column with fewer distinct values keeps all.
    """

    rows: int
    null: int
    values: dict[str, int]
    hashed: tuple[int, ...] = ()
    """Rows per hash cell of the values that lost their name; empty when none did."""

    @property
    def missing(self) -> float:
        """Share of rows without a value; 0 without rows."""
        return self.null / self.rows if self.rows else 0.0

    @property
    def other(self) -> int:
        """Rows whose value lost its name."""
        return sum(self.hashed)

    def __add__(self, other: TextProfile) -> TextProfile:
        values = Counter(self.values)
        values.update(other.values)
        hashed = [
            a + b for a, b in zip(self.hashed or (0,) * HASH_CELLS, other.hashed or (0,) * HASH_CELLS, strict=True)
        ]
        return _bounded(self.rows + other.rows, self.null + other.null, values, hashed)


@dataclass(frozen=True, slots=True)
class CountProfile:
    """Rows and nulls of a column that is neither number nor text."""

    rows: int
    null: int

    @property
    def missing(self) -> float:
        """Share of rows without a value; 0 without rows."""
        return self.null / self.rows if self.rows else 0.0

    def __add__(self, other: CountProfile) -> CountProfile:
        return CountProfile(self.rows + other.rows, self.null + other.null)


Column = NumberProfile | TextProfile | CountProfile


@dataclass(frozen=True, slots=True)
class Profile:
    """The columns of one window. `a + b` is the profile of the rows of both.

    Counts merge exactly, sums up to the rounding of float64. A column that one
    side does not have counts as null there; one that changes between number and
    text keeps only rows and nulls.
    """

    rows: int
    columns: dict[str, Column] = field(default_factory=dict)

    def __add__(self, other: Profile) -> Profile:
        columns: dict[str, Column] = {}
        for name in [*self.columns, *(c for c in other.columns if c not in self.columns)]:
            mine = self.columns.get(name) or _absent(other.columns[name], self.rows)
            theirs = other.columns.get(name) or _absent(self.columns[name], other.rows)
            if type(mine) is type(theirs):
                columns[name] = mine + theirs  # type: ignore[operator]
            else:
                columns[name] = CountProfile(mine.rows, mine.null) + CountProfile(theirs.rows, theirs.null)
        return Profile(self.rows + other.rows, columns)


def merged(parts: Iterable[Profile]) -> Profile:
    """The profile of the rows of all `parts`: what adding them one by one gives, in one go."""
    found = list(parts)
    names = list(dict.fromkeys(name for part in found for name in part.columns))
    columns: dict[str, Column] = {}
    numbers: dict[str, list[NumberProfile]] = {}
    for name in names:
        alike = [part.columns.get(name) for part in found]
        kind = type(alike[0])
        if kind is CountProfile or any(type(one) is not kind for one in alike):
            columns[name] = reduce(Profile.__add__, (_only(part, name) for part in found), Profile(0)).columns[name]
        elif kind is TextProfile:
            columns[name] = _all_text(alike)  # type: ignore[arg-type]
        else:
            numbers[name] = alike  # type: ignore[assignment]
    columns.update(_all_numbers(numbers))
    return Profile(sum(part.rows for part in found), {name: columns[name] for name in names})


def _only(part: Profile, name: str) -> Profile:
    """One column of a profile."""
    return Profile(part.rows, {name: part.columns[name]} if name in part.columns else {})


def _all_text(parts: Sequence[TextProfile]) -> TextProfile:
    values: Counter[str] = Counter()
    hashed = [0] * HASH_CELLS
    for part in parts:
        values.update(part.values)
        if part.hashed:
            hashed = [a + b for a, b in zip(hashed, part.hashed, strict=True)]
    return _bounded(sum(p.rows for p in parts), sum(p.null for p in parts), values, hashed)


def _all_numbers(columns: Mapping[str, Sequence[NumberProfile]]) -> dict[str, Column]:
    """The parts of each column added up; all columns share one sort."""
    if not columns:
        return {}
    every = [part for parts in columns.values() for part in parts]
    owner = np.repeat(
        np.repeat(np.arange(len(columns), dtype=np.uint32), [len(parts) for parts in columns.values()]),
        [part.cells.size for part in every],
    )
    keys = owner << np.uint32(16) | np.concatenate([part.cells for part in every])
    order = np.argsort(keys, kind="stable")
    keys, weights = keys[order], np.concatenate([part.counts for part in every])[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))[: keys.size]
    counts = np.add.reduceat(weights, starts) if keys.size else weights
    edges = np.searchsorted(keys[starts] >> np.uint32(16), np.arange(len(columns) + 1))
    cells = (keys[starts] & np.uint32(0xFFFF)).astype(np.uint16)
    return {
        name: NumberProfile(
            sum(p.rows for p in parts),
            sum(p.null for p in parts),
            sum(p.nan for p in parts),
            sum(p.inf for p in parts),
            reduce(operator.add, (p.total for p in parts), 0.0),
            reduce(operator.add, (p.squares for p in parts), 0.0),
            min((p.low for p in parts), default=math.inf),
            max((p.high for p in parts), default=-math.inf),
            cells[edges[i] : edges[i + 1]],
            counts[edges[i] : edges[i + 1]],
        )
        for i, (name, parts) in enumerate(columns.items())
    }


def profile(frame: pl.DataFrame, columns: Sequence[str] | None = None) -> Profile:
    """Profile the columns of `frame` (all by default).

    Numbers and booleans become `NumberProfile`, text and categories
    `TextProfile`, everything else (times, lists) `CountProfile`. O(rows) per
    column, one pass.
    """
    return profile_slices(frame if columns is None else frame.select(columns), (0, frame.height))[0]


def profile_slices(frame: pl.DataFrame, bounds: Sequence[int]) -> list[Profile]:
    """Profile consecutive slices of `frame`: rows `bounds[i]` to `bounds[i + 1]` make the i-th profile."""
    kinds = frame.schema
    numbers = [n for n, t in kinds.items() if t.is_numeric() or t == pl.Boolean]
    texts = [n for n, t in kinds.items() if t in (pl.String, pl.Categorical, pl.Enum)]
    rest = [n for n in kinds if n not in set(numbers) | set(texts)]
    if frame.height > _SMALL:
        return [_long(frame.slice(start, stop - start), numbers, texts) for start, stop in itertools.pairwise(bounds)]
    columns = {n: frame.get_column(n) for n in kinds}
    values = np.empty((len(numbers), frame.height))
    for i, name in enumerate(numbers):
        values[i] = columns[name].cast(pl.Float64).to_numpy()
    words = {n: columns[n].cast(pl.String).to_list() for n in texts}
    gaps = {n for n in (*numbers, *rest) if columns[n].null_count()}
    made = []
    for start, stop in itertools.pairwise(bounds):
        null = {n: columns[n].slice(start, stop - start).null_count() if n in gaps else 0 for n in (*numbers, *rest)}
        found = _numbers(numbers, [null[n] for n in numbers], values[:, start:stop])
        found.update({n: _words(words[n][start:stop]) for n in texts})
        found.update({n: CountProfile(stop - start, null[n]) for n in rest})
        made.append(Profile(stop - start, {n: found[n] for n in kinds}))
    return made


def _long(part: pl.DataFrame, numbers: Sequence[str], texts: Sequence[str]) -> Profile:
    """The profile of many rows, column by column."""
    found: dict[str, Column] = {}
    for name in part.columns:
        series = part.get_column(name)
        if name in numbers:
            found[name] = _long_number(series)
        else:
            found[name] = _text(series) if name in texts else CountProfile(part.height, series.null_count())
    return Profile(part.height, found)


def cell_middles(cells: Cells) -> Floats:
    """The value in the middle of each cell."""
    keys = cells.astype(np.uint32)
    bits = np.where(keys & 0x8000, keys & 0x7FFF, ~keys & 0xFFFF) << 16
    edge = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    following = (bits + 0x10000).astype(np.uint32).view(np.float32).astype(np.float64)
    far = np.where(np.isfinite(following), following, edge)
    # Whole numbers up to 256 and zero are themselves the edge of a cell.
    return np.where((edge == np.round(edge)) & (np.abs(edge) < 128), edge, (edge + far) / 2)


def value_cells(values: Floats) -> Cells:
    """The cell of each finite value."""
    clipped = np.clip(values, -_FLOAT32, _FLOAT32).astype(np.float32) + np.float32(0)
    bits = (clipped.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000).astype(np.uint16)


def _numbers(names: Sequence[str], nulls: Sequence[int], values: Floats) -> dict[str, Column]:
    """Profiles of the rows of `values` (columns x rows, NaN also where null), all at once."""
    if not names:
        return {}
    height = values.shape[1]
    finite = np.isfinite(values)
    kept = np.where(finite, values, 0.0)
    count = finite.sum(axis=1)
    inf = np.isinf(values).sum(axis=1)
    total = kept.sum(axis=1)
    squares = np.einsum("ij,ij->i", kept, kept)
    low = np.where(finite, values, math.inf).min(axis=1, initial=math.inf)
    high = np.where(finite, values, -math.inf).max(axis=1, initial=-math.inf)
    column = np.arange(len(names), dtype=np.uint32)[:, None] << np.uint32(16)
    keys = np.sort((value_cells(kept) | column)[finite])
    starts = np.flatnonzero(np.diff(keys, prepend=np.uint32(0xFFFFFFFF)))
    sizes = np.diff(starts, append=keys.size)
    owners = keys[starts] >> np.uint32(16)
    edges = np.searchsorted(owners, np.arange(len(names) + 1))
    cells = (keys[starts] & np.uint32(0xFFFF)).astype(np.uint16)
    return {
        name: NumberProfile(
            height,
            nulls[i],
            height - int(nulls[i]) - int(count[i]) - int(inf[i]),
            int(inf[i]),
            float(total[i]),
            float(squares[i]),
            float(low[i]),
            float(high[i]),
            cells[edges[i] : edges[i + 1]],
            sizes[edges[i] : edges[i + 1]].astype(np.int64),
        )
        for i, name in enumerate(names)
    }


def _long_number(series: pl.Series) -> NumberProfile:
    null = series.null_count()
    values = series.drop_nulls().cast(pl.Float64).to_numpy()
    nan = inf = 0
    total = float(values.sum())
    if not math.isfinite(total):
        nan, inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        values = values[np.isfinite(values)]
        total = float(values.sum())
    counts = np.bincount(value_cells(values), minlength=1 << 16)
    cells = np.flatnonzero(counts).astype(np.uint16)
    return NumberProfile(
        len(series),
        null,
        nan,
        inf,
        total,
        float(np.dot(values, values)),
        float(values.min(initial=math.inf)),
        float(values.max(initial=-math.inf)),
        cells,
        counts[cells].astype(np.int64),
    )


def _text(series: pl.Series) -> TextProfile:
    if len(series) <= _SMALL // 4:
        return _words(series.cast(pl.String).to_list())
    table = series.drop_nulls().value_counts(name="_rows").select(pl.nth(0).cast(pl.String), "_rows")
    return _bounded(len(series), series.null_count(), Counter(dict(table.iter_rows())), [0] * HASH_CELLS)


def _words(values: Sequence[str | None]) -> TextProfile:
    counted: Counter[Any] = Counter(values)
    null = counted.pop(None, 0)
    return _bounded(len(values), null, counted, [0] * HASH_CELLS)


@lru_cache(maxsize=1 << 14)
def _rank(value: str) -> tuple[int, str]:
    return zlib.crc32(value.encode("utf-8", "surrogatepass")), value


def _bounded(rows: int, null: int, values: Counter[str], hashed: list[int]) -> TextProfile:
    """Keep the names of smallest checksum, count the rest by cell."""
    if len(values) > NAMES:
        ranked = sorted(map(_rank, values))
        for checksum, name in ranked[NAMES:]:
            hashed[checksum % HASH_CELLS] += values[name]
        values = Counter({name: values[name] for _, name in ranked[:NAMES]})
    return TextProfile(rows, null, dict(sorted(values.items())), tuple(hashed) if any(hashed) else ())


def _absent(like: Column, rows: int) -> Column:
    if isinstance(like, NumberProfile):
        nothing = np.empty(0, np.uint16), np.empty(0, np.int64)
        return NumberProfile(rows, rows, 0, 0, 0.0, 0.0, math.inf, -math.inf, *nothing)
    return TextProfile(rows, rows, {}) if isinstance(like, TextProfile) else CountProfile(rows, rows)
