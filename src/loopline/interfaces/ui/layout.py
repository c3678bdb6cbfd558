"""Where the nodes of a lineage graph stand: from left to right by level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loopline.governance.nouns import Graph, Node
from loopline.interfaces.ui.layers import Shape, place

SHAPE = Shape()
BOX = SHAPE.box
TOGETHER = {8: 7}
"""Levels that share a column: approvals and releases both follow from the version."""


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
    """Place a graph from left to right.

    Parameters
    ----------
    said : mapping
        Node id to its kind, its words and the address of its page (may be empty).
    """
    nodes = {node.id: node for node in graph.nodes}
    used = sorted({TOGETHER.get(node.level, node.level) for node in graph.nodes})
    column_of = {node.id: used.index(TOGETHER.get(node.level, node.level)) for node in graph.nodes}
    edges = [edge for edge in graph.edges if {edge.source, edge.target} <= set(nodes)]
    placing = place(column_of, [(edge.source, edge.target) for edge in edges], SHAPE)
    boxes = tuple(Placed(nodes[id], *corner, *_told(said, nodes[id])) for id, corner in placing.corners.items())
    lines = tuple(Line(placing.paths[edge.source, edge.target], edge.label) for edge in edges)
    return Drawing(placing.width, placing.height, boxes, lines)


def _told(said: Mapping[str, tuple[str, str, str]], node: Node) -> tuple[str, str, str]:
    kind, words, href = said.get(node.id, (node.kind, node.label, ""))
    return href, kind, words
