"""Counts of different values are exact, and cost the online store no more for many values than for few."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from loopline.features import compute, together, view
from loopline.features.expr import distinct
from loopline.features.online import OnlineFeatures
from loopline.store.online.protocol import place
from loopline.store.online.sqlite import SqliteOnline

START = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


@view(entity="who", source="seen", refresh="1h", ttl="7d")
def seen():
    return {"words": distinct("word", "7d")}


def test_an_exact_count_takes_as_many_bytes_of_a_thousand_times_as_many_values(tmp_path: Path) -> None:
    views, sizes = together([seen]), []
    for values in (30, 30_000):
        n = 2 * values
        at = np.linspace(0, WEEK.total_seconds() * 1e6 - 1, n, dtype=np.int64) + int(START.timestamp() * 1e6)
        times = pl.Series(at).cast(pl.Datetime("us", "UTC"))
        words = [f"value-{i % values}" for i in range(n)]
        rows = pl.DataFrame({"who": "a", "word": words, "event_time": times, "known_at": times})
        store = SqliteOnline(tmp_path / f"{values}.db")
        online = OnlineFeatures(store, views, space="s")
        online.apply("seen", rows, START + WEEK)
        spine = pl.DataFrame({"unit": ["u"], "who": ["a"], "decision_time": [START + WEEK]})
        table = rows.with_columns(superseded_at=pl.lit(None, pl.Datetime("us", "UTC")))
        offline = compute(views, spine, {"seen": table})["words"].to_list()
        assert online.read({"who": "a"}, START + WEEK).leaves == offline == [float(values)]
        (blob,) = store.read([place(f"s/{online.layouts[0].id}", "a")])
        assert blob is not None
        sizes.append(len(blob))
    assert sizes[1] <= sizes[0] + 40, "only the counts get longer"
