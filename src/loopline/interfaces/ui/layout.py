"""Where the nodes of a lineage graph stand: in columns by level, few crossings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from loopline.governance.nouns import Edge, Graph, Node

BOX = (138.0, 46.0)
GAP = (22.0, 18.0)
BEND_HEIGHT = 14.0
MARGIN = 8.0
TOGETHER = {8: 7}
"""Levels that share a column: approvals and releases both follow from the version."""
SWEEPS = 6

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Placed:
    """A node with the corner of its box."""

    node: Node
    x: float
    y: float
    href: str
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """An edge as an SVG path."""

    path: str
    title: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything that is drawn, in units of the drawing."""

    width: float
    height: float
    boxes: tuple[Placed, ...]
    lines: tuple[Line, ...]


def layout(graph: Graph, said: Mapping[str, tuple[str, str, str]]) -> Drawing:
    """Place a graph from left to right; an edge over several columns has a bend in each between.

    Parameters
    ----------
    said : mapping
        Node id to its kind, its words and the address of its page (may be empty).
    """
    nodes = {node.id: node for node in graph.nodes}
    used = sorted({TOGETHER.get(node.level, node.level) for node in graph.nodes})
    column_of = {node.id: used.index(TOGETHER.get(node.level, node.level)) for node in graph.nodes}
    columns: list[list[str]] = [[] for _ in used]
    for node in graph.nodes:
        columns[column_of[node.id]].append(node.id)
    routes = {
        edge: _route(edge, column_of, columns) for edge in graph.edges if {edge.source, edge.target} <= set(nodes)
    }
    _untangle(columns, list(routes.values()))
    tall = max((_height(column, nodes) for column in columns), default=0.0)
    corner: dict[str, Point] = {}
    for index, column in enumerate(columns):
        y = MARGIN + (tall - _height(column, nodes)) / 2
        for name in column:
            corner[name] = (MARGIN + index * (BOX[0] + GAP[0]), y)
            y += (BOX[1] if name in nodes else BEND_HEIGHT) + GAP[1]
    boxes = tuple(
        Placed(nodes[n], *corner[n], *_told(said, nodes[n])) for column in columns for n in column if n in nodes
    )
    lines = tuple(Line(_path([(corner[n], n in nodes) for n in route]), edge.label) for edge, route in routes.items())
    width = 2 * MARGIN + len(columns) * (BOX[0] + GAP[0]) - GAP[0]
    return Drawing(max(width, 0.0), tall + 2 * MARGIN, boxes, lines)


def _told(said: Mapping[str, tuple[str, str, str]], node: Node) -> tuple[str, str, str]:
    kind, words, href = said.get(node.id, (node.kind, node.label, ""))
    return href, kind, words


def _route(edge: Edge, column_of: Mapping[str, int], columns: list[list[str]]) -> list[str]:
    """The names an edge passes: its ends and the bends between, which are added to their columns."""
    first, last = column_of[edge.source], column_of[edge.target]
    bends = []
    for column in range(first + 1, last):
        bend = f"bend {edge.source} {edge.target} {column}"
        columns[column].append(bend)
        bends.append(bend)
    return [edge.source, *bends, edge.target]


def _untangle(columns: list[list[str]], routes: list[list[str]]) -> None:
    """Order each column by the mean place of its neighbours, a few times."""
    near: dict[str, list[str]] = defaultdict(list)
    for route in routes:
        for one, other in pairwise(route):
            near[one].append(other)
            near[other].append(one)
    for _ in range(SWEEPS):
        place = {name: (i + 0.5) / len(column) for column in columns for i, name in enumerate(column)}
        for column in columns:
            mean = {n: sum(place[m] for m in near[n]) / len(near[n]) if near[n] else place[n] for n in column}
            column.sort(key=mean.__getitem__)


def _height(column: list[str], nodes: Mapping[str, Node]) -> float:
    return sum((BOX[1] if name in nodes else BEND_HEIGHT) + GAP[1] for name in column) - GAP[1]


def _path(passed: list[tuple[Point, bool]]) -> str:
    """A smooth line through boxes (from right side to left side) and bends (straight through)."""
    points: list[Point] = []
    for index, ((x, y), is_box) in enumerate(passed):
        middle = y + (BOX[1] if is_box else BEND_HEIGHT) / 2
        if not is_box:
            points += [(x, middle), (x + BOX[0], middle)]
        else:
            points.append((x + BOX[0], middle) if index == 0 else (x, middle))
    drawn = [f"M{points[0][0]:.0f} {points[0][1]:.0f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        half = (x0 + x1) / 2
        drawn.append(f"C{half:.0f} {y0:.0f} {half:.0f} {y1:.0f} {x1:.0f} {y1:.0f}")
    return "".join(drawn)
