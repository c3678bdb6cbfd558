"""A small seasonal world: hourly readings, and a model whose answers turn out later."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec

START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ENDPOINT = "demand"

READINGS = TableSpec(source="none.csv", event_time="hour", known_at="observed", key=("site", "hour"))
OUTCOMES = TableSpec(source="none.csv", event_time="due", known_at="reported", key=("order",))
TABLES = {"readings": READINGS, "outcomes": OUTCOMES}
FRAMING = FramingSpec.model_validate(
    {
        "label": {"table": "outcomes", "value": "late > 0"},
        "unit": "order",
        "decision_time": "due - 2h",
        "label_arrives": "1d",
        "value": {"true_positive": 10, "false_positive": -2},
    }
)


def readings(day: int, *, seed: int = 0) -> pl.DataFrame:
    """One day of three sites: temperature and dew point in Fahrenheit, pressure, and a gauge that is often null."""
    rng = np.random.default_rng([seed, day])
    season = 55 - 25 * math.cos(2 * math.pi * (day - 20) / 365)
    # The weather of a day keeps part of the day before.
    moods = [np.random.default_rng([seed, 7, d]).normal(0, 6) for d in range(day - 4, day + 1)]
    mood = sum(m * 0.6 ** (len(moods) - 1 - i) for i, m in enumerate(moods))
    hours = np.repeat(np.arange(24), 3)
    temp = season + mood + 8 * np.sin((hours - 9) / 24 * 2 * math.pi) + rng.normal(0, 1.5, 72)
    gap = abs(rng.normal(14, 5)) + abs(rng.normal(0, 1.5, 72))
    start = START + day * DAY
    return pl.DataFrame(
        {
            "site": ["A", "B", "C"] * 24,
            "hour": [start + timedelta(hours=int(h)) for h in hours],
            "temp": np.round(temp, 1),
            "dew": np.round(temp - gap, 1),
            "pressure": np.where(
                rng.random(72) < 0.08, np.nan, np.round(1015 + rng.normal(0, 6) + rng.normal(0, 1, 72), 1)
            ),
            "gust": np.where(rng.random(72) < 0.8, np.nan, np.round(20 + rng.gamma(2, 4, 72), 1)),
            "rain": np.where(rng.random(72) < 0.9, 0.0, np.round(rng.exponential(0.1, 72), 2)),
        }
    ).with_columns(pl.col("pressure", "gust").fill_nan(None), observed=pl.col("hour") + timedelta(hours=1))


def celsius(frame: pl.DataFrame) -> pl.DataFrame:
    """The same readings, sent in the wrong unit."""
    return frame.with_columns(((pl.col("temp", "dew") - 32) / 1.8).round(1))


def answers(day: int, *, rows: int = 200, version: str = "v1", role: str = "champion", seed: int = 0) -> pl.DataFrame:
    """One day of logged answers, as a table of predictions holds them."""
    rng = np.random.default_rng([seed, 1, day])
    load = rng.normal(0, 1, rows)
    score = 1 / (1 + np.exp(1.0 - load))
    start = START + day * DAY
    return pl.DataFrame(
        {
            "prediction_id": [f"p{day}-{i}-{role}" for i in range(rows)],
            "endpoint": ENDPOINT,
            "version": version,
            "role": role,
            "generation": 1,
            "entity": [f"o{day}-{i}" for i in range(rows)],
            "decision_time": [start + DAY * (i / rows) for i in range(rows)],
            "score": score,
            "decision": score > 0.3,
            "fallback": pl.Series([None] * rows, dtype=pl.String),
            "load": load,
            "queue": rng.poisson(4, rows).astype(np.float64),
        }
    )


def outcomes(day: int, *, rows: int = 200, bias: float = 0.0, seed: int = 0) -> pl.DataFrame:
    """What came of the answers of a day, known a day after; every fiftieth is void."""
    log = answers(day, rows=rows, seed=seed)
    rng = np.random.default_rng([seed, 2, day])
    truth = rng.random(rows) < np.clip(log["score"].to_numpy() + bias, 0, 1)
    return pl.DataFrame(
        {
            "order": log["entity"],
            "late": [None if i % 50 == 0 else int(t) for i, t in enumerate(truth)],
            "due": log["decision_time"] + timedelta(hours=2),
            "reported": log["decision_time"] + timedelta(hours=30),
        },
        schema_overrides={"late": pl.Int64},
    )
