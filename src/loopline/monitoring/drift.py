"""A window beside its reference windows: the variance that counts is the one between windows."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loopline.monitoring.continuity import Ends
from loopline.monitoring.profile import Column, NumberProfile, Profile, TextProfile, cell_middles, merged
from loopline.monitoring.requests import Requests

Floats = npt.NDArray[np.float64]

PARTS = 4
"""A window is profiled in so many consecutive parts of equal length, and as a whole."""

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
FIELDS = ("finite", "top", "low", *(f"q{round(100 * s):02d}" for s in SHARES), "high")
FINITE, TOP, LOW, HIGH = 0, 1, 2, len(FIELDS) - 1
QUANTILES = slice(3, HIGH)
LEAST_ROWS = 5
"""A part with fewer numbers says nothing about the column."""

LEAST_WINDOWS = 14
"""Between fewer windows no variance can be learned."""

RECENT = 5
_TAIL = 8.0
"""Degrees of freedom of the t law that windows are taken to follow: real series have heavy tails."""


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """The few figures per column that tests compare between windows.

    Attributes
    ----------
    rows : int
        Rows of the window.
    kinds : dict
        Column to `number`, `text` or `other`.
    missing : dict
        Column to the share of its rows without a value.
    numbers : tuple of str
        The numeric columns, in the order of `stats`.
    stats : float64 array, columns x (1 + parts) x fields
        `FIELDS` for the whole window, then for each part; NaN without numbers.
    values : dict
        Text column to its counts by value; null where there are too many values to name.
    ends : Ends or None
        The first and last readings of its series; null for a subject that holds none.
    requests : Requests or None
        What its requests broke; null for a subject that holds none.
    """

    rows: int
    kinds: dict[str, str]
    missing: dict[str, float]
    numbers: tuple[str, ...]
    stats: Floats
    values: dict[str, dict[str, int] | None]
    ends: Ends | None = None
    requests: Requests | None = None

    def to_bytes(self) -> bytes:
        """The summary, compressed."""
        head = {
            "rows": self.rows,
            "kinds": self.kinds,
            "missing": self.missing,
            "numbers": self.numbers,
            "scopes": self.stats.shape[1],
            "values": self.values,
            "ends": self.ends.head() if self.ends else None,
            **({"requests": self.requests.doc()} if self.requests else {}),
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        arrays = self.stats.astype("<f8").tobytes() + (self.ends.to_bytes() if self.ends else b"")
        return zlib.compress(len(text).to_bytes(4, "little") + text + arrays, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Summary:
        """What `to_bytes` wrote."""
        plain = zlib.decompress(data)
        start = 4 + int.from_bytes(plain[:4], "little")
        doc = json.loads(plain[4:start])
        shape = (len(doc["numbers"]), doc["scopes"], len(FIELDS))
        stats = np.frombuffer(plain, "<f8", math.prod(shape), start).reshape(shape)
        head = doc.get("ends")
        ends = Ends.read(head, plain, start + stats.nbytes) if head else None
        asked = doc.get("requests")
        requests = Requests(*asked) if asked else None
        names = tuple(doc["numbers"])
        return cls(doc["rows"], doc["kinds"], doc["missing"], names, stats, doc["values"], ends, requests)


def summarise(parts: Sequence[Profile], ends: Ends | None = None, requests: Requests | None = None) -> Summary:
    """The summary of a window that was profiled in consecutive parts, with the ends of its series and its requests."""
    whole = merged(parts)
    numbers = tuple(n for n, c in whole.columns.items() if isinstance(c, NumberProfile))
    scopes = [whole, *parts] if len(parts) > 1 else [whole]
    stats = np.stack([_figures(scope, numbers) for scope in scopes], axis=1)
    values = {
        name: None if column.hashed else column.values
        for name, column in whole.columns.items()
        if isinstance(column, TextProfile)
    }
    return Summary(
        whole.rows,
        {name: _kind(column) for name, column in whole.columns.items()},
        {name: column.missing for name, column in whole.columns.items()},
        numbers,
        stats,
        values,
        ends,
        requests,
    )


def _kind(column: Column) -> str:
    return "number" if isinstance(column, NumberProfile) else "text" if isinstance(column, TextProfile) else "other"


def _figures(profile: Profile, names: Sequence[str]) -> Floats:
    """`FIELDS` of each column, all columns at once."""
    figures = np.full((len(names), len(FIELDS)), np.nan)
    figures[:, FINITE] = 0
    full = [
        (i, column)
        for i, name in enumerate(names)
        if isinstance(column := profile.columns.get(name), NumberProfile) and column.finite
    ]
    places = np.zeros((len(names), len(SHARES)), np.uint16)
    if full:
        _fill(figures, places, [i for i, _ in full], [column for _, column in full])
    figures[:, QUANTILES] = np.clip(cell_middles(places), figures[:, [LOW]], figures[:, [HIGH]])
    return figures


def _fill(figures: Floats, places: npt.NDArray[np.uint16], which: Sequence[int], full: Sequence[NumberProfile]) -> None:
    """Write the figures of the columns `full` to their rows `which`, and the cells of their quantiles."""
    counts = np.concatenate([column.counts for column in full])
    cells = np.concatenate([column.cells for column in full])
    ends = np.cumsum([column.counts.size for column in full])
    starts = np.append(0, ends[:-1])
    reached = np.cumsum(counts)
    before = reached[starts] - counts[starts]
    totals = reached[ends - 1] - before
    # The first cell in which a share is reached, found among whole numbers.
    wanted = before[:, None] + np.ceil(np.array(SHARES) * totals[:, None]).astype(np.int64)
    places[which] = cells[np.searchsorted(reached, wanted)]
    figures[which, FINITE] = finite = np.array([column.finite for column in full], np.float64)
    figures[which, TOP] = np.maximum.reduceat(counts, starts) / finite
    figures[which, LOW] = [column.low for column in full]
    figures[which, HIGH] = [column.high for column in full]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the trailing windows let one expect of the next, for some numeric columns.

    Arrays are columns x scopes (x quantiles). A scope compares with the same part
    of the earlier windows, so the time of day cancels.

    Notes
    -----
    The location (median) of the next window is expected at the mean of all
    reference windows or of the last five, whichever predicted the reference
    better; its scale is the spread of those residuals. Scales never fall below
    the width of a profile's cell. Distances follow a t law with 8 degrees of
    freedom, because a month of windows cannot show its own tails.
    """

    names: tuple[str, ...]
    windows: npt.NDArray[np.int64]
    center: Floats
    scale: Floats
    spread: Floats
    spread_scale: Floats
    low: Floats
    high: Floats
    distinct: npt.NDArray[np.int64]
    """Different medians among the reference windows."""

    @classmethod
    def of(cls, windows: Sequence[Summary], names: Sequence[str], *, tails: bool = True) -> Reference:
        """Learn from earlier windows, oldest first (`windows` must not be empty).

        Without `tails` it knows nothing of the spread within windows, which only `log_likelihood` asks for.
        """
        stats = np.stack([_aligned(window, names) for window in windows])
        few = ~(stats[..., FINITE] >= LEAST_ROWS)
        quantiles = np.where(few[..., None], np.nan, stats[..., QUANTILES])
        count = (~few).sum(axis=0)
        with np.errstate(all="ignore"):
            location = quantiles[..., 2]
            kept = np.maximum(count, 1)
            center = np.where(few, 0.0, location).sum(axis=0) / kept
            scale = np.sqrt(np.where(few, 0.0, np.square(location - center)).sum(axis=0) / np.maximum(count - 1, 1))
            scale *= np.sqrt(1 + 1 / kept)
            if len(windows) > 2 * RECENT:
                total = np.concatenate([np.zeros((1, *location.shape[1:])), np.cumsum(location, axis=0)])
                recent = (total[RECENT:] - total[:-RECENT]) / RECENT
                residual = np.sqrt(np.square(location[RECENT:] - recent[:-1]).mean(axis=0))
                closer = residual < scale  # false where a window is missing
                center, scale = np.where(closer, recent[-1], center), np.where(closer, residual, scale)
            spread, spread_scale = _spread(quantiles, few, count) if tails else np.full((2, *few.shape[1:], 2), np.nan)
        return cls(
            tuple(names),
            count,
            center,
            np.maximum(scale, np.maximum(0.004 * np.abs(center), 1e-9)),
            spread,
            np.maximum(spread_scale, 0.1),
            np.where(few[..., None], np.inf, quantiles).min(axis=0),
            np.where(few[..., None], -np.inf, quantiles).max(axis=0),
            _distinct(location),
        )

    def log_likelihood(self, quantiles: Floats) -> Floats:
        """Of windows with these quantiles (... x columns x scopes x quantiles), up to a constant."""
        tails = log_t((tail_logs(quantiles) - self.spread) / self.spread_scale).sum(axis=-1)
        result: Floats = log_t((quantiles[..., 2] - self.center) / self.scale) + tails
        return result

    def outside(self, quantiles: Floats) -> npt.NDArray[np.bool_]:
        """Whether the median lies beyond that of every reference window."""
        beyond: npt.NDArray[np.bool_] = (quantiles[..., 2] < self.low[..., 2]) | (quantiles[..., 2] > self.high[..., 2])
        return beyond

    @property
    def level(self) -> npt.NDArray[np.bool_]:
        """Whether the reference shows what size the median has: it varies freely, or hardly at all.

        A median that is zero on most days and something on others (a point mass)
        has no size of its own that a wrong unit could change.
        """
        steady = (self.high[..., 2] - self.low[..., 2]) <= 0.25 * np.abs(self.center)
        shown: npt.NDArray[np.bool_] = (self.windows >= LEAST_WINDOWS) & (
            (self.distinct >= LEAST_WINDOWS // 2) | (steady & (self.center != 0))
        )
        return shown

    def inside(self, quantiles: Floats) -> npt.NDArray[np.bool_]:
        """Whether all quantiles lie within those of the reference, give or take half their range."""
        room = 0.5 * (self.high - self.low) + 0.01 * np.abs(self.high)
        within: npt.NDArray[np.bool_] = np.all(
            (quantiles >= self.low - room) & (quantiles <= self.high + room), axis=-1
        )
        return within


def _spread(quantiles: Floats, few: npt.NDArray[np.bool_], count: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and deviation between windows of the logarithms of the distances within them."""
    tails = np.where(few[..., None], 0.0, tail_logs(quantiles))
    spread = tails.sum(axis=0) / np.maximum(count, 1)[..., None]
    deviation = np.where(few[..., None], 0.0, np.square(tails - spread)).sum(axis=0)
    return spread, np.sqrt(deviation / np.maximum(count - 1, 1)[..., None])


def _distinct(values: Floats) -> npt.NDArray[np.int64]:
    """Different values along the first axis, NaN left out."""
    ordered = np.sort(values, axis=0)
    new = np.ones(ordered.shape, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    count: npt.NDArray[np.int64] = (new & ~np.isnan(ordered)).sum(axis=0, dtype=np.int64)
    return count


def tail_logs(quantiles: Floats) -> Floats:
    """Logarithms of the distances from the median down to the 5 % and up to the 95 % quantile."""
    middle = quantiles[..., [2, 2]]
    logs: Floats = np.log(np.maximum(np.abs(quantiles[..., [0, 4]] - middle), 1e-9))
    return logs


def log_t(z: Floats, tail: float = _TAIL) -> Floats:
    """Log density of Student's t, up to a constant."""
    result: Floats = -(tail + 1) / 2 * np.log1p(z * z / tail)
    return result


def observed(window: Summary, names: Sequence[str]) -> Floats:
    """Quantiles of a window for `names`, columns x scopes x quantiles; NaN with too few rows."""
    stats = _aligned(window, names)
    quantiles: Floats = np.where((stats[..., FINITE] >= LEAST_ROWS)[..., None], stats[..., QUANTILES], np.nan)
    return quantiles


def _aligned(window: Summary, names: Sequence[str]) -> Floats:
    if window.numbers == tuple(names):
        return window.stats
    place = {name: i for i, name in enumerate(window.numbers)}
    result = np.full((len(names), *window.stats.shape[1:]), np.nan)
    result[..., FINITE] = 0
    for i, name in enumerate(names):
        if name in place:
            result[i] = window.stats[place[name]]
    return result
