"""What may arrive instead of the truth."""

from datetime import date, timedelta

import polars as pl


def celsius(climate: pl.DataFrame, day: date) -> pl.DataFrame:
    """One day in Celsius; the corrected rows come two days later."""
    bad = pl.col("hour").dt.date() == day
    wrong = climate.with_columns(pl.when(bad).then((pl.col("temp") - 32) / 1.8).otherwise("temp").alias("temp"))
    later = pl.lit(day + timedelta(days=3)).cast(climate.schema["known"])
    mended = climate.filter(bad).with_columns(later.alias("known"))
    return pl.concat([wrong, mended])


def harmless(climate: pl.DataFrame, day: date) -> pl.DataFrame:
    """Nothing goes wrong."""
    return climate
