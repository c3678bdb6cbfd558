"""What a request must bring so that features can be computed for it, as a document in the bundle.

The document holds the trees of the views, file by file; the columns that they read of the request; and
the contract of the spine, because a request is a row of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.data.contract import Contract
from loopline.data.spec import TableSpec
from loopline.features.expr import LEAVES, Expr
from loopline.features.nouns import TrainingSet
from loopline.features.program import from_doc, to_doc, travels
from loopline.features.views import Views, load_views
from loopline.workspace import Workspace

FORMAT = 1
Kind = Literal["time", "number", "text", "truth"]


def request_doc(
    project: Path, files: Sequence[str], views: Views, spine: TableSpec, schema: Mapping[str, pl.DataType]
) -> dict[str, Any] | None:
    """The document for a model over `views`; null where they cannot travel.

    Parameters
    ----------
    files : sequence of str
        The files that define the views; each is published, and goes stale, on its own. Empty where the views
        are columns of the spine.
    spine : TableSpec
        Names the contract that requests keep, as far as they bring its columns.
    schema : mapping
        Columns of the spine.
    """
    groups = [load_views(project, (file,)) for file in files] or [views]
    if not all(travels(one) for one in groups):
        return None
    columns = {name: kind_of(schema[name]) for name in _brought(views) if name in schema}
    contract = Contract.load(project / spine.contract).doc if spine.contract is not None else None
    return {"format": FORMAT, "groups": [to_doc(one) for one in groups], "columns": columns, "contract": contract}


def _brought(views: Views) -> tuple[str, ...]:
    """Columns that requests bring: not the key of a view that reads no table, which is the unit itself."""
    keys = {mine for one in views.views if one.source is not None for mine, _ in one.on}
    unused = {mine for one in views.views if one.source is None for mine, _ in one.on} - keys
    read = {node.args[0] for one in views.views for _, tree in one.features for node in own_columns(tree)}
    return tuple(name for name in views.spine_columns if name in read or name not in unused)


def own_columns(tree: Expr) -> list[Expr]:
    """The columns of the spine row that an expression reads, lookups and windows apart."""
    if tree.op == "col":
        return [tree]
    if tree.op in LEAVES:
        return []
    return [node for arg in tree.args if isinstance(arg, Expr) for node in own_columns(arg)]


def kind_of(dtype: pl.DataType) -> Kind:
    """How a column is written in a request."""
    if dtype.is_temporal():
        return "time"
    if dtype == pl.Boolean:
        return "truth"
    return "number" if dtype.is_numeric() else "text"


def space_of(group: Views) -> str:
    """Where the online store keeps a file's views: they go forward together."""
    return group.id[:16]


def groups_of(ws: Workspace, training_set: str) -> list[Views] | None:
    """The views that a training set was made of, file by file, as they were then; null where they cannot travel."""
    made = ws.records.get(TrainingSet, training_set)
    if made.request is None or made.request not in ws.blobs:
        return None
    return [from_doc(one) for one in json.loads(ws.blobs.get(made.request))["groups"]]
