"""Where a version came from, as a drawing made on the server."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline import governance, registry
from loopline.governance.nouns import Graph
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.layout import BOX, layout
from loopline.registry.nouns import Version

KINDS = {"training_set": "training set", "public_key": "key"}
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
    return {
        "version": version,
        "in_production": in_production,
        "graph": graph,
        "drawing": layout(graph, _links(graph, version)) if version is not None else None,
        "box": BOX,
        "kinds": KINDS,
        "numbers": [v.number for v in here.versions()],
    }


def _links(graph: Graph, version: Version | None) -> dict[str, str]:
    links = {}
    for node in graph.nodes:
        id = node.id.partition(":")[2]
        if node.kind == "report":
            links[node.id] = f"/evaluation/{id[:16]}"
        elif node.kind in ("version", "approval") and version is not None:
            links[node.id] = f"/registry/{version.number}"
        elif node.kind in PLACES:
            links[node.id] = PLACES[node.kind]
    return links
