"""Where a version came from, as a drawing made on the server."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline import governance, registry
from loopline.governance.nouns import Graph, Node
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.layout import BOX, layout
from loopline.interfaces.ui.words import detail
from loopline.registry.nouns import Version

KINDS = {"training_set": "training set"}
PLACES = {
    "table": "/data",
    "snapshot": "/data",
    "views": "/features",
    "training_set": "/features",
    "code": "/training",
    "run": "/training",
    "model": "/training",
    "release": "/retraining",
}


def live(here: Here, request: Request) -> dict[str, Any]:
    """Of the version in production; of nothing where there is none."""
    held = here.champion()
    return _drawn(here, held[0] if held else None, in_production=True)


def of(here: Here, request: Request) -> dict[str, Any]:
    """Of one version."""
    found = registry.resolve(here.ws, here.name, str(request.path_params["number"]))
    held = here.champion()
    return _drawn(here, found, in_production=held is not None and held[0].id == found.id)


def _drawn(here: Here, version: Version | None, *, in_production: bool) -> dict[str, Any]:
    graph = governance.lineage(here.ws, version) if version is not None else Graph((), ())
    said = {node.id: (*_said(node), _href(node, version)) for node in graph.nodes}
    return {
        "version": version,
        "in_production": in_production,
        "graph": graph,
        "drawing": layout(graph, said) if version is not None else None,
        "box": BOX,
        "kinds": KINDS,
        "numbers": [v.number for v in here.versions()],
    }


def _said(node: Node) -> tuple[str, str]:
    """The two lines in a node's box."""
    kind, more = KINDS.get(node.kind, node.kind), node.detail
    match node.kind:
        case "table" if "rows" in more:
            return f"{kind}, {detail(more['rows'])} rows", node.label
        case "snapshot" if "known_to" in more:
            return f"{kind}, known to", detail(more["known_to"])
        case "training_set" if "train_rows" in more:
            return kind, f"{detail(more['train_rows'])} rows"
        case "run" if "seconds" in more:
            return kind, f"{float(more['seconds']):.1f} s"
        case "model" if "champion" in more:
            return "champion then", f"of version {more['champion']}"
        case "report" if "passed" in more:
            return kind, "gates passed" if more["passed"] == "True" else "gates failed"
        case "approval":
            decision, _, who = node.label.partition(" ")
            return decision, who
        case "release":
            act, _, alias = node.label.partition(" ")
            return act, alias
    return kind, node.label


def _href(node: Node, version: Version | None) -> str:
    if node.kind == "report":
        return f"/evaluation/{node.id.partition(':')[2][:16]}"
    if node.kind in ("version", "approval") and version is not None:
        return f"/registry/{version.number}"
    return PLACES.get(node.kind, "")
