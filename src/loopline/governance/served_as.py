"""Where a version reads its requests otherwise than the project says now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopline.base.errors import LooplineError
from loopline.base.nouns import to_doc
from loopline.data.spec import TableSpec
from loopline.features.requests import request_doc
from loopline.features.spec import FeaturesSpec
from loopline.features.verbs import project_views
from loopline.framing.spec import FramingSpec
from loopline.registry.nouns import Version
from loopline.serving.assembled import makes_its_inputs
from loopline.training.bundle import Bundle, read_bundle
from loopline.training.packages.trust import Trust, trust_of
from loopline.workspace import Workspace

PARTS = {
    "groups": "its features are not those that the project defines now",
    "columns": "requests bring other columns than the project asks for now",
    "moments": "times of requests are read otherwise than the project says now",
    "clean": "requests are repaired by other rules than loop.yaml has now",
    "contract": "requests are judged by another contract than the spine has now",
}


def differences(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    version: Version,
    served: str,
) -> list[str]:
    """What whoever approves a version should know of how it will read requests; nothing where all is as declared.

    Parameters
    ----------
    served : str
        `serving.features` as declared now: `request` or `online`.
    """
    try:
        bundle = _bundle(ws.blobs.path(version.bundle), trust_of(ws.id))
    except LooplineError:  # damaged or freed: the checks of the version say so
        return []
    if bundle.request is None:
        lost = "it does not say how inputs are made from requests, and serving.features is online: it cannot be served"
        return [lost] if served == "online" else []
    found = []
    if served != "online" and not makes_its_inputs(bundle):
        found.append("its features read tables, and serving.features is request: requests must carry the features")
    try:
        views = project_views(ws, project, framing, features, tables)
        schema = ws.tables.scan(features.spine).collect_schema()
        now = request_doc(project, features.views, views, tables[features.spine], schema, unit=framing.unit)
    except LooplineError as error:
        return [*found, f"what the project asks of requests now cannot be read: {error.what}"]
    if now is None:
        return [*found, "the features of the project can no longer be made from requests"]
    was, own = _plain(bundle.request), _plain(now)
    return found + [text for part, text in PARTS.items() if part in was and was[part] != own.get(part)]


@lru_cache(maxsize=8)
def _bundle(path: Path, trust: Trust) -> Bundle:
    """Kept, since a file whose name is its digest does not change."""
    return read_bundle(path.read_bytes(), trust)


def _plain(doc: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(to_doc(dict(doc)), default=str))
    return made
