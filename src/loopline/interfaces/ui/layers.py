"""Where the boxes of a graph stand: in layers, with few crossings, and lines that pass between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

MARGIN = 8.0
SWEEPS = 6

Point = tuple[float, float]
Ends = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes, in units of the drawing, and which way it runs."""

    box: Point = (138.0, 46.0)
    """Width and height."""
    gap: Point = (22.0, 18.0)
    """Between layers, and between boxes of one."""
    bend: float = 14.0
    """Room for a line that passes a layer."""
    down: bool = False
    """From top to bottom instead of from left to right."""

    @property
    def along(self) -> float:
        """Size of a box in the direction of the lines."""
        return self.box[1] if self.down else self.box[0]

    @property
    def across(self) -> float:
        """Size of a box across the lines."""
        return self.box[0] if self.down else self.box[1]


@dataclass(frozen=True, slots=True)
class Placing:
    """Corners of boxes, layer by layer, and lines as SVG paths."""

    width: float
    height: float
    corners: dict[str, Point]
    paths: dict[Ends, str]


def depths(before: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many others stand before each at most; `before` names those right before it, each of them listed earlier."""
    found: dict[str, int] = {}
    for name, earlier in before.items():
        found[name] = 1 + max((found[one] for one in earlier if one in found), default=-1)
    return found


def place(layer_of: Mapping[str, int], edges: Sequence[Ends], shape: Shape) -> Placing:
    """Place boxes by layer; a line over several layers has a bend in each between.

    Parameters
    ----------
    layer_of : mapping
        Name to layer, from 0 on without a hole; boxes of a layer begin in this order.
    edges : sequence
        From a lower to a higher layer.
    """
    layers: list[list[str]] = [[] for _ in range(1 + max(layer_of.values(), default=-1))]
    for name, at in layer_of.items():
        layers[at].append(name)
    routes = {ends: _route(ends, layer_of, layers) for ends in edges}
    _untangle(layers, list(routes.values()))
    most = max((_size(layer, layer_of, shape) for layer in layers), default=0.0)
    corner: dict[str, Point] = {}
    for index, layer in enumerate(layers):
        across = MARGIN + (most - _size(layer, layer_of, shape)) / 2
        for name in layer:
            corner[name] = (MARGIN + index * (shape.along + shape.gap[0]), across)
            across += (shape.across if name in layer_of else shape.bend) + shape.gap[1]
    long = max(2 * MARGIN + len(layers) * (shape.along + shape.gap[0]) - shape.gap[0], 0.0)
    wide = most + 2 * MARGIN
    turned = {name: _turned(corner[name], shape) for layer in layers for name in layer if name in layer_of}
    paths = {ends: _path([(corner[one], one in layer_of) for one in route], shape) for ends, route in routes.items()}
    return Placing(*((wide, long) if shape.down else (long, wide)), turned, paths)


def _turned(point: Point, shape: Shape) -> Point:
    return (point[1], point[0]) if shape.down else point


def _route(ends: Ends, layer_of: Mapping[str, int], layers: list[list[str]]) -> list[str]:
    """The names a line passes: its ends and the bends between, which are added to their layers."""
    source, target = ends
    bends = []
    for layer in range(layer_of[source] + 1, layer_of[target]):
        bend = f"\0{source}\0{target}\0{layer}"
        layers[layer].append(bend)
        bends.append(bend)
    return [source, *bends, target]


def _untangle(layers: list[list[str]], routes: list[list[str]]) -> None:
    """Order each layer by the mean place of its neighbours, a few times."""
    near: dict[str, list[str]] = defaultdict(list)
    for route in routes:
        for one, other in pairwise(route):
            near[one].append(other)
            near[other].append(one)
    for _ in range(SWEEPS):
        place = {name: (i + 0.5) / len(layer) for layer in layers for i, name in enumerate(layer)}
        for layer in layers:
            mean = {n: sum(place[m] for m in near[n]) / len(near[n]) if near[n] else place[n] for n in layer}
            layer.sort(key=mean.__getitem__)


def _size(layer: list[str], boxes: Mapping[str, int], shape: Shape) -> float:
    return sum((shape.across if name in boxes else shape.bend) + shape.gap[1] for name in layer) - shape.gap[1]


def _path(passed: list[tuple[Point, bool]], shape: Shape) -> str:
    """A smooth line through boxes (from side to side) and bends (straight through)."""
    points: list[Point] = []
    for index, ((along, across), is_box) in enumerate(passed):
        middle = across + (shape.across if is_box else shape.bend) / 2
        if not is_box:
            points += [(along, middle), (along + shape.along, middle)]
        else:
            points.append((along + shape.along, middle) if index == 0 else (along, middle))
    drawn = ["M" + _written(points[0], shape)]
    for (a0, c0), (a1, c1) in pairwise(points):
        half = (a0 + a1) / 2
        drawn.append("C" + " ".join(_written(point, shape) for point in ((half, c0), (half, c1), (a1, c1))))
    return "".join(drawn)


def _written(point: Point, shape: Shape) -> str:
    return "{:.0f} {:.0f}".format(*_turned(point, shape))
