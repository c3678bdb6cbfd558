"""Taking in a CSV file: CPU seconds and peak memory for 3 M rows x 4 columns, beside bare Polars to Parquet."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from measure import cpu_seconds, line

from loopline.base.clock import ManualClock
from loopline.data import TableSpec, ingest
from loopline.workspace import create_workspace

ROWS = 3_000_000
TARGET_RATIO, TARGET_MB = 4.0, 500


def write(path: Path) -> None:
    """A key, a time, a number with a fraction and an answer."""
    row = pl.int_range(ROWS, eager=True)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = (
        pl.select(pl.lit(start) + pl.duration(seconds=row % 86_400)).to_series().dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    )
    pl.DataFrame({"id": row, "t": moments, "x": (row * 7919 % 10007) / 100, "y": row % 2}).write_csv(path)


def take_in(folder: Path, clock: ManualClock) -> None:
    """One ingestion into a fresh workspace: read, judged by the key, appended."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        ws = create_workspace(Path(made) / "ws", clock=clock, actor="user:ada")
        (taken,) = ingest(ws, folder, {"a": TableSpec(source="a.csv", known_at="t", key=("id",))})
        assert taken.rows == ROWS


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]))
        sys.exit()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        subprocess.run([sys.executable, __file__, str(folder / "a.csv")], check=True)  # apart: its memory is not ours
        clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
        first = cpu_seconds(lambda: take_in(folder, clock), 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ours = min(first, cpu_seconds(lambda: take_in(folder, clock), 1))
        bare = cpu_seconds(
            lambda: pl.scan_csv(folder / "a.csv", try_parse_dates=True).sink_parquet(folder / "a.parquet"), 2
        )
        line("ingest-csv-3m-x-4", ours, bare, "cpu_s", f"<= {TARGET_RATIO}x", ok=ours <= TARGET_RATIO * bare)
        line("ingest-csv-3m-x-4-memory", peak, None, "MB", TARGET_MB, us_per_row=round(ours / ROWS * 1e6, 2))
