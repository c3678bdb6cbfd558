"""A snapshot as of an earlier moment, by the records or by reading the rows: the same id."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl

from loopline import data
from loopline.base.clock import ManualClock
from loopline.data.spec import TableSpec
from loopline.data.verbs import _as_ingested
from loopline.workspace import create_workspace

START = datetime(2031, 1, 1, tzinfo=UTC)
SPEC = {"readings": TableSpec(source="x.py:y", known_at="seen", key=("k",))}


def test_the_past_has_one_id_however_it_is_looked_up(tmp_path):
    clock = ManualClock(START)
    ws = create_workspace(tmp_path / "ws", clock=clock, actor="user:a")
    times = [START + timedelta(hours=5 * n) for n in range(40)]
    rows = pl.DataFrame({"k": range(40), "v": [n / 7 for n in range(40)], "seen": times}).with_columns(
        pl.col("seen").cast(pl.Datetime("us", "UTC"))
    )
    moments, ids = [], []
    for day in range(1, 8):
        clock.set(START + timedelta(days=day))
        data.ingest(ws, tmp_path, SPEC, frames={"readings": rows})
        moments.append(clock())
        ids.append(data.snapshot(ws, SPEC, project=tmp_path).id)
    assert len(set(ids)) == 7
    for at, known in zip(moments, ids, strict=True):
        past = replace(ws, clock=lambda at=at: at)
        assert _as_ingested(past, "readings", at) is not None
        assert data.snapshot(past, SPEC, project=tmp_path).id == known
        late = replace(ws, clock=lambda at=at: at + timedelta(minutes=59))
        assert _as_ingested(late, "readings", late.clock()) is None
        assert data.snapshot(late, SPEC, project=tmp_path).id == known
