"""Runs as points and as lines: where each stands in a drawing that the server makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loopline.base.figures import figures
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.question import Field
from loopline.interfaces.ui.runs.told import Told
from loopline.store.runs.checks import number

WIDTH, HEIGHT = 760.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 112.0, 20.0, 16.0, 46.0
KINDS = 12
"""Different texts that an axis names; the rest is one."""
TICKS = 6
SHADES = 8
OTHER = "others"
FAR = 1e290
"""Numbers beyond this stand at the end of an axis."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis: numbers where all values are numbers, else texts side by side."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    kinds: tuple[str, ...] | None = None

    def place(self, value: str | float | int | None) -> float | None:
        """Where a value stands, 0 to 1; null where it has no place."""
        if self.kinds is not None:
            if value is None:
                return None
            text = str(value)
            found = float(self.kinds.index(text if text in self.kinds else OTHER))
        else:
            told = _number(value)
            if told is None:
                return None
            found = min(FAR, max(-FAR, told))
        return (found - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Dot:
    """A run in a scatter."""

    run: Told
    x: float
    y: float
    said: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Runs by two fields."""

    dots: list[Dot]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    left_out: int
    """Runs that lack one of the two."""


@dataclass(frozen=True, slots=True)
class Line:
    """A run in parallel coordinates."""

    run: Told
    path: str
    shade: int
    """0 to 7 by the value on the last axis, the least first; 0 too where it has none."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Runs as lines over several axes."""

    axes: list[tuple[float, str, list[tuple[float, str]]]]
    """Place, name and ticks of each."""
    lines: list[Line]


def scale(values: Sequence[str | float | int | None]) -> Scale | None:
    """The axis for some values; null where there is none."""
    known = [value for value in values if value is not None]
    numbers = [_number(value) for value in known]
    if known and all(one is not None or isinstance(value, float) for one, value in zip(numbers, known, strict=True)):
        finite = [one for one in numbers if one is not None]
        return _numbers(min(finite), max(finite)) if finite else None
    kinds = sorted({str(value) for value in known})
    if not kinds:
        return None
    if len(kinds) > KINDS:
        kinds = [*kinds[: KINDS - 1], OTHER]
    span = (-0.5, len(kinds) - 0.5)
    ticks = tuple(((place - span[0]) / (span[1] - span[0]), cells.cut(kind, 14)) for place, kind in enumerate(kinds))
    return Scale(*span, ticks, tuple(kinds))


def _numbers(low: float, high: float) -> Scale:
    low, high = (min(FAR, max(-FAR, end)) for end in (low, high))
    if high - low <= max(max(abs(low), abs(high)) * 1e-12, 1 / FAR):
        spare = abs(high) * 0.05 if abs(high) > 1 / FAR else 1.0
        low, high = low - spare, high + spare
    else:
        spare = (high - low) * 0.04
        low, high = low - spare, high + spare
    step = _step((high - low) / TICKS)
    first = math.ceil(low / step)
    marks = [(first + n) * step for n in range(TICKS * 3) if (first + n) * step <= high]
    texts = zip(marks, figures(marks), strict=True)
    return Scale(low, high, tuple(((mark - low) / (high - low), cells.minus(text or "")) for mark, text in texts))


def _step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((times * power for times in (1, 2, 5, 10) if times * power >= rough), 10 * power)


def scatter(runs: Sequence[Told], x: Field, y: Field) -> Scatter | None:
    """Runs as points by two fields; null where none has both."""
    both = [(run, run.value(x), run.value(y)) for run in runs]
    both = [one for one in both if one[1] is not None and one[2] is not None]
    across, up = scale([one[1] for one in both]), scale([one[2] for one in both])
    if across is None or up is None:
        return None
    dots = []
    for run, right, high in both:
        places = across.place(right), up.place(high)
        if places[0] is not None and places[1] is not None:
            said = f"{run.title}: {cells.cut(x.key, 40)} {_said(right)}, {cells.cut(y.key, 40)} {_said(high)}"
            dots.append(Dot(run, _across(places[0]), _up(places[1]), said))
    return Scatter(
        dots,
        [(_across(place), name) for place, name in across.ticks],
        [(_up(place), name) for place, name in up.ticks],
        len(runs) - len(dots),
    )


def parallel(runs: Sequence[Told], fields: Sequence[Field]) -> Parallel | None:
    """Runs as lines over the axes of some fields; null where fewer than two axes have values."""
    axes = [(field, found) for field in fields if (found := scale([run.value(field) for run in runs])) is not None]
    if len(axes) < 2:
        return None
    gap = (WIDTH - LEFT - RIGHT - 40) / (len(axes) - 1)
    at = [LEFT + gap * n for n in range(len(axes))]
    lines = []
    for run in runs:
        places = [(x, found.place(run.value(field))) for x, (field, found) in zip(at, axes, strict=True)]
        dots = [f"{x:.1f} {_up(place):.1f}" for x, place in places if place is not None]
        last = places[-1][1]
        if len(dots) > 1:
            shade = min(SHADES - 1, max(0, int(last * SHADES))) if last is not None else 0
            lines.append(Line(run, "M" + "L".join(dots), shade))
    drawn = [
        (x, cells.cut(field.key, 22), [(_up(place), name) for place, name in found.ticks])
        for x, (field, found) in zip(at, axes, strict=True)
    ]
    return Parallel(drawn, lines)


def _across(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _up(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _number(value: str | float | int | None) -> float | None:
    if isinstance(value, str):
        return number(value)
    return float(value) if value is not None and math.isfinite(value) else None


def _said(value: str | float | int | None) -> str:
    return cells.figure(value) if isinstance(value, float) else cells.cut(str(value), 40)
