"""Drawings of a search as SVG: history, importance, parallel coordinates, slices, Pareto.

They look well by themselves; a page may give their classes (`dot`, `best`, `line`, `grid`) colours of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from loopline.base.figures import figure, figures

KINDS = ("history", "importance", "parallel", "slices", "pareto")
WIDE, HIGH, EDGE = 640, 320, 64
WIDTH = 6.6
"""Of a digit."""
MOST = 1000
"""Trials that are drawn as lines, the best ones."""
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
    'aria-label="{label}" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">'
    "<title>{label}</title>"
)
_DOT = 'class="dot" r="3" fill="#2563eb" fill-opacity="0.6"'
_BEST = 'class="best" r="5" fill="#c2410c"'
Scale = Callable[[float], float]


def drawn(result: dict[str, Any], kind: str) -> str:
    """One drawing of what `training.search_result` tells.

    Parameters
    ----------
    kind : str
        `history`: each trial and the best so far; `importance`: a bar per param; `parallel`: a line per trial over its
        params to the first objective; `slices`: the first objective over each param; `pareto`: the first two
        objectives, the front marked.
    """
    names = [name for name, _ in result["search"]["objectives"]]
    match kind:
        case "importance":
            return _bars(result["importance"], f"how much each param tells of {names[0]}")
        case "parallel":
            return _parallel(result, names[0])
        case "slices":
            return _slices(result["slices"], names[0])
        case "pareto":
            marked = set(result["front"])
            points = [(row[1], row[2], row[0] in marked) for row in result["pareto"]]
            front = sorted((across, up) for across, up, best in points if best)
            label = "trials by their objectives"
            return _cloud(points, names[0], names[1] if len(names) > 1 else "", label, front, slope=True)
        case _:
            rows = result["history"]
            points = [(row[0], row[1], row[0] == result["best"]) for row in rows]
            return _cloud(points, "trial", names[0], "trials and the best so far", [(row[0], row[2]) for row in rows])


def _cloud(
    points: Sequence[tuple[float, float, bool]],
    across: str,
    up: str,
    label: str,
    line: Sequence[tuple[float, float]] = (),
    *,
    slope: bool = False,
) -> str:
    points = [one for one in points if math.isfinite(one[0]) and math.isfinite(one[1])]
    if not points:
        return _empty(label)
    xs, ys = [one[0] for one in points], [one[1] for one in points]
    x, y = _scale(xs, EDGE, WIDE - 16), _scale(ys, HIGH - 44, 24)
    body = _axes(xs, ys, x, y, across, up)
    if line:
        path = f"M{x(line[0][0]):.1f},{y(line[0][1]):.1f}"
        step = "L{0:.1f},{1:.1f}" if slope else "H{0:.1f}V{1:.1f}"
        path += "".join(step.format(x(at), y(value)) for at, value in line[1:] if math.isfinite(value))
        body += f'<path class="line" d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    for at, value, marked in sorted(points, key=lambda one: one[2]):
        look = _BEST if marked else _DOT
        told = f"{figure(at)}: {figure(value)}"
        body += f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" {look}><title>{told}</title></circle>'
    return _HEAD.format(w=WIDE, h=HIGH, label=escape(label)) + body + "</svg>"


def _bars(shares: dict[str, float], label: str) -> str:
    if not shares:
        return _empty(label)
    high = 26 * len(shares) + 12
    body = ""
    for at, (name, share) in enumerate(sorted(shares.items(), key=lambda one: -one[1])):
        top = 26 * at + 8
        body += (
            f'<text x="170" y="{top + 13}" text-anchor="end">{escape(_cut(name, 26))}</text>'
            f'<rect class="bar" x="178" y="{top}" width="{max(1.0, share * (WIDE - 240)):.1f}" height="18" '
            f'fill="#2563eb"/><text x="{186 + share * (WIDE - 240):.1f}" y="{top + 13}">{share:.0%}</text>'
        )
    return _HEAD.format(w=WIDE, h=high, label=escape(label)) + body + "</svg>"


def _parallel(result: dict[str, Any], metric: str) -> str:
    label = f"params of each trial and its {metric}"
    names = list(result["slices"])
    done = [one for one in result["trials"] if one["state"] == "complete" and math.isfinite(one["values"][0])]
    sign = -1.0 if result["search"]["objectives"][0][1] == "maximize" else 1.0
    done = sorted(done, key=lambda one: sign * one["values"][0])[:MOST]
    if not done or not names:
        return _empty(label)
    gap = max(120, (WIDE - 2 * EDGE) // len(names))
    wide = 2 * EDGE + gap * len(names)
    axes = [_axis([one["params"].get(name) for one in done], HIGH - 40, 40) for name in names]
    axes.append(_axis([one["values"][0] for one in done], HIGH - 40, 40))
    body = ""
    for at, (name, (_, low, high)) in enumerate(zip([*names, metric], axes, strict=True)):
        left = EDGE + at * gap
        body += (
            f'<path class="grid" d="M{left} 40V{HIGH - 40}" fill="none" stroke="currentColor" stroke-opacity="0.4"/>'
            f'<text x="{left}" y="16" text-anchor="middle" font-weight="600">{escape(_cut(name, 18))}</text>'
            f'<text x="{left}" y="32" text-anchor="middle">{escape(_cut(high, 18))}</text>'
            f'<text x="{left}" y="{HIGH - 22}" text-anchor="middle">{escape(_cut(low, 18))}</text>'
        )
    best = result["best"]
    for rank, one in sorted(enumerate(done), key=lambda pair: (pair[1]["number"] == best, -pair[0])):
        places = [scale(value) for (scale, _, _), value in zip(axes, [*_given(one, names)], strict=True)]
        path = "M" + "L".join(f"{EDGE + at * gap} {place:.1f}" for at, place in enumerate(places))
        chosen = one["number"] == best
        look = 'class="best" stroke="#c2410c" stroke-width="2.5"' if chosen else _faded(rank / len(done))
        told = f"trial {one['number']}: {figure(one['values'][0])}"
        body += f'<path d="{path}" fill="none" {look}><title>{told}</title></path>'
    return _HEAD.format(w=wide, h=HIGH, label=escape(label)) + body + "</svg>"


def _given(trial: dict[str, Any], names: Sequence[str]) -> list[Any]:
    return [*(trial["params"].get(name) for name in names), trial["values"][0]]


def _faded(rank: float) -> str:
    """The better, the darker: `rank` is 0 for the best trial and 1 for the last."""
    return f'class="line" stroke="#2563eb" stroke-width="1.2" stroke-opacity="{0.75 - 0.6 * rank:.2f}"'


def _axis(values: Sequence[Any], start: float, end: float) -> tuple[Callable[[Any], float], str, str]:
    """Where a value stands on an axis, and what stands at its ends."""
    known = [value for value in values if value is not None]
    if known and all(_number(value) for value in known):
        spread = _spread([float(value) for value in known])
        scale = _scale([spread(float(value)) for value in known], start, end)
        low, high = min(known), max(known)
        place = lambda value: start if value is None else scale(spread(float(value)))  # noqa: E731
        return place, figure(low), figure(high)
    texts = sorted({str(value) for value in values})
    at = _scale([0.0, max(1.0, len(texts) - 1.0)], start, end)
    return (lambda value: at(float(texts.index(str(value))))), texts[0], texts[-1]


def _slices(slices: dict[str, list[list[Any]]], metric: str) -> str:
    names = [name for name, rows in slices.items() if rows]
    label = f"{metric} by param"
    if not names:
        return _empty(label)
    wide = 240
    body = ""
    for at, name in enumerate(names):
        rows = [row for row in slices[name] if math.isfinite(row[1])]
        left = at * wide
        if not rows:
            continue
        place, low, high = _axis([value for value, _ in rows], left + EDGE, left + wide - 12)
        found = [value for _, value in rows]
        y = _scale(found, HIGH - 44, 28)
        middle = left + wide / 2
        ends = f"{_cut(low, 14)} to {_cut(high, 14)}" if low != high else _cut(low, 28)
        body += (
            f'<text x="{middle:.0f}" y="14" text-anchor="middle" font-weight="600">{escape(_cut(name, 28))}</text>'
            f'<text x="{middle:.0f}" y="{HIGH - 16}" text-anchor="middle">{escape(ends)}</text>'
        )
        for mark, text in _marks(found, 3):
            body += _rule(f"M{left + EDGE} {y(mark):.1f}H{left + wide - 8}")
            body += _label(left + EDGE - 6, y(mark) + 4, text, left, left + EDGE - 6)
        for value, result in rows:
            told = escape(f"{name} {figure(value) if _number(value) else value}: {figure(result)}")
            body += f'<circle cx="{place(value):.1f}" cy="{y(result):.1f}" {_DOT}><title>{told}</title></circle>'
    return _HEAD.format(w=wide * len(names), h=HIGH, label=escape(label)) + body + "</svg>"


def _axes(xs: Sequence[float], ys: Sequence[float], x: Scale, y: Scale, across: str, up: str) -> str:
    body = f'<text x="{WIDE / 2:.0f}" y="{HIGH - 6}" text-anchor="middle">{escape(_cut(across, 80))}</text>'
    body += f'<text x="4" y="12">{escape(_cut(up, 80))}</text>'
    for mark, text in _marks(xs, 6):
        body += _rule(f"M{x(mark):.1f} 24V{HIGH - 40}")
        body += _label(x(mark) + WIDTH * len(text) / 2, HIGH - 24, text, 0, WIDE)
    for mark, text in _marks(ys, 5):
        body += _rule(f"M{EDGE - 4} {y(mark):.1f}H{WIDE - 10}")
        body += _label(EDGE - 8, y(mark) + 4, text, 0, EDGE - 8)
    return body


def _label(end: float, y: float, text: str, low: float, high: float) -> str:
    """A text that ends at `end`, or where it fits between `low` and `high`; one that is too wide is set narrower."""
    room = high - low - 4
    narrow = f' textLength="{room:.0f}" lengthAdjust="spacingAndGlyphs"' if WIDTH * len(text) > room else ""
    return f'<text x="{min(end, high):.1f}" y="{y:.1f}" text-anchor="end"{narrow}>{text}</text>'


def _rule(path: str) -> str:
    return f'<path class="grid" d="{path}" fill="none" stroke="currentColor" stroke-opacity="0.15"/>'


def _marks(values: Sequence[float], most: int) -> list[tuple[float, str]]:
    """Round values within the span of others, `most` at most, each as a text of its own."""
    found = _round(values, most)
    return [(value, text or "") for value, text in zip(found, figures(found), strict=True)]


def _round(values: Sequence[float], most: int) -> list[float]:
    """Round values within the span of others; the values' own where there is no span."""
    low, high = min(values), max(values)
    if low == high:
        return [low]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step)
    return [at * step for at in range(first, math.floor(high / step) + 1)] or [low, high]


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    if low == high:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _spread(values: Sequence[float]) -> Scale:
    """The logarithm where values lie above zero and more than a factor of 20 apart."""
    if min(values) > 0 and max(values) / min(values) > 20:
        return math.log
    return lambda value: value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _empty(label: str) -> str:
    return _HEAD.format(w=WIDE, h=60, label=escape(label)) + '<text x="16" y="34">nothing to draw yet</text></svg>'
