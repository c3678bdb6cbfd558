"""Profiling a table: CPU seconds for 1 M rows x 50 columns, beside plain Polars aggregates."""

from __future__ import annotations

import numpy as np
import polars as pl
from measure import cpu_seconds, line

from loopline.monitoring.packing import pack
from loopline.monitoring.profile import profile

TARGET_S, TARGET_DAY_MS = 1.5, 8.0


def table(rows: int, numbers: int, texts: int) -> pl.DataFrame:
    """A seeded table of skewed numbers, some null, and categories of 4 to 4,000 levels."""
    rng = np.random.default_rng(7)
    columns: dict[str, pl.Series] = {}
    for i in range(numbers):
        values = rng.lognormal(i % 5, 0.5, rows).round(i % 4)
        columns[f"n{i}"] = pl.Series(np.where(rng.random(rows) < 0.02, np.nan, values)).fill_nan(None)
    for i in range(texts):
        columns[f"t{i}"] = pl.Series(rng.integers(0, (4, 16, 100, 4000)[i % 4], rows)).cast(pl.String)
    return pl.DataFrame(columns)


def with_polars(frame: pl.DataFrame) -> int:
    """What a reader would write: moments and nine quantiles, value counts."""
    for column in frame:
        if column.dtype.is_numeric():
            frame.select(
                pl.col(column.name).null_count().alias("null"),
                pl.col(column.name).mean().alias("mean"),
                pl.col(column.name).std().alias("sd"),
                *(pl.col(column.name).quantile(q / 10).alias(f"q{q}") for q in range(1, 10)),
            )
        else:
            column.value_counts()
    return frame.height


if __name__ == "__main__":
    large = table(1_000_000, 30, 20)
    line(
        "profile-1m-x-50",
        cpu_seconds(lambda: profile(large)),
        cpu_seconds(lambda: with_polars(large), 1),
        "cpu_s",
        TARGET_S,
    )
    day = table(900, 35, 10)
    ours = cpu_seconds(lambda: [pack([profile(day)]) for _ in range(20)]) / 20 * 1e3
    theirs = cpu_seconds(lambda: [with_polars(day) for _ in range(5)]) / 5 * 1e3
    line("profile-day-900-x-45", ours, theirs, "cpu_ms", TARGET_DAY_MS)
