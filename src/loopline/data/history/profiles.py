"""What a column looks like: for pages, manifests and drafts."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import polars as pl

PROFILED = 100_000
"""Rows, the last ones added, that the column profiles of a table are made from."""
BINS = 20
TOP = 10
RARE = 5
"""A text or truth that fewer rows have than this stands in no profile: it could tell of one person."""


def profile(frame: pl.DataFrame) -> dict[str, Any]:
    """Each column in a few numbers, as a JSON document.

    Returns
    -------
    dict
        `rows`, and per name in `columns`: `type`, `nulls` (NaN among them),
        `distinct`; for numbers `min`, `max`, `mean`, `std`, `quantiles` (5, 25, 50,
        75, 95 %) and a `histogram` of finite values (`from`, `to`, `counts` in 20
        bins of equal width); for text and Booleans the ten most frequent values
        under `top`, those that at least five rows have; for times `min` and `max`. Absent statistics are null.
    """
    return {"rows": frame.height, "columns": {s.name: _column(s) for s in frame.get_columns()}}


def _column(series: pl.Series) -> dict[str, Any]:
    dtype = series.dtype
    doc: dict[str, Any] = {"type": str(dtype)}
    if isinstance(dtype, pl.Decimal):
        series = series.cast(pl.Float64)
    if series.dtype.is_float():
        series = series.fill_nan(None)
    doc["nulls"] = series.null_count()
    present = series.drop_nulls()
    if series.dtype.is_nested() or dtype in (pl.Object, pl.Binary, pl.Null):
        return doc | {"distinct": None}
    if series.dtype.is_numeric():
        return doc | {"distinct": present.n_unique()} | _numbers(present)
    if dtype.is_temporal():
        return doc | {"distinct": present.n_unique(), "min": _plain(present.min()), "max": _plain(present.max())}
    counts = present.cast(pl.String).value_counts(sort=False, name="\0n")
    most = counts.filter(pl.col("\0n") >= RARE).top_k(TOP, by=["\0n", present.name], reverse=[False, True])
    top = most.sort("\0n", present.name, descending=[True, False])
    return doc | {"distinct": counts.height, "top": [[str(value)[:200], int(n)] for value, n in top.rows()]}


def _numbers(present: pl.Series) -> dict[str, Any]:
    values = present.cast(pl.Float64)
    finite = values.filter(values.is_finite())
    doc: dict[str, Any] = {
        "min": _plain(values.min()),
        "max": _plain(values.max()),
        "mean": _plain(finite.mean()),
        "std": _plain(finite.std()),
        "quantiles": [_plain(finite.quantile(q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)],
        "histogram": None,
    }
    if finite.len():
        low, high = float(finite.min()), float(finite.max())  # type: ignore[arg-type]
        width = (high - low) / BINS
        if 0 < width < float("inf"):
            places = ((finite - low) / width).floor().cast(pl.Int64).clip(0, BINS - 1)
            tally = dict(places.value_counts(name="\0n").rows())
            counts = [int(tally.get(i, 0)) for i in range(BINS)]
        else:
            counts = [finite.len()]
        doc["histogram"] = {"from": low, "to": high, "counts": counts}
    return doc


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value if value is None or isinstance(value, (int, str)) else str(value)
