"""How much has become known since the champion was trained."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from loopline.data.labelling.outcomes import labels as labels_known
from loopline.data.spec import TableSpec
from loopline.features.nouns import TrainingSet
from loopline.framing.spec import FramingSpec
from loopline.monitoring.nouns import Quality
from loopline.registry.nouns import Version
from loopline.training.nouns import Model
from loopline.workspace import Workspace


def new_labels(
    ws: Workspace,
    framing: FramingSpec,
    tables: Mapping[str, TableSpec],
    version: str,
    fresh: pl.DataFrame | None,
    since: datetime,
    until: datetime,
) -> tuple[int, int]:
    """Labels that became known since a version was trained, and the rows it was trained on.

    Parameters
    ----------
    fresh : DataFrame, optional
        Labels that became known in (since, until]; where the window before it was
        judged for the same version, they are added to what was counted then.
        Otherwise the labels are counted anew.

    Notes
    -----
    Void labels do not count: nothing can be trained on them. A corrected label
    counts again. O(rows of the window); O(labels since the training) at the first
    judgement of a version.
    """
    before = ws.records.find(Quality, limit=1, endpoint=ws.records.get(Version, version).name)
    last = before[0] if before and before[0].version == version and before[0].over_to == since else None
    if last is not None and last.new_labels is not None and last.trained_rows is not None:
        return last.new_labels + (0 if fresh is None else usable(fresh)), last.trained_rows
    model = ws.records.get(Model, ws.records.get(Version, version).model)
    rows = ws.records.get(TrainingSet, model.training_set).train_rows
    return usable(labels_known(ws, framing, tables, until, since=model.created_at)), rows


def usable(labels: pl.DataFrame) -> int:
    """Labels that are true or false."""
    return labels.height - labels["label"].null_count()
