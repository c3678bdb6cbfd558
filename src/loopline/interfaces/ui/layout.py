"""Where the nodes of a lineage graph stand: in columns by level, few crossings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from loopline.governance.nouns import Graph, Node

BOX = (132, 46)
GAP = (26, 20)
MARGIN = 8
TOGETHER = {8: 7}
"""Levels that share a column: approvals and releases both follow from the version."""
SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Placed:
    """A node with the corner of its box."""

    node: Node
    x: float
    y: float
    href: str


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


def layout(graph: Graph, links: dict[str, str]) -> Drawing:
    """Place a graph from left to right.

    Parameters
    ----------
    links : dict
        Node id to the address of its page.
    """
    columns = _columns(graph)
    tall = max((len(column) for column in columns), default=0)
    height = 2 * MARGIN + tall * (BOX[1] + GAP[1]) - GAP[1]
    at: dict[str, tuple[float, float]] = {}
    for index, column in enumerate(columns):
        used = len(column) * (BOX[1] + GAP[1]) - GAP[1]
        top = (height - used) / 2
        for place, node in enumerate(column):
            at[node.id] = (MARGIN + index * (BOX[0] + GAP[0]), top + place * (BOX[1] + GAP[1]))
    boxes = tuple(Placed(n, *at[n.id], links.get(n.id, "")) for column in columns for n in column)
    lines = tuple(
        Line(_curve(at[e.source], at[e.target]), e.label) for e in graph.edges if e.source in at and e.target in at
    )
    width = 2 * MARGIN + len(columns) * (BOX[0] + GAP[0]) - GAP[0]
    return Drawing(max(width, 0.0), max(height, 0.0), boxes, lines)


def _columns(graph: Graph) -> list[list[Node]]:
    """Nodes by level, each column ordered by the mean place of its neighbours."""
    by_level: dict[int, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        by_level[TOGETHER.get(node.level, node.level)].append(node)
    columns = [by_level[level] for level in sorted(by_level)]
    near: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        near[edge.source].append(edge.target)
        near[edge.target].append(edge.source)
    for _ in range(SWEEPS):
        place = {n.id: (i + 0.5) / len(c) for c in columns for i, n in enumerate(c)}
        for column in columns:
            column.sort(key=lambda n: _mean([place[m] for m in near[n.id] if m in place], place[n.id]))
    return columns


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _curve(source: tuple[float, float], target: tuple[float, float]) -> str:
    x0, y0 = source[0] + BOX[0], source[1] + BOX[1] / 2
    x1, y1 = target[0], target[1] + BOX[1] / 2
    if x1 < x0:  # in the same column or behind: leave and enter at the near sides
        x0, x1 = source[0] + BOX[0] / 2, target[0] + BOX[0] / 2
        y0, y1 = (source[1] + BOX[1], target[1]) if target[1] > source[1] else (source[1], target[1] + BOX[1])
        return f"M{x0:.0f} {y0:.0f}L{x1:.0f} {y1:.0f}"
    bend = max(GAP[0] / 2, (x1 - x0) / 2)
    return f"M{x0:.0f} {y0:.0f}C{x0 + bend:.0f} {y0:.0f} {x1 - bend:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
