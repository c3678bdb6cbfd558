"""What a request must bring so that features can be computed for it, as a document in the bundle.

The document holds the trees of the views, file by file; the columns that they read of the request; and
the contract of the spine, because a request is a row of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.data.contract import Contract
from loopline.data.spec import TableSpec
from loopline.features.program import to_doc, travels
from loopline.features.views import Views, load_views

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
    columns = {name: kind_of(schema[name]) for name in views.spine_columns if name in schema}
    contract = Contract.load(project / spine.contract).doc if spine.contract is not None else None
    return {"format": FORMAT, "groups": [to_doc(one) for one in groups], "columns": columns, "contract": contract}


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
