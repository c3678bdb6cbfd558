"""Drawings of a search as SVG: history, importance, slices, Pareto."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

KINDS = ("history", "importance", "slices", "pareto")
WIDE, HIGH, EDGE = 640, 320, 56
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
    'aria-label="{label}" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">'
    "<title>{label}</title>"
)
Scale = Callable[[float], float]


def drawn(result: dict[str, Any], kind: str) -> str:
    """One drawing of what `training.search_result` tells.

    Parameters
    ----------
    kind : str
        `history`: each trial and the best so far; `importance`: a bar per param; `slices`: the first objective over
        each param; `pareto`: the first two objectives, the front marked.
    """
    names = [name for name, _ in result["search"]["objectives"]]
    match kind:
        case "importance":
            return _bars(result["importance"], f"how much each param tells of {names[0]}")
        case "slices":
            return _slices(result["slices"], names[0])
        case "pareto":
            marked = set(result["front"])
            points = [(row[1], row[2], row[0] in marked) for row in result["pareto"]]
            return _cloud(points, names[0], names[1] if len(names) > 1 else "", "trials by their objectives")
        case _:
            rows = result["history"]
            points = [(row[0], row[1], row[0] == result["best"]) for row in rows]
            return _cloud(points, "trial", names[0], "trials and the best so far", [(row[0], row[2]) for row in rows])


def _cloud(
    points: Sequence[tuple[float, float, bool]],
    across: str,
    up: str,
    label: str,
    steps: Sequence[tuple[float, float]] = (),
) -> str:
    if not points:
        return _empty(label)
    x = _scale([one[0] for one in points], EDGE, WIDE - 16)
    y = _scale([one[1] for one in points], HIGH - 40, 16)
    body = _axes([one[0] for one in points], [one[1] for one in points], x, y, across, up)
    if steps:
        path = f"M{x(steps[0][0]):.1f},{y(steps[0][1]):.1f}"
        path += "".join(f"H{x(at):.1f}V{y(value):.1f}" for at, value in steps[1:])
        body += f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    for at, value, marked in points:
        look = 'r="5" fill="#c2410c"' if marked else 'r="3" fill="#2563eb" fill-opacity="0.6"'
        body += f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" {look}><title>{at:g}: {value:.6g}</title></circle>'
    return _HEAD.format(w=WIDE, h=HIGH, label=escape(label)) + body + "</svg>"


def _bars(shares: dict[str, float], label: str) -> str:
    if not shares:
        return _empty(label)
    high = 24 * len(shares) + 32
    body = ""
    for at, (name, share) in enumerate(sorted(shares.items(), key=lambda one: -one[1])):
        top = 24 * at + 24
        body += (
            f'<text x="150" y="{top + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="158" y="{top}" width="{max(1.0, share * (WIDE - 230)):.1f}" height="16" fill="#2563eb"/>'
            f'<text x="{166 + share * (WIDE - 230):.1f}" y="{top + 12}">{share:.0%}</text>'
        )
    return _HEAD.format(w=WIDE, h=high, label=escape(label)) + body + "</svg>"


def _slices(slices: dict[str, list[list[Any]]], metric: str) -> str:
    names = [name for name, rows in slices.items() if rows]
    label = f"{metric} by param"
    if not names:
        return _empty(label)
    wide = 240
    body = ""
    for at, name in enumerate(names):
        rows = slices[name]
        left = at * wide
        texts = sorted({str(value) for value, _ in rows}) if any(not _number(v) for v, _ in rows) else None
        values = [float(texts.index(str(v))) if texts else float(v) for v, _ in rows]
        spread = _spread(values) if texts is None else (lambda value: value)
        x = _scale([spread(value) for value in values], left + EDGE, left + wide - 12)
        y = _scale([value for _, value in rows], HIGH - 40, 24)
        told = texts or [f"{min(values):.4g}", f"{max(values):.4g}"]
        ends = f"{told[0]} to {told[-1]}" if len(told) > 1 else told[0]
        middle = left + wide / 2
        body += f'<text x="{middle:.0f}" y="14" text-anchor="middle">{escape(name)}</text>'
        body += f'<text x="{middle:.0f}" y="{HIGH - 16}" text-anchor="middle">{escape(ends)}</text>'
        lows = [value for _, value in rows]
        for mark in sorted({min(lows), max(lows)}):
            body += f'<text x="{left + EDGE - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:.4g}</text>'
        for value, (_, found) in zip(values, rows, strict=True):
            body += f'<circle cx="{x(spread(value)):.1f}" cy="{y(found):.1f}" r="3" fill="#2563eb" fill-opacity="0.6"/>'
    return _HEAD.format(w=wide * len(names), h=HIGH, label=escape(label)) + body + "</svg>"


def _axes(xs: Sequence[float], ys: Sequence[float], x: Scale, y: Scale, across: str, up: str) -> str:
    body = f'<text x="{WIDE / 2:.0f}" y="{HIGH - 6}" text-anchor="middle">{escape(across)}</text>'
    body += f'<text x="4" y="12">{escape(up)}</text>'
    for mark in sorted({min(xs), max(xs)}):
        body += f'<text x="{x(mark):.1f}" y="{HIGH - 22}" text-anchor="middle">{mark:.4g}</text>'
    for mark in sorted({min(ys), max(ys)}):
        body += f'<text x="{EDGE - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:.4g}</text>'
    return body


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


def _empty(label: str) -> str:
    return _HEAD.format(w=WIDE, h=60, label=escape(label)) + '<text x="16" y="34">nothing to draw yet</text></svg>'
