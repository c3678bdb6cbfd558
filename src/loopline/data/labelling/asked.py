"""What answers were known at a moment, for a person who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from loopline.data.labelling.outcomes import label_table, labels
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace, query


@dataclass(frozen=True, slots=True)
class KnownLabels:
    """The labels known at a moment: counted, and the newest of them."""

    at: datetime
    table: str
    """The table of outcomes; weak sources count where it has no answer."""
    units: int
    """Units with an answer; all others were not known yet."""
    true: int
    false: int
    void: int
    """Answers that say that there will never be one."""
    newest: tuple[dict[str, Any], ...]
    """Unit, `label` (null: void), `event_time`, `known_at`, and, where labels say it, `confidence` and `source`."""


@query("data.known_labels")
def known_labels(
    ws: Workspace,
    *,
    framing: FramingSpec,
    tables: Mapping[str, TableSpec],
    at: datetime | None = None,
    unit: str | None = None,
    rows: int = 10,
) -> KnownLabels:
    """The labels as they were known at a moment: what came late, was revised or became void later does not count.

    Parameters
    ----------
    at : datetime, optional
        With a zone; the workspace's now by default.
    unit : str, optional
        Only this unit's answer.
    rows : int
        How many of the newest to list.

    Raises
    ------
    NotFound
        If the table of outcomes holds nothing yet.
    Invalid
        If the label cannot be read.
    """
    moment = ws.clock() if at is None else at
    found = labels_at(ws, framing, tables, moment, unit=unit)
    counts = dict(found["label"].value_counts().iter_rows())
    return KnownLabels(
        at=moment,
        table=label_table(framing, tables),
        units=found.height,
        true=counts.get(True, 0),
        false=counts.get(False, 0),
        void=counts.get(None, 0),
        newest=tuple(found.head(rows).to_dicts()),
    )


def labels_at(
    ws: Workspace, framing: FramingSpec, tables: Mapping[str, TableSpec], at: datetime, *, unit: str | None = None
) -> pl.DataFrame:
    """All of them, newest first; columns as `labels` gives them."""
    found = labels(ws, framing, tables, at)
    if unit is not None:
        found = found.filter(pl.col(framing.unit).cast(pl.String) == unit)
    return found.sort("known_at", framing.unit, descending=[True, False])
