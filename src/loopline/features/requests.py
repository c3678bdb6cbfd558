"""What a request must bring so that features can be computed for it, as a document in the bundle.

The document holds the trees of the views, file by file; the columns that they read of the request, and how their
moments are read; the repairs and the contract of the spine, because a request is a row of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.data.contracts.contract import Contract
from loopline.data.spec import TableSpec
from loopline.features.expr import LEAVES, Expr
from loopline.features.nouns import TrainingSet
from loopline.features.program import from_doc, to_doc, travels
from loopline.features.views import Views, load_views
from loopline.workspace import Workspace

FORMAT = 2
FORMATS = (1, 2)
"""Formats that are read; the first knew neither repairs nor zones."""
Kind = Literal["time", "number", "text", "truth"]


def request_doc(
    project: Path,
    files: Sequence[str],
    views: Views,
    spine: TableSpec,
    schema: Mapping[str, pl.DataType],
    *,
    unit: str | None = None,
    unnamed: Collection[str] | None = None,
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
    unit : str, optional
        The column that names what is decided on: a request that brings it names its entity.
    unnamed : collection of str, optional
        Keys of views that training saw null: a request may lack these. Where none are told, those that the contract
        declares as not required.
    """
    groups = [load_views(project, (file,)) for file in files] or [views]
    if not all(travels(one) for one in groups):
        return None
    columns = {name: kind_of(schema[name]) for name in brought(views) if name in schema}
    contract = Contract.load(project / spine.contract) if spine.contract is not None else None
    return {
        "format": FORMAT,
        "groups": [to_doc(one) for one in groups],
        "columns": columns,
        "moments": {name: _moment(name, schema[name], spine, contract) for name in columns if columns[name] == "time"},
        "clean": _repairs(spine, columns),
        "others": _others(columns, schema, spine, contract),
        "contract": None if contract is None else contract.doc,
        "unit": unit,
        **({} if unnamed is None else {"unnamed": sorted(unnamed)}),
    }


def _moment(name: str, dtype: pl.DataType, spine: TableSpec, contract: Contract | None) -> list[str | None]:
    """How a moment is read from text, as files of text are: `timestamp` or `date`, and the zone of one without."""
    column = next((one for one in contract.columns if one.name == name), None) if contract is not None else None
    if column is not None and column.type in ("timestamp", "date"):
        return [column.type, column.zone]
    return ["date" if dtype == pl.Date else "timestamp", spine.zone]


def _others(
    columns: Mapping[str, Kind], schema: Mapping[str, pl.DataType], spine: TableSpec, contract: Contract | None
) -> dict[str, Any]:
    """The columns of the spine that are not read: a request may bring them, and they are judged if it does."""
    names = {name: kind_of(dtype) for name, dtype in schema.items() if name not in columns}
    moments = {name: _moment(name, schema[name], spine, contract) for name in names if names[name] == "time"}
    return {"columns": names, "moments": moments, "clean": _repairs(spine, names)}


def _repairs(spine: TableSpec, columns: Mapping[str, Kind]) -> list[dict[str, Any]]:
    """The repairs of the columns that requests bring; one row alone has no duplicates."""
    found = []
    for rule in spine.clean:
        mine = [name for name in rule.column if name in columns]
        if mine and rule.duplicates is None:
            doc = rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            found.append({**doc, "column": mine})
    return found


def brought(views: Views) -> tuple[str, ...]:
    """Columns that requests bring: not the key of a view that reads no table, which is the unit itself."""
    keys = {mine for one in views.views if one.source is not None for mine, _ in one.on}
    unused = {mine for one in views.views if one.source is None for mine, _ in one.on} - keys
    read = {node.args[0] for one in views.views for _, tree in one.features for node in own_columns(tree)}
    return tuple(name for name in views.spine_columns if name in read or name not in unused)


def keys_read(views: Views) -> tuple[str, ...]:
    """Columns of the spine that name the entities of views that read a table."""
    return tuple(dict.fromkeys(mine for one in views.views if one.leaves() for mine, _ in one.on))


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
