"""What a desk would do without a model."""

import polars as pl

HOME = 0.5  # weight of the overall rate, in hundreds of flights


def carrier_hour_rate(train: pl.DataFrame, rows: pl.DataFrame) -> pl.Series:
    """Share of late arrivals of the same carrier in the same hour of the day, drawn towards the overall share."""
    key = ["carrier", (pl.col("dep_minute") // 60).alias("hour")]
    overall = train["label"].mean()
    rates = train.group_by(key).agg(score=(pl.col("label").sum() + 100 * HOME * overall) / (pl.len() + 100 * HOME))
    seen = rows.select(key).join(rates, on=["carrier", "hour"], how="left", maintain_order="left")
    return seen["score"].fill_null(overall)
