"""One answer, found again in the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from loopline.base.nouns import to_doc
from loopline.data.contracts.contract import Contract
from loopline.data.privacy.detectors import NOT_HIDDEN
from loopline.data.privacy.treatments import declared, shown
from loopline.features.nouns import TrainingSet
from loopline.serving import log
from loopline.workspace import Workspace


def discreet(ws: Workspace, answer: Mapping[str, Any], made: TrainingSet | None) -> dict[str, Any]:
    """An answer without the personal values that its request brought, by the contract that the request was judged by.

    The log holds what tables hold; what is shown and leaves is treated as the contract declares.
    """
    if made is None or made.request is None or made.request not in ws.blobs:
        return dict(answer)
    doc = json.loads(ws.blobs.get(made.request))["contract"]
    personal = declared(Contract.from_doc(doc) if doc else None)
    hidden = {log.REQUEST + t.column: t for t in personal.values() if t.pii not in NOT_HIDDEN}
    brought = {name: answer[name] for name in hidden if name in answer}
    row = pl.DataFrame({name: [value] for name, value in brought.items()}, schema=dict.fromkeys(brought, pl.String))
    at_show = {
        name: replace(t, column=name, how="keep" if t.how == "pseudonym" else t.how) for name, t in hidden.items()
    }
    return {**answer, **(shown(row, at_show, None).row(0, named=True) if brought else {})}


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
