"""A small world: parcels from four depots, late more often when it is far, hot or short of hands.

What makes a parcel late changes on the way: from day 75 on everything is later and
distance counts less, so a model of the first weeks goes stale.
"""

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

START = datetime(2031, 3, 1, tzinfo=UTC)
DAYS, PER_DAY, CHANGE = 150, 300, 75
DEPOTS = ("north", "east", "south", "west")
US = pl.Datetime("us", "UTC")


@cache
def world() -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(7)
    hours = np.arange(DAYS * 24)
    day = hours / 24
    heat = {
        name: 55 + 12 * np.sin(day / 365 * 2 * np.pi) + 9 * np.sin((hours % 24 - 8) / 24 * 2 * np.pi)
        + np.repeat(rng.normal(0, 4, DAYS), 24) + rng.normal(0, 1, hours.size) + 2 * n
        for n, name in enumerate(DEPOTS)
    }  # fmt: skip
    hands = {name: np.clip(10 + np.repeat(rng.normal(0, 3, DAYS * 4), 6), 2, 18) for name in DEPOTS}
    count = DAYS * PER_DAY
    due = np.sort(rng.uniform(6, DAYS * 24, count))
    depot = rng.integers(0, 4, count)
    at = due.astype(int).clip(0, hours.size - 1)
    weight = rng.gamma(2.0, 3.0, count).round(2)
    distance = rng.uniform(1, 60, count).round(1)
    warm = np.array([heat[DEPOTS[d]][h] for d, h in zip(depot, at, strict=True)])
    staff = np.array([hands[DEPOTS[d]][h] for d, h in zip(depot, at, strict=True)])
    later = due / 24 > CHANGE
    far = np.where(later, 0.03, 0.055) * (distance - 30)
    logit = -1.1 + far + 0.05 * (warm - 60) - 0.25 * (staff - 10) + 0.05 * weight + np.where(later, 0.8, 0.0)
    late = rng.uniform(size=count) < 1 / (1 + np.exp(-logit))
    delay = np.where(late, rng.gamma(2, 20, count) + 15.5, rng.uniform(-30, 14.5, count)).round(1)
    void = rng.uniform(size=count) < 0.02
    moment = [START + timedelta(hours=float(h)) for h in due]
    parcels = pl.DataFrame(
        {
            "parcel_id": [f"p{n:06d}" for n in range(count)],
            "depot": [DEPOTS[d] for d in depot],
            "weight": weight,
            "distance": distance,
            "due": moment,
            "delay": np.where(void, np.nan, delay),
        },
        schema_overrides={"due": US},
    ).with_columns(pl.col("delay").fill_nan(None))
    hourly = [START + timedelta(hours=int(h)) for h in hours]

    def by_depot(values: dict[str, np.ndarray], name: str) -> pl.DataFrame:
        return pl.concat(
            pl.DataFrame({"depot": d, name: values[d].round(2), "hour": hourly}, schema_overrides={"hour": US})
            for d in DEPOTS
        ).sort("hour", "depot")

    return {"parcels": parcels, "climate": by_depot(heat, "temp"), "staffing": by_depot(hands, "hands")}


def orders() -> pl.DataFrame:
    placed = pl.col("due") - pl.duration(days=2)
    return world()["parcels"].drop("delay").with_columns(placed=placed)


def climate() -> pl.DataFrame:
    return world()["climate"].with_columns(known=pl.col("hour") + pl.duration(hours=1))


def staffing() -> pl.DataFrame:
    return world()["staffing"].with_columns(known=pl.col("hour"))


def deliveries() -> pl.DataFrame:
    rows = world()["parcels"].filter(pl.col("delay").is_not_null())
    done = pl.col("due") + pl.duration(minutes=pl.col("delay").cast(pl.Int64))
    return rows.select("parcel_id", "depot", "delay", delivered=done, reported=done).sort("reported")


def outcomes() -> pl.DataFrame:
    return world()["parcels"].select("parcel_id", "delay", "due", reported=pl.col("due") + pl.duration(days=1))
