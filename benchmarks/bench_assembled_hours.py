"""Inputs put together from requests and the online store, while the store moves on.

What a served stream does: an hour of events makes the blobs new, then come the 40 requests of that hour in one turn,
each due at its own minute. CPU of `judge_many` alone, for a model over one file of views and for one over two.
Beside the bare statement of SQLite. `bench_assembled` asks the same of a store that stands still.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from bench_assembled import CARRIERS, DESTS, FLIGHTS, HOURS, ORIGINS, SPINE, START, requests, sources

FILES = ("features.py", "extra.py")
STREAMED, EACH = 48, 40
TARGET_US = 90.0


def version(root: Path, files: tuple[str, ...], store: Any) -> Any:
    """The inputs of a model over the views of `files`."""
    from loopline.base.ids import canonical
    from loopline.data.spec import TableSpec
    from loopline.features.requests import request_doc
    from loopline.features.views import load_views
    from loopline.serving.assembled import AssembledInputs
    from loopline.testing.inference import linear_bundle
    from loopline.training.bundle import read_bundle
    from loopline.training.encoding import Input

    views = load_views(root, files)
    known = tuple(map(str, (*CARRIERS, *ORIGINS, *DESTS, *range(100))))
    inputs = [
        Input(name, "category", known, True, 0.1)
        if name in views.categorical
        else Input(name, "number", (), True, 0.1, -1e6, 1e6)
        for name in views.names
    ]
    bundle = read_bundle(linear_bundle(inputs, [0.01] * len(inputs)))
    contract = str(FLIGHTS / "contracts" / "schedule.yaml")
    spec = TableSpec.model_validate({"source": "s.parquet", "contract": contract})
    bundle.manifest["request"] = json.loads(canonical(request_doc(root, files, views, spec, SPINE)))
    return AssembledInputs(bundle, store)


def streamed() -> dict[str, pl.DataFrame]:
    """All events, as the views of both files read them."""
    made = sources()
    return {**made, "departures": made["departures"].with_columns(departed="event_time")}


def turns(writers: list[Any], begin: datetime) -> Iterator[tuple[list[dict[str, Any]], list[int]]]:
    """The requests of one hour and their decision times, when the store stands there."""
    frames = {name: frame for name, frame in streamed().items() if "event_time" in frame.columns}
    rows = requests(STREAMED * EACH)
    for hour in range(STREAMED):
        at = begin + timedelta(hours=hour + 1)
        span = pl.col("known_at").is_between(at - timedelta(hours=1), at, closed="right")
        news = {name: frame.filter(span) for name, frame in frames.items()}
        for writer in writers:
            writer.apply_all({name: new for name, new in news.items() if name in writer.views.tables}, at)
        due = [round((at + timedelta(minutes=60 * n / EACH)).timestamp() * 1e6) for n in range(EACH)]
        yield rows[hour * EACH : (hour + 1) * EACH], due


def main() -> None:
    from loopline.data.spec import TableSpec
    from loopline.features import OnlineFeatures
    from loopline.features.requests import space_of
    from loopline.features.views import load_views
    from loopline.store.online.sqlite import SqliteOnline

    with tempfile.TemporaryDirectory() as folder:
        root, begin = Path(folder), START + timedelta(hours=HOURS - STREAMED)
        for file in FILES:
            (root / file).write_text((FLIGHTS / file).read_text())
        store = SqliteOnline(root / "online.db")
        planes = {"planes": TableSpec.model_validate({"source": "p.parquet", "key": "tailnum"})}
        writers = []
        for file in FILES:
            group = load_views(root, (file,))
            writers.append(OnlineFeatures(store, group, tables=planes, space=space_of(group)))
            writers[-1].apply_all({n: table for n, table in streamed().items() if n in group.tables}, begin)
        versions = {1: version(root, FILES[:1], store), 2: version(root, FILES, store)}
        gc.collect()
        gc.freeze()  # as the worker does
        gc.set_threshold(50_000, 20, 100)
        spent, bare = dict.fromkeys(versions, 0.0), 0.0
        for rows, due in turns(writers, begin):
            for files, made in versions.items():
                start = time.process_time()
                judged = made.judge_many(rows, due)
                spent[files] += time.process_time() - start
                assert not any(one.hard for one in judged)
            start = time.process_time()
            for n in range(EACH):
                store.read([f"view{i}\x1f{n}" for i in range(14)])
            bare += time.process_time() - start
        for files, cpu in spent.items():
            ours, baseline = (seconds / STREAMED / EACH * 1e6 for seconds in (cpu, bare))
            found = {"bench": f"assembled-hours-40-files-{files}", "ours": round(ours, 1), "unit": "cpu_us/row"}
            found |= {"baseline": round(baseline, 1), "ratio": round(ours / baseline, 2), "target": f"<= {TARGET_US:g}"}
            print(json.dumps(found | {"ok": ours <= TARGET_US}))


if __name__ == "__main__":
    main()
