"""The nouns of governance: a graph of where things came from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """One fact in the graph."""

    id: str
    """`<kind>:<id>`, unique in the graph."""
    kind: str
    """One of `governance.graph.LEVELS`: from `table` over `snapshot` and `model` to `release`."""
    label: str
    detail: dict[str, str]
    """What a reader wants to see beside it, in words."""
    level: int
    """Distance from the raw rows, for laying the graph out from left to right."""
    missing: bool = False
    """The records name it, but hold nothing about it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` went into `target`."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in order of level, then label; edges in order of their ends. No cycle."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
