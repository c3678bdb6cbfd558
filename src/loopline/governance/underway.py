"""A subject's answers and labels outside the tables: in journals, waiting for a label, in files of labels.

Journals are read into the log before; a server goes on in the same file until it is full, so what lies there is
overwritten where it lies. What monitoring waits with is one frame by endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.labelling.standing import FOLDER, publish
from loopline.data.privacy.tombstones import means
from loopline.governance.holding import Search
from loopline.governance.nouns import Place
from loopline.monitoring import answers
from loopline.monitoring.memory import POINTER, Memory
from loopline.serving import journal, log, state
from loopline.store.records.protocol import Pointer
from loopline.store.tables.redact import count
from loopline.workspace import Workspace


def places(ws: Workspace, project: Path, search: Search) -> list[Place]:
    """Answers of the subject outside the tables, by endpoint, and files of labels."""
    found: dict[str, int] = {}
    for endpoint, _, rows in _in_journals(ws, search):
        found[endpoint] = found.get(endpoint, 0) + len(rows)
    waiting = [(pointer.name, int(meant.sum())) for pointer, _, _, meant in _waiting(ws, search)]
    note = "a server still writes this file; its rows are overwritten"
    return [
        *(Place("journal", endpoint, rows, "rewrite", note) for endpoint, rows in found.items()),
        *(Place("waiting answers", endpoint, rows, "rewrite") for endpoint, rows in waiting),
        *(Place("label file", f"{FOLDER}/{n}.parquet", rows, "rewrite") for n, rows in label_files(project, search)),
    ]


def take_out(ws: Workspace, project: Path, search: Search) -> None:
    """Overwrite the subject's answers in journals, have monitoring wait for them no longer, publish labels anew.

    Rounds of labelling must have been rewritten before.
    """
    for name, _ in label_files(project, search):
        publish(ws, project, name)
    for endpoint, name, rows in list(_in_journals(ws, search)):
        journal.overwrite(state.Place(ws.root, endpoint).segments / name, rows)
    for pointer, memory, frame, meant in list(_waiting(ws, search)):
        rest = frame.filter(~meant)
        kept = ws.blobs.put(answers.to_bytes(rest)) if rest.height else None
        at = ws.clock()
        with ws.records.transaction() as tx:
            doc = replace(memory, pending=kept, left=None).doc()
            tx.move(POINTER, pointer.name, pointer.target, expect=pointer.generation, at=at, doc=doc)
        for blob in {memory.pending, memory.left} - {None, kept}:
            ws.blobs.delete(str(blob))


def label_files(project: Path, search: Search) -> Iterator[tuple[str, int]]:
    """Labelling and rows of the subject of each published file of labels."""
    for path in sorted((project / FOLDER).glob("*.parquet")):
        if rows := count(path, search.holds()):
            yield path.stem, rows


def _in_journals(ws: Workspace, search: Search) -> Iterator[tuple[str, str, list[int]]]:
    """Endpoint, file and numbers of the rows that are the subject's; a file may be gone by then."""
    for path in sorted(ws.root.glob(f"serving/*/segments/*{journal.SUFFIX}")):
        endpoint = path.parent.parent.name
        try:
            with journal.reading(path) as reader:
                frame = log.frame(reader.shared, reader.rows(0, reader.count))
        except Invalid:  # damaged, or gone into the table meanwhile
            continue
        meant = search.holds(log.table(endpoint))(frame.schema)
        rows = [] if meant is None else frame.select(meant.arg_true()).to_series().to_list()
        if rows:
            yield endpoint, path.name, rows


def _waiting(ws: Workspace, search: Search) -> Iterator[tuple[Pointer, Memory, pl.DataFrame, pl.Series]]:
    for pointer in ws.records.pointers(POINTER):
        memory = Memory.of(pointer)
        frame, left = (_answers(ws, blob) for blob in (memory.pending, memory.left))
        meant = means({"entity": search.units | search.subject}, frame.schema)
        if meant is None:
            continue
        mask = frame.select(meant).to_series()
        if mask.any() or left.select(meant).to_series().any():
            yield pointer, memory, frame, mask


def _answers(ws: Workspace, blob: str | None) -> pl.DataFrame:
    """The answers of a blob; none where there is none."""
    return answers.from_bytes(ws.blobs.get(blob) if blob is not None and blob in ws.blobs else None)
