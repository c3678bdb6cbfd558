"""Whether the readings of one entity go on from window to window, and under which conversion they would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.spec import TableSpec

Floats = npt.NDArray[np.float64]

ENTITIES = 16
"""Entities of a table whose first and last readings are kept per window."""

CAP = 6.0
"""Evidence (in nats) that the steps of one column over one border can give at most, for or against."""

GOES_ON = 4.0
"""Steps farther from the usual one than so many scales do not go on."""

_LEAST = 14
"""Fewer earlier steps of an entity do not show what is usual."""

_TELLS = 0.5
"""Steps say something only where they are so much smaller than the readings themselves vary between windows."""

_TAIL = 3.0
"""Degrees of freedom of the t law that steps are taken to follow: fronts, restarts and glitches are common."""

FIRST, LAST = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """The first and the last reading of some entities in each part of a window.

    Attributes
    ----------
    entities : tuple of str
        Up to 16, the first in alphabetical order, so that windows keep the same ones.
    columns : tuple of str
        The numeric columns.
    values : float64 array, entities x parts x (first, last) x columns
        NaN without a number in the part.
    times : float64 array of the same shape
        Event times of the readings, microseconds since 1970.
    """

    entities: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    times: Floats

    @property
    def parts(self) -> int:
        """Parts of the window."""
        return int(self.values.shape[1])

    def head(self) -> dict[str, Any]:
        """What `read` needs besides the arrays."""
        return {"entities": self.entities, "columns": self.columns, "parts": self.parts}

    def to_bytes(self) -> bytes:
        """The arrays."""
        return self.values.astype("<f8").tobytes() + self.times.astype("<f8").tobytes()

    @classmethod
    def read(cls, head: dict[str, Any], data: bytes, offset: int) -> Ends:
        """What `head` and `to_bytes` gave."""
        entities, columns = tuple(head["entities"]), tuple(head["columns"])
        shape = (2, len(entities), head["parts"], 2, len(columns))
        both = np.frombuffer(data, "<f8", int(np.prod(shape)), offset).reshape(shape)
        return cls(entities, columns, both[0], both[1])


def entity_columns(spec: TableSpec) -> tuple[str, ...] | None:
    """The columns that tell series of readings apart; null where a table holds none.

    A series has its event time in the key: the other columns of the key name it.
    Without a key the table is one series. Where the key does without the event
    time, a row is a thing of its own and follows no other.
    """
    if spec.event_time is None:
        return None
    if spec.key and spec.event_time not in spec.key:
        return None
    return tuple(k for k in spec.key if k != spec.event_time)


def ends_of(
    rows: pl.DataFrame, bounds: Sequence[int], spec: TableSpec, columns: Sequence[str], length: float
) -> Ends | None:
    """The ends of a window's parts; null for a table that holds no series.

    Parameters
    ----------
    rows : DataFrame
        Rows of the window in the order in which they became known.
    bounds : sequence of int
        Rows `bounds[i]` to `bounds[i + 1]` make the i-th part.
    columns : sequence of str
        The columns that are watched; those without numbers are left out.
    length : float
        Seconds of the window. Rows whose event is older than the newest one by more
        than that correct earlier windows and are no readings of this one.
    """
    entity = entity_columns(spec)
    time = spec.event_time
    if entity is None or time is None or not rows.height or not rows.schema[time].is_temporal():
        return None
    kinds = rows.schema
    names = tuple(c for c in columns if (kinds[c].is_numeric() or kinds[c] == pl.Boolean) and c not in spec.key)
    if not names:
        return None
    parts = len(bounds) - 1
    known = rows.select(
        *(pl.col(n).cast(pl.Float64) for n in names),
        _time=pl.col(time).cast(pl.Datetime("us")).dt.epoch("us"),
        _part=pl.Series(np.repeat(np.arange(parts, dtype=np.int64), np.diff(bounds))),
        _entity=pl.concat_str([pl.col(c).cast(pl.String).fill_null("") for c in entity], separator="\x1f")
        if entity
        else pl.lit(""),
    ).filter(pl.col("_time") > pl.col("_time").max() - int(length * 1e6))
    entities = known["_entity"].unique().sort().head(ENTITIES)
    if known["_entity"].n_unique() > entities.len():
        known = known.filter(pl.col("_entity").is_in(entities.implode()))
    codes = entities.search_sorted(known["_entity"]).to_numpy().astype(np.int64)
    stamps = known["_time"].to_numpy().astype(np.int64)
    group = codes * parts + known["_part"].to_numpy()
    order = np.lexsort((stamps, group))
    group, stamps = group[order], stamps[order]
    # Of readings of one entity and time, the one known last.
    stays = np.append((group[1:] != group[:-1]) | (stamps[1:] != stamps[:-1]), True)
    order, group, stamps = order[stays], group[stays], stamps[stays]
    readings = known.select(names).to_numpy()[order]
    finite = np.isfinite(readings)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    place = np.arange(group.size)[:, None]
    first = np.minimum.reduceat(np.where(finite, place, group.size), starts, axis=0)
    last = np.maximum.reduceat(np.where(finite, place, -1), starts, axis=0)
    values, times = np.full((2, entities.len() * parts, 2, len(names)), np.nan)
    which = np.stack([first, last], axis=1)
    there = np.broadcast_to((last >= 0)[:, None, :], which.shape)
    safe = np.where(there, which, 0)
    values[group[starts]] = np.where(there, readings[safe, np.arange(len(names))], np.nan)
    times[group[starts]] = np.where(there, stamps.astype(np.float64)[safe], np.nan)
    shape = (entities.len(), parts, 2, len(names))
    return Ends(tuple(entities.to_list()), names, values.reshape(shape), times.reshape(shape))


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a window between readings that follow each other, beside those of the reference.

    Arrays are entities x parts x columns: the step into the first reading of the
    part from the last one before it, which may lie in an earlier window.

    Notes
    -----
    Usual steps are those of the same entity into the same part, so that the time of
    day cancels; their scale is robust but not below the reach of nine in ten. Steps
    over a lag of more than twice the usual (a gap, a window left out) are unknown.
    """

    before: Floats
    after: Floats
    usual: Floats
    scale: Floats

    @classmethod
    def of(cls, window: Ends | None, reference: Sequence[Ends | None], names: Sequence[str]) -> Steps | None:
        """Learn from the windows before, oldest first; null where they show nothing."""
        if window is None or sum(r is not None for r in reference) < _LEAST:
            return None
        aligned = [_aligned(r, window.entities, names) for r in (*reference, window)]
        parts = window.values.shape[1]
        shape = (len(window.entities), parts, 2, len(names))
        nothing = np.full((2, *shape), np.nan)
        both = np.stack([nothing if a is None or a.shape[2] != parts else a for a in aligned], axis=1)
        # Part after part of window after window: time x entity x column.
        values, times = (x.swapaxes(1, 2).reshape(-1, shape[0], 2, shape[3]) for x in both)
        before, left = _carried(values[:, :, LAST]), _carried(times[:, :, LAST])
        step = values[:, :, FIRST] - before
        with np.errstate(invalid="ignore"):
            lag = times[:, :, FIRST] - left
            lag = np.where(lag > 0, lag, np.nan)
            folded = (len(aligned), parts, shape[0], shape[3])
            step, lag, first, before = (x.reshape(folded) for x in (step, lag, values[:, :, FIRST], before))
            usual_lag = _middle(lag[:-1])
            step = np.where(lag <= 2 * usual_lag, step, np.nan)
            count = np.isfinite(step[:-1]).sum(axis=0)
            usual = _middle(step[:-1])
            off = np.sort(np.abs(step[:-1] - usual), axis=0)
            scale = np.maximum(1.4826 * _share(off, 0.5), _share(off, 0.9) / 1.645)
            spread = 1.4826 * _middle(np.abs(first[:-1] - _middle(first[:-1])))
            tells = (count >= _LEAST) & (spread > 0) & (scale <= _TELLS * spread)
            scale = np.maximum(scale, np.maximum(0.004 * np.abs(_middle(first[:-1])), 1e-9))
            scale *= np.maximum(1.0, lag[-1] / usual_lag)
        scale = np.where(tells & np.isfinite(step[-1]), scale, np.nan)
        if not np.isfinite(scale).any():
            return None
        turned = [x.swapaxes(0, 1) for x in (before[-1], first[-1], usual, scale)]
        return cls(*turned)

    def evidence(self, scales: Floats, offsets: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """What the steps say for each conversion.

        Returns
        -------
        ratio : float64 array, conversions x columns x (whole, then parts)
            Log-likelihood ratio of the steps at the borders of what was converted; the
            median over entities, at most `CAP` a border, 0 where nothing is known.
            For a part: of the best stretch of parts around it, and nothing against it, since
            what went wrong inside a part shows at none of its borders.
        goes_on : bool array of the same shape
            Whether readings go on over those borders once converted back.
        """
        scale = scales[:, None, None, None]
        offset = offsets[:, None, None, None]
        raw = (self.after - self.before - self.usual) / self.scale
        into = ((self.after - offset) / scale - self.before - self.usual) / self.scale
        out = (self.after[:, 1:] - (self.before[:, 1:] - offset) / scale - self.usual[:, 1:]) / self.scale[:, 1:]
        for part in range(raw.shape[1] - 2, -1, -1):  # a part without readings begins and ends with its neighbour
            empty = np.isnan(self.after[:, part])
            raw[:, part] = np.where(empty, raw[:, part + 1], raw[:, part])
            into[:, :, part] = np.where(empty, into[:, :, part + 1], into[:, :, part])
            if part:
                out[:, :, part - 1] = np.where(empty, out[:, :, part], out[:, :, part - 1])
        # What raw steps lack is capped, not the ratio: conversions that explain them alike differ in how well.
        began = self._median(_log_t(into) - np.maximum(_log_t(raw), -CAP) - np.maximum(np.log(scale), 0.0))
        ended = self._median(_log_t(out) - np.maximum(_log_t(raw[:, 1:]), -CAP))
        near_in, near_out = self._median(np.abs(into)), self._median(np.abs(out))
        parts = began.shape[1]
        shape = (began.shape[0], began.shape[2], parts + 1)
        ratio, goes_on = np.zeros(shape), np.zeros(shape, dtype=bool)
        ratio[:, :, 0] = -np.inf
        for a in range(parts):
            for b in range(a, parts):
                whole = a == 0 and b == parts - 1
                terms = [began[:, a]] if b == parts - 1 else [began[:, a], ended[:, b]]
                near = [near_in[:, a]] if b == parts - 1 else [near_in[:, a], near_out[:, b]]
                told = np.maximum(np.nansum(np.stack(terms), axis=0), -CAP)
                with np.errstate(invalid="ignore"):
                    on = ~np.any(np.stack(near) > GOES_ON, axis=0) & np.any(np.isfinite(np.stack(near)), axis=0)
                for scope in ([0] if whole else []) + list(range(a + 1, b + 2)):
                    better = told > ratio[:, :, scope]
                    goes_on[:, :, scope] = np.where(better, on, goes_on[:, :, scope])
                    ratio[:, :, scope] = np.where(better, told, ratio[:, :, scope])
        return ratio, goes_on

    @staticmethod
    def _median(values: Floats) -> Floats:
        """Over entities: conversions x parts x columns."""
        return _middle(values.swapaxes(0, 1))


def _aligned(ends: Ends | None, entities: Sequence[str], names: Sequence[str]) -> Floats | None:
    """Values and times (2 x entities x parts x 2 x columns) for these entities and columns."""
    if ends is None:
        return None
    both = np.stack([ends.values, ends.times])
    if ends.entities == tuple(entities) and ends.columns == tuple(names):
        return both
    result = np.full((2, len(entities), both.shape[2], 2, len(names)), np.nan)
    row = {name: i for i, name in enumerate(ends.entities)}
    column = {name: i for i, name in enumerate(ends.columns)}
    rows = [(i, row[e]) for i, e in enumerate(entities) if e in row]
    columns = [(i, column[n]) for i, n in enumerate(names) if n in column]
    if rows and columns:
        (to_row, from_row), (to_column, from_column) = zip(*rows, strict=True), zip(*columns, strict=True)
        picked = both[:, list(from_row)][..., list(from_column)]
        place = np.ix_([0, 1], to_row, range(both.shape[2]), [0, 1], to_column)
        result[place] = picked
    return result


def _carried(values: Floats) -> Floats:
    """The newest value before each place along the first axis; NaN where there is none."""
    known = np.isfinite(values)
    place = np.where(known, np.arange(len(values))[:, None, None], -1)
    newest = np.maximum.accumulate(place, axis=0)
    newest = np.concatenate([np.full((1, *newest.shape[1:]), -1), newest[:-1]])
    carried: Floats = np.take_along_axis(values, np.maximum(newest, 0), axis=0)
    return np.where(newest >= 0, carried, np.nan)


def _middle(values: Floats) -> Floats:
    """Median along the first axis, NaN left out."""
    return _share(np.sort(values, axis=0), 0.5)


def _share(ordered: Floats, share: float) -> Floats:
    """Quantile along the first, ascending axis (NaN last); NaN without a value."""
    place = (np.isfinite(ordered).sum(axis=0) - 1) * share
    safe = np.maximum(place, 0)
    low = np.take_along_axis(ordered, np.floor(safe).astype(np.int64)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.ceil(safe).astype(np.int64)[None], axis=0)[0]
    return np.where(place >= 0, (low + high) / 2 if share == 0.5 else high, np.nan)


def _log_t(z: Floats) -> Floats:
    result: Floats = -(_TAIL + 1) / 2 * np.log1p(z * z / _TAIL)
    return result
