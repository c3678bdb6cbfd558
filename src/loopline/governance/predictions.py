"""One answer, found again in the log."""

from __future__ import annotations

from typing import Any

import polars as pl

from loopline.base.nouns import to_doc
from loopline.serving import log
from loopline.workspace import Workspace


def find_prediction(ws: Workspace, prediction: str) -> dict[str, Any] | None:
    """The answer with that id as logged, inputs apart; null when no log holds it.

    Where a shadow answered too, the one that the caller got is returned. Reads
    one column of every log: about 0.1 s a million rows.
    """
    for table in ws.tables.names():
        if not table.startswith(log.table("")):
            continue
        rows = ws.tables.scan(table).filter(pl.col("prediction_id") == prediction).collect()
        if not rows.height:
            continue
        row = rows.sort(pl.col("role") == "shadow", maintain_order=True).row(0, named=True)
        inputs = {name: row[name] for name in log.input_columns(rows.columns)}
        answer = {name: to_doc(value) for name, value in row.items() if name not in inputs}
        return {**answer, "inputs": inputs}
    return None
