"""What may be known four hours before a parcel is due."""

from loopline.features import Expr, col, latest, mean, share, view


@view(entity="parcel_id")
def parcel() -> dict[str, Expr]:
    return {
        "depot": col("depot").category(),
        "weight": col("weight"),
        "distance": col("distance"),
        "due_minute": col("due").minute_of_day("UTC"),
    }


@view(entity="depot", source="climate", ttl="12h", refresh="1h")
def heat() -> dict[str, Expr]:
    return {"temp": latest("temp"), "temp_1d": mean("temp", "1d")}


@view(entity="depot", source="deliveries", refresh="1h")
def recent() -> dict[str, Expr]:
    return {"late_1d": share(col("delay") > 15, "1d"), "late_7d": share(col("delay") > 15, "7d")}
