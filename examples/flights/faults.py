"""What goes wrong with uploads: the table that should have come -> the tables that came."""

from datetime import date

import polars as pl

REPAIRED_AFTER = "2d"


def celsius(weather: pl.DataFrame, day: date) -> pl.DataFrame:
    """One UTC day of readings in Celsius; the same readings in Fahrenheit follow two days later.

    Every value is a possible temperature, so no rule for single rows can tell.
    """
    broken = pl.col("time_hour").dt.date() == day
    readings = pl.col("temp", "dewp")
    first = weather.with_columns(pl.when(broken).then(((readings - 32) * 5 / 9).round(2)).otherwise(readings))
    repaired = weather.filter(broken).with_columns(pl.col("observed").dt.offset_by(REPAIRED_AFTER))
    return pl.concat([first, repaired]).sort("observed", maintain_order=True)
