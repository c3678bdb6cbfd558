"""Trailing windows: 500 k questions x 2 M skewed events x 3 windows, count and sum of each.

Beside a naive range join in Polars on a part of the questions, scaled up; the values of that part are compared.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from measure import cpu_seconds, line

from loopline.features import Expr, compute, count, together, total, view
from loopline.features.views import Views

ASKED, EVENTS, ENTITIES, PART = 500_000, 2_000_000, 20_000, 2_000
LENGTHS = {"1h": 3_600, "1d": 86_400, "7d": 604_800}
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
SPAN_S, TARGET_S = 30 * 86_400, 1.5
UTC_US = pl.Datetime("us", "UTC")


def entities(rng: np.random.Generator, n: int) -> np.ndarray:
    """Skewed: few entities hold most rows."""
    return (ENTITIES * rng.random(n) ** 3).astype(np.int64)


def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    """A spine and its events, five minutes late, seeded."""
    rng = np.random.default_rng(5)
    asked = pl.Series((START + rng.integers(0, SPAN_S, ASKED)) * 1_000_000).cast(UTC_US)
    happened = pl.Series((START + rng.integers(0, SPAN_S, EVENTS)) * 1_000_000).cast(UTC_US)
    spine = pl.DataFrame({"unit": np.arange(ASKED), "who": entities(rng, ASKED), "decision_time": asked})
    events = pl.DataFrame({"who": entities(rng, EVENTS), "event_time": happened, "v": rng.integers(-50, 50, EVENTS)})
    return spine, events.with_columns(
        known_at=pl.col("event_time") + pl.duration(minutes=5), superseded_at=pl.lit(None, UTC_US)
    )


def views(refresh: str | None) -> Views:
    """Count and sum over each window; exact, or as an online store holds them."""

    @view(entity="who", source="events", refresh=refresh)
    def windows() -> dict[str, Expr]:
        return {f"{op}_{w}": made for w in LENGTHS for op, made in (("n", count(w)), ("sum", total("v", w)))}

    return together([windows])


def naive(spine: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Each question beside all events of its entity."""
    at, event = pl.col("decision_time"), pl.col("event_time")
    both = spine.lazy().join(events.lazy(), on="who", how="left").filter(event <= at, pl.col("known_at") <= at)
    inside = {w: event > at - pl.duration(seconds=s) for w, s in LENGTHS.items()}
    made = both.group_by("unit").agg(
        *(test.sum().cast(pl.Float32).alias(f"n_{w}") for w, test in inside.items()),
        *(pl.col("v").filter(test).sum().cast(pl.Float32).alias(f"sum_{w}") for w, test in inside.items()),
    )
    return spine.lazy().select("unit").join(made, on="unit", how="left").fill_null(0).sort("unit").collect()


if __name__ == "__main__":
    spine, events = frames()
    part = spine.head(PART)
    found = compute(views(None), part, {"events": events}).drop("decision_time").sort("unit")
    expected = naive(part, events)
    same = found.equals(expected.select(found.columns))
    joined = cpu_seconds(lambda: naive(part, events), 1) * ASKED / PART
    for name, refresh in (("exact", None), ("tiles", "1h")):
        declared = views(refresh)
        ours = cpu_seconds(lambda declared=declared: compute(declared, spine, {"events": events}))  # type: ignore[misc]
        bench = f"windows-500k-x-2m-x-3-{name}"
        line(bench, ours, joined, "cpu_s", TARGET_S, ok=same and ours <= TARGET_S, same_values=same)
