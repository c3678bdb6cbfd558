"""What happens to rows of a source before anything is kept of them: erased subjects stay out, plain values too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from loopline.data.contracts.contract import Contract
from loopline.data.nouns import Ingestion
from loopline.data.privacy.detectors import NOT_HIDDEN, propose
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.tombstones import ERASED, stay_out
from loopline.data.privacy.treatments import POINTER, Treatment, declared, treated, without_examples

if TYPE_CHECKING:
    from loopline.workspace import Workspace


def doorway(ws: Workspace, contract: Contract | None) -> Callable[[pl.DataFrame], pl.DataFrame] | None:
    """What every batch of a source goes through first; null when nothing is to be done.

    Rows of erased subjects are left out, and columns that the contract treats at
    ingest hold their treated value from here on: in the table, in quarantine, and for
    the rules, which judge what is kept.
    """
    now = [t for t in declared(contract).values() if t.at == "ingest" and t.how != "keep"]
    erased = bool(ws.records.pointers(ERASED))
    if not now and not erased:
        return None
    key = secret(ws) if erased or any(t.how == "pseudonym" for t in now) else None

    def through(batch: pl.DataFrame) -> pl.DataFrame:
        rest = stay_out(ws, batch, key)[0] if erased else batch
        return treated(rest, now, key)

    return through


def discreet(ws: Workspace, ingestion: Ingestion, contract: Contract | None) -> Ingestion:
    """An ingestion whose examples of values say nothing of a column that is, or may be, personal."""
    shown = [(v.column, v.examples) for v in ingestion.violations] + [(m.column, m.examples) for m in ingestion.mixed]
    if not any(examples for _, examples in shown):
        return ingestion
    known = declared(contract)
    for column, examples in shown:
        if column and examples and column not in known:
            pointer = ws.records.pointer(POINTER, f"{ingestion.table}/{column}")
            texts = pl.DataFrame({column: [str(one) for one in examples]})
            looks = next((p.pii for p in propose(texts, ingestion.table)), None)
            pii = looks if pointer is None else pointer.doc["pii"]
            if pii is not None and pii not in NOT_HIDDEN:
                known[column] = Treatment(column, pii)
    return replace(
        ingestion,
        violations=tuple(without_examples(v, known) for v in ingestion.violations),
        mixed=tuple(replace(m, examples=()) if m.column in known else m for m in ingestion.mixed),
    )
